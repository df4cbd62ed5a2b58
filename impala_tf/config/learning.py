"""Settings of what is learned and how: network, loss, optimizer, and the data that updates are made of."""

from __future__ import annotations

from dataclasses import dataclass

from impala_tf.config.setting import setting

CORRECTIONS: dict[str, tuple[str, ...]] = {
    "v_trace": ("rho_bar", "c_bar", "pg_rho_bar", "vtrace_lambda"),
    "one_step": ("pg_rho_bar",),
    "epsilon": (),
    "none": (),
}
"""{--correction: the settings of V-trace that it uses}; `impala_tf.learning.corrections` has the formulas."""


@dataclass(frozen=True)
class NetworkConfig:
    """The agent's network (Figure 3)."""

    torso: str = setting(
        "auto",
        "Torso: shallow (two convolutions), shallow_3conv (the other reading of the paper), deep (residual), small "
        "(one convolution, for grids of cells) or mlp. auto: shallow for images of at least 36 x 36 pixels, mlp for "
        "everything else. One's own: the module:attribute of a subclass of impala_tf.networks.torsos.Torso.",
        choices=("auto", "shallow", "shallow_3conv", "deep", "small", "mlp"),
        extensible=True,
        fixed=True,
    )
    core: str = setting("none", "Recurrent core between torso and heads.", choices=("none", "lstm"), fixed=True)
    lstm_kernel: str = setting(
        "auto",
        "How the LSTM is computed; the result is the same. loop: step by step. packed: unrolls are cut at episode "
        "starts, and cuDNN runs them where there is a GPU. auto: packed on a GPU, otherwise loop.",
        choices=("auto", "loop", "packed"),
    )
    precision: str = setting(
        "float32",
        "Precision of the torso. bfloat16 is faster on processors that have it (AVX512-BF16, AMX); core, heads, "
        "loss and parameters stay float32.",
        choices=("float32", "bfloat16"),
        fixed=True,
    )


@dataclass(frozen=True)
class LossConfig:
    """The loss (section 4.2), summed over time and batch."""

    discount: float = setting(0.99, "Discount per agent step.", at_least=0, at_most=1, fixed=True)
    baseline_cost: float = setting(0.5, "Weight of the baseline loss.", at_least=0, fixed=True)
    entropy_cost: float = setting(0.01, "Weight of the entropy bonus.", at_least=0, tunable=True)
    reward_clipping: str = setting(
        "abs_one",
        "How the loss transforms a reward r. abs_one: r clipped to [-1, 1]. optimistic_asymmetric: 0.3 min(tanh r, 0) "
        "+ 5 max(tanh r, 0), the paper's choice for DMLab-30 (Figure D.1). soft_asymmetric: 5 tanh(r / 5), times 0.3 "
        "where r < 0, the choice of the authors' code.",
        choices=("abs_one", "none", "optimistic_asymmetric", "soft_asymmetric"),
        fixed=True,
    )
    correction: str = setting(
        "v_trace",
        "How the loss corrects for unrolls of an older policy (Table 2). v_trace: importance weights in targets and "
        "advantages. one_step: in the advantages only. epsilon: as none, but with log(pi + 1e-6) in the policy "
        "gradient. none: as if the newest policy had acted. One's own: the module:attribute of an "
        "impala_tf.learning.corrections.Correction.",
        choices=tuple(CORRECTIONS),
        extensible=True,
        fixed=True,
    )
    q_estimate: str = setting(
        "v_trace",
        "Estimate of Q in the advantages. v_trace: r_s + gamma v_{s+1}, where v is the baseline's target under "
        "--correction (section 4.2). value: r_s + gamma V(x_{s+1}) (Figures E.3, E.4).",
        choices=("v_trace", "value"),
        fixed=True,
    )
    rho_bar: float = setting(
        1.0, "V-trace: truncation level of rho, which determines the fixed point.", at_least=0, fixed=True
    )
    c_bar: float = setting(
        1.0, "V-trace: truncation level of c, which determines the speed of convergence.", at_least=0, fixed=True
    )
    pg_rho_bar: float = setting(
        1.0, "V-trace and one_step: truncation level of rho in the policy gradient.", at_least=0, fixed=True
    )
    vtrace_lambda: float = setting(1.0, "V-trace: lambda (Remark 2).", at_least=0, at_most=1, fixed=True)


@dataclass(frozen=True)
class OptimizerConfig:
    """RMSProp as in TensorFlow 1: epsilon inside the square root."""

    learning_rate: float = setting(6e-4, "Learning rate at frame 0.", at_least=0, tunable=True)
    annealing_frames: int = setting(
        0,
        "Environment frames over which the learning rate is annealed linearly to 0; 0: total_frames.",
        at_least=0,
        fixed=True,
    )
    rmsprop_decay: float = setting(
        0.99, "RMSProp decay (from the authors' code; the paper does not give it).", at_least=0, at_most=1, fixed=True
    )
    rmsprop_epsilon: float = setting(0.01, "RMSProp epsilon.", at_least=0, tunable=True)
    rmsprop_momentum: float = setting(0.0, "RMSProp momentum.", at_least=0, at_most=1, fixed=True)
    rmsprop_initial: float = setting(
        1.0,
        "What RMSProp's mean squares start at. TensorFlow 1 has 1; 0 makes the first few hundred updates larger, with "
        "which some games are learned sooner and others later.",
        at_least=0,
        fixed=True,
    )
    max_gradient_norm: float = setting(
        40.0, "Clip gradients to this global norm; 0: no clipping.", at_least=0, fixed=True
    )
    max_refused_updates: int = setting(
        10,
        "End the run after this many updates in a row were refused because their loss or gradient was not finite.",
        at_least=1,
    )


@dataclass(frozen=True)
class DataConfig:
    """Unrolls, batches and the queue between actors and learner."""

    unroll_length: int = setting(20, "Unroll length T, in agent steps.", at_least=1, fixed=True)
    batch_size: int = setting(
        32,
        "Batch size B: unrolls per learner step. Not in a3c, where a step takes one unroll of each environment of an "
        "actor.",
        at_least=1,
        fixed=True,
    )
    replay_fraction: float = setting(
        0.0,
        "Share of each batch that is replayed: drawn uniformly from the newest replay_size unrolls (the paper's with "
        "replay: 0.5). Frames, returns and speed count the rest, the fresh unrolls. 0: no replay.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    replay_size: int = setting(
        10_000, "Unrolls that the replay holds, in the learner's memory; the oldest is removed.", at_least=1, fixed=True
    )
    reverb_config: str = setting(
        "auto",
        "Reverb's tables: the name of a file in reverb_configs/, or the path of a .textproto (ReverbServerConfig). "
        "auto: on_policy, replay if there is replay, or a3c.",
        path=True,
    )
    queue_size: int = setting(
        0,
        "Unrolls that the queue holds; all of them are policy lag. 0: as reverb_config says; with auto, 64 (32 with "
        "replay), or two batches if that is more.",
        at_least=0,
    )
    prefetch: int = setting(1, "Batches prepared ahead of the learner; they are policy lag, too.", at_least=1)
    policy_lag: int = setting(
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
