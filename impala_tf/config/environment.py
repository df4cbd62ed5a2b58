"""Settings of what the agent plays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from impala_tf.config.setting import LONGEST, setting


@dataclass(frozen=True)
class EnvironmentConfig:
    """What the agent plays. Options that begin with dmlab are DeepMind Lab's, the rest Atari's.

    Environments ignore options that are not theirs.
    """

    env: str = setting(
        "atari/pong",
        "Environment: atari/<game>, dmlab/<level>, vizdoom/<scenario>, minatar/<game>, minigrid/<id>, gymnasium/<id>, "
        "catch and memory (built in) or counting (diagnostic). One network learns several, separated by commas, or a "
        "suite (atari57, dmlab30).",
        fixed=True,
    )
    full_action_set: bool = setting(
        False, "Use all 18 Atari actions instead of the game's minimal set; always on with several games.", fixed=True
    )
    sticky_actions: float = setting(
        0.0, "Probability that Atari repeats the previous action.", at_least=0, at_most=1, fixed=True
    )
    fire_on_reset: bool = setting(False, "Press FIRE after each reset in games that have it.", fixed=True)
    life_loss_ends_episode: bool = setting(
        True,
        "Losing a life ends the episode for learning; reported returns are still those of full games.",
        fixed=True,
    )
    max_frames_per_episode: int = setting(
        108_000, "Time limit of a game, in environment frames.", at_least=1, fixed=True
    )
    env_threads: int = setting(0, "Threads that step one actor's environments; 0: its share of the cores.", at_least=0)
    env_processes: str = setting(
        "auto",
        "Run each environment in its own process, so that a slow one does not hold up the rest. auto: on for dmlab and "
        "vizdoom.",
        choices=("auto", "on", "off"),
    )
    env_deadline: float = setting(
        300.0,
        "Seconds within which an environment in its own process must answer; it has twice as long to start.",
        at_least=0.1,
        at_most=LONGEST,
    )
    dmlab_renderer: str = setting(
        "software",
        "DeepMind Lab's renderer: software (OSMesa) needs no graphics card; hardware (EGL, or GLX if Lab was built "
        "with it) does.",
        choices=("software", "hardware"),
    )
    dmlab_level_cache: str = setting(
        "",
        "Folder in which DeepMind Lab's compiled maps are cached for later runs; empty: no cache. Most mazes are new "
        "in every episode, so the folder grows without bound.",
        path=True,
    )
    dmlab_dataset_path: str = setting(
        "",
        "Folder with the images that some PsychLab levels of DeepMind Lab show (Brady et al., 2008); dummy: plain "
        "colors instead.",
        path=True,
    )

    def options(self) -> dict[str, Any]:
        """What `environments.make` and `environments.spec` take besides the environment's id."""
        others = ("env", "env_processes", "env_deadline", "env_threads")
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in others}
