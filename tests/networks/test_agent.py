from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.config import NetworkConfig
from impala_tf.environments import instructions
from impala_tf.errors import UserError
from impala_tf.networks import cores, torsos
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, ArraySpec, EnvironmentSpec

T, B = 5, 3
ATARI, DMLAB, SMALL = (84, 84, 4), (72, 96, 3), (20, 20, 2)


def environment(shape, num_actions, dtype=np.uint8, reads=False):
    image = ArraySpec(shape, np.dtype(dtype))
    return EnvironmentSpec(with_text(image, instructions.SPEC) if reads else image, num_actions, frames_per_step=4)


def with_text(image, instruction):
    return {"image": image, "instruction": instruction}


def random_inputs(num_actions, seed=0, leading=(T, B)):
    rng = np.random.default_rng(seed)
    inputs = AgentInput(
        observation=rng.integers(0, 256, (*leading, *SMALL), dtype=np.uint8),
        last_reward=rng.normal(size=leading).astype(np.float32),
        last_action=rng.integers(0, num_actions, leading).astype(np.int32),
        episode_start=rng.random(leading) < 0.3,
    )
    return AgentInput(*map(tf.constant, inputs))


def weights(agent):
    return [v.numpy() for v in agent.trainable_variables]


@pytest.fixture(scope="module", params=["none", "lstm"])
def agent(request):
    return Agent(environment(SMALL, 4), "shallow", request.param, seed=1)


@pytest.mark.parametrize(
    "shape, torso, core, num_actions, expected",
    [
        # DMLab without the instruction encoder; the next test includes it.
        (DMLAB, "shallow", "lstm", 9, 1_123_130),
        (DMLAB, "deep", "lstm", 9, 1_520_714),
        # Atari (Table G.1): the deep network without LSTM. 84 -> 42 -> 21 -> 11, and 11 x 11 x 32 = 3872 flattened.
        (ATARI, "deep", "none", 6, 1_091_031),
        (ATARI, "deep", "none", 18, 1_094_115),
    ],
)
def test_parameter_counts(shape, torso, core, num_actions, expected):
    assert sum(x.size for x in weights(Agent(environment(shape, num_actions), torso, core))) == expected


@pytest.mark.parametrize("torso, expected", [("shallow", 1_230_426), ("deep", 1_628_010)])
def test_parameter_counts_with_language(torso, expected):
    """The counts are the 1.2 and 1.6 million of Figure 3's caption."""
    assert sum(x.size for x in weights(Agent(environment(DMLAB, 9, reads=True), torso, "lstm"))) == expected


def test_shapes_and_dtypes(agent):
    state = agent.initial_state(B)
    outputs, next_state = agent.unroll(random_inputs(4), state)
    assert (outputs.logits.shape, outputs.logits.dtype) == ((T, B, 4), tf.float32)
    assert (outputs.value.shape, outputs.value.dtype) == ((T, B), tf.float32)
    tf.nest.assert_same_structure(state, next_state)
    outputs, _ = agent.step(random_inputs(4, leading=(B,)), state)
    assert (outputs.logits.shape, outputs.value.shape) == ((B, 4), (B,))


def test_core_state_spec_matches_the_state(agent):
    spec, state = agent.core_state_spec, agent.initial_state(B)
    assert len(spec) == len(state)
    assert [(B, *s.shape) for s in spec] == [tuple(x.shape) for x in state]
    assert [s.dtype for s in spec] == [x.dtype.as_numpy_dtype for x in state]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unroll_equals_stepwise(agent, jit_compile):
    inputs, state = random_inputs(4), agent.initial_state(B)
    outputs, final = tf.function(agent.unroll, jit_compile=jit_compile)(inputs, state)
    for t in range(T):
        output, state = agent.step(AgentInput(*(x[t] for x in inputs)), state)
        np.testing.assert_allclose(output.logits, outputs.logits[t], atol=1e-5)
        np.testing.assert_allclose(output.value, outputs.value[t], atol=1e-5)
    tf.nest.assert_same_structure(state, final)
    for a, b in zip(state, final):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_features_core_and_heads_equal_unroll(agent):
    inputs, state = random_inputs(4), agent.initial_state(B)
    whole, final = agent.unroll(inputs, state)
    features = tf.function(agent.features, jit_compile=True)(inputs.observation)
    assert features.shape == (T, B, agent.torso.feature_size)
    outputs, state = agent.unroll_core(features, inputs._replace(observation=()), state)
    parts = tf.function(agent.heads, jit_compile=True)(outputs)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, final)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-5)
    np.testing.assert_allclose(parts.value, whole.value, atol=1e-5)


