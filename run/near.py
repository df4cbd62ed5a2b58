"""What somebody meant who gave a flag that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3
_MEANT = {
    "actors": "num_actors",
    "algo": "architecture",
    "algorithm": "architecture",
    "baseline_loss_weight": "baseline_cost",
    "bf16": "precision=bfloat16",
    "bs": "batch_size",
    "buffer_size": "replay_size queue_size",
    "checkpoint": "logdir saved_model",
    "checkpoint_dir": "logdir",
    "checkpoint_path": "logdir saved_model",
    "clip_grad_norm": "max_gradient_norm",
    "config": "setup flagfile",
    "debug": "num_actors=0",
    "decay": "rmsprop_decay",
    "deterministic": "greedy",
    "eps": "rmsprop_epsilon",
    "epsilon": "rmsprop_epsilon correction=epsilon",
    "ent_coef": "entropy_cost",
    "entropy_coef": "entropy_cost",
    "entropy_coeff": "entropy_cost",
    "entropy_weight": "entropy_cost",
    "environment": "env",
    "environment_name": "env",
    "distributed": "cluster",
    "eval_episodes": "evaluate_episodes",
    "eval_every": "evaluate_every",
    "eval_interval": "evaluate_every",
    "experiment": "setup",
    "frames": "total_frames",
    "game": "env",
    "games": "env",
    "gamma": "discount",
    "grad_clip": "max_gradient_norm",
    "gradient_clipping": "max_gradient_norm",
    "host": "address",
    "id": "env",
    "jobs": "at_once",
    "lag": "policy_lag",
    "lam": "vtrace_lambda",
    "lambda": "vtrace_lambda",
    "learner_address": "address",
    "legend": "label",
    "level": "env",
    "level_name": "env",
    "load": "logdir saved_model",
    "log_dir": "logdir",
    "lr": "learning_rate",
    "lstm": "core=lstm",
    "max_frames": "total_frames max_frames_per_episode",
    "max_grad_norm": "max_gradient_norm",
    "metric": "column",
    "mode": "role",
    "model": "saved_model torso",
    "momentum": "rmsprop_momentum",
    "n_envs": "envs_per_actor num_envs",
    "n_steps": "unroll_length",
    "net": "torso",
    "network": "torso",
    "num_envs": "envs_per_actor",
    "num_episodes": "episodes",
    "num_frames": "total_frames",
    "num_steps": "unroll_length total_frames",
    "num_timesteps": "total_frames",
    "num_workers": "num_actors",
    "off_policy_correction": "correction",
    "out": "output logdir",
    "output": "logdir",
    "output_dir": "logdir output",
    "parallel": "at_once",
    "population_size": "members",
    "preset": "setup",
    "recurrent": "core=lstm",
    "ray": "cluster=ray",
    "ray_address": "address",
    "relay_address": "relay",
    "relay_hz": "relay_rate",
    "relay_per_machine": "relays",
    "restore": "logdir",
    "resume": "logdir",
    "replay_buffer_size": "replay_size",
    "replay_proportion": "replay_fraction",
    "replay_ratio": "replay_fraction",
    "reward_clip": "reward_clipping",
    "rho": "rho_bar",
    "rnn": "core=lstm",
    "rollout_length": "unroll_length",
    "save_dir": "logdir",
    "save_every": "checkpoint_interval",
    "save_interval": "checkpoint_interval",
    "savedir": "logdir",
    "server": "address",
    "staleness": "policy_lag",
    "steps": "total_frames",
    "sticky": "sticky_actions",
    "sync": "architecture policy_lag",
    "task": "env",
    "threshold": "copy_margin",
    "timesteps": "total_frames",
    "total_steps": "total_frames",
    "total_timesteps": "total_frames",
    "use_lstm": "core=lstm",
    "value_cost": "baseline_cost",
    "value_loss_coef": "baseline_cost",
    "vf_coef": "baseline_cost",
    "vtrace": "correction vtrace_lambda",
    "workers": "num_actors",
    "x": "against",
    "xaxis": "against",
    "y": "column",
}
"""What other programs call something: our flags for it, the likeliest first."""


def matches(name: str, known: Iterable[str]) -> list[str]:
    """Returns at most three flags that may be meant, the likeliest first, as "discount" or "core=lstm".

    Args:
      name: the flag that does not exist.
      known: names of the flags that do.
    """
    known = sorted(known)
    plain = name.lower().replace("-", "_").strip("_")
    meant = [flag for flag in _MEANT.get(plain, "").split() if flag.partition("=")[0] in known]
    spelled = difflib.get_close_matches(plain, known, cutoff=0.65)
    contained = [flag for flag in known if plain in flag.split("_")]
    if plain in known:
        return [plain]
    return list(dict.fromkeys(meant or [*spelled, *contained]))[:_MOST]
