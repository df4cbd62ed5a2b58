"""Several learners in processes of their own against one learner that draws all of their unrolls."""

from __future__ import annotations

import time

import group_work as work
import numpy as np
import pytest

from impala_tf.errors import LearnerLost
from impala_tf.learning.group import ALONE, checksum
from impala_tf.processes import child, fork_server
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.transport import ports

SIZES = (2, 3)
fork_server.preload(["impala_tf.roles.learner", "impala_tf.roles.actor", "impala_tf.roles.a3c_worker"])


def _start(function, size, ranks=None) -> list[Child]:
    addresses = [f"localhost:{ports.free_port()}" for _ in range(size)]
    ranks = range(size) if ranks is None else ranks
    return [Child(f"learner {rank}", function, addresses, rank, context=FORK_SERVER) for rank in ranks]


def _wait_until_ready(children: list[Child]) -> None:
    deadline = time.monotonic() + 60
    while not all(each.ready for each in children) and time.monotonic() < deadline:
        for each in children:
            each.poll()
        time.sleep(0.05)


@pytest.fixture(scope="module", params=SIZES)
def answers(request):
    """What each of 2 or 3 learners has come to."""
    children = _start(work.learn, request.param)
    try:
        return [each.answer(120) for each in children]
    finally:
        child.kill_all(children)


def test_all_take_the_parameters_of_learner_0(answers):
    leader, *others = answers
    for other in others:
        assert any((mine != his).any() for mine, his in zip(leader["before"], other["before"]))
    for each in answers:
        np.testing.assert_equal(each["start"], leader["before"])


def test_all_have_the_same_variables_to_the_bit(answers):
    leader, *others = answers
    assert any((a != b).any() for a, b in zip(leader["start"], leader["learned"]))
    for other in others:
        for mine, his in zip(leader["learned"], other["learned"]):
            assert mine.dtype == his.dtype and mine.tobytes() == his.tobytes()


def test_they_learn_what_one_learner_with_all_of_their_unrolls_learns(answers):
    size, ranks = len(answers), range(len(answers))
    one = work.learner(ALONE, size * work.B, seed=7)
    for variable, value in zip(one.variables, answers[0]["start"]):
        variable.assign(value)
    for step in range(work.STEPS):
        metrics = one.step(work.batch(step, ranks))
        for answer in answers:
            theirs = answer["metrics"][step]
            assert set(theirs) == set(metrics)
            for name, value in metrics.items():
                np.testing.assert_allclose(theirs[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    for expected, value in zip(work.values(one), answers[0]["learned"]):
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)


def test_frames_of_all_fresh_unrolls_are_counted(answers):
    size, steps = len(answers), work.STEPS
    fresh = size * work.B - 1  # Learner 1 replays one unroll.
    one = work.learner(ALONE, work.B, seed=7)
    index = [variable is one.frames for variable in one.variables].index(True)
    for answer in answers:
        assert answer["learned"][index] == steps * fresh * work.T * work.FRAMES_PER_STEP


def test_all_refuse_an_update_that_one_cannot_make(answers):
    one = work.learner(ALONE, work.B, seed=7)
    counters = [variable.dtype.is_integer for variable in one.variables]
    for answer in answers:
        assert answer["count"] == (1, 1)
        for counter, learned, refused in zip(counters, answer["learned"], answer["refused"]):
            assert counter or learned.tobytes() == refused.tobytes()


def test_all_know_the_unrolls_of_all(answers):
    size = len(answers)
    expected = work.batch(0, range(size))
    for answer in answers:
        first, starving, stopping = answer["agreed"]
        assert (first["stopped"], first["missing"], first["longest"]) == ([], [], (0.0, 0))
        for name in ("episode_return", "episode_length", "learner_step", "task_id"):
            ours, theirs = getattr(first["batch"].unrolls, name), getattr(expected.unrolls, name).numpy()
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(first["batch"].fresh, expected.fresh)
        assert starving["missing"] == list(range(1, size)) and starving["batch"] is None
        assert starving["longest"] == (float(size), size - 1)
        assert stopping["stopped"] == [1] and stopping["missing"] == list(range(size))


def test_learners_that_differ_end(answers):
    for answer in answers:
        assert answer["differs"].startswith("The learners' parameters differ")


def test_learners_leave_together():
    """One that has ended already would cut off what the others are still receiving from it."""
    children = _start(work.leave, 2)
    try:
        assert children[1].answer(60) > 0.8 * 1.0
        assert children[0].answer(60) < 60
    finally:
        child.kill_all(children)


def test_learners_are_still_asked_to_end_by_sigterm():
    children = _start(work.be_asked_to_end, 2)
    try:
        assert [each.answer(60) for each in children] == [True, True]
    finally:
        child.kill_all(children)


def test_a_learner_can_leave_although_another_has_died():
    children = _start(work.leave_alone, 2)
    try:
        _wait_until_ready(children)  # A learner that dies earlier cuts off the other's exchange before that.
        children[1].process.kill()
        assert children[0].answer(60) is None
    finally:
        child.kill_all(children)


@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_notice_that_a_learner_has_died(lost):
    children = _start(work.stay, 2)
    try:
        _wait_until_ready(children)
        children[lost].process.kill()
        with pytest.raises(LearnerLost, match=f"Learner {1 - lost} has lost the others: one of the 2 learners"):
            children[1 - lost].answer(30)
    finally:
        child.kill_all(children)


def test_one_learner_needs_nobody():
    numbers = np.array([1, 2], np.int64)
    np.testing.assert_array_equal(ALONE.gather(numbers), [[1, 2]])
    assert ALONE.sum([1.0, 2.0]) == [1.0, 2.0]


def test_a_checksum_sees_every_bit():
    one = work.learner(ALONE, work.B, seed=7)
    before = checksum(one.variables)
    assert checksum(one.variables) == before
    weights = one.agent.trainable_variables[0]
    changed = weights.numpy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.inf, dtype=np.float32)
    weights.assign(changed)
    assert checksum(one.variables) != before
