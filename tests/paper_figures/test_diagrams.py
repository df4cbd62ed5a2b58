"""Tests that the diagrams agree with the code and are legible."""

import itertools
import pathlib
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from impala_tf import topology
from impala_tf.config import from_values
from impala_tf.environments import task_set
from impala_tf.networks.agent import Agent
from impala_tf.roles import agreement
from impala_tf.structures import ArraySpec, EnvironmentSpec, Trajectory

sys.path.append(str(pathlib.Path(__file__).parents[2] / "paper_figures"))
import diagrams
import layers

SEVERAL = from_values({"num_learners": 3, "num_actors": 6})
LAB = diagrams.lab_spec()
ATARI = EnvironmentSpec(ArraySpec((84, 84, 4), np.dtype(np.uint8)), num_actions=6, frames_per_step=4, frame_stack=True)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def texts(figure):
    """Returns the text artists of a diagram."""
    return [text for text in figure.axes[0].texts if text.get_text()]


def everything(agent, spec):
    image = spec.observation["image"] if isinstance(spec.observation, dict) else spec.observation
    parts = layers.torso(agent, image), layers.instruction(agent), layers.core(agent), layers.heads(agent)
    return list(itertools.chain(*parts))


def single(found):
    """Yields every layer individually, including those inside residual blocks."""
    for layer in found:
        for _ in range(layer.times):
            yield from single(layer.inside) if layer.inside else [layer]


@pytest.mark.parametrize("spec", [LAB, ATARI])
@pytest.mark.parametrize("core", ["none", "lstm"])
@pytest.mark.parametrize("torso", ["shallow", "shallow_3conv", "deep", "mlp"])
def test_layers_include_every_parameter(torso, core, spec):
    agent = Agent(spec, torso, core)
    found = everything(agent, spec)
    assert sum(layer.parameters for layer in found) == layers.count(agent.trainable_variables)
    assert sum(layer.parameters for layer in single(found)) == layers.count(agent.trainable_variables)


def test_networks_of_the_paper():
    small, large = (everything(Agent(LAB, torso, "lstm"), LAB) for torso in ("shallow", "deep"))
    assert [layer.text for layer in small] == [
        *("image 72 × 96 × 3", "/ 255", "conv 16, 8 × 8 / 4", "ReLU", "conv 32, 4 × 4 / 2", "ReLU"),  # noqa: RUF001
        *("FC 256", "ReLU", "embedding 20", "LSTM 64", "LSTM 256", "policy 9", "value 1"),
    ]
    assert sum(layer.kind == "convolution" for layer in single(large)) == 15
    assert [layer.output for layer in large if layer.kind == "residual"] == [(36, 48, 16), (18, 24, 32), (9, 12, 32)]
    assert [layer.times for layer in large if layer.kind == "residual"] == [2, 2, 2]
    assert [round(sum(layer.parameters for layer in found) / 1e6, 1) for found in (small, large)] == [1.2, 1.6]


def test_figure_3_shows_the_networks_it_is_given():
    large = Agent(LAB, "deep", "lstm")
    figures = [diagrams.two_networks(Agent(LAB, torso, "lstm"), large, LAB) for torso in ("shallow", "shallow_3conv")]
    written = [{text.get_text() for text in texts(figure)} for figure in figures]
    assert "Small: 1,230,426 parameters" in written[0] and "conv 64, 3 × 3 / 1" not in written[0]  # noqa: RUF001
    assert "Small: 1,230,426 parameters" not in written[1] and "conv 64, 3 × 3 / 1" in written[1]  # noqa: RUF001


@pytest.mark.parametrize("num_actors", [4, 8])
def test_figure_1_shows_the_actors_and_the_tables(num_actors):
    config = from_values({"num_actors": num_actors, "envs_per_actor": 7, "unroll_length": 33})
    figure = diagrams.architectures(config, SEVERAL)
    written = [text.get_text() for text in texts(figure)]
    assert sum("7 environments" in text for text in written) == num_actors
    unrolls = next(text for text in written if text.startswith("unrolls of 33 steps")).replace("\n", " ")
    assert unrolls.count(",") + 1 == len(Trajectory._fields)
    assert any("at most 64" in text for text in written)  # From reverb_configs/on_policy.textproto.
    tasks = task_set.resolve(config.environment)
    told = agreement.told(config, tasks, topology.resolve(config, len(tasks.names), topology.alone("")))
    (run,) = (text for text in written if text.startswith("run: "))
    assert all(name in run for name in told)


def test_figure_1_shows_several_learners():
    written = [text.get_text() for text in texts(diagrams.architectures(from_values({"num_actors": 4}), SEVERAL))]
    assert [text for text in written if text.startswith("learner ")] == [f"learner {rank}" for rank in range(3)]
    assert [text for text in written if text in {f"actor {i}" for i in range(9)}] == [f"actor {i}" for i in range(6)]
    assert written.count("gradients") == 2


def two_networks():
    return diagrams.two_networks(Agent(LAB, "shallow", "lstm"), Agent(LAB, "deep", "lstm"), LAB)


@pytest.mark.parametrize(
    "draw", [two_networks, lambda: diagrams.architectures(from_values({"num_actors": 8}), SEVERAL)]
)
def test_texts_do_not_overlap_and_stay_inside(draw):
    figure = draw()
    extents = [text.get_window_extent() for text in texts(figure)]
    for first, second in itertools.combinations(extents, 2):
        assert not first.overlaps(second)
    for extent in extents:
        assert figure.bbox.containsx(extent.x0) and figure.bbox.containsx(extent.x1)
        assert figure.bbox.containsy(extent.y0) and figure.bbox.containsy(extent.y1)


def test_figure_2_draws_a_bar_per_row():
    rows = [
        ("batched_a2c_sync_step", "actor 0", "environment step", 1.0, 3.0),
        ("batched_a2c_sync_step", "actor 1", "forward pass", 2.0, 2.5),
    ]
    rows += [
        ("batched_a2c_sync_step", "learner", "backward pass", 4.0, 9.0),
        ("batched_a2c_sync_step", "actor 0", "environment step", 90, 91),
    ]
    rows += [(s, "learner", "backward pass", 4.0, 9.0) for s in ("sync_trajectory", "impala")]
    figure = diagrams.timelines(pd.DataFrame(rows, columns=["scheme", "who", "what", "start", "end"]), 10.0)
    extents = [bars.get_datalim(figure.axes[0].transData) for bars in figure.axes[0].collections]
    assert sorted((e.x0, e.x1, round((e.y0 + e.y1) / 2)) for e in extents) == [(1, 3, 0), (2, 2.5, 1), (4, 9, 2)]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["actor 0", "actor 1", "learner"]
