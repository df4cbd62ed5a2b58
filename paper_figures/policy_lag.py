"""Trains Catch at fixed policy lags: `python -m paper_figures.policy_lag --output=FOLDER`.

Figure E.1's comparison on a task that one machine can repeat: every correction of Table 2, policy lags of 0, 1, 10 and
100 updates, five seeds. Learner and actor run in turns (`--num_actors=0`), so that the lag is exact.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pandas as pd

from impala_tf.errors import UserError
from impala_tf.machine import cores

CORRECTIONS = {"v_trace": "V-trace", "one_step": "1-Step", "epsilon": "epsilon-correction", "none": "No-correction"}
LAGS = (0, 1, 10, 100)
FRAMES = 200_000
COLUMNS = ["correction", "policy_lag", "seed", "frames", "mean_return_100", "entropy", "rho", "rho_clipped"]
COLUMNS += ["policy_lag_mean", "policy_lag_max"]

_SETTINGS = ("--setup=catch", "--batch_size=8", "--num_actors=0", "--envs_per_actor=8", "--learner_threads=1")


def command(correction: str, lag: int, seed: int, frames: int, runs: pathlib.Path) -> list[str]:
    """Returns the command line of one run; its folder is that of Figure E.1's runs, for the level "catch"."""
    return [
        "impala-train",
        *_SETTINGS,
        f"--correction={correction}",
        f"--policy_lag={lag}",
        f"--seed={seed}",
        f"--total_frames={frames}",
        "--log_interval=1",
        f"--logdir={runs / correction / f'lag_{lag}' / 'catch' / str(seed)}",
    ]


def train(line: Sequence[str]) -> pathlib.Path:
    """Runs a command line of `command`, or resumes it; returns its folder.

    Raises:
      UserError: it failed.
    """
    folder = pathlib.Path(line[-1].partition("=")[2])
    done = subprocess.run([sys.executable, "-m", "impala_tf.run.train", *line[1:]], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(line)}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    return folder


def draw(table: pd.DataFrame):
    """Draws the return against frames: a panel for each lag; the mean of the seeds and their range.

    Args:
      table: with `COLUMNS`, as in policy_lag.csv.

    Returns:
      A matplotlib figure.
    """
    import matplotlib.pyplot as plt
    import numpy as np
    import plotting

    lags = sorted(table.policy_lag.unique())
    figure, axes = plt.subplots(1, len(lags), figsize=(3.5 * len(lags), 3.4), sharey=True, squeeze=False)
    for lag, ax in zip(lags, axes[0]):
        for correction, name in CORRECTIONS.items():
            runs = [
                run for _, run in table[(table.policy_lag == lag) & (table.correction == correction)].groupby("seed")
            ]
            if not runs:
                continue
            # Rows come once a second, so each run has its own frames.
            grid = np.linspace(max(run.frames.min() for run in runs), min(run.frames.max() for run in runs), 60)
            curves = np.array([np.interp(grid, run.frames, run.mean_return_100) for run in runs])
            color = plotting.COLORS[name]
            ax.plot(grid / 1e3, curves.mean(0), color=color, label=name)
            ax.fill_between(grid / 1e3, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
        ax.set(title=f"lag {lag}", xlabel="environment frames (thousands)", ylim=(-1.05, 1.05))
    axes[0][0].set_ylabel("return, mean of 100 episodes")
    axes[0][0].legend(loc="lower right")
    seeds = table.seed.nunique()
    figure.suptitle(f"Catch with a fixed policy lag in updates: mean and range of {seeds} seeds")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the grid and writes policy_lag.csv and policy_lag.png; returns the exit status. Finished runs are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the CSV file and the picture")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/figure_e1"), help="folder of the runs")
    parser.add_argument("--frames", type=int, default=FRAMES, help="environment frames of each run")
    parser.add_argument("--lags", type=int, nargs="+", default=LAGS, help="policy lags, in updates")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 1")
    parser.add_argument("--jobs", type=int, default=cores(), help="runs at the same time")
    flags = parser.parse_args(argv)
    flags.output.mkdir(parents=True, exist_ok=True)
    grid = list(itertools.product(range(1, flags.seeds + 1), flags.lags, CORRECTIONS))
    tables = []
    with concurrent.futures.ThreadPoolExecutor(flags.jobs) as pool:
        lines = [command(correction, lag, seed, flags.frames, flags.runs) for seed, lag, correction in grid]
        try:
            for number, ((seed, lag, correction), folder) in enumerate(zip(grid, pool.map(train, lines)), start=1):
                rows = pd.read_csv(folder / "progress.csv")
                rows = rows.assign(correction=correction, policy_lag=lag, seed=seed)
                tables.append(rows[COLUMNS].dropna(subset="mean_return_100"))
                final = rows.mean_return_100.iloc[-1]
                print(f"{number} of {len(grid)}: {correction}, lag {lag}, seed {seed}: {final:.2f}", flush=True)
        except UserError as error:
            pool.shutdown(cancel_futures=True)
            print(f"ERROR: {error}", file=sys.stderr, flush=True)
            return 2
    table = pd.concat(tables).round(4)
    table.to_csv(flags.output / "policy_lag.csv", index=False)
    sys.path.insert(0, str(pathlib.Path(__file__).parent))  # Where the notebooks find `plotting`.
    draw(table).savefig(flags.output / "policy_lag.png")
    print(f"{flags.output / 'policy_lag.csv'}: {len(table)} rows", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
