"""The line from child to parent: records arrive whole or not at all, and sending never waits."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.processes import line, parent
from impala_tf.processes.parent import Beat, LogLine, Outcome, Ready, Spent


@pytest.fixture
def reader():
    connection, theirs = multiprocessing.Pipe(duplex=False)
    parent.connect(theirs)
    reader = line.Reader(connection)
    yield reader
    reader.close()
    parent.finish(Outcome(None, None))  # Closes the other end.


def test_records_arrive_in_order(reader: line.Reader):
    assert reader.read() == []
    records = [Ready(), LogLine(20, "a"), Spent({"b": 1.0}, 2.0)]
    for record in records:
        parent.send(record)
    found = reader.read()
    assert found == records and [type(record) for record in found] == [Ready, LogLine, Spent]
    assert not reader.closed
    parent.finish(Outcome(3, None))
    assert reader.read() == [Outcome(3, None)] and reader.closed
    parent.send(Ready())  # Goes nowhere.


def test_beats_are_as_rare_as_once_a_second(reader: line.Reader, monkeypatch):
    now = 1e9
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(100):
        parent.beat()
    assert reader.read() == [Beat()]
    now += 1.1
    parent.beat()
    parent.beat()
    assert reader.read() == [Beat()]
    monkeypatch.setattr(parent, "_next_beat", 0.0)


def test_what_does_not_fit_is_dropped_whole(reader: line.Reader):
    for number in range(1000):  # 64 KiB hold about 40.
        parent.send(LogLine(30, f"{number} " + "x" * 1500))
    numbers = [int(record.text.split()[0]) for record in reader.read()]
    assert 20 < len(numbers) < 100 and numbers == list(range(len(numbers)))
    parent.send(Ready())
    assert reader.read() == [Ready()]


def test_only_the_last_record_may_be_large(reader: line.Reader):
    with pytest.raises(ValueError, match="more than"):
        parent.send(LogLine(30, "x" * line.MAX_BYTES))
    assert reader.read() == []
    outcome = Outcome(os.urandom(1 << 20), None)
    thread = threading.Thread(target=parent.finish, args=(outcome,))
    thread.start()
    found: list = []
    while not reader.closed:
        found += reader.read()
    thread.join()
    assert found == [outcome]


def test_an_outcome_that_cannot_be_pickled_leaves_the_line_open(reader: line.Reader):
    with pytest.raises((AttributeError, TypeError)):
        parent.finish(Outcome(threading.Lock(), None))
    parent.finish(Outcome(None, ValueError("instead")))
    (record,) = reader.read()
    assert str(record.error) == "instead"


def test_a_parent_that_is_gone_is_no_error(reader: line.Reader):
    reader.close()
    parent.send(Ready())
    parent.finish(Outcome(bytes(1 << 20), None))


def test_a_table_of_many_lines_arrives_whole(reader: line.Reader):
    logger = logging.Logger("test")
    logger.addHandler(parent.ToParent(logging.INFO))
    table = [f"    game {number} {'x' * 100}" for number in range(57)]
    logger.info("%s", "\n".join(table))
    assert [text for _, text in reader.read()] == table


@pytest.mark.parametrize("character", ["a", "\N{SNOWMAN}", "\N{PILE OF POO}"])
def test_long_log_lines_are_cut(character: str, reader: line.Reader):
    logger = logging.Logger("test")
    logger.addHandler(parent.ToParent(logging.WARNING))
    logger.info("unseen")
    logger.warning(f"%s {character * 5000}", "seen")
    ((level, text),) = reader.read()
    assert level == logging.WARNING and text.startswith(f"seen {character}")
    assert text.endswith(f"{character}…") and 3800 < len(text.encode()) < 4000


@given(st.lists(st.integers() | st.text() | st.binary(max_size=300)), st.lists(st.integers(1, 50), min_size=1))
def test_records_are_put_together_from_pieces(records: list, sizes: list[int]):
    connection, theirs = multiprocessing.Pipe(duplex=False)
    reader, data = line.Reader(connection), b"".join(map(line.pack, records))
    found = []
    for size in itertools.cycle(sizes):
        if not data:
            break
        os.write(theirs.fileno(), data[:size])
        data = data[size:]
        found += reader.read()
    theirs.close()
    assert not reader.closed and reader.read() == [] and reader.closed
    assert found == records
