"""impala-export and impala-evaluate, run as commands: results, interruptions and errors."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest

from impala_tf import environments
from impala_tf.evaluation.episodes import seed_of
from impala_tf.export import spec as spec_json

EXPORT, EVALUATE = ("-m", "run.export"), ("-m", "run.evaluate")
WORLDS = ("minigrid/BabyAI-GoToRedBallNoDists-v0", "minigrid/BabyAI-GoToRedBall-v0")


@pytest.fixture(scope="module")
def trained(start_shared, tmp_path_factory):
    """A short run of Catch that exports and evaluates."""
    logdir = tmp_path_factory.mktemp("catch") / "run"
    run = start_shared(
        "--env=catch",
        "--num_actors=0",
        "--total_frames=2000",
        "--batch_size=4",
        "--unroll_length=10",
        "--checkpoint_interval=0.1",
        "--export_every=700",
        "--evaluate_every=900",
        "--evaluate_video",
        "--evaluate_episodes=30",
        f"--logdir={logdir}",
    )
    assert run.finish(120) == 0, run.describe()
    return run


@pytest.fixture(scope="module")
def model(start_shared, trained, tmp_path_factory):
    """The run's last checkpoint, exported."""
    output = tmp_path_factory.mktemp("models") / "catch"
    done = start_shared(f"--logdir={trained.logdir}", f"--output={output}", command=EXPORT)
    assert done.finish(60) == 0, done.describe()
    assert "impala-evaluate --saved_model=" in done.out and not done.err
    return output


def evaluate(start, *arguments, within=90):
    done = start(*arguments, command=EVALUATE)
    assert done.finish(within) == 0, done.describe()
    assert not done.err
    return done


@pytest.mark.slow(12)
def test_training_exports_and_evaluates(trained):
    exports = sorted(int(path.name) for path in (trained.logdir / "exports").iterdir())
    assert len(exports) >= 2 and exports[-1] == 2000
    rows = pd.read_csv(trained.logdir / "evaluations.csv")
    assert list(rows["frames"]) == sorted(rows["frames"]) and rows["frames"].iloc[-1] == 2000
    assert set(rows["task"]) == {"catch"} and set(rows["episodes"]) == {30}
    assert (rows["ci_low"] <= rows["mean"]).all() and (rows["mean"] <= rows["ci_high"]).all()
    for frames in rows["frames"]:
        result = json.loads((trained.logdir / "evaluations" / f"{frames:012d}.json").read_text())
        assert result["model"]["frames"] == frames and len(result["tasks"]["catch"]["episodes"]) == 30
        assert (trained.logdir / "evaluations" / f"{frames:012d}.mp4").stat().st_size > 1000
    assert "evaluated at 2,000 frames: catch" in trained.out
    trained.wait_until_gone()


def test_the_result(start, model, tmp_path):
    done = evaluate(start, f"--saved_model={model}", "--episodes=40", "--seed=3", f"--output={tmp_path / 'r.json'}")
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["policy"], result["seed"], result["env"]) == ("sampled", 3, "catch")
    task = result["tasks"]["catch"]
    assert [e["number"] for e in task["episodes"]] == list(range(40))
    assert [e["seed"] for e in task["episodes"]] == [seed_of(3, number) for number in range(40)]
    assert {e["return"] for e in task["episodes"]} <= {-1.0, 1.0} and {e["length"] for e in task["episodes"]} == {9}
    assert task["mean"] == pytest.approx(sum(e["return"] for e in task["episodes"]) / 40)
    assert f"mean return {task['mean']:.2f} (95% CI" in done.out
    assert not (tmp_path / "r.json.partial").exists()


@pytest.fixture
def run_folder(trained, tmp_path):
    """A copy of the run's checkpoints and settings."""
    shutil.copytree(trained.logdir / "checkpoints", tmp_path / "run" / "checkpoints")
    for name in ("config.json", "learning_curve.png"):
        shutil.copy(trained.logdir / name, tmp_path / "run" / name)
    return tmp_path / "run"


