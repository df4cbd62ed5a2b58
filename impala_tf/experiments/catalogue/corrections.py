"""What V-trace is for: other corrections, replay, policy lag, and the parts of V-trace (sections 5.2.2 and E)."""

from __future__ import annotations

import dataclasses

from impala_tf.experiments.catalogue import one_machine
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment
from impala_tf.experiments.catalogue.usual import on_levels, on_one_machine

_CORRECTIONS = {"v_trace": "V-trace", "one_step": "1-Step", "epsilon": "epsilon-correction", "none": "No-correction"}
_WITH_REPLAY = {"replay_fraction": 0.5}


def _corrections(group: str, folder: str, **settings: float) -> tuple[Agent, ...]:
    """The four corrections; `folder` has a place for the correction's name."""
    return tuple(
        Agent(label, group, folder.format(correction), {"correction": correction, **settings}, spread=True)
        for correction, label in _CORRECTIONS.items()
    )


_FRESH = _corrections("without replay", "table_2/{}")
_REPLAY = _corrections("with replay", "table_2/{}_replay", **_WITH_REPLAY)
V_TRACE, _V_TRACE_REPLAY = _FRESH[0], _REPLAY[0]


TABLE_2 = Experiment(
    "table_2",
    "Table 2: off-policy corrections, with and without replay",
    {"machine": on_one_machine((*_FRESH, *_REPLAY)), "paper": on_levels((*_FRESH, *_REPLAY))},
    (
        *(
            Claim(f"{which} replay, V-trace scores higher than {other.label}.", v_trace.folder, other.folder)
            for which, (v_trace, *others) in {"Without": _FRESH, "With": _REPLAY}.items()
            for other in others
        ),
        Claim("V-trace scores higher with replay than without.", _V_TRACE_REPLAY.folder, V_TRACE.folder),
        Claim("No-correction scores lower with replay than without.", _FRESH[3].folder, _REPLAY[3].folder),
    ),
)


def _lags(lags: tuple[int, ...]) -> tuple[Agent, ...]:
    return tuple(
        agent for lag in lags for agent in _corrections(f"lag {lag}", f"figure_e1/{{}}/lag_{lag}", policy_lag=lag)
    )


_E1 = (
    _lags((0,))[0],  # At a lag of 0, there is nothing to correct.
    *(dataclasses.replace(agent, group="lag 10") for agent in _FRESH),  # One machine's runs have this lag.
    *_lags((100,)),
)

FIGURE_E1 = Experiment(
    "figure_e1",
    "Figure E.1: controlled policy lag",
    {
        "machine": on_one_machine(_E1),
        "paper": on_levels(
            # The paper's figure has no 1-Step.
            tuple(
                dataclasses.replace(agent, spread=False)
                for agent in _lags((0, 1, 10, 100, 500))
                if agent.settings["correction"] != "one_step"
            ),
            repeats={"1": {"seed": 1}},
            settings={"num_actors": 32, "envs_per_actor": 1},
        ),
    },
    (
        *(
            Claim(
                f"At a policy lag of 100 updates, V-trace scores higher than {_CORRECTIONS[other]}.",
                "figure_e1/v_trace/lag_100",
                f"figure_e1/{other}/lag_100",
            )
            for other in ("epsilon", "none")
        ),
        Claim(
            "V-trace scores lower at a lag of 100 than at 0.", "figure_e1/v_trace/lag_0", "figure_e1/v_trace/lag_100"
        ),
        Claim("No-correction scores lower at a lag of 100 than at 10.", "table_2/none", "figure_e1/none/lag_100"),
    ),
)

FIGURE_E2 = Experiment(
    "figure_e2",
    "Figure E.2: stability over hyperparameters, with replay",
    {
        "machine": on_one_machine(
            tuple(
                dataclasses.replace(agent, folder=agent.folder.replace("table_2", "figure_e2").removesuffix("_replay"))
                for agent in _REPLAY
            ),
            tasks=(one_machine.CATCH,),
            repeats=one_machine.COMBINATIONS,
        ),
        "paper": on_levels(_REPLAY),
    },
    # Section 5.2.2 says this of both methods with importance weights, and does not compare the two.
    tuple(
        Claim(
            f"Over all combinations, {_CORRECTIONS[weighted]} scores higher than {_CORRECTIONS[other]}.",
            f"figure_e2/{weighted}",
            f"figure_e2/{other}",
        )
        for weighted in ("v_trace", "one_step")
        for other in ("epsilon", "none")
    ),
)

_TARGETS = (
    dataclasses.replace(V_TRACE, label=r"$r_s + \gamma v_{s+1}$"),
    Agent(r"$r_s + \gamma V(x_{s+1})$", "without replay", "figure_e3/value", {"q_estimate": "value"}, spread=True),
)
_TARGETS_REPLAY = (
    dataclasses.replace(_V_TRACE_REPLAY, label=r"$r_s + \gamma v_{s+1}$"),
    dataclasses.replace(
        _TARGETS[1],
        group="with replay",
        folder="figure_e3/value_replay",
        settings={"q_estimate": "value", **_WITH_REPLAY},
    ),
)
_Q_CLAIM = "The estimate with v scores higher than that with V"

FIGURE_E3 = Experiment(
    "figure_e3",
    "Figures E.3 and E.4: two estimates of the state-action value",
    {"machine": on_one_machine((*_TARGETS, *_TARGETS_REPLAY)), "paper": on_levels(_TARGETS)},
    (
        Claim(f"{_Q_CLAIM}, without replay.", "table_2/v_trace", "figure_e3/value"),
        Claim(f"{_Q_CLAIM}, with replay.", "table_2/v_trace_replay", "figure_e3/value_replay"),
    ),
)

# The paper says neither whether it compared these levels with replay, nor what became of c_bar, which stays at 1 here.
_TRUNCATIONS = (
    dataclasses.replace(_V_TRACE_REPLAY, label=r"$\bar\rho = 1$"),
    *(
        Agent(
            rf"$\bar\rho = {level}$",
            "with replay",
            f"section_5_2_2/rho_bar_{level}",
            {"rho_bar": float(level), "pg_rho_bar": float(level), **_WITH_REPLAY},
            spread=True,
        )
        for level in (10, 100)
    ),
)

SECTION_5_2_2 = Experiment(
    "section_5_2_2",
    "Section 5.2.2: truncation level of the importance weights",
    {"machine": on_one_machine(_TRUNCATIONS), "paper": on_levels(_TRUNCATIONS)},
    tuple(
        Claim(
            f"A truncation level of 1 scores higher than one of {level}.",
            "table_2/v_trace_replay",
            f"section_5_2_2/rho_bar_{level}",
        )
        for level in (10, 100)
    ),
)

ALL = (TABLE_2, FIGURE_E1, FIGURE_E2, FIGURE_E3, SECTION_5_2_2)
