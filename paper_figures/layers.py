"""Lists the layers of a built network for Figure 3, read from its graph and its variables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import impala_tf  # noqa: F401 - import before TensorFlow to silence its log messages.

# isort: split
import tensorflow as tf

from impala_tf.networks.agent import Agent
from impala_tf.structures import ArraySpec

TIMES = "\N{MULTIPLICATION SIGN}"


class Layer(NamedTuple):
    """A layer, or several identical layers in sequence.

    Attributes:
      kind: "input", "scale", "convolution", "pooling", "relu", "residual", "linear", "embedding" or "lstm".
      text: label of the layer's box in the figure.
      output: shape of the output, without the batch dimension.
      parameters: total number of parameters of all repetitions.
      times: number of repetitions.
      inside: layers of a residual block; the block's input is added to the output of the last of them.
    """

    kind: str
    text: str
    output: tuple[int, ...]
    parameters: int = 0
    times: int = 1
    inside: tuple[Layer, ...] = ()


def torso(agent: Agent, image: ArraySpec) -> list[Layer]:
    """Lists the layers of an agent's torso, from the input up.

    Reads them from the TensorFlow graph of the torso, so it finds every operation of the types named below.

    Args:
      agent: the agent.
      image: spec of the torso's observations.
    """
    traced = tf.function(agent.torso.__call__, autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec((1, *image.shape), image.dtype)).graph
    layers = [Layer("input", f"image {size(image.shape)}", tuple(image.shape))]
    made: dict[Any, int] = {}  # Maps each tensor to the number of layers found up to it.
    for op in graph.get_operations():
        shapes = [tuple(x.shape) for x in op.inputs]
        output = tuple(op.outputs[0].shape)[1:] if op.outputs and op.outputs[0].shape.rank else ()
        if op.type == "Mul" and (factor := tf.get_static_value(op.inputs[1])) is not None:  # Scales the first filters.
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
    """Lists the layers of the instruction encoder; none if the agent reads no instructions."""
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
    """Lists the layers of the core; none if it has no memory."""
    if not agent.core.trainable_variables:
        return []
    units = agent.core.output_size
    return [Layer("lstm", f"LSTM {units}", (units,), count(agent.core.trainable_variables))]


def heads(agent: Agent) -> list[Layer]:
    """Lists the policy head and the value head."""
    variables = iter(agent.head_variables)
    found = []
    for kernel, bias in zip(variables, variables):
        units = int(bias.shape[0])
        found.append(Layer("linear", f"{kernel.name.split('/')[0]} {units}", (units,), count([kernel, bias])))
    return found


def count(variables: Any) -> int:
    """Counts the parameters in the variables."""
    return int(sum(np.prod(v.shape) for v in variables))


def _fold(layers: list[Layer]) -> list[Layer]:
    """Merges identical residual blocks that follow one another."""
    folded: list[Layer] = []
    for layer in layers:
        if folded and layer.inside and folded[-1].inside == layer.inside:
            parameters = folded[-1].parameters + layer.parameters
            folded[-1] = folded[-1]._replace(times=folded[-1].times + 1, parameters=parameters)
        else:
            folded.append(layer)
    return folded


def size(shape: tuple[int, ...]) -> str:
    """Formats a shape."""
    return f" {TIMES} ".join(str(n) for n in shape)
