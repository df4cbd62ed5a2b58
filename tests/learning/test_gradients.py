"""The gradients of the loss, computed in compiled parts, against one tape over the whole agent."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.config import LossConfig
from impala_tf.environments import instructions
from impala_tf.errors import UserError
from impala_tf.learning import losses
from impala_tf.learning.corrections import CORRECTIONS
from impala_tf.learning.gradients import LossGradients
from impala_tf.learning.vtrace import Q_ESTIMATES
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, ArraySpec, EnvironmentSpec, map_spec, trajectory_spec

T, B, ACTIONS = 4, 3, 2
VECTOR = ArraySpec((3,), np.dtype(np.float32))
SPEC = EnvironmentSpec(VECTOR, ACTIONS, 4)
READING = SPEC._replace(observation={"image": VECTOR, "instruction": instructions.SPEC})
SETTINGS = {
    "discount": 0.9,
    "baseline_cost": 0.4,
    "entropy_cost": 0.02,
    "reward_clipping": "none",
    "rho_bar": 1.5,
    "c_bar": 1.2,
    "pg_rho_bar": 1.3,
}


def random_unrolls(spec, core_state_spec):
    """Makes time-major unrolls with two episode ends; some words occur in several of the instructions."""
    rng = np.random.default_rng(0)

    def batch(array):
        shape = (array.shape[0], B, *array.shape[1:])
        floating = array.dtype == np.float32
        return rng.normal(size=shape).astype(np.float32) if floating else np.zeros(shape, array.dtype)

    entries = trajectory_spec(spec, (), T)._replace(task_id=())
    unrolls = map_spec(batch, entries)._replace(
        action=rng.integers(0, ACTIONS, (T + 1, B)).astype(np.int32),
        core_state=map_spec(lambda array: np.full((B, *array.shape), 0.3, np.float32), core_state_spec),
        task_id=np.zeros(B, np.int32),
    )
    unrolls.terminated[2, 0] = unrolls.truncated[3, 1] = True
    if isinstance(unrolls.observation, dict):
        words = [instructions.encode(text) for text in ("go left", "", "left")]
        unrolls.observation["instruction"] = np.resize(words, (T + 1, B, instructions.MAX_WORDS))
    return tf.nest.map_structure(tf.constant, unrolls)


@pytest.mark.slow(2)
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("spec", [SPEC, READING], ids=["vector", "instruction"])
@pytest.mark.parametrize("core", ["none", "lstm"])
def test_gradients_equal_those_of_one_tape(core, spec, xla):
    agent = Agent(spec, torso="mlp", core=core, seed=1)
    unrolls = random_unrolls(spec, agent.core_state_spec)
    variables = [*agent.head_variables, *agent.other_variables]
    inputs = AgentInput(unrolls.observation, unrolls.reward, unrolls.action, unrolls.terminated | unrolls.truncated)
    with tf.GradientTape() as tape:
        output, _ = agent.unroll(inputs, unrolls.core_state)
        loss, metrics = losses.impala_loss(output, unrolls, **SETTINGS, lambda_=0.8)
    expected = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]

    before = [variable.numpy() for variable in variables]
    found = LossGradients(agent, LossConfig(**SETTINGS, vtrace_lambda=0.8), xla)(unrolls)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    assert list(found.metrics) == list(metrics)
    for name, metric in metrics.items():
        np.testing.assert_allclose(found.metrics[name], metric, rtol=1e-4, atol=1e-6, err_msg=name)
    assert len(found.gradients) == len(variables) == len(agent.trainable_variables)
    for variable, ours, theirs, value in zip(variables, found.gradients, expected, before):
        assert isinstance(ours, tf.Tensor), variable.name  # Dense, also that of the embedding.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=variable.name)
        assert np.any(theirs), variable.name
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("name", [*SETTINGS, "vtrace_lambda"])
def test_every_setting_of_the_loss_is_used(name):
    agent = Agent(SPEC, torso="mlp", seed=1)
    unrolls = random_unrolls(SPEC, ())
    settings = {**SETTINGS, "vtrace_lambda": 0.8}
    other = {**settings, name: "abs_one" if name == "reward_clipping" else 0.7 * settings[name]}
    first, second = (LossGradients(agent, LossConfig(**values), False)(unrolls) for values in (settings, other))
    assert any(not np.allclose(a, b, rtol=1e-6) for a, b in zip(first.gradients, second.gradients))


def test_every_correction_and_estimate_of_q_reaches_the_loss():
    """From settings as flags give them. The policy is far from uniform, so that epsilon differs from none."""
    agent = Agent(SPEC, torso="mlp", seed=1)
    for variable in agent.head_variables:
        variable.assign(variable + 10.0 * np.random.default_rng(0).normal(size=variable.shape))
    unrolls = random_unrolls(SPEC, ())
    inputs = AgentInput(unrolls.observation, unrolls.reward, unrolls.action, unrolls.terminated | unrolls.truncated)
    output, _ = agent.unroll(inputs, ())
    found = {}
    for names in itertools.product(CORRECTIONS, Q_ESTIMATES):
        settings = dict(zip(("correction", "q_estimate"), names))
        loss = config_lib.from_values(settings).loss
        expected, _ = losses.impala_loss(
            output, unrolls, discount=0.99, baseline_cost=0.5, entropy_cost=0.01, **settings
        )
        found[names] = float(LossGradients(agent, loss, False)(unrolls).loss)
        np.testing.assert_allclose(found[names], expected, rtol=1e-5)
    for one, other in itertools.combinations(found, 2):
        assert not np.isclose(found[one], found[other], rtol=1e-4), (one, other)


def test_layers_that_the_loss_does_not_depend_on_are_named():
    agent = Agent(SPEC, torso="mlp", seed=1)
    agent.torso.unused = tf.Variable([1.0], name="unused/kernel")
    with pytest.raises(UserError, match="The loss does not depend on unused/kernel:0: leave out the layers"):
        LossGradients(agent, LossConfig(), False)(random_unrolls(SPEC, ()))
