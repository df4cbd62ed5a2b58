"""Hints that can be pasted into the shell that has shown them."""

import os
import sys

import pytest

from impala_tf import programs


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A Python that has impala-x beside it, not on PATH, and a working directory elsewhere."""
    folder, elsewhere = tmp_path / "venv" / "bin", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir(parents=True)
    for name in ("python", "impala-x"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/train.py"])
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.chdir(elsewhere)
    return folder


def test_what_the_shell_finds_keeps_its_name(installed, monkeypatch):
    monkeypatch.setenv("PATH", str(installed))
    assert programs.line("impala-x", "--logdir=a run") == "impala-x '--logdir=a run'"


def test_what_it_does_not_find_becomes_a_path(installed, monkeypatch):
    assert programs.line("impala-x", "--a=1") == f"{installed}/impala-x --a=1"
    monkeypatch.chdir(installed.parents[1])
    assert programs.line("impala-x") == "venv/bin/impala-x"
    monkeypatch.chdir(installed)
    assert programs.line("impala-x") == "./impala-x"


def test_another_installation_on_the_path_is_not_meant(installed, monkeypatch, tmp_path):
    other = tmp_path / "elsewhere" / "impala-x"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert programs.line("impala-x") == f"{installed}/impala-x"
    (installed / "impala-x").unlink()
    assert programs.line("impala-x") == "impala-x"


def test_beside_the_program_that_runs(installed, monkeypatch, tmp_path):
    """Scripts may be installed elsewhere than Python, as pip install --user does."""
    user = tmp_path / "user"
    user.mkdir()
    os.rename(installed / "impala-x", user / "impala-x")
    monkeypatch.setattr(sys, "argv", [str(user / "impala-y")])
    assert programs.line("impala-x") == f"{user}/impala-x"


def test_without_any_script_python_runs_the_module(installed):
    (installed / "impala-x").unlink()
    assert programs.line("impala-train", "--env=catch") == f"{installed}/python -m impala_tf.run.train --env=catch"
