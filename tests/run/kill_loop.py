"""Kills a run at random times and resumes it: `python tests/run/kill_loop.py --times=50 --output=kills.csv`.

A run of catch, with a checkpoint every second, is killed (SIGKILL) at a random moment of its start or of its training:
all of its processes at once, or one of them. When the launcher or the learner is killed, the other processes must end
by themselves. The run may survive the death of another process, and all of it is killed 2 s later. After each kill,
this must hold; otherwise the command prints what does not and ends with status 1:

- no process of the run is left after 15 s;
- the newest checkpoint is not older than the one before the kill, and the next start resumes exactly there;
- progress.csv can be read by pandas, and its frames and seconds increase from row to row;
- nothing is left in the temporary folder or between the checkpoints once the next start has cleaned up.

Flags of `impala-train` may be added: `--architecture=batched_a2c_sync_trajectory --envs_per_actor=4`.

Finally the run is left alone until it has consumed some frames more, and its last row must say so. The CSV file has a
row per kill.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

import pandas as pd
from conftest import Started

FLAGS = (
    *("--env=catch", "--num_actors=2", "--envs_per_actor=8", "--batch_size=8", "--unroll_length=10"),
    *("--log_interval=0.2", "--checkpoint_interval=1", "--seed=1"),
)
FOR_EVER = "--total_frames=1000000000000"
LONGEST = 20.0
"""Seconds from a start to the kill at most; importing TensorFlow takes the first of them."""
MORE_FRAMES = 20_000
ENDS = 15.0
"""Seconds within which all processes must have ended after the kill of one of `ENDING`."""
ENDING = ("launcher", "learner")
TARGETS = ("everything", *ENDING, "actor 0", "fork server")


def check(condition: object, problem: str) -> None:
    if not condition:
        raise SystemExit(f"ERROR: {problem}")


def checkpoints(logdir: pathlib.Path) -> list[int]:
    """Returns the frames of the complete checkpoints, oldest first."""
    return sorted(int(path.name) for path in (logdir / "checkpoints").glob("[0-9]*"))


def newest(logdir: pathlib.Path) -> int:
    return max(checkpoints(logdir), default=0)


def rows(logdir: pathlib.Path) -> int:
    """Checks progress.csv; returns the number of its rows."""
    file = logdir / "progress.csv"
    if not file.exists() or not file.stat().st_size:
        return 0
    read = pd.read_csv(file, dtype=float)  # Half a last line is read as a row with empty columns.
    whole = read.iloc[:-1]
    check(not whole[["frames", "seconds", "total_loss"]].isna().any(axis=None), f"{file} has damaged rows")
    check(whole["frames"].is_monotonic_increasing, f"the frames in {file} do not increase")
    check(whole["seconds"].is_monotonic_increasing, f"the seconds in {file} do not increase")
    return len(read)


def processes(run: Started, target: str) -> list[int]:
    """Returns the ids of the processes to kill; none if there is no process of that kind at this moment."""
    if target == "everything":
        return list(run.all_processes())
    if target == "launcher":
        return [run.process.pid]
    if target == "fork server":  # Its children have its command line and names of their own.
        return [pid for pid, name in run.all_processes().items() if name.startswith("python") and _forks(pid)]
    return run.children(target)


def _forks(pid: int) -> bool:
    with contextlib.suppress(OSError):  # It has just ended.
        return b"multiprocessing.forkserver" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def one_kill(
    number: int, folder: pathlib.Path, logdir: pathlib.Path, rng: random.Random, flags: list[str]
) -> dict[str, object]:
    """Starts or resumes the run, kills it, checks what is left, and returns a row for the CSV file."""
    before, target, seconds = newest(logdir), rng.choice(TARGETS), rng.uniform(0.5, LONGEST)
    run = Started(
        folder, (*FLAGS, *flags, FOR_EVER, f"--logdir={logdir}"), {"TMPDIR": str(folder / "tmp")}, ["-m", "run.train"]
    )
    time.sleep(seconds)
    check(run.process.poll() is None, f"the run ended by itself\n{run.describe()}")
    killed = processes(run, target)
    kill(killed)
    survived = False
    if target not in ENDING or not killed:
        time.sleep(2)
        survived = target != "everything" and run.process.poll() is None
        kill(processes(run, "everything"))
    run.finish(ENDS)
    run.wait_until_gone(ENDS)
    resumed = re.search(r"resuming .* at ([\d,]+) frames", run.out)
    at = int(resumed[1].replace(",", "")) if resumed else None
    check(at is None or at == before, f"resumed at {at}, but the newest checkpoint was {before}\n{run.describe()}")
    learning = "first update done" in run.out
    check(not learning or not before or resumed, f"did not resume\n{run.describe()}")
    check(newest(logdir) >= before, f"the newest checkpoint is {newest(logdir)}, after {before}")
    return {
        "kill": number,
        "target": target,
        "seconds": round(seconds, 1),
        "survived": survived,
        "had_learned": learning,
        "resumed_at": at,
        "newest_checkpoint": newest(logdir),
        "rows": rows(logdir),
    }


def finish(folder: pathlib.Path, logdir: pathlib.Path, more: list[str]) -> None:
    """Lets the run come to its end and checks that it leaves nothing that should not stay."""
    frames = newest(logdir) + MORE_FRAMES
    flags = (*FLAGS, *more, f"--total_frames={frames}", f"--logdir={logdir}")
    run = Started(folder, flags, {"TMPDIR": str(folder / "tmp")}, ["-m", "run.train"])
    check(run.finish(180) == 0, f"the last start failed\n{run.describe()}")
    run.wait_until_gone(10)
    rows(logdir)
    last = int(pd.read_csv(logdir / "progress.csv")["frames"].iloc[-1])
    check(last >= frames, f"progress.csv ends at {last} frames, not at {frames}")
    left = [*(folder / "tmp").iterdir(), *(logdir / "checkpoints").glob(".*")]
    check(not left, f"left behind: {len(left)} files and folders, {left[0] if left else None} for example")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="number of kills")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments and the targets")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("kills.csv"), help="CSV file to write")
    options, flags = parser.parse_known_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill_loop_") as name, open(options.output, "w", newline="") as file:
        folder, logdir = pathlib.Path(name), pathlib.Path(name) / "run"
        (folder / "tmp").mkdir()
        writer = None
        for number in range(1, options.times + 1):
            row = one_kill(number, folder, logdir, rng, flags)
            writer = writer or csv.DictWriter(file, row)
            if number == 1:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
        finish(folder, logdir, flags)
    print(f"{options.times} kills: nothing was lost, nothing is left", flush=True)


if __name__ == "__main__":
    sys.exit(main())