def test_graph_with_unknown_time_and_batch(agent):
    inputs, state = random_inputs(4), agent.initial_state(B)
    specs = AgentInput(*(tf.TensorSpec([None, None, *x.shape[2:]], x.dtype) for x in inputs))
    state_specs = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), state)
    outputs, _ = tf.function(agent.unroll, input_signature=[specs, state_specs])(inputs, state)
    np.testing.assert_allclose(outputs.logits, agent.unroll(inputs, state)[0].logits, atol=1e-5)


def test_only_the_seed_determines_the_weights():
    def build(seed):
        return Agent(environment(SMALL, 4), "deep", "lstm", seed=seed)

    tf.random.set_seed(1)
    first = build(7)
    tf.random.set_seed(2)
    second, other = build(7), build(8)
    for a, b, c in zip(*map(weights, (first, second, other))):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or not np.allclose(a, c)


def test_initial_policy_is_nearly_uniform(agent):
    outputs, _ = agent.unroll(random_inputs(4), agent.initial_state(B))
    probabilities = tf.nn.softmax(outputs.logits).numpy()
    np.testing.assert_allclose(probabilities, 1 / probabilities.shape[-1], rtol=0.1)
    assert np.std(outputs.logits) > 0


def test_torso_knows_about_frame_stacks():
    """With a frame stack, the filters respond more strongly to motion."""
    spec = environment((84, 84, 4), 6)
    stacked = spec._replace(frame_stack=True)
    kernels = [Agent(s, "shallow", seed=1).torso.trainable_variables[0] for s in (spec, stacked)]
    assert np.std(kernels[1]) > 3 * np.std(kernels[0])


def test_all_variables_exist_at_once_in_a_fixed_order_and_get_gradients(agent):
    before = [id(v) for v in agent.trainable_variables]
    with tf.GradientTape() as tape:
        outputs, _ = agent.unroll(random_inputs(4), agent.initial_state(B))
        loss = tf.reduce_sum(tf.square(outputs.logits)) + tf.reduce_sum(tf.square(outputs.value))
    assert [id(v) for v in agent.trainable_variables] == before
    assert len(agent.variables) == len(before)
    gradients = tape.gradient(loss, agent.trainable_variables)
    assert all(np.any(gradient) for gradient in gradients)


def test_order_of_variables():
    """The learner and actors exchange lists of arrays, even from older checkpoints: the order is part of the format."""
    names = [v.name.split("/")[-2:] for v in Agent(environment(SMALL, 4), "shallow", "lstm").trainable_variables]
    heads = [["policy", "kernel:0"], ["policy", "bias:0"], ["value", "kernel:0"], ["value", "bias:0"]]
    assert names[:4] == heads
    shapes = [tuple(v.shape) for v in Agent(environment(SMALL, 4), "shallow", "lstm").trainable_variables]
    assert shapes[4:] == [
        *((261, 1024), (256, 1024), (1024,)),
        *((8, 8, 2, 16), (16,), (4, 4, 16, 32), (32,)),
        *((32, 256), (256,)),
    ]


@pytest.mark.parametrize("torso", ["shallow", "deep", "mlp"])
def test_bfloat16_stays_inside_the_torso(torso):
    """Outputs and parameters stay float32; features differ from float32's, but only by rounding."""
    exact, rounded = (Agent(environment(SMALL, 4), torso, "lstm", precision=p) for p in ("float32", "bfloat16"))
    inputs = random_inputs(4)
    outputs, state = rounded.unroll(inputs, rounded.initial_state(B))
    assert {x.dtype for x in (*outputs, *state, *rounded.trainable_variables)} == {tf.float32}
    features, expected = (agent.features(inputs.observation).numpy() for agent in (rounded, exact))
    assert 0 < np.abs(features - expected).max() < 0.05 * np.abs(expected).max()


