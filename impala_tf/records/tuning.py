"""What a population changes in a run between two of its starts: settings, and the checkpoint that it goes on from.

A resumed run must have the settings that it has begun with. A population changes those that are tunable nevertheless
(Appendix F). Each change is recorded in the run's config.json, under "tuned":

    {"frames": 1000000, "from": "member 3, evaluation 7", "learning_rate": 0.0007, ...}

`frames` are environment frames of the checkpoint that the run went on from with these values; "from" says whose
checkpoint it was, if it was another run's. The list covers the ancestry: a copied run brings its own changes along.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.records.logdir import LogDir, saved

_CONFIG = "config.json"


def with_values(config: Config, values: dict[str, float]) -> Config:
    """Returns the settings with other values of tunable ones.

    Raises:
      UserError: a value is out of range.
      ValueError: a setting is not tunable.
    """
    if unknown := set(values) - set(config_lib.TUNABLE):
        raise ValueError(f"not tunable: {', '.join(sorted(unknown))}")
    return config_lib.from_values({**config_lib.to_values(config), **values})


def keep(logdir: LogDir, folder: pathlib.Path) -> None:
    """Keeps the newest checkpoint of a run that does not train now, with its history, in `folder`, for `adopt`.

    The checkpoint's files are linked where the file system allows it, as they never change.

    Raises:
      OSError: it cannot be kept; the folder does not exist then.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    checkpoint = saved(logdir.checkpoints)[0]
    shutil.copytree(checkpoint, partial / checkpoint.name, copy_function=_link)
    shutil.copyfile(logdir.config, partial / _CONFIG)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def adopt(logdir: LogDir, config: Config, kept: pathlib.Path, source: str) -> None:
    """Makes a run go on from a checkpoint that `keep` has kept of another run, with `config`'s settings.

    The run's own records are set aside in its folder, earlier-<number>. Doing it again does no harm.

    Args:
      logdir: folder of the run, which does not train now.
      config: its settings from now on; they differ from the other run's in `config.TUNABLE` and the seed only.
      kept: folder of the checkpoint.
      source: whose checkpoint it is, for the history.

    Raises:
      UserError: the run trains now.
      OSError: the files cannot be read or written.
    """
    checkpoint = saved(kept)[0]
    changes = LogDir(str(kept)).read_tuned()
    logdir.path.mkdir(parents=True, exist_ok=True)
    with logdir.lock():
        shutil.rmtree(logdir.checkpoints, ignore_errors=True)
        logdir.set_aside()
        logdir.checkpoints.mkdir()
        partial = logdir.checkpoints / ".partial-copy"
        shutil.copytree(checkpoint, partial, copy_function=_link)
        logdir.write_tuned(config, [*changes, _change(int(checkpoint.name), config, source)])
        partial.rename(logdir.checkpoints / checkpoint.name)


def tune(logdir: LogDir, config: Config) -> None:
    """Makes a run go on from its newest checkpoint with other values of the tunable settings.

    Args:
      logdir: folder of the run, which does not train now.
      config: its settings from now on; they differ from before in `config.TUNABLE` only.

    Raises:
      UserError: the run trains now.
      OSError: config.json cannot be written.
    """
    with logdir.lock():
        logdir.write_tuned(config, [*logdir.read_tuned(), _change(logdir.frames, config)])


def _change(frames: int, config: Config, source: str = "") -> dict[str, Any]:
    values = config_lib.to_values(config)
    named = {"from": source} if source else {}
    return {"frames": frames, **named, **{name: values[name] for name in config_lib.TUNABLE}}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Another file system, or one without links.
        shutil.copyfile(source, target)
