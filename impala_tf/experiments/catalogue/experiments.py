"""The experiments. Their runs and their claims were written down before the first run was started."""

from __future__ import annotations

import dataclasses

from impala_tf.experiments.catalogue import one_machine, paper
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid

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
_V_TRACE, _V_TRACE_REPLAY = _FRESH[0], _REPLAY[0]


def _on_one_machine(agents: tuple[Agent, ...], **changes) -> Grid:
    """A grid with the tasks and settings of one machine, five seeds unless `changes` say otherwise."""
    return dataclasses.replace(
        Grid(agents, one_machine.TASKS, one_machine.SEEDS, settings=one_machine.SETTINGS), **changes
    )


def _on_levels(agents: tuple[Agent, ...], **changes) -> Grid:
    """A grid with the paper's five levels of DeepMind Lab and 24 combinations of hyperparameters."""
    return dataclasses.replace(
        Grid(agents, paper.LEVELS, one_machine.COMBINATIONS, "dmlab_shallow", paper.ACTORS), **changes
    )


TABLE_2 = Experiment(
    "table_2",
    "Table 2: off-policy corrections, with and without replay",
    {"machine": _on_one_machine((*_FRESH, *_REPLAY)), "paper": _on_levels((*_FRESH, *_REPLAY))},
    (
        *(
            Claim(f"{which} replay, V-trace scores higher than {other.label}.", v_trace.folder, other.folder)
            for which, (v_trace, *others) in {"Without": _FRESH, "With": _REPLAY}.items()
            for other in others
        ),
        Claim("V-trace scores higher with replay than without.", _V_TRACE_REPLAY.folder, _V_TRACE.folder),
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
        "machine": _on_one_machine(_E1),
        "paper": _on_levels(
            tuple(dataclasses.replace(agent, spread=False) for agent in _lags((0, 1, 10, 100, 500))),
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
            for other in ("one_step", "epsilon", "none")
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
        "machine": _on_one_machine(
            tuple(
                dataclasses.replace(agent, folder=agent.folder.replace("table_2", "figure_e2").removesuffix("_replay"))
                for agent in _REPLAY
            ),
            tasks=(one_machine.CATCH,),
            repeats=one_machine.COMBINATIONS,
        ),
        "paper": _on_levels(_REPLAY),
    },
    tuple(
        Claim(
            f"Over all combinations, V-trace scores higher than {_CORRECTIONS[other]}.",
            "figure_e2/v_trace",
            f"figure_e2/{other}",
        )
        for other in ("one_step", "epsilon", "none")
    ),
)

_TARGETS = (
    dataclasses.replace(_V_TRACE, label=r"$r_s + \gamma v_{s+1}$"),
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
    {"machine": _on_one_machine((*_TARGETS, *_TARGETS_REPLAY)), "paper": _on_levels(_TARGETS)},
    (
        Claim(f"{_Q_CLAIM}, without replay.", "table_2/v_trace", "figure_e3/value"),
        Claim(f"{_Q_CLAIM}, with replay.", "table_2/v_trace_replay", "figure_e3/value_replay"),
    ),
)

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
    {"machine": _on_one_machine(_TRUNCATIONS), "paper": _on_levels(_TRUNCATIONS)},
    tuple(
        Claim(
            f"A truncation level of 1 scores higher than one of {level}.",
            "table_2/v_trace_replay",
            f"section_5_2_2/rho_bar_{level}",
        )
        for level in (10, 100)
    ),
)

_FIGURE_4 = "figure_4"
_IMPALA = Agent("IMPALA", "", f"{_FIGURE_4}/impala", {"num_actors": 2, "envs_per_actor": 8, "policy_lag": -1})
_A2C = dataclasses.replace(
    _IMPALA,
    label="Batched A2C",
    folder=f"{_FIGURE_4}/batched_a2c",
    settings={**_IMPALA.settings, "architecture": "batched_a2c_sync_trajectory"},
)
_A3C = Agent(
    "A3C",
    "",
    f"{_FIGURE_4}/a3c",
    # 16 environments, too. The learner has no batches then, which is what the default of --batch_size says.
    {"architecture": "a3c", "num_actors": 4, "envs_per_actor": 4, "batch_size": 32, "policy_lag": -1},
)

FIGURE_4 = Experiment(
    "figure_4",
    "Figure 4: IMPALA, batched A2C and A3C over hyperparameters",
    {
        "machine": _on_one_machine(
            (_IMPALA, _A2C, _A3C), tasks=(one_machine.CATCH,), repeats=one_machine.COMBINATIONS, cores=2
        ),
        "paper": _on_levels(
            (
                dataclasses.replace(_V_TRACE, label="IMPALA - 1 GPU - 200 actors", group=""),
                *(
                    Agent(
                        label,
                        "",
                        f"{_FIGURE_4}/{folder}",
                        {"architecture": architecture, "num_actors": workers},
                        spread,
                    )
                    for label, folder, architecture, workers, spread in (
                        (
                            "Batched A2C - Single Machine - 32 workers",
                            "batched_a2c",
                            "batched_a2c_sync_trajectory",
                            32,
                            False,
                        ),
                        ("A3C - Single Machine - 32 workers", "a3c", "a3c", 32, False),
                        ("A3C - Distributed - 200 workers", "a3c_distributed", "a3c", 200, True),
                    )
                ),
            )
        ),
    },
    tuple(
        Claim(f"{which}, IMPALA scores higher than {other.label}.", _IMPALA.folder, other.folder, best)
        for which, best in {"With the best 3 of the combinations": 3, "Over all combinations": 0}.items()
        for other in (_A2C, _A3C)
    ),
)

ALL = (TABLE_2, FIGURE_E1, FIGURE_E2, FIGURE_E3, SECTION_5_2_2, FIGURE_4)
