"""Architectures, networks and many tasks: IMPALA against A3C and batched A2C (sections 5.1, 5.2.1 and 5.3)."""

from __future__ import annotations

import dataclasses

from impala_tf.experiments.catalogue import one_machine, paper
from impala_tf.experiments.catalogue.corrections import V_TRACE
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid
from impala_tf.experiments.catalogue.usual import on_levels, on_one_machine

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
# Added when the others had been trained: A3C was ahead, whose updates are on 4 unrolls each, so it has 4 times as many.
_IMPALA_SMALL = dataclasses.replace(
    _IMPALA,
    label="IMPALA, batches of 4",
    folder=f"{_FIGURE_4}/impala_batch_4",
    settings={**_IMPALA.settings, "batch_size": 4},
)

FIGURE_4 = Experiment(
    "figure_4",
    "Figure 4: IMPALA, batched A2C and A3C over hyperparameters",
    {
        "machine": on_one_machine(
            (_IMPALA, _A2C, _A3C, _IMPALA_SMALL), tasks=(one_machine.CATCH,), repeats=one_machine.COMBINATIONS, cores=2
        ),
        "paper": on_levels(
            (
                dataclasses.replace(V_TRACE, label="IMPALA - 1 GPU - 200 actors", group=""),
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
    # None about batched A2C: in the paper, IMPALA is ahead of it on two of the five levels only.
    tuple(
        Claim(f"{which}, IMPALA scores higher than A3C.", _IMPALA.folder, _A3C.folder, best)
        for which, best in {"With the best 3 of the combinations": 3, "Over all combinations": 0}.items()
    ),
)

_DMLAB30 = {
    "impala_deep": Agent("IMPALA, deep", "", "figure_5/impala_deep", {}, spread=True, together=True),
    "impala_shallow": Agent(
        "IMPALA, shallow",
        "",
        "figure_5/impala_shallow",
        {"torso": "shallow", "num_actors": 210},
        spread=True,
        together=True,
    ),
    "impala_experts_deep": Agent("IMPALA-Experts, deep", "", "figure_5/impala_experts_deep", {}, spread=True),
    "a3c_deep": Agent(
        "A3C, deep",
        "",
        "figure_5/a3c_deep",
        # As many workers for each level: 200 cannot share 30 levels evenly.
        {"architecture": "a3c", "num_actors": 210},
        spread=True,
        together=True,
    ),
}

_TOGETHER = Agent("IMPALA", "", "figure_5/impala", {}, together=True)
_EXPERTS = Agent("IMPALA-Experts", "", "figure_5/impala_experts", {})

FIGURE_5 = Experiment(
    "figure_5",
    "Figures 5, 6, B.1 and F.1: one agent for all tasks",
    {
        "machine": Grid(
            (_TOGETHER, _EXPERTS),
            one_machine.atari(3, 700_000),
            one_machine.SEEDS,
            "atari_shallow",
            one_machine.ATARI_SETTINGS,
            cores=2,
        ),
        "paper": Grid(
            tuple(_DMLAB30.values()),
            paper.DMLAB30,
            one_machine.COMBINATIONS,
            "dmlab30_deep",
            {"num_actors": 150, "envs_per_actor": 1},
        ),
    },
    # On DMLab-30, the paper finds the opposite (Figure 5). One machine has Atari, where Table 4 has medians of 192% for
    # the experts and 60% for the agent that learned all games, with as many frames of each.
    claims=(
        Claim(
            "On Atari, at equal frames of each game, experts score higher than one agent for all games (Table 4).",
            _EXPERTS.folder,
            _TOGETHER.folder,
        ),
    ),
    otherwise="the two populations: impala-pbt --setup=dmlab30_deep --output=runs/paper/figure_5/impala_deep_pbt, and "
    "the same with --num_learners=8 --num_actors=200 --member_gpus=8 and _8_gpus",
    populations={
        "IMPALA, deep, PBT - 8 GPUs": "figure_5/impala_deep_pbt_8_gpus",
        "IMPALA, deep, PBT": "figure_5/impala_deep_pbt",
    },
)

_EXPERTS_ON_ATARI = tuple(
    Agent(f"{name}, {torso}, experts", "", f"table_4/{architecture}_{torso}", {**settings, "torso": torso}, spread=True)
    for name, architecture, settings in (
        ("A3C", "a3c", {"architecture": "a3c", "envs_per_actor": 1}),
        ("IMPALA", "impala", {}),
    )
    for torso in ("shallow", "deep")
)

# Added when the others had been trained: without a GPU, the deep network's learner is so slow that its policy lag is 7
# updates, against 1 with the shallow one.
_SHALLOW_WITH_LAG = dataclasses.replace(
    _EXPERTS_ON_ATARI[2],
    label="IMPALA, shallow, lag 7",
    folder="table_4/impala_shallow_lag",
    settings={**_EXPERTS_ON_ATARI[2].settings, "policy_lag": 7, "envs_per_actor": 16},  # A batch of unrolls at once.
)

TABLE_4 = Experiment(
    "table_4",
    "Tables 4 and C.1: Atari, shallow and deep networks",
    {
        "machine": Grid(
            (*_EXPERTS_ON_ATARI[2:], _SHALLOW_WITH_LAG),
            one_machine.atari(2, 400_000),
            one_machine.SEEDS,
            "atari_deep",
            one_machine.ATARI_SETTINGS,
            cores=2,
        ),
        "paper": Grid(
            _EXPERTS_ON_ATARI,
            paper.ATARI57,
            {"1": {"seed": 1}},
            "atari_deep",
        ),
    },
    claims=(
        Claim("The deep network scores higher than the shallow one.", "table_4/impala_deep", "table_4/impala_shallow"),
    ),
    otherwise="the multi-task agent: impala-pbt --setup=atari57_deep --output=runs/paper/table_4/multi_task",
    populations={"IMPALA, deep, multi-task": "table_4/multi_task"},
)

TABLE_1 = Experiment(
    "table_1",
    "Table 1: throughput",
    {},
    otherwise="on one machine, impala-benchmark --env=atari/breakout --table; the paper's, impala-benchmark "
    "--setup=dmlab_shallow --env=dmlab/seekavoid_arena_01 --table --repeats=10, and with rooms_keys_doors_puzzle",
)

ALL = (FIGURE_4, FIGURE_5, TABLE_4, TABLE_1)
