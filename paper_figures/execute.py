"""Executes the notebooks in parallel without changing them: `make figures`.

Each notebook draws a figure or table of the paper, together with the runs that it finds, and writes it as PNG and SVG.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import sys
import time

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = pathlib.Path(__file__).resolve().parent
_FRESH = "import gc; gc.freeze()\n%reset -f"
"""Removes all names; only modules stay from the notebook before. It collects garbage, but not among their objects."""


async def _execute(notebook: pathlib.Path, kernel: AsyncKernelManager, timeout: int) -> bool:
    """Executes a notebook and prints its time or its error; returns whether it succeeded.

    If the kernel cannot be used any more, it is shut down, and the next notebook needs another.
    """
    start = time.monotonic()
    nodes = nbformat.read(notebook, as_version=4)
    nodes.cells.insert(0, nbformat.v4.new_code_cell(_FRESH))
    client = NotebookClient(nodes, km=kernel, timeout=timeout, resources={"metadata": {"path": str(HERE)}})
    try:
        await client.async_execute()
    except CellExecutionError as error:
        print(f"ERROR: {notebook.name}: {error.ename}: {error.evalue}", file=sys.stderr, flush=True)
        return False
    except (CellTimeoutError, DeadKernelError) as error:
        print(f"ERROR: {notebook.name}: {error}", file=sys.stderr, flush=True)
        await kernel.shutdown_kernel(now=True)
        return False
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    print(f"  {notebook.stem} ({time.monotonic() - start:.1f} s)", flush=True)
    return True


async def _execute_all(notebooks: list[pathlib.Path], at_once: int, timeout: int) -> list[str]:
    """Executes the notebooks; returns the names of those that failed."""
    left, failed = iter(notebooks), []

    async def execute_some() -> None:
        """One notebook after the other in one kernel, so that what they import is imported once."""
        kernel = AsyncKernelManager()
        try:
            for notebook in left:
                if not kernel.has_kernel:
                    kernel = AsyncKernelManager()
                if not await _execute(notebook, kernel, timeout):
                    failed.append(notebook.name)
        finally:
            if kernel.has_kernel:
                await kernel.shutdown_kernel(now=True)

    await asyncio.gather(*(execute_some() for _ in range(min(at_once, len(notebooks)))))
    return failed


def main() -> int:
    """Executes the notebooks named on the command line, or all of them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "notebooks", nargs="*", type=pathlib.Path, help="notebooks to execute; default: all in this folder"
    )
    parser.add_argument("--runs", default=HERE.parent / "runs", type=pathlib.Path, help="folder of the runs")
    parser.add_argument("--figures", default=HERE / "figures", type=pathlib.Path, help="folder for the pictures")
    parser.add_argument("--at_once", default=os.cpu_count(), type=int, help="notebooks to execute in parallel")
    parser.add_argument("--timeout", default=120, type=int, help="time limit for a cell, in seconds")
    arguments = parser.parse_args()
    notebooks = arguments.notebooks or sorted(HERE.glob("*.ipynb"))
    # The kernels inherit these; plotting.py reads the first two. NumPy's own threads would wait for work by spinning.
    os.environ.update(IMPALA_RUNS=str(arguments.runs.resolve()), IMPALA_FIGURES=str(arguments.figures.resolve()))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    print(f"Executing {len(notebooks)} notebooks, {arguments.at_once} at a time ...", flush=True)
    if failed := asyncio.run(_execute_all(notebooks, arguments.at_once, arguments.timeout)):
        print(f"ERROR: {len(failed)} of {len(notebooks)} notebooks failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    print(f"The figures are in {arguments.figures}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
