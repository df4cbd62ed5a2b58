"""Executes the notebooks, several at once, and leaves them as they are: `make figures`.

Each draws a figure or table of the paper from the runs that there are and writes it as PNG and SVG.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = pathlib.Path(__file__).resolve().parent


async def _execute(notebook: pathlib.Path, slots: asyncio.Semaphore, timeout: int) -> bool:
    """Whether it went well; prints a line, or what went wrong."""
    async with slots:
        start = time.monotonic()
        client = NotebookClient(
            nbformat.read(notebook, as_version=4), timeout=timeout, resources={"metadata": {"path": str(HERE)}}
        )
        try:
            await client.async_execute()
        except CellExecutionError as error:
            print(f"ERROR: {notebook.name}: {error.ename}: {error.evalue}", file=sys.stderr, flush=True)
            return False
        except (CellTimeoutError, DeadKernelError) as error:
            print(f"ERROR: {notebook.name}: {error}", file=sys.stderr, flush=True)
            return False
        print(f"  {notebook.stem} ({time.monotonic() - start:.1f} s)", flush=True)
        return True


async def _execute_all(notebooks: list[pathlib.Path], at_once: int, timeout: int) -> list[str]:
    slots = asyncio.Semaphore(at_once)
    good = await asyncio.gather(*(_execute(notebook, slots, timeout) for notebook in notebooks))
    return [notebook.name for notebook, well in zip(notebooks, good) if not well]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, help="which; without any, all in this folder")
    parser.add_argument("--runs", default=HERE.parent / "runs", type=pathlib.Path, help="where the runs are")
    parser.add_argument("--figures", default=HERE / "figures", type=pathlib.Path, help="where the pictures go")
    parser.add_argument("--at_once", default=os.cpu_count(), type=int, help="how many at once; each is a process")
    parser.add_argument("--timeout", default=120, type=int, help="seconds for one cell")
    arguments = parser.parse_args()
    notebooks = arguments.notebooks or sorted(HERE.glob("*.ipynb"))
    # The kernels inherit these; plotting.py reads them.
    os.environ.update(IMPALA_RUNS=str(arguments.runs.resolve()), IMPALA_FIGURES=str(arguments.figures.resolve()))
    print(f"Executing {len(notebooks)} notebooks, {arguments.at_once} at once ...", flush=True)
    if failed := asyncio.run(_execute_all(notebooks, arguments.at_once, arguments.timeout)):
        print(f"ERROR: {len(failed)} of {len(notebooks)} notebooks failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    print(f"The figures are in {arguments.figures}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
