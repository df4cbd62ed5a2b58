"""The experiments. Their runs and their claims were written down before the first run was started."""

from __future__ import annotations

from impala_tf.experiments.catalogue import one_machine, paper
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid

_CORRECTIONS = {"v_trace": "V-trace", "one_step": "1-Step", "epsilon": "epsilon-correction", "none": "No-correction"}


def _corrections(ending: str = "", label: str = "", **settings: float) -> tuple[Agent, ...]:
    return tuple(
        Agent(name + label, f"table_2/{correction}{ending}", {"correction": correction, **settings})
        for correction, name in _CORRECTIONS.items()
    )


_WITHOUT_REPLAY = _corrections()
_WITH_REPLAY = _corrections("_replay", ", replay", replay_fraction=0.5)

TABLE_2 = Experiment(
    "table_2",
    "Table 2: off-policy corrections, with and without replay",
    {
        "machine": Grid(
            (*_WITHOUT_REPLAY, *_WITH_REPLAY), one_machine.TASKS, one_machine.SEEDS, settings=one_machine.SETTINGS
        ),
        "paper": Grid(
            (*_WITHOUT_REPLAY, *_WITH_REPLAY), paper.LEVELS, paper.COMBINATIONS, "dmlab_shallow", paper.SPREAD
        ),
    },
    (
        *(
            Claim(f"{which} replay, V-trace scores higher than {other.label}.", v_trace.folder, other.folder)
            for which, (v_trace, *others) in {"Without": _WITHOUT_REPLAY, "With": _WITH_REPLAY}.items()
            for other in others
        ),
        Claim("V-trace scores higher with replay than without.", "table_2/v_trace_replay", "table_2/v_trace"),
        Claim("No-correction scores lower with replay than without.", "table_2/none", "table_2/none_replay"),
    ),
)

ALL = (TABLE_2,)
