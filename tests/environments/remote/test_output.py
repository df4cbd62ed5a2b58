"""What an environment's process writes to its standard error."""

from __future__ import annotations

import os

from impala_tf.environments.remote import output
from impala_tf.environments.remote.output import Output

CRASH = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File x\n"


def test_it_is_passed_on_once_and_the_end_is_remembered(tmp_path, capfd):
    log = tmp_path / "log"
    its = Output(log)
    assert its.last_words() == ""  # Before the process has opened it.
    for text in ("one\n", "two\n\nthr", "ee\n"):
        with open(log, "a") as file:
            file.write(text)
        its.pass_on()
        its.pass_on()
    assert capfd.readouterr().err == "one\ntwo\n\nthree\n"
    assert its.last_words() == "one two three"
    with open(log, "a") as file:
        file.write("Didn't find   map 'x'\n: No such file\n" + CRASH)
    assert its.last_words() == "three Didn't find map 'x' : No such file"
    with open(log, "a") as file:
        file.write("x" * 5000)
    assert its.last_words() == "x" * 300


def test_only_a_crash_is_no_word(tmp_path):
    (tmp_path / "log").write_text(CRASH)
    assert Output(tmp_path / "log").last_words() == ""


def test_the_file_stays_small_and_nothing_is_lost(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(output, "_MOST_BYTES", 100)
    its, sizes = Output(tmp_path / "log"), []
    with open(tmp_path / "log", "a", buffering=1) as file:
        for number in range(200):
            file.write(f"line {number}\n")
            its.pass_on()
            sizes.append((tmp_path / "log").stat().st_size)
    assert max(sizes) <= 110 and sizes[-1] < 110
    assert capfd.readouterr().err == "".join(f"line {number}\n" for number in range(200))


def test_the_log_file_is_found(tmp_path):
    before, log = os.dup(2), tmp_path / "actor_0.log"
    found = []
    try:
        for path in (log, os.devnull):
            with open(path, "ab") as file:
                os.dup2(file.fileno(), 2)
            found.append(output.log_file())
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        log.unlink()
        found.append(output.log_file())
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert found == [str(log), "", ""]
