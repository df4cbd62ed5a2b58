"""The hyperparameters that the paper sweeps on DeepMind Lab, and that its populations start from (Table D.1).

Every experiment of the paper uses the same 24 combinations, drawn beforehand (section 5.2). They are not published; a
seed stands for them here.
"""

from __future__ import annotations

import random

COMBINATIONS = 24
LOG_UNIFORM = {"entropy_cost": (5e-5, 1e-2), "learning_rate": (5e-6, 5e-3)}
CATEGORICAL = {"rmsprop_epsilon": (1e-1, 1e-3, 1e-5, 1e-7)}


def draw(seed: int, combinations: int = COMBINATIONS) -> list[dict[str, float]]:
    """Draws combinations of hyperparameters, {setting: value} each, independently of each other.

    The same seed gives the same ones on every machine and in every Python; more of them begin with the fewer. Drawn
    values have six significant digits, so that they are the same as text.
    """
    # Of Python's generator, only random() is promised to stay as it is from version to version.
    generator = random.Random(seed)
    drawn = []
    for _ in range(combinations):
        values = {}
        for name, (low, high) in LOG_UNIFORM.items():
            values[name] = float(f"{low * (high / low) ** generator.random():.6g}")
        for name, choices in CATEGORICAL.items():
            values[name] = choices[int(generator.random() * len(choices))]
        drawn.append(values)
    return drawn
