"""Whole evaluations in this process: what is kept, what is reported, what fails."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import shutil

import imageio_ffmpeg
import numpy as np
import pytest

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.evaluation import evaluate, report
from impala_tf.evaluation.evaluate import Evaluation
from impala_tf.evaluation.film import FEW
from impala_tf.export import saved_model
from impala_tf.export.exporter import Exporter
from impala_tf.networks.agent import make_agent


@pytest.fixture
def settings(games, games_model, tmp_path) -> Evaluation:
    return Evaluation(games_model, str(tmp_path / "r.json"), env=games.GOOD, episodes=6, seed=2, log="engine.log")


def never() -> bool:
    return False


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_the_random_policy_plays_the_same_episodes(settings, games):
    found = evaluate.run(dataclasses.replace(settings, random_policy=True, episodes=60, greedy=True), never)
    task = found["tasks"][games.GOOD]
    by_random = task["random_policy"]
    assert [e["seed"] for e in by_random["episodes"]] == [e["seed"] for e in task["episodes"]]
    differences = [a["return"] - b["return"] for a, b in zip(task["episodes"], by_random["episodes"])]
    assert task["over_random_policy"]["mean"] == pytest.approx(np.mean(differences))
    low, high = task["over_random_policy"]["mean_ci95"]
    assert low < np.mean(differences) < high
    assert by_random["mean"] == pytest.approx(1, abs=0.4)  # Of 0, 1 and 2.
    shown = [" ".join(line.split()) for line in report.lines(found, [("result", settings.output)])]
    expected = (
        f"{games.GOOD} 60 episodes, greedy actions",
        f"agent mean return {task['mean']:.2f} (95% CI ",
        f"random policy mean return {by_random['mean']:.2f} (95% CI ",
        f"difference {np.mean(differences):+.2f} (95% CI {low:+.2f} to {high:+.2f})",
        f"result {settings.output}",
    )
    assert len(shown) == len(expected) and all(map(str.startswith, shown, expected))


def test_a_bad_task_does_not_end_the_others(settings, games, tmp_path, monkeypatch, caplog):
    """The next call tries it again, and plays and films nothing else again."""
    both = dataclasses.replace(settings, env=f"{games.BAD},{games.UNMADE},{games.GOOD}", random_policy=True)
    film = tmp_path / "r.mp4"
    both = dataclasses.replace(both, video=str(film))
    found = evaluate.run(both, never)
    assert list(found["tasks"]) == [games.GOOD] and list(found["failed"]) == [games.BAD, games.UNMADE]
    assert "failed 3 times (RuntimeError: the map has no floor)" in found["failed"][games.BAD]
    assert "no such map" in found["failed"][games.UNMADE]
    assert json.loads((tmp_path / "r.json").read_text()) == found
    assert "The engine's own output is in engine.log" in caplog.text
    assert "FAILED" in "\n".join(report.lines(found, []))

    kept, filmed = lines_of(tmp_path / "r.json.partial"), film.stat().st_mtime_ns
    assert len(kept) == 12 and {line["task"] for line in kept} == {games.GOOD}
    monkeypatch.setenv("REPAIRED", "1")
    again = evaluate.run(both, never)
    assert list(again["tasks"]) == [games.BAD, games.GOOD] and list(again["failed"]) == [games.UNMADE]
    assert again["tasks"][games.GOOD] == found["tasks"][games.GOOD]
    assert lines_of(tmp_path / "r.json.partial")[:12] == kept and film.stat().st_mtime_ns == filmed


def test_an_engine_that_ends_its_process(settings, games, monkeypatch, capfd):
    """Its reason is in the message and on standard error, which the command sends to the log."""
    monkeypatch.setattr("impala_tf.environments.needs_process", lambda env_id: True)
    alone = dataclasses.replace(settings, env=games.EXITS, episodes=1)
    reason = r"ended with exit status 1; it wrote: Didn't find map 'castle'\)\. .* own output is in engine\.log"
    with pytest.raises(UserError, match=reason):
        evaluate.run(alone, never)
    assert capfd.readouterr().err.count("Didn't find map 'castle'") == 3


@pytest.mark.slow(30)
def test_slow_environments_run_in_processes_and_are_filmed(tmp_path):
    """An untrained agent plays Doom."""
    pytest.importorskip("vizdoom")
    config = config_lib.from_values({"env": "vizdoom/Basic", "core": "lstm"})
    tasks = task_set.resolve(config.environment)
    Exporter(tasks, config).write(tmp_path / "model", make_agent(tasks.spec, config), 0, 0)
    settings = Evaluation(str(tmp_path / "model"), str(tmp_path / "r.json"), episodes=3, video=str(tmp_path / "r.mp4"))
    found = evaluate.run(settings, never)
    episodes = found["tasks"]["vizdoom/Basic"]["episodes"]
    assert len(episodes) == 3 and all(0 < episode["length"] <= 75 for episode in episodes)
    frames, _ = imageio_ffmpeg.count_frames_and_secs(settings.video)
    assert frames == sum(episode["length"] + 15 for episode in episodes)
    assert not multiprocessing.active_children()


def test_if_all_tasks_fail(settings, games, tmp_path):
    with pytest.raises(UserError, match=r"None of the 2 tasks can be played: .* engine.log"):
        evaluate.run(dataclasses.replace(settings, env=f"{games.BAD},{games.UNMADE}"), never)
    for env, message in ((games.BAD, "no floor.*episodes are kept.*engine.log"), (games.UNMADE, "no such map")):
        with pytest.raises(UserError, match=message):
            evaluate.run(dataclasses.replace(settings, env=env), never)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_made_again(settings, games, tmp_path, caplog):
    """The film of a result that is there is made from the same episodes."""
    caplog.set_level(logging.INFO)
    found = evaluate.run(settings, never)
    before = (tmp_path / "r.json").stat().st_mtime_ns
    assert evaluate.run(settings, never) == found
    assert "is there already" in caplog.text

    filmed = dataclasses.replace(settings, video=str(tmp_path / "r.mp4"))
    assert evaluate.run(filmed, never) == found == evaluate.run(filmed, never)
    assert (tmp_path / "r.json").stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.mp4"]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "r.mp4"))
    assert frames == 6 * (games.LENGTH + 15) and FEW < 6  # As many as there are, as they are so short.

    with pytest.raises(UserError, match=r"exists already, from another evaluation \(different seed\)"):
        evaluate.run(dataclasses.replace(settings, seed=3), never)
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(UserError, match="exists already and is no result"):
        evaluate.run(settings, never)


def test_a_film_of_something_else_is_not_overwritten(settings, tmp_path):
    (tmp_path / "mine.mp4").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.mp4 exists already"):
        evaluate.run(dataclasses.replace(settings, video=str(tmp_path / "mine.mp4")), never)
    assert (tmp_path / "mine.mp4").read_text() == "mine"


def test_a_model_that_was_moved_or_changed(settings, games_model, tmp_path):
    found = evaluate.run(settings, never)
    moved = shutil.copytree(games_model, tmp_path / "moved")
    assert evaluate.run(dataclasses.replace(settings, saved_model=str(moved)), never) == found
    data = next(moved.glob("variables/variables.data*"))
    data.write_bytes(data.read_bytes()[:-1] + b"\x07")
    with pytest.raises(UserError, match=r"another evaluation \(different model\)"):
        evaluate.run(dataclasses.replace(settings, saved_model=str(moved)), never)


def test_a_damaged_model(settings, games_model, tmp_path):
    damaged = shutil.copytree(games_model, tmp_path / "damaged")
    graph = damaged / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1000])
    with pytest.raises(saved_model.Damaged, match="is damaged and cannot be loaded"):
        evaluate.run(dataclasses.replace(settings, saved_model=str(damaged)), never)
    assert list(tmp_path.iterdir()) == [damaged]


def test_an_evaluation_without_a_film_needs_no_ffmpeg(settings, monkeypatch):
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", None)
    assert evaluate.run(settings, never) is not None
    with pytest.raises(TypeError):
        evaluate.run(dataclasses.replace(settings, video="film.mp4"), never)


def test_an_output_that_vanishes(settings, tmp_path):
    """It is noticed at the next episode."""
    calls = iter(range(1000))

    def stopped() -> bool:
        if next(calls) == 40:
            shutil.rmtree(tmp_path / "new")
        return False

    lost = dataclasses.replace(settings, output=str(tmp_path / "new" / "r.json"), episodes=200, num_envs=1)
    with pytest.raises(UserError, match=r"r\.json\.partial has been removed"):
        evaluate.run(lost, stopped)


def test_a_single_episode_has_no_interval(settings, games):
    found = evaluate.run(dataclasses.replace(settings, episodes=1), never)
    assert found["tasks"][games.GOOD]["mean_ci95"] is None
    assert "a single episode: no confidence interval" in "\n".join(report.lines(found, []))
