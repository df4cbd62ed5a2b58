"""The examples of docs/extending.md: a user's own environment, torso and correction."""

from __future__ import annotations

import pathlib
import re
import shlex

import pytest

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "extending.md").read_text()


@pytest.mark.slow(6)
def test_the_examples_of_the_page_train_together_and_are_exported(start, error_of, tmp_path):
    """In the corridor, a random policy seldom reaches the end within 50 steps; a trained one always does."""
    for name, body in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(body)
    assert len(list(tmp_path.iterdir())) == 3
    (line,) = re.findall(r"^PYTHONPATH=\. impala-train (.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    flags = [word for word in shlex.split(line.replace("\\\n", " ")) if not word.startswith("--logdir=")]
    environment = {"PYTHONPATH": str(tmp_path)}
    run = start(*flags, f"--logdir={tmp_path / 'run'}", "--total_frames=40000", environment=environment)
    assert run.finish(120) == 0 and run.err == "", run.describe()
    assert " return 1.00 " in run.out, run.describe()
    export = (f"--logdir={tmp_path / 'run'}", f"--output={tmp_path / 'model'}")
    assert start(*export, command=("-m", "run.export"), environment=environment).finish(60) == 0
    without = start(*export, f"--output={tmp_path / 'other'}", command=("-m", "run.export"))
    assert "there is no module my_networks" in error_of(without, 60)