def test_checkpoint(tmp_path, agent):
    path = tf.train.Checkpoint(agent=agent).save(str(tmp_path / "agent"))
    core = "lstm" if agent.core_state_spec else "none"
    restored = Agent(environment(SMALL, 4), "shallow", core, seed=2)
    tf.train.Checkpoint(agent=restored).restore(path).assert_consumed()
    for a, b in zip(weights(agent), weights(restored)):
        np.testing.assert_array_equal(a, b)


def test_vector_observations():
    agent = Agent(environment((4,), 2, np.float32))
    inputs = AgentInput(tf.ones([T, B, 4]), tf.zeros([T, B]), tf.zeros([T, B], tf.int32), tf.zeros([T, B], tf.bool))
    outputs, state = agent.unroll(inputs, agent.initial_state(B))
    assert (outputs.logits.shape, state) == ((T, B, 2), ())


@pytest.mark.parametrize("torso, core", [("nature", "none"), ("auto", "gru"), ("shallow_3conv", "none")])
def test_user_errors(torso, core):
    with pytest.raises(UserError):
        Agent(environment(SMALL, 4), torso, core)


def reading_inputs(num_actions, texts, leading=(T, B)):
    """Random inputs whose instructions cycle through `texts`."""
    inputs = random_inputs(num_actions, leading=leading)
    words = np.resize([instructions.encode(text) for text in texts], (*leading, instructions.MAX_WORDS))
    return inputs._replace(observation=with_text(inputs.observation, tf.constant(words)))


@pytest.mark.parametrize("core", ["none", "lstm"])
def test_instruction_affects_the_output_and_all_variables_get_gradients(core):
    agent = Agent(environment(SMALL, 4, reads=True), "shallow", core, seed=1)
    inputs, state = reading_inputs(4, ["go left", "take the red key", ""]), agent.initial_state(B)
    with tf.GradientTape() as tape:
        outputs, final = agent.unroll(inputs, state)
        loss = tf.reduce_sum(tf.square(outputs.logits)) + tf.reduce_sum(tf.square(outputs.value))
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, agent.trainable_variables)]
    assert all(np.any(gradient) for gradient in gradients)
    other, _ = agent.unroll(reading_inputs(4, ["go right", "take the red key", ""]), state)
    different = ~np.isclose(outputs.value, other.value, rtol=1e-3, atol=1e-4)
    assert different[:, 0].all()  # B is 3, so each unroll has a text of its own.
    assert not different[:, 1:].any()
    for t in range(T):
        output, state = agent.step(tf.nest.map_structure(lambda x: x[t], inputs), state)  # noqa: B023
        np.testing.assert_allclose(output.value, outputs.value[t], atol=1e-5)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, final)


def test_language_keeps_the_order_of_the_other_variables():
    plain, reading = (Agent(environment(SMALL, 4, reads=r), "shallow", "lstm") for r in (False, True))
    shapes = [tuple(v.shape) for v in reading.trainable_variables]
    assert shapes[4:10] == [(325, 1024), (256, 1024), (1024,), (1000, 20), (20, 256), (64, 256)]
    assert shapes[11:] == [tuple(v.shape) for v in plain.trainable_variables[7:]]
    for agent in (plain, reading):
        heads = [v.ref() for v in agent.head_variables]
        assert heads == [v.ref() for v in agent.trainable_variables[:4]]


def test_other_dictionaries_are_rejected():
    spec = environment(SMALL, 4)
    with pytest.raises(UserError, match="must be one array"):
        Agent(spec._replace(observation={"image": spec.observation, "depth": spec.observation}))


@pytest.mark.parametrize(
    ("setting", "names"), [("torso", torsos.NAMES), ("core", cores.NAMES), ("lstm_kernel", cores.KERNELS)]
)
def test_choices_of_the_settings_match_the_names(setting, names):
    """`config` repeats the names instead of importing them, because these modules import TensorFlow."""
    (field,) = [field for field in dataclasses.fields(NetworkConfig) if field.name == setting]
    assert field.metadata["choices"] == names
