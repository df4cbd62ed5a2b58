"""Settings, and the flags that are derived from them."""

import json
import math
import re

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags
from impala_tf.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def defined():
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()


def _parse(*arguments):
    absl_flags.FLAGS.unparse_flags()
    for _, setting in config_lib.settings():
        absl_flags.FLAGS[setting.name].value = setting.default
    absl_flags.FLAGS(["impala-train", *arguments])
    return flags.to_config()


def test_names_are_unique_and_explained():
    names = [setting.name for _, setting in config_lib.settings()]
    assert len(names) == len(set(names))
    assert all(setting.metadata["help"].endswith(".") for _, setting in config_lib.settings())


def test_defaults_are_the_papers_atari_settings():
    """Table G.1."""
    values = config_lib.to_values(config_lib.Config())
    table_g1 = {
        "unroll_length": 20,
        "batch_size": 32,
        "discount": 0.99,
        "baseline_cost": 0.5,
        "entropy_cost": 0.01,
        "learning_rate": 0.0006,
        "rmsprop_momentum": 0.0,
        "rmsprop_epsilon": 0.01,
        "max_gradient_norm": 40.0,
        "reward_clipping": "abs_one",
        "life_loss_ends_episode": True,
        "total_frames": 200_000_000,
    }
    assert {name: values[name] for name in table_g1} == table_g1


def test_flags_give_the_settings():
    config = _parse("--env=catch", "--learning_rate=0.002", "--nolife_loss_ends_episode", "--num_actors=3")
    assert config.environment.env == "catch"
    assert config.optimizer.learning_rate == 0.002
    assert not config.environment.life_loss_ends_episode
    assert config.launch.num_actors == 3
    values = config_lib.to_values(config)
    assert _parse(*(f"--{name}={value}" for name, value in values.items())) == config


