"""The flag files, read by the commands' parser: the paper's experiments, and setups for small environments."""

import pathlib

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags
from impala_tf.experiments import sweep

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "run" / "flagfiles"

# The paper's values that differ from the defaults, which are those of Table G.1 (tests/test_config.py).
DEEP = {"torso": "deep"}
SHALLOW = {"torso": "shallow"}
TABLE_D3 = {"core": "lstm", "unroll_length": 100, "max_gradient_norm": 0.0}
SINGLE_LEVEL = {  # Figure 4; the swept values are scalable_agent's defaults.
    **TABLE_D3,
    "total_frames": 1_000_000_000,
    "entropy_cost": 0.00025,
    "learning_rate": 0.00048,
    "rmsprop_epsilon": 0.1,
}
DMLAB30 = {  # Figures D.1 and 5; the swept values are those of scalable_agent's README.
    **TABLE_D3,
    "env": "dmlab30",
    "reward_clipping": "optimistic_asymmetric",
    "total_frames": 10_000_000_000,
    "entropy_cost": 0.0033391318945337044,
    "learning_rate": 0.00031866995608948655,
    "rmsprop_epsilon": 0.1,
}
EXPERIMENTS = {
    "atari_shallow.flags": SHALLOW,
    "atari_deep.flags": DEEP,
    "atari57_deep.flags": {
        **DEEP,
        "env": "atari57",
        "full_action_set": True,
        "total_frames": 57 * 200_000_000,
    },
    "dmlab_shallow.flags": {**SHALLOW, **SINGLE_LEVEL},
    "dmlab_deep.flags": {**DEEP, **SINGLE_LEVEL},
    "dmlab30_shallow.flags": {**SHALLOW, **DMLAB30},
    "dmlab30_deep.flags": {**DEEP, **DMLAB30},
}
SWEPT = ("entropy_cost", "learning_rate", "rmsprop_epsilon")
SMALL = ("cartpole", "catch", "memory", "minatar", "minigrid", "vizdoom")


@pytest.fixture(scope="module", autouse=True)
def defined():
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()


def parse(*arguments):
    absl_flags.FLAGS.unparse_flags()
    for _, setting in config_lib.settings():  # Also within a test.
        absl_flags.FLAGS[setting.name].unparse()
    absl_flags.FLAGS(["impala-train", *arguments])
    return flags.to_config()


def lines(name):
    return (FOLDER / name).read_text().splitlines()


def test_there_are_no_others():
    assert {file.name for file in FOLDER.glob("*.flags")} == {*EXPERIMENTS, *(f"{name}.flags" for name in SMALL)}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_setup_is_complete(name):
    """It names what it has been tried on, for how long, and how to start it."""
    config = parse(f"--flagfile={FOLDER / name}.flags")
    assert config.environment.env != config_lib.Config().environment.env
    assert config.run.total_frames <= 5_000_000
    assert any(line.startswith(f"#   impala-train --setup={name} ") for line in lines(f"{name}.flags"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_are_the_papers(name):
    expected = {**config_lib.to_values(config_lib.Config()), **EXPERIMENTS[name]}
    assert config_lib.to_values(parse(f"--flagfile={FOLDER / name}")) == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_learning_setting_is_written_down(name):
    """A changed default must not change what the paper specifies."""
    written = {line[2:].partition("=")[0] for line in lines(name) if line.startswith("--")}
    fixed_by_the_paper = {
        *("torso", "core", "unroll_length", "batch_size", "discount", "baseline_cost", "reward_clipping"),
        *("rmsprop_momentum", "rmsprop_decay", "max_gradient_norm"),
        *("correction", "q_estimate", "rho_bar", "c_bar", "pg_rho_bar"),
        *("total_frames", "annealing_frames", *SWEPT),
    }
    assert fixed_by_the_paper <= written
    assert ("env" in written) == (name.startswith(("atari57", "dmlab30")))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_file_says_how_to_use_it(name):
    assert lines(name)[0].startswith("# ")
    assert any(line.startswith(f"#   impala-train --setup={name.removesuffix('.flags')} ") for line in lines(name))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_later_flags_override_a_flag_file(name):
    config = parse(f"--flagfile={FOLDER / name}", "--env=catch", "--discount=0.5")
    assert (config.environment.env, config.loss.discount) == ("catch", 0.5)
    assert config.network.torso == EXPERIMENTS[name]["torso"]


def test_a_flag_file_of_a_sweep_overrides_an_experiments(start, tmp_path):
    done = start("--seed=3", f"--output={tmp_path}", command=("-m", "run.sweep"))
    assert done.finish(30) == 0, done.describe()
    files = sorted(tmp_path.glob("*.flags"))
    for experiment in (name for name in EXPERIMENTS if not name.startswith("atari_")):
        expected = config_lib.to_values(parse(f"--flagfile={FOLDER / experiment}"))
        for file, values in zip(files, sweep.draw(3), strict=True):
            config = parse(f"--flagfile={FOLDER / experiment}", f"--flagfile={file}")
            assert config_lib.to_values(config) == {**expected, **values}
    assert {name for values in sweep.draw(3) for name in values} == set(SWEPT)
