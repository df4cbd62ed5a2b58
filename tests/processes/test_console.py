"""The console shows messages alone, and nothing twice."""

from __future__ import annotations

import io
import logging

import pytest

from impala_tf.processes import console


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    logger = logging.getLogger("impala_tf")
    before = logger.handlers, logger.level, logger.propagate
    monkeypatch.setattr(logging, "raiseExceptions", True)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_lines_are_messages(caplog):
    stream = io.StringIO()
    console.show(stream)
    console.show(stream)
    logging.getLogger("impala_tf.x").info("frame %d", 3)
    logging.getLogger("impala_tf.x").debug("unseen")
    logging.getLogger("other").warning("unseen")
    assert stream.getvalue() == "frame 3\n"
    assert [record.name for record in caplog.records] == ["other"]  # Not shown again by handlers of the root logger.


def test_a_reader_that_has_gone_is_no_error(capsys):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console.show(Gone(), logging.WARNING)
    logging.getLogger("impala_tf").warning("anybody?")
    assert capsys.readouterr() == ("", "")
