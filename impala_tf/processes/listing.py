"""Finds the processes that this one has started, directly or not; on Linux only."""

from __future__ import annotations

import os
import pathlib


def descendants(ancestor: int | None = None) -> dict[int, str]:
    """Returns {process id: name} of the descendants of a process, by default this one."""
    ancestor = os.getpid() if ancestor is None else ancestor
    parents, names = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # The process has just ended.
            continue
        pid = int(folder.name)
        parents[pid], names[pid] = int(rest.split()[1]), name

    def ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == ancestor:
                return True
        return False

    return {pid: name for pid, name in names.items() if ours(pid)}
