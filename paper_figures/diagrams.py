"""Draws the paper's diagrams, Figures 1 to 3, from the code and from a recorded run; one function per figure.

Coordinates are in inches from the lower left corner.
"""

from __future__ import annotations

import itertools
import textwrap
from typing import Any

import layers
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from layers import TIMES, Layer
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

from impala_tf import topology
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.dmlab import FRAMES_PER_STEP, LabLevel
from impala_tf.networks.agent import Agent
from impala_tf.roles import agreement
from impala_tf.structures import ArraySpec, EnvironmentSpec, Trajectory
from impala_tf.transport import RUN, TRAJECTORIES, VARIABLES, server

INK, GRAY, LIGHT = "#222222", "#6b6b6b", "#f5f5f3"
BLUE, ORANGE, RED, GREEN = "#1f5fa8", "#d9791a", "#b2182b", "#1b8a6b"

# Figure 1: architectures


def architectures(one: Config, several: Config) -> Any:
    """Draws Figure 1: one learner with its actors, and several learners with theirs, as the settings specify."""
    figure, ax = _canvas(11.4, 6.0)
    ax.plot([6.0, 6.0], [0.15, 5.85], color="#d0d0d0", linewidth=0.8)
    _one_learner(ax, one)
    _several_learners(ax, several)
    return figure


def _one_learner(ax: Any, config: Config) -> None:
    tasks = task_set.resolve(config.environment)
    processes = topology.resolve(config, len(tasks.names), topology.alone(""))
    tables = {table.table_name: table for table in server.load_config(config.data).tables}
    queue, newest = tables[TRAJECTORIES], tables[VARIABLES]
    x, y = 2.95, 3.1
    _text(ax, x, 5.83, "One learner", 12, weight="bold")
    _text(ax, x, 5.6, f"impala_tf with {processes.num_actors} actor processes", 8.5, GRAY)
    for i, angle in enumerate(np.linspace(np.pi / 2, -1.5 * np.pi, processes.num_actors, endpoint=False)):
        actor = (x + 2.25 * np.cos(angle), y + 2.0 * np.sin(angle))
        _exchange(ax, actor, (0.56, 0.24), (x, y), (1.05, 0.92))
        _box(ax, *actor, 1.12, 0.48, f"actor {i}\n{processes.envs_per_actor} environments", size=8)
    _box(ax, x, y, 2.1, 1.84, "", LIGHT, INK)
    _text(ax, x, y + 0.74, "Learner", 11, weight="bold")
    times = {0: "sampled any number of times", 1: "each sampled once"}
    text = f"{TRAJECTORIES}: {'first in, first out' if queue.sampler.fifo else 'sampled'},\nat most {queue.max_size}, "
    _box(ax, x, y + 0.37, 1.9, 0.44, text + times[queue.max_times_sampled], "#fdf1e4", ORANGE, 7.5)
    text = f"{VARIABLES}: newest parameters,\n{times[newest.max_times_sampled]}"
    _box(ax, x, y - 0.12, 1.9, 0.44, text, "#e9f0f9", BLUE, 7.5)
    told = ", ".join(agreement.told(config, tasks, processes))
    _box(ax, x, y - 0.61, 1.9, 0.44, f"{RUN}: {told},\nread by each actor at its start", "white", GRAY, 7.5)
    fields = ", ".join(name.replace("_", " ") for name in Trajectory._fields)
    _key(ax, 0.2, 0.55, ORANGE, f"unrolls of {config.data.unroll_length} steps: {fields}")
    _key(ax, 0.2, 0.15, BLUE, "parameters and the learner step that produced them")


