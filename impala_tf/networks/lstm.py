"""The LSTM recurrence over time-major inputs: a loop for any device, and cuDNN for GPUs.

Both compute the following, with gates in the order input, forget, cell, output and one bias vector per gate:

    i, f, g, o = split(x_t kernel + h recurrent_kernel + bias)
    c <- sigmoid(f) c + sigmoid(i) tanh(g)
    h <- sigmoid(o) tanh(c)
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

State = tuple[tf.Tensor, tf.Tensor]
"""h and c, each float32 [B, D]."""


class Weights(NamedTuple):
    """Weights of a `tf.keras.layers.LSTMCell`: kernel [F, 4 D], recurrent_kernel [D, 4 D], bias [4 D]; float32."""

    kernel: tf.Variable
    recurrent_kernel: tf.Variable
    bias: tf.Variable


def make_cell(units: int, num_inputs: int, seeds) -> tf.keras.layers.LSTMCell:
    """Creates the weights: Glorot uniform with a forget bias of 1, like the LSTMs of the authors' scalable_agent."""
    cell = tf.keras.layers.LSTMCell(
        units,
        kernel_initializer=tf.keras.initializers.GlorotUniform(next(seeds)),
        recurrent_initializer=tf.keras.initializers.GlorotUniform(next(seeds)),
        unit_forget_bias=True,
        dtype=tf.float32,
    )
    cell.build([None, num_inputs])
    return cell


def weights_of(cell: tf.keras.layers.LSTMCell) -> Weights:
    """Returns the variables of a Keras cell."""
    return Weights(cell.kernel, cell.recurrent_kernel, cell.bias)


def has_gpu() -> bool:
    """Whether a GPU is visible to this process. Actors hide it."""
    return bool(tf.config.get_visible_devices("GPU"))


def loop(inputs: tf.Tensor, reset: tf.Tensor | None, state: State, weights: Weights) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the recurrence step by step; runs on any device, with or without XLA.

    Args:
      inputs: float32 [T, B, F].
      reset: bool [T, B]; where true, the state is set to 0 before this step. None never resets.
      state: h and c before the first step.
      weights: kernel, recurrent kernel and bias.

    Returns:
      h and c after every step, each float32 [T, B, D].
    """
    # The input projection does not depend on the state: one large product instead of T small ones.
    projected = tf.tensordot(inputs, weights.kernel, 1) + weights.bias
    recurrent_kernel = tf.convert_to_tensor(weights.recurrent_kernel)
    if inputs.shape[0] == 1:  # An actor's step, where a loop would cost more than its body.
        h, c = (x if reset is None else _reset(reset[0], x) for x in state)
        h, c, _ = _step(projected[0], h, c, recurrent_kernel)
        return h[tf.newaxis], c[tf.newaxis]
    return _recurrence(projected, reset, *state, recurrent_kernel)


def sequences(
    inputs: tf.Tensor, lengths: tf.Tensor, state: State, weights: Weights, cudnn: bool
) -> tuple[tf.Tensor, State]:
    """Computes the recurrence over sequences of different lengths.

    Args:
      inputs: float32 [L, N, F]. Entries after the end of a sequence must be finite and have no effect.
      lengths: int32 [N], from 1 to L - 1. TensorFlow calls cuDNN differently if all sequences have length L, but may
        reuse the plan it cached for the other case (TensorFlow issue 41630), so no sequence may have length L.
      state: h and c before the first step, each float32 [N, D].
      weights: kernel, recurrent kernel and bias.
      cudnn: whether to call cuDNN, which needs a GPU and does not compile with XLA.

    Returns:
      h after every step, float32 [L, N, D], undefined after the end of a sequence; and h and c at the end of each
      sequence.
    """
    if cudnn:
        return _cudnn(inputs, lengths, state, weights)
    h, c = loop(inputs, None, state, weights)
    last = tf.stack([lengths - 1, tf.range(tf.size(lengths))], axis=-1)
    return h, (tf.gather_nd(h, last), tf.gather_nd(c, last))


def _cudnn(inputs: tf.Tensor, lengths: tf.Tensor, state: State, weights: Weights) -> tuple[tf.Tensor, State]:
    h, c = (x[tf.newaxis] for x in state)  # One layer.
    outputs, h, c, _, _ = tf.raw_ops.CudnnRNNV3(
        input=inputs,
        input_h=h,
        input_c=c,
        params=cudnn_parameters(weights),
        sequence_lengths=lengths,
        rnn_mode="lstm",
        is_training=True,  # Otherwise the op has no gradient.
        time_major=True,
    )
    return outputs, (h[0], c[0])


def cudnn_parameters(weights: Weights) -> tf.Tensor:
    """Flattens the weights into cuDNN's layout, float32 [4 (F + D) D + 8 D].

    The layout is: for each gate a matrix [D, F] for the inputs, for each gate a matrix [D, D] for h, for each gate a
    bias vector [D] for the inputs (0 here), and for each gate a bias vector [D] for h.
    """
    matrices = [*tf.split(weights.kernel, 4, axis=1), *tf.split(weights.recurrent_kernel, 4, axis=1)]
    flat = [tf.reshape(tf.transpose(matrix), [-1]) for matrix in matrices]
    return tf.concat([*flat, tf.zeros_like(weights.bias), weights.bias], axis=0)


def _reset(where: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Sets the rows of x [B, D] to 0 where `where` [B] is true."""
    # Selects instead of multiplying, so that a non-finite state does not survive its episode.
    return tf.where(where[:, tf.newaxis], 0.0, x)


