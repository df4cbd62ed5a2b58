"""What all commands share: help, version, setups, near matches, and the exit status."""

import logging
import re
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags
from impala_tf.errors import UserError
from impala_tf.records.logdir import LogDir
from impala_tf.run import command, near, setups, train

COMMANDS = ("train", "evaluate", "export", "sweep", "pbt", "benchmark", "scaling", "experiment", "plot")
OF_A_RUN = ("train", "pbt", "benchmark", "scaling")
OWN = {
    "train": ["setup"],
    "evaluate": ["saved_model", "output", "env", "episodes", "greedy", "video", "dmlab_renderer", "env_deadline"],
    "export": ["logdir", "output"],
    "sweep": ["seed", "combinations", "output"],
    "pbt": [
        *("output", "members", "values", "episodes_per_evaluation", "burn_in_frames", "copy_margin"),
        *("perturb_probability", "perturb_factor", "at_once", "member_cpus", "member_gpus", "setup"),
    ],
    "benchmark": ["seconds", "output", "repeats", "setup"],
    "scaling": ["seconds", "output", "setup"],
    "experiment": ["scale", "runs", "only", "output", "parallel", "cluster", "address"],
    "plot": ["output", "column", "against", "label"],
}


HELP = """
import importlib, sys
from absl import flags
from impala_tf.flags import GROUPS
sys.argv = ["impala-NAME", "--help"]
try:
    importlib.import_module("impala_tf.run.NAME").main()
except SystemExit as end:
    status = end.code
assert not {"tensorflow", "reverb"} & set(sys.modules)
defined = [f.name for module, fs in flags.FLAGS.flags_by_module_dict().items() if module[:4] != "absl" for f in fs]
listed = [setting.name for settings in GROUPS.values() for setting in settings]
assert sorted(listed) == sorted(defined), "only what impala_tf.flags defines is listed"
sys.exit(status)
"""


@pytest.fixture(scope="module")
def warm():
    """The commands start as users start them: it takes no imports to find a mistake."""


@pytest.fixture(scope="module", autouse=True)
def defined():
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()
    if setups.NAME not in absl_flags.FLAGS:
        setups.define()


def parse(*arguments):
    """Parses flags as the commands do; returns the settings."""
    absl_flags.FLAGS.unparse_flags()
    command._parse_flags(["impala-train", *arguments])
    return flags.to_config()


# Help


def test_help_lists_all_flags(start):
    """In groups, on standard output, with status 0."""
    for name, started in [(name, start(command=("-c", HELP.replace("NAME", name)))) for name in COMMANDS]:
        assert started.finish(20) == 0 and started.err == "", started.describe()
        called = f"impala-{name}" + " RUN..." * (name == "plot")
        assert started.out.startswith(f"Usage: {called} --name=value ...\n")
        about = " ".join(started.out.partition("\n")[2].split())  # Lines are as long as the terminal is wide.
        assert f"impala-{name} " in about, "no example"
        listed = re.findall(r"^  --(?:\[no\])?(\w+)", started.out, re.MULTILINE)
        settings = [setting.name for _, setting in config_lib.settings()] if name in OF_A_RUN else []
        assert set(listed) >= {*settings, *OWN[name], "flagfile", "version"}, name
        assert len(listed) == len(set(listed))
        assert not {"pdb", "verbosity", "only_check_args"} & set(listed)
        assert max(map(len, started.out.splitlines())) <= 100
        if name in OF_A_RUN:
            assert "The loss (section 4.2)" in started.out and "(default: 0.0006; at least 0)" in started.out
            assert all(setup in started.out for setup in setups.names())
        if name == "evaluate":
            assert "--dmlab_renderer=software|hardware" in started.out


def test_help_wins_over_mistakes(start):
    started = start("--lr=3", "-h")
    assert started.finish(20) == 0 and "--learning_rate" in started.out and started.err == "", started.describe()


def test_help_bears_a_reader_that_leaves():
    command = [sys.executable, "-c", HELP.replace("NAME", "evaluate")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(20), process.stderr.read()) == (0, "")


def test_version(start):
    started = start("--version", command=("-m", "run.export"))
    assert started.finish(20) == 0 and re.fullmatch(r"impala_tf \d+\.\d+\.\d+\n", started.out), started.describe()


# Setups


@pytest.mark.parametrize("name", setups.names())
def test_a_setup_is_its_flag_file(name):
    assert parse(f"--setup={name}") == parse(f"--flagfile={setups.file(name)}") != config_lib.Config()


def test_other_flags_win_over_a_setup_in_any_order(tmp_path):
    more = tmp_path / "more.flags"
    more.write_text("--setup=memory\n--batch_size=4\n--learning_rate=0.5\n")
    flags = ["--setup=memory", "--learning_rate=0.1", "--env=catch"]
    for arguments in (flags, flags[::-1]):
        config = parse(*arguments)
        assert (config.environment.env, config.optimizer.learning_rate) == ("catch", 0.1)
        assert (config.network.core, config.data.batch_size) == ("lstm", 8)
    config = parse(f"--flagfile={more}", "--learning_rate=0.1")  # It may name the setup, too.
    assert (config.network.core, config.data.batch_size, config.optimizer.learning_rate) == ("lstm", 4, 0.1)


