"""CSV files of a run: whole rows whatever happens, and damage that is named."""

import os
import resource

import pytest

from impala_tf.errors import UserError
from impala_tf.records import csv_file
from impala_tf.records.csv_file import CSVFile

GOOD = "frames,task,x\r\n100,a,1.5\r\n200,b,\r\n300,a,nan\r\n"


def _write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_killed_process_leaves_whole_rows_at_whichever_byte_it_was(tmp_path):
    """Even if the machine went down with it: a reader sees the rows before, and a resumed run goes on after them."""
    for length in range(len(GOOD) + 1):
        path = _write(tmp_path / "log.csv", GOOD[:length])
        whole = [100 * (i + 1) for i in range(max(0, GOOD[:length].count("\n") - 1))]
        rows = csv_file.read(path)
        assert ([] if rows is None else list(rows["frames"])) == whole
        assert csv_file.has_rows(path) == (GOOD[:length].count("\n") >= 1 and len(GOOD[:length].splitlines()) > 1)
        file = CSVFile(path, keep_up_to=250)
        file.write({"frames": 260, "task": "c", "x": 3.0})
        file.close()
        assert list(csv_file.read(path)["frames"]) == [frames for frames in whole if frames <= 250] + [260]


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("frames,x\n100,1\n200,2,3\n300,4\n", "line 3 ('200,2,3'), has 3 values for 2 columns", ""),
        ("frames,x\n100,1\nhello\n300,4\n", "line 3 ('hello')", "1 values for 2 columns"),
        ("frames,x\n100,1\n200,abc\n", "line 3", "has 'abc' as x"),
        ("frames,x\n,1\n", "line 2", "has '' as frames"),
        ("frames,x\n12.5,1\n", "line 2", "has '12.5' as frames"),
        ("time,x\n12,1\n", "line 1", "does not name the columns"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\n", "line 1", "does not name the columns"),
        (b"frames,x\n100,1\n\0\0\0\0\n300,1\n", "line 3", "1 values for 2 columns"),
        ("frames,x\n" + "1" * 200_000 + ",1" + '"' * 200_000 + "\n", "line 2", ""),
    ],
)
def test_damage_is_named_and_nothing_is_changed(tmp_path, content, line, problem):
    path = _write(tmp_path / "progress.csv", content)
    before = path.read_bytes()
    for use in (lambda: CSVFile(path, keep_up_to=1000), lambda: csv_file.read(path), lambda: csv_file.check(path)):
        with pytest.raises(UserError) as error:
            use()
        message = str(error.value)
        assert f"{path}, {line}" in message and problem in message and "move the file away" in message
        assert len(message) < 400 and "\n" not in message
    assert path.read_bytes() == before


def test_blank_lines_do_no_harm(tmp_path):
    path = _write(tmp_path / "progress.csv", "frames,x\n100,1\n\n200,2\n\n")
    CSVFile(path, keep_up_to=1000).close()
    assert path.read_text() == "frames,x\n100,1\n200,2\n"


def test_what_is_kept_is_not_rewritten(tmp_path):
    path = _write(tmp_path / "progress.csv", GOOD)
    os.utime(path, (1, 1))
    CSVFile(path, keep_up_to=300).close()
    assert path.read_bytes() == GOOD.encode() and path.stat().st_mtime == 1


@pytest.fixture
def limited():
    """Returns a function that limits files to a size, which fails writes as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_row_that_does_not_fit_on_the_disk_leaves_nothing_of_itself(tmp_path, limited):
    path = _write(tmp_path / "progress.csv", GOOD)
    file = CSVFile(path, keep_up_to=300)
    limited(len(GOOD) + 5)
    for _ in range(2):
        with pytest.raises(OSError):
            file.write({"frames": 400, "task": "a", "x": 1.0})
        assert path.read_bytes() == GOOD.encode()
    limited(1000)
    file.write({"frames": 500, "task": "a", "x": 1.0})
    file.close()
    assert list(csv_file.read(path)["frames"]) == [100, 200, 300, 500]


def test_the_last_whole_row_is_read_without_the_rest(tmp_path):
    path = tmp_path / "progress.csv"
    assert csv_file.last(path) == {}
    file = CSVFile(path, keep_up_to=0)
    for frames in range(1000, 3000):
        file.write({"frames": frames, "task": "x" * 30})
    file.close()
    assert path.stat().st_size > 4 * csv_file._LONGEST_ROW
    assert csv_file.last(path) == {"frames": "2999", "task": "x" * 30}
    with open(path, "a") as opened:
        opened.write("3000,y")  # A row that is being written.
    assert csv_file.last(path)["frames"] == "2999"
    for nothing in ("frames,task\n", "frames,task\n10", "frames,task\n10,y"):  # The first row may be one, too.
        path.write_text(nothing)
        assert csv_file.last(path) == {}
