"""Describes the machine that this process runs on."""

from __future__ import annotations

import os
import pathlib
import platform


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def description() -> str:
    """Returns the processor, the number of usable cores and the memory as one line."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {cores()} cores, {memory:.0f} GiB"


def available_bytes() -> int:
    """Returns the memory that new work can have without swapping, in bytes; all of it where the system does not say."""
    meminfo = pathlib.Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    named = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(named[0]) if named else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
