"""DeepMind Lab with a cache of compiled maps; conftest.py chooses the module under test."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impala_tf.environments.dmlab import LabLevel, check
from impala_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("deepmind_lab")

LEVEL, WITH_INSTRUCTIONS = "rooms_watermaze", "language_select_located_object"


def test_maps_are_compiled_once(tmp_path: Path):
    folder = tmp_path / "maps"
    make = functools.partial(LabLevel, WITH_INSTRUCTIONS, level_cache=str(folder))
    first = make()
    kept, _ = first.reset(seed=5)
    maps = {file: (file.read_bytes(), file.stat().st_ino) for file in folder.iterdir()}
    assert maps
    second = make()
    observation, _ = second.reset(seed=5)
    np.testing.assert_equal(observation, kept)
    assert maps == {file: (file.read_bytes(), file.stat().st_ino) for file in folder.iterdir()}
    first.close()
    second.close()


def test_a_torn_map_is_compiled_again(tmp_path: Path):
    make = functools.partial(LabLevel, WITH_INSTRUCTIONS, level_cache=str(tmp_path))
    env = make()
    env.reset(seed=5)
    env.close()
    maps = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for file, content in maps.items():
        file.write_bytes(content[: len(content) // 2])
    process = multiprocessing.get_context("spawn").Process(target=_reset, args=(make,))
    process.start()  # An engine that believed it would end its process.
    process.join(120)
    assert process.exitcode == 0
    assert [file.stat().st_size for file in maps] == [len(content) for content in maps.values()]


def _reset(make: Any) -> None:
    env = make()
    env.reset(seed=5)
    env.close()


def test_a_cache_that_cannot_be_written_to(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"level cache .* cannot be written to: Not a directory"):
        check(LEVEL, level_cache=str(tmp_path / "file" / "maps"))