@pytest.mark.parametrize("name", setups.names())
def test_the_settings_of_a_setup(name):
    values = setups.settings(name)
    assert config_lib.from_values(values) == parse(f"--setup={name}")
    defaults = config_lib.to_values(config_lib.Config())
    assert {key: type(value) for key, value in values.items()} == {key: type(defaults[key]) for key in values}


def test_a_boolean_is_among_the_settings_of_a_setup():
    assert setups.settings("atari57_deep")["full_action_set"] is True
    catch = {"env": "catch", "learning_rate": 0.003, "total_frames": 300_000}
    assert setups.settings("catch") == catch


def test_there_are_no_settings_of_an_unknown_setup():
    with pytest.raises(UserError, match=r"--setup=minatr: there is no such setup\. Did you mean minatar\?"):
        setups.settings("minatr")


def test_an_unknown_setup_lists_all(start):
    started = start("--setup=atari_dep")
    assert started.finish(20) == 2
    first, *rest = started.err.splitlines()
    assert first == "ERROR: --setup=atari_dep: there is no such setup. Did you mean atari_deep? There are:"
    assert [line.split()[0] for line in rest] == setups.names() and all(len(line.split()) > 4 for line in rest)


@pytest.mark.parametrize(
    ("values", "setup"),
    [
        ({"env": "gymnasium/CartPole-v1"}, "cartpole"),
        ({"env": "gymnasium/LunarLander-v3", "core": "lstm", "seed": 3}, "cartpole"),
        ({"env": "minatar/asterix", "torso": "small"}, "minatar"),
        ({"env": "minigrid/MiniGrid-Empty-8x8-v0"}, "minigrid"),
        ({"env": "vizdoom/Basic"}, "vizdoom"),
        ({"env": "catch"}, "catch"),
        ({"env": "memory", "core": "lstm"}, "memory"),
        ({"env": "memory", "core": "lstm", "learning_rate": 0.01}, None),
        ({"env": "gymnasium/CartPole-v1", "batch_size": 8}, None),
        ({"env": "catch,memory"}, None),
        ({"env": "counting"}, None),
        ({"env": "atari/pong"}, None),
        ({"env": "atari57"}, None),
        ({"env": "dmlab30"}, None),
        ({"env": "dmlab/rooms_watermaze"}, None),
    ],
)
def test_advice_for_who_trains_something_else_with_atari_s_settings(values, setup):
    advice = setups.advice(config_lib.from_values(values))
    assert re.findall(r"--setup=(\w+)", advice) == [setup] * bool(setup)
    if setup:
        assert values["env"] in advice and setups.advice(parse(f"--setup={setup}")) == ""


# Near matches


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr", "learning_rate"),
        ("gamma", "discount"),
        ("num_envs", "envs_per_actor"),
        ("lstm", "core=lstm"),
        ("seed_", "seed"),
        ("game", "env"),
        ("batch-size", "batch_size"),
        ("Total_Frames", "total_frames"),
        ("total_frame", "total_frames"),
        ("frames", "total_frames"),
        ("log_dir", "logdir"),
        ("learnin_rate", "learning_rate"),
        ("actor", "actor_id"),
        ("vtrace", "correction"),
    ],
)
def test_near_matches(given, meant):
    found = near.matches(given, [setting.name for _, setting in config_lib.settings()])
    assert found[0] == meant and len(found) <= 3


def test_nothing_is_near_what_has_no_meaning():
    assert near.matches("xyzzy", [setting.name for _, setting in config_lib.settings()]) == []


def test_near_matches_exist():
    known = {setting.name for _, setting in config_lib.settings()} | {name for own in OWN.values() for name in own}
    known |= {"flagfile", "num_envs"}
    meant = {flag.partition("=")[0] for flags in near._MEANT.values() for flag in flags.split()}
    assert meant <= known and not {"lr", "gamma"} & known


# Exit status


def test_mistakes_have_status_2(start, error_of):
    mistakes = [["argument"], ["--flagfile=/no/such/file"], ["--log_dir=/tmp"], ["--nogreedy=3"], ["--logdir"]]
    runs = [start(*arguments) for arguments in mistakes]
    runs += [start("--no_such_flag=1", command=("-m", f"run.{name}")) for name in COMMANDS]
    for started in runs:
        error = error_of(started, 30)
        assert started.process.returncode == 2 and "ERROR" not in error, error


def test_an_interrupt_has_the_status_of_its_signal():
    code = "from impala_tf.run import command\ndef work(): raise KeyboardInterrupt\ncommand.run(work, None)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# Hints


def test_to_train_longer_takes_more_frames_than_the_run_has(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "checkpoints" / f"{5000:012d}").mkdir(parents=True)
    config = config_lib.from_values({"env": "catch", "total_frames": 1000, "logdir": str(tmp_path)})
    assert train._finished(config, LogDir(str(tmp_path))) and train._conclude(config, []) == 0
    assert "is finished already: 5,000 of 1,000 frames" in caplog.text
    assert caplog.messages[-1].endswith(" --total_frames=10000")
