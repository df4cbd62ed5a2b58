"""The SavedModel of a run's newest checkpoint, <logdir>/exports/<frames>. TensorFlow is imported only to write it."""

from __future__ import annotations

import logging
import os
import pathlib

from impala_tf.errors import UserError
from impala_tf.export import saved_model
from impala_tf.records.logdir import LogDir, saved

_LOGGER = logging.getLogger(__name__)


def find(logdir: LogDir) -> pathlib.Path | None:
    """Returns the SavedModel of the newest checkpoint, None if it has not been exported yet or is damaged."""
    for checkpoint in saved(logdir.checkpoints)[:1]:
        model = logdir.exports / checkpoint.name
        if _is_whole(model):
            return model
    return None


def make(logdir: LogDir) -> pathlib.Path:
    """Exports the newest readable checkpoint, unless it is there already, and returns the SavedModel.

    Raises:
      UserError: there is no run or no readable checkpoint, or the SavedModel cannot be written.
    """
    from impala_tf.export import exporter

    loaded = exporter.load(logdir)
    model = logdir.exports / loaded.checkpoint.name
    if _is_whole(model):
        return model
    set_aside(model)
    loaded.write(model)
    _LOGGER.info("exported %s to %s", loaded.checkpoint, model)
    return model


def set_aside(model: pathlib.Path) -> None:
    """Renames a damaged SavedModel, if there is one, to damaged-<frames>.

    Raises:
      UserError: it cannot be renamed.
    """
    if not model.exists():
        return
    aside = model.with_name(f"damaged-{model.name}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}.1")
    try:
        os.rename(model, aside)
    except OSError as error:
        raise UserError(f"{model} is damaged and cannot be renamed: {error.strerror}.") from None
    _LOGGER.warning("%s is damaged and now called %s", model, aside.name)


def _is_whole(model: pathlib.Path) -> bool:
    """Whether the folder has a SavedModel that seems whole; loading it may still find damage."""
    try:
        return saved_model.read_metadata(model).get("frames") == int(model.name)
    except UserError:
        return False
