"""The rule by which a population evolves (Appendix F), as functions of numbers and a generator.

When a member has been evaluated, one other member is drawn. If it scores more than an absolute 5% higher, its weights
and hyperparameters are copied. Then, copied or not, each hyperparameter is multiplied by 1.2 or 1/1.2 with a
probability of 33%. During the burn-in, nothing of this happens.

The paper does not say what becomes of members that have reached their frames. Here they are drawn as others are, but
never copied: the copy would have nothing left to train.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """The rule's numbers; the defaults are the paper's.

    Attributes:
      margin: how much more another member must score to be copied, in units of the fitness.
      probability: with which each hyperparameter is perturbed.
      factor: by which, or by whose inverse, it is multiplied.
      burn_in_frames: environment frames of a member before it evolves.
    """

    margin: float = 0.05
    probability: float = 0.33
    factor: float = 1.2
    burn_in_frames: int = 20_000_000


@dataclass(frozen=True)
class Decision:
    """How a member goes on after an evaluation.

    Attributes:
      copied_from: the member whose weights and hyperparameters it takes; None: it keeps its own.
      factors: {hyperparameter: factor} of those that are perturbed.
    """

    copied_from: int | None
    factors: Mapping[str, float]


STAYS = Decision(None, {})
"""The decision of a member that goes on as it was."""


def generator(seed: int, member: int, evaluation: int) -> random.Random:
    """Returns the generator of one decision: the same for the same numbers, on every machine and Python version."""
    return random.Random(f"{seed} {member} {evaluation}")


def rival(member: int, members: int, draw: random.Random) -> int:
    """Returns one of the other members, each with the same probability."""
    # Python guarantees only the sequence of random() across versions.
    other = int(draw.random() * (members - 1))
    return other + (other >= member)


def copies(own: float, other: float | None, margin: float) -> bool:
    """Whether a member copies another: if that one scores more than `margin` higher; None: it has no score."""
    return other is not None and other - own > margin


def perturbed(names: Sequence[str], rule: Rule, draw: random.Random) -> dict[str, float]:
    """Returns {hyperparameter: factor} of those that are perturbed, each independently of the others."""
    factors = {}
    for name in names:
        # Both numbers are always drawn, so that one hyperparameter's outcome does not move the next one's.
        changes, up = draw.random() < rule.probability, draw.random() < 0.5
        if changes:
            factors[name] = rule.factor if up else 1 / rule.factor
    return factors


def evolve(
    member: int,
    frames: int,
    fitness: float,
    others: Sequence[float | None],
    names: Sequence[str],
    rule: Rule,
    draw: random.Random,
) -> Decision:
    """Decides how a member goes on after an evaluation.

    Args:
      member: its number.
      frames: environment frames that it has behind it, those of the members that it has copied included.
      fitness: its score; -inf if it could not train.
      others: the last score of each member, this one included; None for those that cannot be copied.
      names: hyperparameters under adaptation.
      rule: the numbers.
      draw: generator of this decision.
    """
    if frames < rule.burn_in_frames:
        return STAYS
    other = rival(member, len(others), draw) if len(others) > 1 else None
    taken = other if other is not None and copies(fitness, others[other], rule.margin) else None
    return Decision(taken, perturbed(names, rule, draw))


def values_after(values: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, float]:
    """Returns the hyperparameters after a perturbation, to six significant digits, so that their text is exact."""
    return {name: float(f"{value * factors.get(name, 1.0):.6g}") for name, value in values.items()}