def _step(projected: tf.Tensor, h: tf.Tensor, c: tf.Tensor, recurrent_kernel: tf.Tensor):
    """Returns h and c after the step, and the five activations that its gradient needs, [B, 5 D]."""
    i, f, g, o = tf.split(projected + tf.matmul(h, recurrent_kernel), 4, axis=-1)
    i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
    c = f * c + i * g
    tanh_c = tf.tanh(c)
    return o * tanh_c, c, tf.concat([i, f, g, o, tanh_c], axis=-1)


def _recurrence(projected, reset, h_0, c_0, recurrent_kernel) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns h and c after every step, [T, B, D], given the gates' input projections, [T, B, 4 D].

    The gradient is written by hand. The one that TensorFlow derives from the loop stores more activations, and computes
    the recurrent kernel's gradient with one product per step instead of a single large one.
    """
    num_steps, units = tf.shape(projected)[0], h_0.shape[-1]
    # Restores B if only `h_0` has it statically: the shape of the loop's state must not change.
    projected = tf.ensure_shape(projected, [None, h_0.shape[0], 4 * units])

    def arrays(count: int) -> tuple[tf.TensorArray, ...]:
        return tuple(tf.TensorArray(tf.float32, num_steps) for _ in range(count))

    def stack(array: tf.TensorArray, size: int) -> tf.Tensor:
        return tf.ensure_shape(array.stack(), [*projected.shape[:2], size])

    starts = None if reset is None else tf.convert_to_tensor(reset)

    def before(t, x):
        return x if starts is None else _reset(starts[t], x)

    @tf.custom_gradient
    def run(projected, h_0, c_0, recurrent_kernel):
        def step(t, h, c, hs, cs, activations):
            h, c, active = _step(projected[t], before(t, h), before(t, c), recurrent_kernel)
            return t + 1, h, c, hs.write(t, h), cs.write(t, c), activations.write(t, active)

        *_, hs, cs, activations = tf.while_loop(
            lambda t, *_: t < num_steps, step, (0, h_0, c_0, *arrays(3)), maximum_iterations=num_steps
        )
        hs, cs, activations = stack(hs, units), stack(cs, units), stack(activations, 5 * units)

        def gradient(dhs, dcs):
            def previous(states, first):
                shifted = tf.concat([first[tf.newaxis], states[:-1]], axis=0)
                return shifted if starts is None else tf.where(starts[..., tf.newaxis], 0.0, shifted)

            hs_before, cs_before = previous(hs, h_0), previous(cs, c_0)

            def back(t, dh, dc, dprojected):
                i, f, g, o, tanh_c = tf.split(activations[t], 5, axis=-1)
                dh += dhs[t]
                dc += dcs[t] + dh * o * (1 - tanh_c**2)
                di, df, dg, do = dc * g, dc * cs_before[t], dc * i, dh * tanh_c
                dgates = tf.concat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1)
                dh = tf.matmul(dgates, recurrent_kernel, transpose_b=True)
                return t - 1, before(t, dh), before(t, dc * f), dprojected.write(t, dgates)

            zeros = tf.zeros_like(h_0)
            _, dh_0, dc_0, dprojected = tf.while_loop(
                lambda t, *_: t >= 0, back, (num_steps - 1, zeros, zeros, *arrays(1)), maximum_iterations=num_steps
            )
            dprojected = stack(dprojected, 4 * units)
            drecurrent_kernel = tf.matmul(
                tf.reshape(hs_before, [-1, units]), tf.reshape(dprojected, [-1, 4 * units]), transpose_a=True
            )
            return dprojected, dh_0, dc_0, drecurrent_kernel

        return (hs, cs), gradient

    return run(projected, h_0, c_0, recurrent_kernel)
