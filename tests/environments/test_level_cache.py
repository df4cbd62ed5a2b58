"""The level cache: every map that it returns is whole, even with several writers."""

from __future__ import annotations

import multiprocessing
import shutil
import zipfile
from pathlib import Path

import pytest

from impala_tf.environments.level_cache import LevelCache


def make_map(path: Path, byte: bytes, size: int = 60_000) -> bytes:
    with zipfile.ZipFile(path, "w") as pk3:
        pk3.writestr("maps/maze.bsp", byte * size)
        pk3.writestr("maps/maze.aas", byte * 100)
    return path.read_bytes()


def test_a_map_comes_back_as_it_was_written(tmp_path: Path):
    content = make_map(tmp_path / "maze.pk3", b"a")
    cache, folder = LevelCache(str(tmp_path / "a" / "b")), tmp_path / "a" / "b"
    target = tmp_path / "fetched.pk3"
    assert cache.fetch("key", str(target)) is False and not target.exists()
    cache.write("key", str(tmp_path / "maze.pk3"))
    assert cache.fetch("key", str(target)) is True and target.read_bytes() == content
    assert LevelCache(str(folder)).fetch("key", str(target)) and [f.name for f in folder.iterdir()] == ["key"]
    assert cache.fetch("other key", str(target)) is False and not target.exists()


def test_a_damaged_copy_is_never_offered(tmp_path: Path):
    content = make_map(tmp_path / "maze.pk3", b"a", size=200)
    cache, target = LevelCache(str(tmp_path / "maps")), tmp_path / "fetched.pk3"
    for length in range(len(content)):
        (tmp_path / "maps" / "key").write_bytes(content[:length])
        assert cache.fetch("key", str(target)) is False and not target.exists(), f"cut to {length} bytes"
    data = content.index(b"a" * 200)
    (tmp_path / "maps" / "key").write_bytes(content[:data] + b"b" + content[data + 1 :])
    assert cache.fetch("key", str(target)) is False and not target.exists()
    with zipfile.ZipFile(tmp_path / "compressed.pk3", "w", zipfile.ZIP_DEFLATED) as pk3:
        pk3.writestr("maps/maze.bsp", bytes(range(256)) * 8)
    compressed = (tmp_path / "compressed.pk3").read_bytes()
    data = 30 + len("maps/maze.bsp")  # After the member's header.
    (tmp_path / "maps" / "key").write_bytes(compressed[:data] + b"\xff" * 20 + compressed[data + 20 :])
    assert cache.fetch("key", str(target)) is False and not target.exists()
    cache.write("key", str(tmp_path / "maze.pk3"))  # What Lab then does.
    assert cache.fetch("key", str(target)) is True


def _write(folder: str, pk3: str, times: int) -> None:
    cache = LevelCache(folder)
    for _ in range(times):
        cache.write("key", pk3)


def test_two_processes_write_the_same_map_while_a_third_reads_it(tmp_path: Path):
    contents = [make_map(tmp_path / f"{name}.pk3", name.encode(), 1_000_000) for name in "ab"]
    cache, target = LevelCache(str(tmp_path / "maps")), tmp_path / "fetched.pk3"
    cache.write("key", str(tmp_path / "a.pk3"))
    context = multiprocessing.get_context("spawn")
    arguments = [(str(tmp_path / "maps"), str(tmp_path / f"{name}.pk3"), 50) for name in "ab"]
    writers = [context.Process(target=_write, args=args) for args in arguments]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert (tmp_path / "maps" / "key").read_bytes() in contents
        assert cache.fetch("key", str(target)) and target.read_bytes() in contents
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0] and reads > 5
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["key"]


def test_a_full_disk_does_not_end_the_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_map(tmp_path / "maze.pk3", b"a")
    cache = LevelCache(str(tmp_path / "maps"))

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    cache.write("key", str(tmp_path / "maze.pk3"))
    assert list((tmp_path / "maps").iterdir()) == []
    shutil.rmtree(tmp_path / "maps")
    cache.write("key", str(tmp_path / "maze.pk3"))
    assert cache.fetch("key", str(tmp_path / "fetched.pk3")) is False
