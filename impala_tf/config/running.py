"""Settings of a run: what it writes, for how long it trains, and which processes it has."""

from __future__ import annotations

from dataclasses import dataclass

from impala_tf.config.setting import LONGEST, setting


@dataclass(frozen=True)
class RunConfig:
    """What the run writes, how often, and for how long."""

    logdir: str = setting(
        "",
        "Folder of the run: checkpoints, logs, learning curve. Starting again with the same folder resumes the run.",
        path=True,
    )
    total_frames: int = setting(200_000_000, "Environment frames to train for.", at_least=1)
    seed: int = setting(1, "Seed of the initial weights, the environments and the actions.", at_least=0, fixed=True)
    checkpoint_interval: float = setting(60.0, "Seconds between checkpoints.", at_least=0.1, at_most=LONGEST)
    checkpoints_kept: int = setting(3, "Checkpoints kept.", at_least=1)
    export_every: int = setting(
        0,
        "Environment frames between SavedModels, which are written with the next checkpoint to exports/ in the run's "
        "folder and kept. 1: with every checkpoint; 0: none.",
        at_least=0,
    )
    evaluate_every: int = setting(
        0,
        "Environment frames between evaluations of the newest SavedModel, in a process of its own that takes a core. "
        "Without --export_every, SavedModels are written at this interval, too. 0: none.",
        at_least=0,
    )
    evaluate_episodes: int = setting(20, "Episodes per task in an evaluation; 0: the paper's number.", at_least=0)
    evaluate_video: bool = setting(
        False, "With --evaluate_every: film the first episodes of each evaluation, of the first task."
    )
    log_interval: float = setting(10.0, "Seconds between progress lines and log rows.", at_least=0.1, at_most=LONGEST)


@dataclass(frozen=True)
class LaunchConfig:
    """Which processes there are, where they run, and how long they wait for each other."""

    architecture: str = setting(
        "impala",
        "How acting and learning are distributed (Table 1). impala: actors and the learner do not wait for each other. "
        "batched_a2c_sync_step: one policy acts for all environments once the last has answered. "
        "batched_a2c_sync_trajectory: actors wait after each unroll for the update on it. "
        "a3c: actors compute gradients, which the learner applies one at a time.",
        choices=("impala", "batched_a2c_sync_step", "batched_a2c_sync_trajectory", "a3c"),
        fixed=True,
    )
    cluster: str = setting(
        "none",
        "Where the run's processes are. none: on this machine, unless --role says otherwise. ray: on a Ray cluster, "
        "which --address names; learners and actors that are lost are started again. --logdir must be on storage that "
        "its machines share.",
        choices=("none", "ray"),
    )
    role: str = setting(
        "all",
        "Which processes this command runs. all: learner and actors on this machine. learner, actor: only that one, "
        "for runs across machines. relay: passes the learner's parameters on to the actors of its machine.",
        choices=("all", "learner", "actor", "relay"),
    )
    num_learners: int = setting(
        1,
        "Learners (section 3). Each draws batches of batch_size unrolls from its own actors; an update sums the "
        "gradients of all, as if one learner had drawn a batch num_learners times as large.",
        at_least=1,
        fixed=True,
    )
    num_actors: int = setting(
        -1,
        "Actor processes of the run; -1: one per core, with --cluster of the cluster without those of the learners (an "
        "actor started by hand asks its learner); 0: everything in one process, for a debugger.",
        at_least=-1,
    )
    envs_per_actor: int = setting(
        0,
        "Environments per actor, stepped as a batch; 0: 12, up to 24 with few actors, or less with very many (an actor "
        "started by hand asks its learner); 1 in a3c, where a gradient is that of one unroll of each; where all wait "
        "for an update on one unroll of each, a batch's unrolls divided among the actors.",
        at_least=0,
    )
    inference: str = setting(
        "actor",
        "Where the policy runs. actor: in every actor process, for its own environments. central: in the learner's "
        "process, in batches, for the environments of all actor processes of this machine, which then only step "
        "environments. With batched_a2c_sync_step it is there anyway.",
        choices=("actor", "central"),
    )
    address: str = setting(
        "",
        "With --role=actor: host:port of the learner that it sends to. With --role=relay: of that it pulls from. With "
        "--cluster=ray: host:port of the cluster's head; auto: the cluster that this machine belongs to; empty: that "
        "of RAY_ADDRESS, as in a submitted job, or else one that is started on this machine for the run.",
    )
    relay: str = setting(
        "", "With --role=actor: host:port of the relay that it pulls parameters from; empty: from the learner."
    )
    relays: bool = setting(
        False,
        "With --cluster=ray: each machine of actors has a relay, which pulls parameters from a learner for them all.",
    )
    relay_rate: float = setting(
        10.0,
        "With --role=relay, or --relays: how many times a second a relay looks for new parameters and passes them on, "
        "at most. Between two of them, its actors play with the last, which adds to the policy lag.",
        at_least=1,
        at_most=1000,
    )
    learner_id: int = setting(
        0,
        "With --role=learner and several learners: the number of this one, from 0. Learner 0 writes the run's folder.",
        at_least=0,
    )
    learners: str = setting(
        "",
        "With --role=learner and several learners: host:port of each, in order and separated by commas, where they "
        "exchange gradients. These are not the ports of --port, where actors send unrolls.",
    )
    port: int = setting(
        0,
        "Port of the learner's, or the relay's, Reverb server; 0: a free one. Reverb speaks plain gRPC on every "
        "interface, without encryption or password: keep the port inside a network that you trust.",
        at_least=0,
        at_most=65535,
    )
    actor_id: int = setting(
        0, "With --role=actor: the number of this actor, from 0; every actor needs its own.", at_least=0
    )
    xla: str = setting("auto", "Compile the learner with XLA. auto: on a GPU.", choices=("auto", "on", "off"))
    learner_threads: int = setting(
        0,
        "Intra-op threads of the learner; 0: half of the cores, or all of them if actors wait for its updates.",
        at_least=0,
    )
    actor_threads: int = setting(1, "Intra-op threads of each actor's inference.", at_least=1)
    connect_timeout: float = setting(
        45.0, "Seconds after which an actor gives up on a learner that does not answer.", at_least=1, at_most=LONGEST
    )
    stall_timeout: float = setting(
        300.0,
        "Seconds without new unrolls (or gradients, in a3c), or without the publication of parameters that others wait "
        "for, after which the learner saves and ends the run with an error; seconds without a sign of life after which "
        "the learner is killed, which ends the run. An actor is replaced after half of this time. While they start, "
        "both have at least 600.",
        at_least=1,
        at_most=LONGEST,
    )
