"""The memory that this machine has left."""

from __future__ import annotations

import pytest

from impala_tf import machine

GIB = 2**30


def test_here():
    assert 2**20 < machine.available_memory() < 2**50


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        (None, {}, 8),
        ("0::/", {}, 8),
        ("0::/", {"memory.max": "max", "memory.current": 1 * GIB}, 8),
        ("0::/", {"memory.max": 4 * GIB, "memory.current": 1 * GIB}, 3),
        ("0::/", {"memory.max": 4 * GIB, "memory.current": 5 * GIB}, 0),
        # Files that were read count as used until their memory is needed.
        ("0::/", {"memory.max": 4 * GIB, "memory.current": 3 * GIB, "memory.stat": f"anon 1\ninactive_file {GIB}"}, 2),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": 6 * GIB, "a/memory.current": 1 * GIB}, 5),
        ("0::/not/seen/here", {"memory.max": 2 * GIB, "memory.current": 1 * GIB}, 1),
        (
            "5:cpu,cpuacct:/\n4:memory:/a",
            {"memory/a/memory.limit_in_bytes": 2 * GIB, "memory/a/memory.usage_in_bytes": GIB},
            1,
        ),
    ],
)
def test_of_machine_and_container_the_smaller_is_taken(tmp_path, group, files, left):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: {2**24} kB\nMemAvailable:  {2**23} kB\n")
    if group:
        (tmp_path / "proc/self/cgroup").write_text(group + "\n")
    for name, value in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    for folder in {path.parent for path in (tmp_path / "sys").rglob("memory.*")}:
        if not (folder / "memory.stat").exists():
            (folder / "memory.stat").write_text("anon 1\n")
    assert machine.available_memory(str(tmp_path)) == left * GIB
