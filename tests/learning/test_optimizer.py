from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning.optimizer import Optimizer, linear_schedule

STEPS = 5


def gradients_of(step):
    rng = np.random.default_rng(step)
    return [rng.normal(size=shape).astype(np.float32) * (step + 1) for shape in ((3, 2), (4,))]


def new_variables():
    rng = np.random.default_rng(99)
    return [tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((3, 2), (4,))]


def run(optimizer, variables, jit_compile=False):
    @tf.function(jit_compile=jit_compile)
    def apply(gradients, learning_rate):
        return optimizer.apply(gradients, variables, learning_rate)

    return [float(apply(list(map(tf.constant, gradients_of(i))), tf.constant(0.1 / (i + 1)))) for i in range(STEPS)]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("epsilon", "initial"), [(0.01, 0.0), (0.01, 1.0), (1e-5, 1.0)])
def test_equals_numpy(momentum, epsilon, initial, jit_compile):
    variables = new_variables()
    expected = [v.numpy().astype(np.float64) for v in variables]
    mean_squares, steps = [np.full_like(x, initial) for x in expected], [np.zeros_like(x) for x in expected]
    norms = []
    for i in range(STEPS):
        gradients = [g.astype(np.float64) for g in gradients_of(i)]
        norms.append(np.sqrt(sum((g**2).sum() for g in gradients)))
        gradients = [g * min(1.0, 4.0 / norms[-1]) for g in gradients]
        for k, g in enumerate(gradients):
            mean_squares[k] = 0.95 * mean_squares[k] + 0.05 * g**2
            steps[k] = momentum * steps[k] + 0.1 / (i + 1) * g / np.sqrt(mean_squares[k] + epsilon)
            expected[k] -= steps[k]
    assert min(norms) < 4.0 < max(norms)  # The clip bites in some steps and not in others.
    optimizer = Optimizer(variables, decay=0.95, momentum=momentum, epsilon=epsilon, clip_norm=4.0, initial=initial)
    np.testing.assert_allclose(run(optimizer, variables, jit_compile), norms, rtol=1e-5)
    for variable, x in zip(variables, expected):
        np.testing.assert_allclose(variable, x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("clip_norm", [0.0, None])
def test_equals_tensorflow_1(momentum, clip_norm):
    variables, theirs = new_variables(), new_variables()
    tensorflow_1 = tf.compat.v1.train.RMSPropOptimizer(
        lambda: learning_rate, decay=0.99, momentum=momentum, epsilon=0.01
    )
    for i in range(STEPS):
        learning_rate = 0.1 / (i + 1)
        tensorflow_1.apply_gradients(zip(map(tf.constant, gradients_of(i)), theirs))
    run(Optimizer(variables, momentum=momentum, clip_norm=clip_norm), variables)
    for variable, x in zip(variables, theirs):
        np.testing.assert_allclose(variable, x, rtol=1e-6, atol=1e-7)


def test_skipped_under_cond():
    variables = new_variables()
    optimizer = Optimizer(variables)
    before = [v.numpy() for v in (*variables, *optimizer.variables)]

    @tf.function
    def apply(condition):
        gradients = [tf.ones_like(v) for v in variables]
        return tf.cond(condition, lambda: optimizer.apply(gradients, variables, 0.1), lambda: 0.0)

    def changed():
        return [not np.array_equal(a, b) for a, b in zip((*variables, *optimizer.variables), before)]

    apply(tf.constant(False))
    assert not any(changed())
    apply(tf.constant(True))
    assert all(changed()[:2])


def test_checkpoint_continues_as_if_not_interrupted(tmp_path):
    variables = new_variables()
    optimizer = Optimizer(variables, momentum=0.5)
    run(optimizer, variables)
    path = tf.train.Checkpoint(optimizer=optimizer, variables=variables).save(str(tmp_path / "checkpoint"))
    run(optimizer, variables)

    restored_variables = new_variables()
    restored = Optimizer(restored_variables, momentum=0.5)
    checkpoint = tf.train.Checkpoint(optimizer=restored, variables=restored_variables)
    checkpoint.restore(path).assert_consumed()
    run(restored, restored_variables)
    for a, b in zip(variables, restored_variables):
        np.testing.assert_array_equal(a, b)


def test_sparse_gradient():
    """Embeddings give their gradient as indexed slices; repeated rows add up before the norm is taken."""
    tables, norms = [tf.Variable(tf.ones([4, 2])) for _ in range(2)], []
    for table, convert in zip(tables, (lambda g: g, tf.convert_to_tensor)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, [1, 1, 3]))
        gradient = tape.gradient(loss, table)
        assert isinstance(gradient, tf.IndexedSlices)
        norms.append(Optimizer([table]).apply([convert(gradient)], [table], 0.1))
    np.testing.assert_allclose(norms, np.sqrt([10.0, 10.0]), rtol=1e-6)
    np.testing.assert_array_equal(*tables)
    np.testing.assert_array_equal(tables[0][0], [1.0, 1.0])


def test_missing_gradient_and_wrong_number():
    variables = new_variables()
    optimizer = Optimizer(variables)
    with pytest.raises(ValueError, match="does not depend"):
        optimizer.apply([None, tf.ones([4])], variables, 0.1)
    with pytest.raises(ValueError, match="1 gradients and 1 variables, but slots for 2"):
        optimizer.apply([tf.ones([3, 2])], variables[:1], 0.1)


@pytest.mark.parametrize("frames, expected", [(0, 6e-4), (5 * 10**7, 4.5e-4), (2 * 10**8, 0.0), (3 * 10**8, 0.0)])
def test_linear_schedule(frames, expected):
    learning_rate = tf.function(linear_schedule)(6e-4, tf.constant(frames, tf.int64), 2 * 10**8)
    assert learning_rate.dtype == tf.float32
    assert float(learning_rate) == pytest.approx(expected)
    assert float(linear_schedule(6e-4, frames, 2 * 10**8)) == pytest.approx(expected)