def test_checkpoints_hold_what_an_export_needs(trained):
    """So that no environment has to be made."""
    (newest,) = (trained.logdir / "checkpoints").glob("*2000")
    spec = spec_json.from_json(json.loads((newest / "state.json").read_text())["spec"])
    assert spec == environments.spec("catch")


def test_from_a_run_to_its_result(start, run_folder):
    """The newest checkpoint is exported, evaluated, compared and filmed; a second time, what is there is shown."""
    arguments = (f"--logdir={run_folder}", "--episodes=20", "--random_policy", "--video")
    first = evaluate(start, *arguments)
    name = "000000002000-20_episodes-random_policy"
    folder = run_folder / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.json", f"{name}.mp4"]
    assert [path.name for path in (run_folder / "exports").iterdir()] == ["000000002000"]
    result = json.loads((folder / f"{name}.json").read_text())
    assert result["model"]["frames"] == 2000 and len(result["tasks"]["catch"]["random_policy"]["episodes"]) == 20
    said = [line.split() for line in first.out.split("\n\n")[1].splitlines()]
    assert [line[0] for line in said] == ["catch", "agent", "random", "difference", "result", "film", "learning"]
    assert said[-3:] == [
        ["result", str(folder / f"{name}.json")],
        ["film", str(folder / f"{name}.mp4")],
        ["learning", "curve", str(run_folder / "learning_curve.png")],
    ]
    assert first.out.count("importing TensorFlow") == 1

    second = evaluate(start, *arguments, within=20)
    assert "is there already" in second.out and "importing" not in second.out
    assert second.out.split("\n\n")[1] == first.out.split("\n\n")[1]


def test_a_damaged_export_is_made_again(start, trained, run_folder):
    shutil.copytree(trained.logdir / "exports" / "000000002000", run_folder / "exports" / "000000002000")
    graph = run_folder / "exports" / "000000002000" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1000])
    done = evaluate(start, f"--logdir={run_folder}", "--episodes=4", "--seed=5")
    assert "is damaged and now called damaged-000000002000" in done.out
    assert (run_folder / "evaluation" / "000000002000-4_episodes-seed_5.json").exists()


