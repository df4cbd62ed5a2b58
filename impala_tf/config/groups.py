"""Every setting of a run: its meaning, unit and default.

`impala_tf.flags` derives one absl flag from each field of these dataclasses. The defaults are the paper's settings for
Atari (Table G.1); other setups are flag files in `run/flagfiles/`. Frame counts are environment frames: agent steps
times the action repeat.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

_LONGEST = 1e6  # Seconds, 11 days: the system's calls cannot wait much longer.

CORRECTIONS: dict[str, tuple[str, ...]] = {
    "v_trace": ("rho_bar", "c_bar", "pg_rho_bar", "vtrace_lambda"),
    "one_step": ("pg_rho_bar",),
    "epsilon": (),
    "none": (),
}
"""{--correction: the settings of V-trace that it uses}; `impala_tf.learning.corrections` has the formulas."""


def _setting(
    default: Any,
    help: str,  # noqa: A002
    *,
    choices: tuple[str, ...] = (),
    at_least: float = -math.inf,
    at_most: float = math.inf,
    fixed: bool = False,
    tunable: bool = False,
    path: bool = False,
) -> Any:
    """A dataclass field.

    `fixed` settings shape what is learned, so a resumed run must have the same values. `tunable` ones are fixed, too,
    except that a population may change them between two starts of a run (`records.tuning`).
    """
    meta = {"help": help, "choices": choices, "at_least": at_least, "at_most": at_most, "path": path}
    return field(default=default, metadata={**meta, "fixed": fixed or tunable, "tunable": tunable})


@dataclass(frozen=True)
class EnvironmentConfig:
    """What the agent plays. Options that begin with dmlab are DeepMind Lab's, the rest Atari's.

    Environments ignore options that are not theirs.
    """

    env: str = _setting(
        "atari/pong",
        "Environment: atari/<game>, dmlab/<level>, vizdoom/<scenario>, minatar/<game>, minigrid/<id>, gymnasium/<id>, "
        "catch and memory (built in) or counting (diagnostic). One network learns several, separated by commas, or a "
        "suite (atari57, dmlab30).",
        fixed=True,
    )
    full_action_set: bool = _setting(
        False, "Use all 18 Atari actions instead of the game's minimal set; always on with several games.", fixed=True
    )
    sticky_actions: float = _setting(
        0.0, "Probability that Atari repeats the previous action.", at_least=0, at_most=1, fixed=True
    )
    fire_on_reset: bool = _setting(False, "Press FIRE after each reset in games that have it.", fixed=True)
    life_loss_ends_episode: bool = _setting(
        True,
        "Losing a life ends the episode for learning; reported returns are still those of full games.",
        fixed=True,
    )
    max_frames_per_episode: int = _setting(
        108_000, "Time limit of a game, in environment frames.", at_least=1, fixed=True
    )
    env_threads: int = _setting(0, "Threads that step one actor's environments; 0: its share of the cores.", at_least=0)
    env_processes: str = _setting(
        "auto",
        "Run each environment in its own process, so that a slow one does not hold up the rest. auto: on for dmlab and "
        "vizdoom.",
        choices=("auto", "on", "off"),
    )
    env_deadline: float = _setting(
        300.0,
        "Seconds within which an environment in its own process must answer; it has twice as long to start.",
        at_least=0.1,
        at_most=_LONGEST,
    )
    dmlab_renderer: str = _setting(
        "software",
        "DeepMind Lab's renderer: software (OSMesa) needs no graphics card; hardware (EGL, or GLX if Lab was built "
        "with it) does.",
        choices=("software", "hardware"),
    )
    dmlab_level_cache: str = _setting(
        "",
        "Folder in which DeepMind Lab's compiled maps are cached for later runs; empty: no cache. Most mazes are new "
        "in every episode, so the folder grows without bound.",
        path=True,
    )
    dmlab_dataset_path: str = _setting(
        "",
        "Folder with the images that some PsychLab levels of DeepMind Lab show (Brady et al., 2008); dummy: plain "
        "colors instead.",
        path=True,
    )

    def options(self) -> dict[str, Any]:
        """What `environments.make` and `environments.spec` take besides the environment's id."""
        others = ("env", "env_processes", "env_deadline", "env_threads")
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in others}


