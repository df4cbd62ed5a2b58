"""What a built network consists of, for Figure 3: read from its graph and its variables, not from a description."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import impala_tf  # noqa: F401 - before TensorFlow, which it keeps quiet.

# isort: split
import tensorflow as tf

from impala_tf.networks.agent import Agent
from impala_tf.structures import ArraySpec

TIMES = "\N{MULTIPLICATION SIGN}"


class Layer(NamedTuple):
    """One layer, or `times` equal ones on end.

    Attributes:
      kind: "input", "scale", "convolution", "pooling", "relu", "residual", "linear", "embedding" or "lstm".
      text: what a box of the figure says.
      output: shape of its output, without batch.
      parameters: how many it has, all `times` together.
      times: how often it is there.
      inside: the layers of a residual block, whose input is added to what the last of them gives.
    """

    kind: str
    text: str
    output: tuple[int, ...]
    parameters: int = 0
    times: int = 1
    inside: tuple[Layer, ...] = ()


def torso(agent: Agent, image: ArraySpec) -> list[Layer]:
    """The layers of an agent's torso, from observations of the spec `image` upwards.

    From the graph that TensorFlow makes of it: whatever is computed there in operations that are named below is found.
    """
    traced = tf.function(agent.torso.__call__, autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec((1, *image.shape), image.dtype)).graph
    layers = [Layer("input", f"image {size(image.shape)}", tuple(image.shape))]
    made: dict[Any, int] = {}  # How many layers there were when a tensor had been made.
    for op in graph.get_operations():
        shapes = [tuple(x.shape) for x in op.inputs]
        output = tuple(op.outputs[0].shape)[1:] if op.outputs and op.outputs[0].shape.rank else ()
        if op.type == "Mul" and (factor := tf.get_static_value(op.inputs[1])) is not None:  # Of the first filters.
            layers.append(Layer("scale", f"/ {1 / factor:.0f}", tuple(image.shape)))
        elif op.type == "Conv2D":
            height, width, _, filters = shapes[1]
            text = f"conv {filters}, {height} {TIMES} {width} / {op.get_attr('strides')[1]}"
            layers.append(Layer("convolution", text, output, int(np.prod(shapes[1]))))
        elif op.type == "MaxPool":
            window, stride = op.get_attr("ksize")[1], op.get_attr("strides")[1]
            layers.append(Layer("pooling", f"max pool {window} {TIMES} {window} / {stride}", output))
        elif op.type == "MatMul":
            layers.append(Layer("linear", f"FC {output[0]}", output, int(np.prod(shapes[1]))))
        elif op.type == "BiasAdd":
            layers[-1] = layers[-1]._replace(parameters=layers[-1].parameters + shapes[1][0])
        elif op.type == "Relu":
            layers.append(Layer("relu", "ReLU", output))
        elif op.type == "AddV2" and len(output) == 3:
            begin = min(made[x.ref()] for x in op.inputs)
            inside = tuple(layers[begin:])
            parameters = sum(layer.parameters for layer in inside)
            layers[begin:] = [Layer("residual", "residual block", output, parameters, 1, inside)]
        made.update({x.ref(): len(layers) for x in op.outputs})
    return _fold(layers)


def instruction(agent: Agent) -> list[Layer]:
    """The layers that read an instruction; none where the agent reads none."""
    if not hasattr(agent, "instruction"):
        return []
    embedding, *lstm = agent.instruction.trainable_variables
    words, features = embedding.shape
    output = (agent.instruction.output_size,)
    return [
        Layer("embedding", f"embedding {features}", (features,), words * features),
        Layer("lstm", f"LSTM {output[0]}", output, count(lstm)),
    ]


def core(agent: Agent) -> list[Layer]:
    """The core; none without memory."""
    if not agent.core.trainable_variables:
        return []
    units = agent.core.output_size
    return [Layer("lstm", f"LSTM {units}", (units,), count(agent.core.trainable_variables))]


def heads(agent: Agent) -> list[Layer]:
    """The policy's and the value's head."""
    variables = iter(agent.head_variables)
    found = []
    for kernel, bias in zip(variables, variables):
        units = int(bias.shape[0])
        found.append(Layer("linear", f"{kernel.name.split('/')[0]} {units}", (units,), count([kernel, bias])))
    return found


def count(variables: Any) -> int:
    """Numbers in the variables."""
    return int(sum(np.prod(v.shape) for v in variables))


def _fold(layers: list[Layer]) -> list[Layer]:
    """Equal layers on end as one."""
    folded: list[Layer] = []
    for layer in layers:
        if folded and layer.inside and folded[-1].inside == layer.inside:
            parameters = folded[-1].parameters + layer.parameters
            folded[-1] = folded[-1]._replace(times=folded[-1].times + 1, parameters=parameters)
        else:
            folded.append(layer)
    return folded


def size(shape: tuple[int, ...]) -> str:
    """A shape for the eye."""
    return f" {TIMES} ".join(str(n) for n in shape)