def signal_group(started, number):
    os.killpg(started.process.pid, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ends_while_tensorflow_is_imported(start, model, tmp_path, number):
    """Also if the whole process group gets the signal: at once, in one line, and nothing is left."""
    arguments = (f"--saved_model={model}", f"--output={tmp_path / 'r.json'}")
    run = start(*arguments, command=EVALUATE, group=True, cold=True)
    run.wait_until(lambda: "importing TensorFlow" in run.out, 30, every=0.001)
    signal_group(run, number)
    assert run.finish(10) == 128 + number, run.describe()
    (line,) = run.out.splitlines()[1:]
    assert line.startswith(f"Ended early by {number.name}; ") and line.endswith(f"evaluate {' '.join(arguments)}")
    assert not run.err and not list(tmp_path.iterdir())
    run.wait_until_gone()


def test_resumes_after_an_interruption(start, trained, run_folder):
    """Finished episodes are not replayed, even if there is a newer checkpoint by then."""
    model = run_folder / "exports" / "000000002000"
    shutil.copytree(trained.logdir / "exports" / model.name, model)
    result = run_folder / "evaluation" / "000000002000-600_episodes.json"
    partial = result.with_name(f"{result.name}.partial")
    arguments = (f"--logdir={run_folder}", "--episodes=600")
    first = start(*arguments, command=EVALUATE, group=True)
    first.wait_until(lambda: partial.exists() and len(partial.read_text().splitlines()) > 50, 60)
    signal_group(first, signal.SIGTERM)
    assert first.finish(10) == 128 + signal.SIGTERM, first.describe()
    assert "Ended early by SIGTERM" in first.out and not first.err
    again = shlex.split(first.out.splitlines()[-1].partition("impala-evaluate")[2])
    assert tuple(again[:2]) == arguments
    first.wait_until_gone()
    kept = [json.loads(line) for line in partial.read_text().splitlines()[1:]]
    assert 50 <= len(kept) < 600
    assert not result.exists()

    (run_folder / "checkpoints" / model.name).rename(run_folder / "checkpoints" / "000000003000")
    evaluate(start, *again)
    played = json.loads(result.read_text())["tasks"]["catch"]["episodes"]
    assert len(played) == 600
    for line in kept:
        assert {**played[line["number"]], "task": "catch", "player": "agent"} == line


@pytest.mark.slow(13)
def test_a_recurrent_model_of_two_tasks(start, tmp_path):
    """It is trained, exported and evaluated on both tasks, which have instructions."""
    run = start(
        f"--env={','.join(WORLDS)}",
        "--core=lstm",
        "--num_actors=0",
        "--envs_per_actor=4",
        "--batch_size=4",
        "--unroll_length=10",
        "--total_frames=400",
        f"--logdir={tmp_path / 'run'}",
    )
    assert run.finish(120) == 0, run.describe()
    flags = (f"--logdir={tmp_path / 'run'}", "--episodes=4", "--greedy", f"--output={tmp_path / 'r.json'}")
    evaluate(start, *flags)
    result = json.loads((tmp_path / "r.json").read_text())
    assert tuple(result["tasks"]) == WORLDS and result["policy"] == "greedy"
    for task in result["tasks"].values():
        assert len(task["episodes"]) == 4 and all(0 < e["length"] <= 64 for e in task["episodes"])


def test_evaluation_needs_no_training_code(model, tmp_path):
    """It needs only TensorFlow and the environments, not even Reverb."""
    program = (
        "import sys; from impala_tf.evaluation import evaluate as e;"
        f"e.run(e.Evaluation({str(model)!r}, {str(tmp_path / 'r.json')!r}, episodes=2), lambda: False);"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    modules = [name.split(".") for name in done.stdout.splitlines()[-1].split()]
    libraries = {first for first, *_ in modules}
    assert "tensorflow" in libraries and not {"reverb", "tf_agents"} & libraries
    assert {path[1] for path in modules if path[0] == "impala_tf" and len(path) > 1} <= {
        *("environments", "evaluation", "export", "processes", "structures", "suites"),
        *("errors", "files", "machine", "programs", "quiet", "tensor_leak", "versions"),
    }
    assert ["impala_tf", "export", "exporter"] not in modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either --logdir, the folder of a run"),
        (("--saved_model=MODEL",), "--output is required"),
        (("--logdir=NEW",), "holds no run"),
        (("--saved_model=MODEL", "--output=OLD"), "exists already"),
        (
            ("--saved_model=MODEL", "--output=NEW", "--env=atari/pong"),
            "cannot play atari/pong: its observations are float32",
        ),
        (("--saved_model=MODEL", "--output=NEW", "--episods=3"), "episodes"),
    ],
)
def test_refuses(start, error_of, model, tmp_path, arguments, message):
    """With an error in one line; nothing is overwritten, and nothing is left."""
    (tmp_path / "old.json").write_text("mine")
    paths = {"MODEL": model, "NEW": tmp_path / "r.json", "OLD": tmp_path / "old.json"}
    for name, path in paths.items():
        arguments = tuple(argument.replace(name, str(path)) for argument in arguments)
    assert message in error_of(start(*arguments, command=EVALUATE), within=30)
    assert (tmp_path / "old.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_export_refuses(start, error_of, trained, tmp_path):
    (tmp_path / "old").mkdir()
    cases = {
        (f"--logdir={trained.logdir}",): "--output is required, for example --output=models/pong",
        (f"--logdir={tmp_path / 'none'}", f"--output={tmp_path / 'new'}"): "holds no run",
        (f"--logdir={trained.logdir}", f"--output={tmp_path / 'old'}"): "exists already",
    }
    for arguments, message in cases.items():
        assert message in error_of(start(*arguments, command=EXPORT), within=30)
    assert not list((tmp_path / "old").iterdir()) and not (tmp_path / "new").exists()
