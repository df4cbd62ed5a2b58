"""What an experiment consists of, as data: agents, tasks, repeats, and what it should show."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

SCALES = ("machine", "paper")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task on which all agents of an experiment are trained.

    Attributes:
      name: names its folder, and its panel in figures.
      settings: {setting: value}, `env` and `total_frames` among them.
      random: mean return of a random policy, from which scores are counted; None where there are no scores.
    """

    name: str
    settings: Mapping[str, Any]
    random: float | None = None


@dataclasses.dataclass(frozen=True)
class Agent:
    """What an experiment compares: an architecture, a correction, a network.

    Attributes:
      label: its name in the paper, for legends.
      group: which row of the picture it is drawn in: "with replay", "lag 10".
      folder: of its runs, below that of the scale: "table_2/v_trace". Experiments that name the same folder share runs.
      settings: {setting: value}.
      spread: whether its actors may be on other machines.
      together: whether each of its runs trains on all tasks of the grid, with the sum of their frames.
    """

    label: str
    group: str
    folder: str
    settings: Mapping[str, Any]
    spread: bool = False
    together: bool = False


class Planned(NamedTuple):
    """A run of an experiment.

    Attributes:
      agent: its agent.
      tasks: its task, or all of the grid.
      repeat: what tells it from the other runs of this agent on this task: a combination of hyperparameters, or a seed.
      settings: all its settings that differ from those of the grid's setup; without `logdir`.
    """

    agent: Agent
    tasks: tuple[Task, ...]
    repeat: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> pathlib.PurePath:
        """Its folder, below that of the scale: <agent>/<task>/<repeat>, or <agent>/<repeat> with several tasks."""
        task = [self.tasks[0].name] if not self.agent.together else []
        return pathlib.PurePath(self.agent.folder, *task, self.repeat)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The runs of an experiment at one scale: each agent on each task with each repeat.

    Attributes:
      agents: what is compared.
      tasks: tasks.
      repeats: {name: settings}: combinations of hyperparameters, or seeds.
      setup: flag file with the settings that all runs share; "" for none.
      settings: {setting: value} that all runs share. Those of a task, an agent and a repeat win over it, in this order.
      cores: cores that a run keeps busy.
    """

    agents: tuple[Agent, ...]
    tasks: tuple[Task, ...]
    repeats: Mapping[str, Mapping[str, Any]]
    setup: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cores: int = 1

    @property
    def scored(self) -> bool:
        """Whether its runs have scores: what a random policy reaches is known for all tasks."""
        return all(task.random is not None for task in self.tasks)

    @property
    def sweep(self) -> bool:
        """Whether its repeats are combinations of hyperparameters, the same for all agents, instead of seeds."""
        return any(set(settings) != {"seed"} for settings in self.repeats.values())

    def runs(self) -> Iterator[Planned]:
        """Yields the runs: all agents and tasks of the first repeat, then of the second, and so on.

        So an experiment that ends early has compared all agents equally often.
        """
        for repeat, own in self.repeats.items():
            for task in self.tasks:
                for agent in self.agents:
                    if not agent.together:
                        settings = {**self.settings, **task.settings, **agent.settings, **own}
                        yield Planned(agent, (task,), repeat, settings)
            for agent in self.agents:
                if agent.together:
                    settings = {**self.settings, **self._joined(), **agent.settings, **own}
                    yield Planned(agent, self.tasks, repeat, settings)

    def _joined(self) -> dict[str, Any]:
        """The settings of all tasks, which may differ in their environments and frames."""
        envs = ",".join(task.settings["env"] for task in self.tasks)
        frames = sum(task.settings["total_frames"] for task in self.tasks)
        return {**self.tasks[0].settings, "env": envs, "total_frames": frames}


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the paper makes us expect of two agents.

    Attributes:
      text: the sentence.
      higher: folder of the agent that scores higher if it is true.
      lower: folder of the other agent.
      best: number of runs of each agent and task that count, by their final return; 0: all.
    """

    text: str
    higher: str
    lower: str
    best: int = 0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper.

    Attributes:
      name: "table_2".
      title: what it shows.
      grids: {scale: the runs}.
      claims: what the paper concludes from it.
      otherwise: which command makes it, at a scale without a grid.
      populations: {name in the paper: folder of the population that `otherwise` trains, below that of the scale}.
    """

    name: str
    title: str
    grids: Mapping[str, Grid]
    claims: tuple[Claim, ...] = ()
    otherwise: str = ""
    populations: Mapping[str, str] = dataclasses.field(default_factory=dict)
