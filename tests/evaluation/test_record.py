"""The record of finished episodes survives an interruption."""

import json
import resource
import shutil

import pytest

from impala_tf.errors import UserError
from impala_tf.evaluation.episodes import Episode
from impala_tf.evaluation.record import RANDOM, Record

HEADER = {"env": "catch", "seed": 1, "protocol": {"catch": {"episodes": 3}}}
EPISODES = [Episode(number, 70 + number, 0.5, 9) for number in range(3)]


@pytest.fixture
def limit_files():
    """Limits the size of files in bytes, which fails writes as a full disk does; None: no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


def begin(output, episodes=EPISODES[:2], header=HEADER):
    with Record(output, header) as record:
        for episode in episodes:
            record.add("catch", episode)
    return record.path


def test_resumes(tmp_path):
    begin(tmp_path / "r.json")
    with Record(tmp_path / "r.json", HEADER) as record:
        assert record.episodes("catch") == dict(enumerate(EPISODES[:2]))
        record.add("catch", EPISODES[2])
        record.add("catch", EPISODES[0], RANDOM)
    with Record(tmp_path / "r.json", HEADER) as record:
        assert record.episodes("catch") == dict(enumerate(EPISODES))
        assert record.episodes("catch", RANDOM) == {0: EPISODES[0]} and record.episodes("memory") == {}
        record.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", [1, 20])
def test_only_the_truncated_line_is_lost(tmp_path, lost):
    path = begin(tmp_path / "r.json")
    path.write_text(path.read_text()[:-lost])
    with Record(tmp_path / "r.json", HEADER) as record:
        assert list(record.episodes("catch")) == [0]
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


def test_a_model_that_was_moved_is_the_same(tmp_path):
    begin(tmp_path / "r.json", header={**HEADER, "saved_model": "runs/catch/exports/1"})
    with Record(tmp_path / "r.json", {**HEADER, "saved_model": "/data/catch/exports/1"}) as record:
        assert len(record.episodes("catch")) == 2


def test_a_folder_that_vanishes(tmp_path):
    """Otherwise an evaluation would go on for hours and lose all of its episodes."""
    with Record(tmp_path / "new" / "r.json", HEADER) as record:
        record.add("catch", EPISODES[0])
        shutil.rmtree(tmp_path / "new")
        with pytest.raises(UserError, match=r"r\.json\.partial has been removed"):
            record.add("catch", EPISODES[1])


def test_a_full_disk(tmp_path, limit_files):
    """One error, also when the file is closed; earlier episodes are kept."""
    with pytest.raises(UserError, match="Earlier episodes are kept"), Record(tmp_path / "r.json", HEADER) as record:
        record.add("catch", EPISODES[0])
        limit_files(record.path.stat().st_size + 20)
        record.add("catch", EPISODES[1])
    limit_files(None)
    with Record(tmp_path / "r.json", HEADER) as record:
        assert list(record.episodes("catch")) == [0]


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
