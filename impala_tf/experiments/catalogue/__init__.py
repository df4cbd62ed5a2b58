"""The paper's experiments: which runs each needs, on one machine and at the paper's scale.

The runs on one machine were written down before the first of them. RESULTS.md says how the claims were chosen.
"""

from __future__ import annotations

import difflib

from impala_tf.errors import UserError
from impala_tf.experiments.catalogue import architectures, corrections
from impala_tf.experiments.catalogue.grid import Experiment

ALL = {experiment.name: experiment for experiment in (*corrections.ALL, *architectures.ALL)}
"""{name: experiment}, in the order of the paper's claims."""


def find(name: str) -> Experiment:
    """Returns an experiment.

    Raises:
      UserError: there is none of this name; the message suggests the nearest.
    """
    if name in ALL:
        return ALL[name]
    near = difflib.get_close_matches(name, ALL, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"There is no experiment {name!r}.{hint} There are: {', '.join(ALL)}.")