@dataclass(frozen=True)
class NetworkConfig:
    """The agent's network (Figure 3)."""

    torso: str = _setting(
        "auto",
        "Torso: shallow (two convolutions), shallow_3conv (the other reading of the paper), deep (residual), small "
        "(one convolution, for grids of cells) or mlp. auto: shallow for images of at least 36 x 36 pixels, mlp for "
        "everything else.",
        choices=("auto", "shallow", "shallow_3conv", "deep", "small", "mlp"),
        fixed=True,
    )
    core: str = _setting("none", "Recurrent core between torso and heads.", choices=("none", "lstm"), fixed=True)
    lstm_kernel: str = _setting(
        "auto",
        "How the LSTM is computed; the result is the same. loop: step by step. packed: unrolls are cut at episode "
        "starts, and cuDNN runs them where there is a GPU. auto: packed on a GPU, otherwise loop.",
        choices=("auto", "loop", "packed"),
    )
    precision: str = _setting(
        "float32",
        "Precision of the torso. bfloat16 is faster on processors that have it (AVX512-BF16, AMX); core, heads, "
        "loss and parameters stay float32.",
        choices=("float32", "bfloat16"),
        fixed=True,
    )


@dataclass(frozen=True)
class LossConfig:
    """The loss (section 4.2), summed over time and batch."""

    discount: float = _setting(0.99, "Discount per agent step.", at_least=0, at_most=1, fixed=True)
    baseline_cost: float = _setting(0.5, "Weight of the baseline loss.", at_least=0, fixed=True)
    entropy_cost: float = _setting(0.01, "Weight of the entropy bonus.", at_least=0, tunable=True)
    reward_clipping: str = _setting(
        "abs_one",
        "How the loss transforms a reward r. abs_one: r clipped to [-1, 1]. optimistic_asymmetric: 0.3 min(tanh r, 0) "
        "+ 5 max(tanh r, 0), the paper's choice for DMLab-30 (Figure D.1). soft_asymmetric: 5 tanh(r / 5), times 0.3 "
        "where r < 0, the choice of the authors' code.",
        choices=("abs_one", "none", "optimistic_asymmetric", "soft_asymmetric"),
        fixed=True,
    )
    correction: str = _setting(
        "v_trace",
        "How the loss corrects for unrolls of an older policy (Table 2). v_trace: importance weights in targets and "
        "advantages. one_step: in the advantages only. epsilon: as none, but with log(pi + 1e-6) in the policy "
        "gradient. none: as if the newest policy had acted.",
        choices=tuple(CORRECTIONS),
        fixed=True,
    )
    q_estimate: str = _setting(
        "v_trace",
        "Estimate of Q in the advantages. v_trace: r_s + gamma v_{s+1}, where v is the baseline's target under "
        "--correction (section 4.2). value: r_s + gamma V(x_{s+1}) (Figures E.3, E.4).",
        choices=("v_trace", "value"),
        fixed=True,
    )
    rho_bar: float = _setting(
        1.0, "V-trace: truncation level of rho, which determines the fixed point.", at_least=0, fixed=True
    )
    c_bar: float = _setting(
        1.0, "V-trace: truncation level of c, which determines the speed of convergence.", at_least=0, fixed=True
    )
    pg_rho_bar: float = _setting(
        1.0, "V-trace and one_step: truncation level of rho in the policy gradient.", at_least=0, fixed=True
    )
    vtrace_lambda: float = _setting(1.0, "V-trace: lambda (Remark 2).", at_least=0, at_most=1, fixed=True)


@dataclass(frozen=True)
class OptimizerConfig:
    """RMSProp as in TensorFlow 1: epsilon inside the square root, mean squares start at one."""

    learning_rate: float = _setting(6e-4, "Learning rate at frame 0.", at_least=0, tunable=True)
    annealing_frames: int = _setting(
        0,
        "Environment frames over which the learning rate is annealed linearly to 0; 0: total_frames.",
        at_least=0,
        fixed=True,
    )
    rmsprop_decay: float = _setting(
        0.99, "RMSProp decay (from the authors' code; the paper does not give it).", at_least=0, at_most=1, fixed=True
    )
    rmsprop_epsilon: float = _setting(0.01, "RMSProp epsilon.", at_least=0, tunable=True)
    rmsprop_momentum: float = _setting(0.0, "RMSProp momentum.", at_least=0, at_most=1, fixed=True)
    max_gradient_norm: float = _setting(
        40.0, "Clip gradients to this global norm; 0: no clipping.", at_least=0, fixed=True
    )
    max_refused_updates: int = _setting(
        10,
        "End the run after this many updates in a row were refused because their loss or gradient was not finite.",
        at_least=1,
    )


