"""The hyperparameters that the paper sweeps on DeepMind Lab and from which its populations start (Table D.1).

Every experiment of the paper uses the same 24 combinations, drawn beforehand (section 5.2). They are not published, so
a seed determines them here.
"""

from __future__ import annotations

import random

COMBINATIONS = 24
LOG_UNIFORM = {"entropy_cost": (5e-5, 1e-2), "learning_rate": (5e-6, 5e-3)}
CATEGORICAL = {"rmsprop_epsilon": (1e-1, 1e-3, 1e-5, 1e-7)}


def draw(seed: int, combinations: int = COMBINATIONS) -> list[dict[str, float]]:
    """Draws independent combinations of hyperparameters.

    A seed gives the same combinations on every machine and Python version, and drawing more of them does not change the
    first ones. Values are rounded to six significant digits, so that their text is exact.

    Args:
      seed: seed of the draws.
      combinations: number of combinations.

    Returns:
      {setting: value} for each combination.
    """
    # Python guarantees only the sequence of random() across versions.
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
