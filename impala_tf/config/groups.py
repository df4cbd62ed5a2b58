"""Every setting of a run, in groups.

`impala_tf.flags` derives one absl flag from each field of these dataclasses. The defaults are the paper's settings for
Atari (Table G.1); other setups are flag files in `run/flagfiles/`. Frame counts are environment frames: agent steps
times the action repeat.
"""

from __future__ import annotations

from dataclasses import dataclass

from impala_tf.config.environment import EnvironmentConfig
from impala_tf.config.learning import DataConfig, LossConfig, NetworkConfig, OptimizerConfig
from impala_tf.config.running import LaunchConfig, RunConfig


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