def test_values_survive_json():
    config = config_lib.from_values({"env": "catch", "learning_rate": 1e-3, "core": "lstm"})
    assert config_lib.from_values(json.loads(json.dumps(config_lib.to_values(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "--batch_size=0: must be at least 1"),
        ({"discount": 1.5}, "--discount=1.5: must be at least 0 and at most 1"),
        ({"torso": "tiny"}, "--torso=tiny: must be one of auto, shallow"),
        ({"rho_bar": 0.5}, "rho_bar >= c_bar"),
        ({"correction": "retrace"}, "--correction=retrace: must be one of v_trace, one_step, epsilon, none"),
        ({"correction": "none", "pg_rho_bar": 2.0}, "--correction=none does not use --pg_rho_bar=2.0: remove it"),
        ({"correction": "epsilon", "rho_bar": 2.0}, "--correction=epsilon does not use --rho_bar=2.0: remove it"),
        ({"correction": "one_step", "c_bar": 0.5}, "--correction=one_step does not use --c_bar=0.5: remove it"),
        ({"correction": "one_step", "vtrace_lambda": 0.9}, "--correction=one_step does not use --vtrace_lambda=0.9"),
        ({"replay_fraction": 1.5}, "--replay_fraction=1.5: must be at least 0 and at most 1"),
        ({"replay_fraction": 0.3}, r"that is 9.6 replayed unrolls; .* Give 0.28125 \(9 of 32\) or 0.3125 \(10 of 32\)"),
        ({"replay_fraction": 1.0}, r"at least one be fresh. Give 0.96875 \(31 of 32\)\."),
        ({"replay_fraction": 1e-9}, r"Give 0.03125 \(1 of 32\) or 0.0625 \(2 of 32\)"),
        ({"replay_fraction": 0.5, "batch_size": 1}, "--replay_fraction needs a --batch_size of at least 2"),
        ({"replay_fraction": 0.25, "batch_size": 2}, r"Give 0.5 \(1 of 2\)\."),
        ({"replay_size": 5}, "--replay_size=5: there is no replay; give --replay_fraction"),
        ({"queue_size": 32}, "--queue_size=32: the queue must hold more than the 32 fresh unrolls"),
        ({"architecture": "a3c", "replay_fraction": 0.5}, "a3c does not go with --replay_fraction=0.5"),
        ({"architecture": "a3c", "prefetch": 2}, "a3c does not go with --prefetch=2"),
        ({"inference": "central", "role": "learner"}, "--inference=central"),
        ({"inference": "central", "role": "actor"}, "--inference=central"),
        ({"inference": "central", "num_actors": 0}, "--inference=central"),
        ({"policy_lag": 1, "architecture": "batched_a2c_sync_step"}, "--policy_lag=1 is a setting of --arch"),
        ({"policy_lag": 0, "inference": "central"}, "--policy_lag=0 .* remove --inference=central"),
        ({"policy_lag": 0, "role": "learner"}, "--policy_lag=0: .* remove --role=learner"),
        ({"architecture": "batched_a2c_sync_step", "role": "actor"}, "=batched_a2c_sync_step: .* remove --role=actor"),
        ({"architecture": "batched_a2c_sync_trajectory", "num_actors": 0}, "remove --num_actors=0, or .*policy_lag=0"),
        ({"relay": "host:1"}, "--relay=host:1 .* remove it, or add --role=actor"),
        ({"relay": "host:1", "role": "relay"}, "--relay=host:1 .* remove it, or add --role=actor"),
        ({"relay": "host:1", "role": "actor", "architecture": "a3c"}, "a3c goes without a relay, .* remove --relay"),
        ({"role": "relay", "architecture": "a3c"}, "a3c goes without a relay, .* remove --role=relay"),
        ({"role": "relay", "policy_lag": 1}, "--policy_lag=1: .* remove --role=relay"),
        ({"relay": "host:1", "role": "actor", "policy_lag": 1}, "--policy_lag=1: .* remove --role=actor"),
        ({"role": "relay", "architecture": "batched_a2c_sync_step"}, "=batched_a2c_sync_step: .* remove --role=relay"),
        ({"relays": True}, "--relays is for --cluster=ray: add that, or remove it"),
        ({"relays": True, "cluster": "ray", "architecture": "a3c"}, "a3c goes without a relay, .* remove --relays"),
        ({"relays": True, "cluster": "ray", "policy_lag": 1}, "--cluster=ray does not go with --policy_lag=1"),
        ({"relay_rate": 0.5}, "--relay_rate=0.5: must be at least 1"),
        ({"architecture": "a3c", "inference": "central"}, "a3c does not go with --inference=central"),
        ({"architecture": "a3c", "num_actors": 0}, "a3c does not go with --num_actors=0: it needs actor processes"),
        ({"architecture": "a3c", "batch_size": 8}, "a3c does not go with --batch_size=8: .* add --batch_size=32"),
        ({"cluster": "ray", "role": "learner"}, "--cluster=ray does not go with --role=learner"),
        ({"cluster": "ray", "num_actors": 0}, "--cluster=ray does not go with --num_actors=0"),
        ({"cluster": "ray", "inference": "central"}, "--cluster=ray does not go with --inference=central"),
        ({"cluster": "ray", "policy_lag": 3}, "--cluster=ray does not go with --policy_lag=3"),
        ({"cluster": "ray", "architecture": "batched_a2c_sync_step"}, "=ray does not go with --architecture=bat"),
        ({"cluster": "ray", "port": 4000}, "--cluster=ray does not go with --port=4000"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan"),
        ({"lerning_rate": 1.0}, "lerning_rate"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(UserError, match=message):
        config_lib.from_values(values)


def test_a_correction_takes_its_own_settings_and_the_defaults_of_the_others():
    """The paper's setups name all of them."""
    names = config_lib.CORRECTIONS["v_trace"]
    for correction, own in config_lib.CORRECTIONS.items():
        values = {"correction": correction, **dict.fromkeys(names, 1.0), **dict.fromkeys(own, 0.75)}
        loss = config_lib.from_values(values).loss
        assert loss.correction == correction
        assert [getattr(loss, name) for name in names] == [0.75 if name in own else 1.0 for name in names]


@pytest.mark.parametrize(("size", "fraction", "fresh"), [(32, 0.5, 16), (6, 0.333333, 4), (2, 0.5, 1), (7, 0.0, 7)])
def test_a_batch_has_whole_unrolls(size, fraction, fresh):
    data = config_lib.from_values({"batch_size": size, "replay_fraction": fraction}).data
    assert data.fresh_batch_size == fresh


def test_the_fractions_that_a_refusal_names_work():
    for size in (2, 3, 7, 32, 1000, 4096):
        for fraction in (1e-6, 0.123456, 0.4567, 0.77777, 1.0):
            values = {"batch_size": size, "replay_fraction": fraction}
            with pytest.raises(UserError) as error:
                config_lib.from_values(values)
            for named in re.findall(r"([\d.]+) \((\d+) of", str(error.value)):
                data = config_lib.from_values({**values, "replay_fraction": float(named[0])}).data
                assert size - data.fresh_batch_size == int(named[1])


def test_what_shapes_learning_must_stay_and_the_rest_may_change():
    saved = config_lib.to_values(config_lib.from_values({"env": "catch", "learning_rate": 1e-3}))
    assert config_lib.fixed_differences(saved, config_lib.from_values({"env": "catch", "learning_rate": 1e-3})) == []
    may_change = {"num_actors": 7, "total_frames": 5, "xla": "off", "log_interval": 1.0}
    changed = config_lib.from_values({"env": "catch", "learning_rate": 1e-3, **may_change})
    assert config_lib.fixed_differences(saved, changed) == []
    other = config_lib.from_values({"env": "catch", "learning_rate": 2e-3, "core": "lstm"})
    assert config_lib.fixed_differences(saved, other) == [
        "--core: none there, lstm now",
        "--learning_rate: 0.001 there, 0.002 now",
    ]


def test_the_learning_rate_is_annealed_over_the_run_unless_told_otherwise():
    assert config_lib.from_values({"total_frames": 5}).annealing_frames == 5
    assert config_lib.from_values({"total_frames": 5, "annealing_frames": 9}).annealing_frames == 9


@pytest.mark.parametrize("setting", [setting for _, setting in config_lib.settings()], ids=lambda setting: setting.name)
def test_values_that_make_no_sense_are_refused(setting):
    assert config_lib.problem(setting, setting.default) == ""
    wrong = [None, [1]]
    if setting.type in ("int", "float"):
        wrong += [True, "1", math.nan, math.inf, -math.inf, -2, -1e-9, 10**400]
    if setting.type == "int":
        wrong += [1.5, 2**63]
    if setting.type in ("str", "bool"):
        wrong += [1, 0.5]
    if setting.metadata["choices"]:
        wrong += ["", "other", *(choice.upper() for choice in setting.metadata["choices"])]
    for value in wrong:
        with pytest.raises(UserError, match=f"--{setting.name}=.*: must be "):
            config_lib.from_values({setting.name: value})


def test_intervals_and_timeouts_end():
    """What waits takes no infinite and no absurdly long time, and an interval of 0 s would do nothing else."""
    seconds = [s for _, s in config_lib.settings() if "econds" in s.metadata["help"] and s.type == "float"]
    assert len(seconds) >= 5
    for setting in seconds:
        assert config_lib.problem(setting, 0.0) and config_lib.problem(setting, 1e9), setting.name


def test_films_need_evaluations():
    with pytest.raises(UserError, match="--evaluate_video films evaluations: give --evaluate_every, too"):
        config_lib.from_values({"evaluate_video": True})
    assert config_lib.from_values({"evaluate_video": True, "evaluate_every": 1}).run.evaluate_video
