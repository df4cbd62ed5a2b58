"""The check for GPUs, run on the CPU: what it reports, and that it leaves nothing running."""

from __future__ import annotations

import json
import signal

import pytest

from impala_tf.errors import UserError
from impala_tf.run.gpu_steps import STEPS, Check

CHECK = ("-m", "run.gpu_check")
HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}  # Also on a machine with a GPU.


@pytest.fixture
def folders(tmp_path):
    """A check that needs a GPU, and a step's folder."""
    here = tmp_path / "step"
    here.mkdir()
    return Check(tmp_path, gpu=True, quick=False), here


def test_numbers_and_output_of_a_step_are_kept(start, tmp_path):
    output = tmp_path / "check"
    run = start("--no_gpu", "--quick", "--steps=train_two_learners,machine", f"--output={output}", command=CHECK)
    assert run.finish(120) == 0, run.describe()
    run.wait_until_gone()
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["steps"]) == ["machine", "train_two_learners"] and not summary["on_gpu"]
    passed, skipped = summary["steps"].values()
    assert (passed["result"], skipped["result"]) == ("passed", "skipped")
    assert passed["numbers"]["machine"]["versions"]["tensorflow"] == "2.15.1"
    assert all(first > 0 for first, _ in passed["numbers"]["machine"]["first_and_second_call_seconds"].values())
    assert '"tensorflow_build"' in (output / passed["output"]).read_text()
    assert "1 passed, 0 failed, 1 skipped" in run.out and "on the CPU" in run.out


def test_without_a_gpu_the_first_step_fails_and_ends_the_check(start, tmp_path):
    run = start("--steps=export", f"--output={tmp_path / 'check'}", command=CHECK, environment=HIDDEN)
    assert run.finish(120) == 1, run.describe()
    (name, step), *others = json.loads((tmp_path / "check" / "summary.json").read_text())["steps"].items()
    assert (name, step["result"], others) == ("machine", "failed", [])
    assert "TensorFlow sees no GPU" in step["why"]


def test_a_step_that_takes_too_long_fails_and_the_next_is_taken(start, tmp_path):
    flags = ("--no_gpu", "--steps=machine,train_catch", "--limit=0.3", f"--output={tmp_path / 'check'}")
    run = start(*flags, command=CHECK)
    assert run.finish(60) == 1, run.describe()
    run.wait_until_gone()
    steps = json.loads((tmp_path / "check" / "summary.json").read_text())["steps"]
    assert [step["why"] for step in steps.values()] == ["it was not done in time"] * 2


def test_a_signal_ends_the_check_and_the_step(start, tmp_path):
    run = start("--no_gpu", f"--output={tmp_path / 'check'}", command=CHECK)
    run.wait_until(lambda: len(run.all_processes()) > 1, 30)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(30) == 128 + signal.SIGTERM
    run.wait_until_gone()
    (step,) = json.loads((tmp_path / "check" / "summary.json").read_text())["steps"].values()
    assert (step["result"], step["why"]) == ("failed", "interrupted")


def test_errors(start, error_of, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    wrong = start("--steps=machine,lstm", command=CHECK)
    used = start(f"--output={tmp_path}", command=CHECK)
    assert "there is no step 'lstm'; there are machine, " in error_of(wrong, 20)
    assert "holds other files" in error_of(used, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("skipped", "fails"), [(0, False), (3, True)])
def test_skipped_tests_do_not_pass_on_a_gpu(folders, skipped, fails):
    check, here = folders
    suite = f'<testsuites><testsuite tests="3" skipped="{skipped}" failures="0" errors="0"/></testsuites>'
    (here / "tests.xml").write_text(suite)
    numbers = STEPS["lstm_tests"].numbers
    if fails:
        with pytest.raises(UserError, match="3 of 3 tests were skipped"):
            numbers(check, here)
    else:
        assert numbers(check, here)["tests"] == 3
    assert numbers(check._replace(gpu=False), here)["skipped"] == skipped


def test_a_benchmark_of_the_cpu_does_not_pass_on_a_gpu(folders):
    check, here = folders
    (here / "benchmark.json").write_text('{"device": "CPU"}')
    with pytest.raises(UserError, match="ran on the CPU"):
        STEPS["deep_xla"].numbers(check, here)
    assert STEPS["deep_xla"].numbers(check._replace(gpu=False), here) == {"device": "CPU"}


@pytest.mark.parametrize(
    ("reached", "said", "why"),
    [
        (0.9, "compiling the learner with XLA", ""),
        (0.3, "compiling the learner with XLA", "should have reached 0.5"),
        (float("nan"), "compiling the learner with XLA", "should have reached 0.5"),
        (0.9, "compiling the learner", "not compiled with XLA"),
    ],
)
def test_training_must_use_the_gpu_and_learn(folders, reached, said, why):
    check, here = folders
    (here / "run").mkdir()
    (here / "output.txt").write_text(said)
    names = ("seconds", "frames", "fps_run", "policy_lag_mean", "learner_waiting", "total_loss", "mean_return_100")
    (here / "run" / "progress.csv").write_text(f"{','.join(names)}\n{'0,' * 6}0\n{'1,' * 6}{reached}\n")
    if why:
        with pytest.raises(UserError, match=why):
            STEPS["train_catch"].numbers(check, here)
    else:
        assert STEPS["train_catch"].numbers(check, here)["mean_return_100"] == reached


@pytest.mark.parametrize(("logit", "fails"), [(2.0005, False), (2.01, True), (float("nan"), True)])
def test_a_saved_model_must_give_the_cpu_s_logits(folders, logit, fails):
    check, here = folders
    for name, value in (("cpu", 2.0), ("gpu", logit)):
        found = {"logits": [[1.0, value]], "ms_per_step": 1.0, "gpu_bytes": 5}
        (here / f"{name}.json").write_text(json.dumps(found))
    (here / "evaluation.json").write_text('{"tasks": {"catch": {"mean": 0.5}}}')
    (here / "output.txt").write_text("resuming")
    if fails:
        with pytest.raises(UserError, match="1 of 2 logits differ"):
            STEPS["export"].numbers(check, here)
    else:
        assert STEPS["export"].numbers(check, here)["mean_return"] == 0.5
