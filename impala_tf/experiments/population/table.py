"""The state of a population as text."""

from __future__ import annotations

from impala_tf.experiments.population.population import Population
from impala_tf.experiments.population.record import Record, Row, best


def text(population: Population, record: Record) -> str:
    """Returns a line for each member, the best first, and where the best one comes from."""
    names, numbers = population.names, range(len(population.initial))
    rows = [row for number in numbers if (row := record.last(number))]
    waiting = [number for number in numbers if record.last(number) is None]
    rows.sort(key=lambda row: row.fitness if row.fitness == row.fitness else -float("inf"), reverse=True)
    head = ["member", "evaluation", "frames", "fitness", *names, "frames trained", "minutes"]
    cells = [head]
    for row in rows:
        values = [f"{row.values[name]:.3g}" for name in names]
        counted = [f"{row.frames_trained:,}", f"{row.seconds / 60:.1f}"]
        cells.append([str(row.member), str(row.evaluation), f"{row.frames:,}", f"{row.fitness:.3f}", *values, *counted])
    for number in waiting:
        values = [f"{population.initial[number][name]:.3g}" for name in names]
        cells.append([str(number), "0", "-", "-", *values, "-", "-"])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells]
    top = best(record.rows, numbers)
    if top is not None:
        lines.append(f"ancestry of the best: {_ancestry(record.ancestry(top))}")
    return "\n".join(lines)


def _ancestry(rows: list[Row]) -> str:
    """ "member 3 to 41,000 frames, member 1 to 100,000 frames"."""
    parts = []
    for row, following in zip(rows, [*rows[1:], None]):
        if following is None or following.member != row.member:
            parts.append(f"member {row.member} to {row.frames:,} frames")
    return ", ".join(parts)
