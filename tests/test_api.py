"""impala_tf from Python: the notebook of first steps, and what goes wrong."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from impala_tf import api
from impala_tf.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "library.md").read_text()
NOTEBOOK = json.loads((ROOT / "docs" / "first_steps.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in NOTEBOOK if cell["cell_type"] == "code"]


def test_the_page_shows_what_the_notebook_does():
    blocks = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
    parts = [part for block in blocks for part in block.split("\n\n") if not part.startswith("from ")]
    assert len(parts) >= 4 and [part for part in parts if part not in "\n\n".join(CODE)] == []
    assert all(cell["outputs"] == [] for cell in NOTEBOOK if cell["cell_type"] == "code")


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory):
    """The folder in which the notebook's cells have been run, and what they printed."""
    folder = tmp_path_factory.mktemp("first_steps")
    program = "\n".join(CODE).replace("%matplotlib inline", "import matplotlib; matplotlib.use('agg')")
    program = program.replace("total_frames=300_000", "total_frames=120_000, learning_rate=0.006")
    program = program.replace("episodes=100", "episodes=40")
    program += "\nprint('tensorflow' in __import__('sys').modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.slow(20)
def test_the_notebook_trains_evaluates_exports_and_acts(first_steps):
    folder, out = first_steps
    assert "first update done" in out and "To evaluate and film the agent" in out  # What the command prints.
    *_, mean, loaded = out.splitlines()
    assert float(mean) > 0.5 and loaded == "True"
    run = api.Run(str(folder / "runs" / "catch"))
    assert run.frames >= 120_000 and run.settings["env"] == "catch"
    assert run.progress()["mean_return_100"].iloc[-1] > 0.5
    results = list((folder / "runs" / "catch" / "evaluation").iterdir())
    assert sorted(path.suffix for path in results) == [".json", ".mp4"]
    assert json.loads(results[0].with_suffix(".json").read_text())["tasks"]["catch"]["mean"] > 0.5
    assert (folder / "models" / "catch" / "saved_model.pb").exists()
    with pytest.raises(UserError, match=r"There is no .*tasks\.csv yet"):
        run.progress(tasks=True)
    with pytest.raises(UserError, match="models/catch exists already"):
        run.export(str(folder / "models" / "catch"), show=False)
    with pytest.raises(UserError, match="--episodes"):
        run.evaluate(episodes=-1, show=False)


@pytest.mark.slow(1)
def test_an_agent_sees_what_led_to_an_episode_as_in_training(first_steps, monkeypatch):
    agent = api.SavedAgent(str(first_steps[0] / "models" / "catch"), num_envs=2)
    step, seen = agent._policy.step, []
    monkeypatch.setattr(agent._policy, "step", lambda inputs, state: seen.append(inputs) or step(inputs, state))
    boards = np.zeros((2, 10, 5), np.float32)
    first = agent.act(boards, reward=5.0)
    agent.act(boards, reward=[1.0, -1.0], episode_start=[True, False])
    assert seen[0].last_reward.tolist() == seen[0].last_action.tolist() == [0, 0] and seen[0].episode_start.all()
    assert seen[1].last_reward.tolist() == [1, -1] and seen[1].last_action.tolist() == first.tolist()
    assert seen[1].episode_start.tolist() == [True, False]


@pytest.mark.slow(1)
def test_one_environment_and_several_have_the_same_policy(first_steps):
    model = str(first_steps[0] / "models" / "catch")
    one, several = api.SavedAgent(model), api.SavedAgent(model, num_envs=3)
    boards = np.zeros((3, 10, 5), np.float32)
    boards[:, 3, [0, 2, 4]] = boards[:, 9, 2] = 1
    actions = several.act(boards, greedy=True)
    assert actions.dtype == np.int32 and actions.shape == (3,)
    singles = []
    for board in boards:
        one.reset()
        singles += one.act(board, greedy=True).tolist()
    assert singles == actions.tolist()
    drawn = {int(api.SavedAgent(model, seed=seed).act(boards[0])[0]) for seed in (1, 1)}
    assert len(drawn) == 1
    with pytest.raises(UserError, match="a dict of image and instruction"):
        one._batched(boards[0], {"image": {}, "instruction": {}})
    for wrong in (boards, boards[0, :5], boards[0].astype(complex)):
        with pytest.raises(UserError, match=r"takes observations float32 \[1, 10, 5\]"):
            one.act(wrong)


def test_mistakes_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="--learning_rate"):
        api.train(str(tmp_path / "a"), setup="catch", learning_rate=-1, show=False)
    with pytest.raises(UserError, match="no such setup"):
        api.train(str(tmp_path / "b"), setup="cach", show=False)
    with pytest.raises(UserError, match="Unknown flag --learning_rat"):
        api.train(str(tmp_path / "c"), learning_rat=1, show=False)
    with pytest.raises(UserError, match="none holds no run"):
        api.Run(str(tmp_path / "none"))


@pytest.mark.slow(6)
def test_an_interrupted_run_is_saved(tmp_path):
    call = (
        "from impala_tf import api; api.train('run', setup='catch', num_actors=0, total_frames=10**9, log_interval=0.1)"
    )
    with subprocess.Popen([sys.executable, "-c", call], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if " frames/s " in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode != 0  # KeyboardInterrupt, so that a notebook does not go on with its next cell.
    assert "Ended early by SIGTERM; the last checkpoint is at" in (tmp_path / "run" / "logs" / "output.txt").read_text()
    assert api.Run(str(tmp_path / "run")).frames > 0
