"""Describes the machine that this process runs on."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def available_memory(root: str = "/") -> int:
    """Returns the bytes of memory that processes may still take: this machine's, or less in a limited container.

    Args:
      root: where proc and sys are mounted.
    """
    proc, cgroups = pathlib.Path(root, "proc"), pathlib.Path(root, "sys/fs/cgroup")
    # Before Linux 3.14, and in some sandboxes, there is no MemAvailable.
    named = [_numbers(proc / "meminfo", name) for name in ("MemAvailable:", "MemFree:")]
    left = [1024 * next(found[0] for found in named if found)]
    groups = proc / "self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            mount, limit, usage = cgroups, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit, usage = cgroups / controllers, "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # Every group above has a limit of its own. A container may see its group as the root of them all.
        group = mount / own.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # No such group here, or no limit: "max".
                free = int((folder / limit).read_text()) - int((folder / usage).read_text())
                files = sum(_numbers(folder / "memory.stat", "inactive_file"))  # They can go.
                left.append(max(free + files, 0))
            if folder == mount:
                break
    return min(left)


def _numbers(path: pathlib.Path, name: str) -> list[int]:
    """Returns the number in each line of a file that begins with `name`."""
    lines = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return [int(words[1]) for words in lines if words and words[0] == name]


def description() -> str:
    """Returns the processor, the number of usable cores and the memory as one line."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {cores()} cores, {memory:.0f} GiB"


def size_text(size: int) -> str:
    """Formats a number of bytes: "1.5 GiB", "20.0 MiB" or "0.3 KiB"."""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size / 1024:.1f} KiB"