@dataclass(frozen=True)
class DataConfig:
    """Unrolls, batches and the queue between actors and learner."""

    unroll_length: int = _setting(20, "Unroll length T, in agent steps.", at_least=1, fixed=True)
    batch_size: int = _setting(
        32,
        "Batch size B: unrolls per learner step. Not in a3c, where a step takes one unroll of each environment of an "
        "actor.",
        at_least=1,
        fixed=True,
    )
    replay_fraction: float = _setting(
        0.0,
        "Share of each batch that is replayed: drawn uniformly from the newest replay_size unrolls (the paper's with "
        "replay: 0.5). Frames, returns and speed count the rest, the fresh unrolls. 0: no replay.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    replay_size: int = _setting(
        10_000, "Unrolls that the replay holds, in the learner's memory; the oldest is removed.", at_least=1, fixed=True
    )
    reverb_config: str = _setting(
        "auto",
        "Reverb's tables: the name of a file in reverb_configs/, or the path of a .textproto (ReverbServerConfig). "
        "auto: on_policy, replay if there is replay, or a3c.",
        path=True,
    )
    queue_size: int = _setting(
        0,
        "Unrolls that the queue holds; all of them are policy lag. 0: as reverb_config says; with auto, 64 (32 with "
        "replay), or two batches if that is more.",
        at_least=0,
    )
    prefetch: int = _setting(1, "Batches prepared ahead of the learner; they are policy lag, too.", at_least=1)
    policy_lag: int = _setting(
        -1,
        "Act with parameters exactly this many updates old (Figure E.1: 0, 1, 10, 100, 500); 0 is on-policy. Actors "
        "then wait for every update, which takes one unroll of each environment. In the first updates of every start, "
        "resumed or not, the lag is 0, 1, 2, ..., as there are no older parameters yet. -1: whatever results.",
        at_least=-1,
        fixed=True,
    )

    @property
    def fresh_batch_size(self) -> int:
        """Fresh unrolls in each batch; the others are replayed."""
        return round(self.batch_size * (1 - self.replay_fraction))

    @property
    def tables(self) -> str:
        """Name or path of the textproto with Reverb's tables, where unrolls are sent."""
        if self.reverb_config != "auto":
            return self.reverb_config
        return "replay" if self.replay_fraction else "on_policy"

    @property
    def gradient_tables(self) -> str:
        """Name or path of the textproto with Reverb's tables, where gradients are sent."""
        return "a3c" if self.reverb_config == "auto" else self.reverb_config


@dataclass(frozen=True)
class RunConfig:
    """What the run writes, how often, and for how long."""

    logdir: str = _setting(
        "",
        "Folder of the run: checkpoints, logs, learning curve. Starting again with the same folder resumes the run.",
        path=True,
    )
    total_frames: int = _setting(200_000_000, "Environment frames to train for.", at_least=1)
    seed: int = _setting(1, "Seed of the initial weights, the environments and the actions.", at_least=0, fixed=True)
    checkpoint_interval: float = _setting(60.0, "Seconds between checkpoints.", at_least=0.1, at_most=_LONGEST)
    checkpoints_kept: int = _setting(3, "Checkpoints kept.", at_least=1)
    export_every: int = _setting(
        0,
        "Environment frames between SavedModels, which are written with the next checkpoint to exports/ in the run's "
        "folder and kept. 1: with every checkpoint; 0: none.",
        at_least=0,
    )
    evaluate_every: int = _setting(
        0,
        "Environment frames between evaluations of the newest SavedModel, in a process of its own that takes a core. "
        "Without --export_every, SavedModels are written at this interval, too. 0: none.",
        at_least=0,
    )
    evaluate_episodes: int = _setting(20, "Episodes per task in an evaluation; 0: the paper's number.", at_least=0)
    log_interval: float = _setting(10.0, "Seconds between progress lines and log rows.", at_least=0.1, at_most=_LONGEST)