def _several_learners(ax: Any, config: Config) -> None:
    tasks = task_set.resolve(config.environment)
    addresses = [topology.LearnerAddress(f"learner {rank}") for rank in range(config.launch.num_learners)]
    processes = topology.resolve(config, len(tasks.names), addresses)
    x = 8.7
    _text(ax, x, 5.83, "Several synchronous learners", 12, weight="bold")
    counts = f"impala_tf with {len(addresses)} learners and {processes.num_actors} actor processes"
    _text(ax, x, 5.6, counts, 8.5, GRAY)
    _box(ax, x, 4.55, 5.0, 1.25, "", LIGHT, "#b8b8b8")
    places = np.linspace(x - 1.65, x + 1.65, len(addresses))
    learners = {address.server: (place, 4.55) for address, place in zip(addresses, places)}
    for i, place in enumerate(np.linspace(x - 2.1, x + 2.1, processes.num_actors)):
        actor = (place, 1.75)
        _exchange(ax, actor, (0.36, 0.24), learners[processes.server_of(i)], (0.52, 0.32))
        _box(ax, *actor, 0.72, 0.48, f"actor {i}", size=8.5)
    for left, right in itertools.pairwise(learners.values()):
        _arrow(ax, (left[0] + 0.54, left[1]), (right[0] - 0.54, right[1]), GREEN, 1.8, "<|-|>")
        _text(ax, (left[0] + right[0]) / 2, left[1] + 0.17, "gradients", 7.5, GREEN)
    for name, center in learners.items():
        _box(ax, *center, 1.04, 0.64, name, "white", INK, 9)
    _key(ax, 6.25, 0.62, ORANGE, "unrolls, to the actor's learner")
    _key(ax, 6.25, 0.38, BLUE, "parameters, which are the same in all learners")
    _key(ax, 6.25, 0.15, GREEN, "gradients, summed over all learners")


def _exchange(ax: Any, actor: Any, actor_half: Any, learner: Any, learner_half: Any) -> None:
    """Draws the arrow for unrolls and the opposite one for parameters."""
    _arrow(ax, *_between(actor, actor_half, learner, learner_half, 0.08), ORANGE, 1.6)
    _arrow(ax, *_between(learner, learner_half, actor, actor_half, 0.08), BLUE, 1.6)


