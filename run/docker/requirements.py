"""Prints the requirements of the package and of some extras, one in a line, without installing it.

  python run/docker/requirements.py pyproject.toml ray,worlds

Needs nothing but Python 3.11; the Dockerfile calls it before anything is installed.
"""

import pathlib
import sys

import tomllib


def main() -> None:
    """Reads the path of pyproject.toml and the extras, separated by commas, from the command line."""
    path, *extras = sys.argv[1:]
    project = tomllib.loads(pathlib.Path(path).read_text())["project"]
    lines = list(project["dependencies"])
    for extra in ",".join(extras).split(","):
        if extra and extra not in project["optional-dependencies"]:
            sys.exit(f"There is no extra {extra!r}; there are {', '.join(project['optional-dependencies'])}.")
        lines += project["optional-dependencies"].get(extra, [])
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