@dataclass(frozen=True)
class LaunchConfig:
    """Which processes there are, where they run, and how long they wait for each other."""

    architecture: str = _setting(
        "impala",
        "How acting and learning are distributed (Table 1). impala: actors and the learner do not wait for each other. "
        "batched_a2c_sync_step: one policy acts for all environments once the last has answered. "
        "batched_a2c_sync_trajectory: actors wait after each unroll for the update on it. "
        "a3c: actors compute gradients, which the learner applies one at a time.",
        choices=("impala", "batched_a2c_sync_step", "batched_a2c_sync_trajectory", "a3c"),
        fixed=True,
    )
    cluster: str = _setting(
        "none",
        "Where the run's processes are. none: on this machine, unless --role says otherwise. ray: on a Ray cluster, "
        "which --address names; learners and actors that are lost are started again. --logdir must be on storage that "
        "its machines share.",
        choices=("none", "ray"),
    )
    role: str = _setting(
        "all",
        "Which processes this command runs. all: learner and actors on this machine. learner, actor: only that one, "
        "for runs across machines. relay: passes the learner's parameters on to the actors of its machine.",
        choices=("all", "learner", "actor", "relay"),
    )
    num_learners: int = _setting(
        1,
        "Learners (section 3). Each draws batches of batch_size unrolls from its own actors; an update sums the "
        "gradients of all, as if one learner had drawn a batch num_learners times as large.",
        at_least=1,
        fixed=True,
    )
    num_actors: int = _setting(
        -1,
        "Actor processes of the run; -1: one per core, with --cluster of the cluster without those of the learners (an "
        "actor started by hand asks its learner); 0: everything in one process, for a debugger.",
        at_least=-1,
    )
    envs_per_actor: int = _setting(
        0,
        "Environments per actor, stepped as a batch; 0: 12, or fewer with very many actors (an actor started by hand "
        "asks its learner); 1 in a3c, where a gradient is that of one unroll of each; where all wait for an update on "
        "one unroll of each, a batch's unrolls divided among the actors.",
        at_least=0,
    )
    inference: str = _setting(
        "actor",
        "Where the policy runs. actor: in every actor process, for its own environments. central: in the learner's "
        "process, in batches, for the environments of all actor processes of this machine, which then only step "
        "environments. With batched_a2c_sync_step it is there anyway.",
        choices=("actor", "central"),
    )
    address: str = _setting(
        "",
        "With --role=actor: host:port of the learner that it sends to. With --role=relay: of that it pulls from. With "
        "--cluster=ray: host:port of the cluster's head; auto: the cluster that this machine belongs to; empty: that "
        "of RAY_ADDRESS, as in a submitted job, or else one that is started on this machine for the run.",
    )
    relay: str = _setting(
        "", "With --role=actor: host:port of the relay that it pulls parameters from; empty: from the learner."
    )
    relays: bool = _setting(
        False,
        "With --cluster=ray: each machine of actors has a relay, which pulls parameters from a learner for them all.",
    )
    relay_rate: float = _setting(
        10.0,
        "With --role=relay, or --relays: how many times a second a relay looks for new parameters and passes them on, "
        "at most. Between two of them, its actors play with the last, which adds to the policy lag.",
        at_least=1,
        at_most=1000,
    )
    learner_id: int = _setting(
        0,
        "With --role=learner and several learners: the number of this one, from 0. Learner 0 writes the run's folder.",
        at_least=0,
    )
    learners: str = _setting(
        "",
        "With --role=learner and several learners: host:port of each, in order and separated by commas, where they "
        "exchange gradients. These are not the ports of --port, where actors send unrolls.",
    )
    port: int = _setting(
        0,
        "Port of the learner's, or the relay's, Reverb server; 0: a free one. Reverb speaks plain gRPC on every "
        "interface, without encryption or password: keep the port inside a network that you trust.",
        at_least=0,
        at_most=65535,
    )
    actor_id: int = _setting(
        0, "With --role=actor: the number of this actor, from 0; every actor needs its own.", at_least=0
    )
    xla: str = _setting("auto", "Compile the learner with XLA. auto: on a GPU.", choices=("auto", "on", "off"))
    learner_threads: int = _setting(
        0,
        "Intra-op threads of the learner; 0: half of the cores, or all of them if actors wait for its updates.",
        at_least=0,
    )
    actor_threads: int = _setting(1, "Intra-op threads of each actor's inference.", at_least=1)
    connect_timeout: float = _setting(
        45.0, "Seconds after which an actor gives up on a learner that does not answer.", at_least=1, at_most=_LONGEST
    )
    stall_timeout: float = _setting(
        300.0,
        "Seconds without new unrolls (or gradients, in a3c), or without the publication of parameters that others wait "
        "for, after which the learner saves and ends the run with an error; seconds without a sign of life after which "
        "the learner is killed, which ends the run. An actor is replaced after half of this time. While they start, "
        "both have at least 600.",
        at_least=1,
        at_most=_LONGEST,
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run, as a tree."""

    environment: EnvironmentConfig = EnvironmentConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    data: DataConfig = DataConfig()
    run: RunConfig = RunConfig()
    launch: LaunchConfig = LaunchConfig()

    @property
    def unrolls_together(self) -> int:
        """Fresh unrolls of an update, if it takes one of each environment and all wait for it; 0 if nobody waits."""
        waits = self.launch.architecture.startswith("batched_a2c") or self.data.policy_lag >= 0
        return self.data.fresh_batch_size if waits else 0

    @property
    def annealing_frames(self) -> int:
        """Environment frames over which the learning rate is annealed to 0."""
        return self.optimizer.annealing_frames or self.run.total_frames