def _between(start: Any, start_half: Any, end: Any, end_half: Any, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the end points of a line between the edges of two boxes, shifted sideways.

    Each box is given by its center and half of its size.
    """
    start, end = np.array(start), np.array(end)
    way = (end - start) / np.hypot(*(end - start))
    aside = shift * np.array([-way[1], way[0]])

    def edge(half: Any, offset: np.ndarray, direction: np.ndarray) -> np.ndarray:
        reach = [(h - np.sign(d) * o) / abs(d) for h, o, d in zip(half, offset, direction) if abs(d) > 1e-9]
        return offset + (min(reach) + 0.04) * direction

    return start + edge(start_half, aside, way), end + edge(end_half, aside, -way)


# Figure 2: timelines

SCHEMES = {
    "batched_a2c_sync_step": "(a) Batched A2C (sync step.)",
    "batched_a2c_sync_trajectory": "(b) Batched A2C (sync traj.)",
    "impala": "(c) IMPALA",
}
BARS = {"environment step": ORANGE, "forward pass": BLUE, "transport": "#b9b9b9", "backward pass": RED}


def timelines(rows: pd.DataFrame, milliseconds: float) -> Any:
    """Draws Figure 2: what each process did when.

    Args:
      rows: as recorded by `timeline.py`: scheme, who, what, start and end in milliseconds. 0 is the end of an update.
      milliseconds: length of the period to draw, from 0.
    """
    figure, axes = plt.subplots(len(SCHEMES), figsize=(10.5, 8.4), sharex=True, layout="constrained")
    for ax, (scheme, title) in zip(axes, SCHEMES.items()):
        bars = rows[(rows.scheme == scheme) & (rows.start < milliseconds)]
        names = [*sorted(name for name in set(bars.who) if name != "learner"), "learner"]
        for (who, what), group in bars.groupby(["who", "what"]):
            spans = list(zip(group.start, group.end - group.start))
            ax.broken_barh(spans, (names.index(who) - 0.38, 0.76), color=BARS[what], edgecolor="white", linewidth=0.4)
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
        ax.set(ylim=(len(names) - 0.45, -0.55), xlim=(0, milliseconds))
        ax.set_yticks(range(len(names)), names, fontsize=8.5)
        ax.tick_params(axis="y", length=0)
        ax.axhline(len(names) - 1.5, color=GRAY, linewidth=0.6)
        ax.grid(axis="x", alpha=0.3)
        ax.grid(visible=False, axis="y")
        ax.set_axisbelow(True)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.tick_params(axis="x", labelbottom=True, labelsize=8.5)
    axes[-1].set_xlabel("milliseconds", fontsize=9)
    handles = [Patch(color=color, label=what) for what, color in BARS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5)
    return figure


# Figure 3: networks

FILLS = {
    "input": "white",
    "scale": "#ececec",
    "relu": "#ececec",
    "convolution": "#cfe0f3",
    "pooling": "#d8ecd9",
    "residual": "#e3d8f0",
    "linear": "#fbe3c4",
    "lstm": "#f6cfcf",
    "embedding": "#f3ecc2",
}
TALL, FLAT, GAP = 0.36, 0.22, 0.14


def lab_spec() -> EnvironmentSpec:
    """Returns the environment spec of DeepMind Lab, which does not have to be installed."""
    spaces = LabLevel.observation_space.items()
    observation = {name: ArraySpec(space.shape, space.dtype) for name, space in spaces}
    return EnvironmentSpec(observation, int(LabLevel.action_space.n), FRAMES_PER_STEP)


def two_networks(small: Agent, large: Agent, spec: EnvironmentSpec) -> Any:
    """Draws Figure 3: the small and the large network, both with an LSTM, as built for `spec`."""
    figure, ax = _canvas(11.4, 8.3)
    ax.plot([5.7, 5.7], [0.2, 8.1], color="#d0d0d0", linewidth=0.8)
    for left, name, agent in ((0.1, "Small", small), (5.85, "Large", large)):
        _text(ax, left + 2.6, 8.1, f"{name}: {layers.count(agent.trainable_variables):,} parameters", 12, weight="bold")
        _network(ax, left, agent, spec)
    blocks = [layer for layer in layers.torso(large, spec.observation["image"]) if layer.inside]
    _residual_block(ax, 0.2, 6.2, blocks[0])
    return figure


def _network(ax: Any, left: float, agent: Agent, spec: EnvironmentSpec) -> None:
    """Draws a network from the image at the bottom up to the heads, with the instruction encoder on the left."""
    x, width = left + 2.65, 1.8

    def numbers(y: float, output: str, parameters: str, color: str = INK) -> None:
        _text(ax, x + 1.95, y, output, 8.5, color, ha="right")
        _text(ax, x + 2.75, y, parameters, 8.5, color, ha="right")

    y = 0.3
    for layer in [*layers.torso(agent, spec.observation["image"]), *layers.core(agent)]:
        height = FLAT if layer.kind in ("scale", "relu") else TALL
        text = f"{layer.text}  ({TIMES} {layer.times})" if layer.times > 1 else layer.text
        if layer.kind != "input":
            _arrow(ax, (x, y - GAP), (x, y))
        _box(ax, x, y + height / 2, width, height, text, FILLS[layer.kind], INK)
        output = "" if layer.kind in ("input", "scale", "relu") else layers.size(layer.output)
        numbers(y + height / 2, output, f"{layer.parameters:,}" if layer.parameters else "")
        y += height + GAP
    core = y - GAP - TALL / 2

    for layer, side in zip(layers.heads(agent), (-1, 1)):
        _arrow(ax, (x + side * width / 4, y - GAP), (x + side * width / 4, y))
        _box(ax, x + side * (width / 4 + 0.02), y + TALL / 2, width / 2 - 0.04, TALL, layer.text, FILLS["linear"], INK)
    parameters = [f"{layer.parameters:,}" for layer in layers.heads(agent)]
    numbers(y + TALL / 2, "", " + ".join(parameters))
    numbers(y + TALL + 0.16, "output", "parameters", GRAY)

    x, edge = left + 0.75, x - width / 2
    _box(ax, x, y + TALL / 2, 1.3, 0.46, f"last reward\nlast action, 1 of {agent.num_actions}", "white", INK, 8)
    _elbow(ax, (x, y + TALL / 2 - 0.23), (edge, core + 0.07))
    y = core - 0.35
    _elbow(ax, (x, y), (edge, core - 0.07))
    for layer in reversed(layers.instruction(agent)):
        _box(ax, x, y - 0.25, 1.3, 0.5, f"{layer.text}\n{layer.parameters:,}", FILLS[layer.kind], INK, 8.5)
        _arrow(ax, (x, y - 0.5 - GAP), (x, y - 0.5))
        y -= 0.5 + GAP
    words = spec.observation["instruction"].shape[0]
    _box(ax, x, y - 0.23, 1.3, 0.46, f"instruction,\nup to {words} words", "white", INK, 8)


def _residual_block(ax: Any, x: float, y: float, block: Layer) -> None:
    """Draws the layers of a residual block from left to right."""
    _text(ax, x, y + 0.75, "Residual block of the large network", 10, weight="bold", ha="left")
    begin, x = x + 0.12, x + 0.35
    _arrow(ax, (begin - 0.12, y), (x, y))
    for layer in block.inside:
        width = 0.6 if layer.kind == "relu" else 1.0
        _box(ax, x + width / 2, y, width, 0.46, layer.text.replace(", ", "\n"), FILLS[layer.kind], INK, 8.5)
        x += width + 0.2
        _arrow(ax, (x - 0.2, y), (x, y))
    ax.plot([begin, begin, x + 0.14], [y, y + 0.45, y + 0.45], color=INK, linewidth=1)
    _arrow(ax, (x + 0.14, y + 0.45), (x + 0.14, y + 0.14))
    _box(ax, x + 0.14, y, 0.28, 0.28, "+", FILLS[block.kind], INK, 10)
    _arrow(ax, (x + 0.28, y), (x + 0.55, y))


# Drawing primitives


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    figure = plt.figure(figsize=(width, height), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return figure, ax


def _text(
    ax: Any, x: float, y: float, text: str, size: float, color: str = INK, ha: str = "center", **style: Any
) -> None:
    ax.text(x, y + 0.012, text, fontsize=size, color=color, ha=ha, va="center_baseline", **style)


def _box(
    ax: Any, x: float, y: float, width: float, height: float, text: str, fill: str = "white", edge: str = GRAY, size=9
) -> None:
    """Draws a box centered at (x, y)."""
    corner = (x - width / 2 + 0.04, y - height / 2 + 0.04)
    style = "round,pad=0.04,rounding_size=0.06"
    box = FancyBboxPatch(corner, width - 0.08, height - 0.08, style, facecolor=fill, edgecolor=edge, linewidth=0.9)
    ax.add_patch(box)
    _text(ax, x, y, text, size, linespacing=1.25)


def _arrow(ax: Any, start: Any, end: Any, color: str = INK, width: float = 1.0, style: str = "-|>") -> None:
    arrow = FancyArrowPatch(start, end, color=color, linewidth=width, arrowstyle=style, shrinkA=0, shrinkB=0)
    arrow.set_mutation_scale(5 + 3 * width)
    ax.add_patch(arrow)


def _elbow(ax: Any, start: Any, end: Any) -> None:
    """Draws an arrow that goes up or down, then right."""
    ax.plot([start[0], start[0]], [start[1], end[1]], color=INK, linewidth=1, solid_capstyle="butt")
    _arrow(ax, (start[0], end[1]), end)


def _key(ax: Any, x: float, y: float, color: str, text: str) -> None:
    """Draws a legend entry: an arrow of the color and its meaning."""
    lines = textwrap.wrap(text, 82)
    _arrow(ax, (x, y), (x + 0.35, y), color, 1.6)
    ax.text(x + 0.45, y + 0.07, "\n".join(lines), fontsize=8.5, color=INK, va="top", linespacing=1.3)
