"""The record of finished episodes survives an interruption."""

import json

import pytest

from impala_tf.errors import UserError
from impala_tf.evaluation.episodes import Episode
from impala_tf.evaluation.record import Record

HEADER = {"env": "catch", "seed": 1, "protocol": {"catch": {"episodes": 3}}}
EPISODES = [Episode(number, 70 + number, 0.5, 9) for number in range(3)]


def begin(output, episodes=EPISODES[:2]):
    with Record(output, HEADER) as record:
        for episode in episodes:
            record.add("catch", episode)
    return record.path


def test_resumes(tmp_path):
    begin(tmp_path / "r.json")
    with Record(tmp_path / "r.json", HEADER) as record:
        assert record.episodes == {"catch": dict(enumerate(EPISODES[:2]))}
        record.add("catch", EPISODES[2])
    with Record(tmp_path / "r.json", HEADER) as record:
        assert record.episodes == {"catch": dict(enumerate(EPISODES))}
        record.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", [1, 20])
def test_only_the_truncated_line_is_lost(tmp_path, lost):
    path = begin(tmp_path / "r.json")
    path.write_text(path.read_text()[:-lost])
    with Record(tmp_path / "r.json", HEADER) as record:
        assert list(record.episodes["catch"]) == [0]
        record.add("catch", EPISODES[1])
    assert [json.loads(line).get("number") for line in path.read_text().splitlines()] == [None, 0, 1]


def test_another_evaluation(tmp_path):
    path = begin(tmp_path / "r.json")
    with pytest.raises(UserError, match=r"belongs to another evaluation \(different seed\)"):
        Record(tmp_path / "r.json", {**HEADER, "seed": 2})
    path.write_text("nonsense\n")
    with pytest.raises(UserError, match="damaged"):
        Record(tmp_path / "r.json", HEADER)
    assert path.read_text() == "nonsense\n"


def test_an_output_that_exists(tmp_path):
    (tmp_path / "r.json").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        Record(tmp_path / "r.json", HEADER)
    assert (tmp_path / "r.json").read_text() == "mine"


def test_one_at_a_time(tmp_path):
    with Record(tmp_path / "r.json", HEADER), pytest.raises(UserError, match="Another evaluation is writing"):
        Record(tmp_path / "r.json", HEADER)


def test_an_empty_record_is_removed(tmp_path):
    with Record(tmp_path / "r.json", HEADER):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Record(tmp_path / "file" / "r.json", HEADER)
