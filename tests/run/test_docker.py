"""The Dockerfile, as far as it can be checked without Docker: what it names is there and agrees with the project."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("the image has Python 3.11", allow_module_level=True)

ROOT = pathlib.Path(__file__).parents[2]
DOCKER = ROOT / "run" / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = (DOCKER / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def instructions(name: str) -> list[str]:
    """What follows an instruction, for each time that it is there."""
    return [line.partition(" ")[2] for line in LINES if line.split()[0] == name]


def copied() -> list[str]:
    """Paths that are copied from the repository."""
    lines = [shlex.split(line) for line in instructions("COPY")]
    return [path for line in lines if not line[0].startswith("--from=") for path in line[:-1]]


def extras() -> set[str]:
    (default,) = (line.removeprefix("EXTRAS=") for line in instructions("ARG"))
    return {*default.split(","), *re.search(r"--build-arg=EXTRAS=(\S+)", TEXT)[1].split(",")}


def test_what_is_copied_is_there_and_not_ignored():
    ignored, *rest = (line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] != "#")
    kept = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert ignored == "*"
    assert copied() and all((ROOT / path).exists() for path in copied())
    assert {path.split("/")[0] for path in copied()} == kept


def test_python_is_that_of_the_lock():
    versions = {line.split()[0] for line in instructions("FROM")}
    (needed,) = set(re.findall(r"sys\.version_info\[:2\] != \((\d+), (\d+)\)", (ROOT / "Makefile").read_text()))
    assert versions == {f"python:{'.'.join(needed)}-slim"}


def test_commands_in_the_documentation_exist():
    text = TEXT + (ROOT / "docs" / "docker.md").read_text()
    named = set(re.findall(r"\bimpala-(?!tf)[a-z]+\b", text))
    assert {"impala-train", "impala-evaluate"} <= named <= set(PROJECT["scripts"])
    (default,) = instructions("CMD")
    assert json.loads(default)[0] in PROJECT["scripts"]
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [["tini", "--"]]  # Not through a shell.


def test_requirements_are_those_of_the_package_and_the_extras(tmp_path):
    """The script runs where the image has it: in a folder of its own, with nothing installed (-S)."""
    for path in ("pyproject.toml", "run/docker/requirements.py"):
        shutil.copy(ROOT / path, tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-I", "-S", "requirements.py", "pyproject.toml", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)

    assert extras() <= set(PROJECT["optional-dependencies"])
    assert run().stdout.splitlines() == PROJECT["dependencies"]
    lines = run("cuda,ray").stdout.splitlines()
    assert set(lines) - set(PROJECT["dependencies"]) == {
        *PROJECT["optional-dependencies"]["cuda"],
        *PROJECT["optional-dependencies"]["ray"],
    }
    wrong = run("ray,cudda")
    assert wrong.returncode == 1 and "'cudda'" in wrong.stderr
