"""Settings that contradict each other, or that mean nothing together."""

from __future__ import annotations

import math

from impala_tf.config.groups import Config
from impala_tf.config.learning import CORRECTIONS, DataConfig, LossConfig
from impala_tf.config.running import LaunchConfig
from impala_tf.errors import UserError


def check(config: Config) -> None:
    """Raises UserError, which names what to change, for settings that do not go together."""
    _check_inference(config)
    _check_correction(config.loss)
    _check_replay(config.data)
    _check_waiting(config)
    _check_learners(config)
    _check_cluster(config)
    _check_relay(config.launch)
    if config.run.evaluate_video and not config.run.evaluate_every:
        raise UserError("--evaluate_video films evaluations: give --evaluate_every, too.")
    if config.launch.architecture == "a3c":
        _check_a3c(config)
    elif 0 < config.data.queue_size <= config.data.fresh_batch_size:
        fresh = config.data.fresh_batch_size
        raise UserError(
            f"--queue_size={config.data.queue_size}: the queue must hold more than the {fresh} fresh unrolls of a "
            "batch; twice that is usual."
        )


def _check_inference(config: Config) -> None:
    if config.launch.inference == "central" and (config.launch.role != "all" or config.launch.num_actors == 0):
        raise UserError(
            "--inference=central needs the learner and the environments in processes of one machine: remove --role, "
            "and --num_actors=0."
        )


def _check_correction(loss: LossConfig) -> None:
    used = CORRECTIONS.get(loss.correction, CORRECTIONS["v_trace"])  # A user's own may use all of them.
    for name in CORRECTIONS["v_trace"]:
        value, default = getattr(loss, name), getattr(LossConfig, name)
        if value != default and name not in used:
            raise UserError(
                f"--correction={loss.correction} does not use --{name}={value}: remove it, or choose "
                "--correction=v_trace."
            )
    if loss.rho_bar < loss.c_bar:
        raise UserError(
            f"--rho_bar={loss.rho_bar} is below --c_bar={loss.c_bar}; V-trace needs rho_bar >= c_bar (section 4.1): "
            "lower --c_bar, too."
        )


def _check_replay(data: DataConfig) -> None:
    """Checks that a batch consists of whole unrolls, of which at least one is fresh."""
    share, size = data.replay_fraction, data.batch_size
    if not share:
        if data.replay_size != DataConfig.replay_size:
            raise UserError(f"--replay_size={data.replay_size}: there is no replay; give --replay_fraction, too.")
        return
    if size == 1:
        raise UserError(
            "--replay_fraction needs a --batch_size of at least 2: each batch has fresh and replayed unrolls."
        )
    if abs(size * share - round(size * share)) > 0.01 or not 1 <= data.fresh_batch_size < size:
        below = min(max(math.floor(size * share), 1), size - 1)
        near = dict.fromkeys((below, min(below + 1, size - 1)))
        works = " or ".join(f"{replayed / size:.6g} ({replayed} of {size})" for replayed in near)
        raise UserError(
            f"--replay_fraction={share}: with --batch_size={size}, that is {size * share:.4g} replayed unrolls; whole "
            f"unrolls must be replayed, and at least one be fresh. Give {works}."
        )


def _check_waiting(config: Config) -> None:
    """Checks what actors that wait for updates cannot be combined with."""
    launch, lag = config.launch, config.data.policy_lag
    if not config.unrolls_together:
        return
    if lag >= 0 and launch.architecture != "impala":
        raise UserError(
            f"--policy_lag={lag} is a setting of --architecture=impala; --architecture={launch.architecture} has its "
            "own lag: remove one of them."
        )
    if lag >= 0 and launch.inference == "central":
        raise UserError(
            f"--policy_lag={lag} needs the policy in the actors, which then wait for updates: remove "
            "--inference=central."
        )
    flag = f"--policy_lag={lag}" if lag >= 0 else f"--architecture={launch.architecture}"
    if launch.role != "all":
        raise UserError(f"{flag}: learner and actors wait for each other on one machine; remove --role={launch.role}.")
    if lag < 0 and launch.num_actors == 0:
        raise UserError(
            f"{flag} is made of several processes: remove --num_actors=0, or use --policy_lag=0, which computes the "
            "same in one."
        )


def _check_cluster(config: Config) -> None:
    launch, lag = config.launch, config.data.policy_lag
    if launch.cluster == "none":
        return
    waits = "learner and actors wait for each other on one machine"
    refused = (
        (launch.role != "all", f"--role={launch.role}", "it starts all roles, where there is room"),
        (launch.num_actors == 0, "--num_actors=0", "it needs actor processes"),
        (launch.inference == "central", "--inference=central", "learner and environments must share a machine"),
        (lag >= 0, f"--policy_lag={lag}", waits),
        (launch.architecture.startswith("batched_a2c"), f"--architecture={launch.architecture}", waits),
        (launch.port != 0, f"--port={launch.port}", "it chooses free ports"),
    )
    for wrong, flag, reason in refused:
        if wrong:
            raise UserError(f"--cluster={launch.cluster} does not go with {flag}: {reason}.")


def _check_learners(config: Config) -> None:
    """Checks what several learners cannot be combined with, and how one of them is started by hand."""
    launch, count = config.launch, config.launch.num_learners
    addresses = [address.strip() for address in launch.learners.split(",")] if launch.learners else []
    if count == 1:
        if addresses or launch.learner_id:
            flag = "--learners" if addresses else f"--learner_id={launch.learner_id}"
            raise UserError(f"{flag} is for several learners: give --num_learners, too, or remove it.")
        return
    flag = f"--num_learners={count}"
    refused = (
        (launch.architecture != "impala", f"--architecture={launch.architecture}", "it has one learner"),
        (config.data.policy_lag >= 0, f"--policy_lag={config.data.policy_lag}", "its actors wait for one learner"),
        (launch.inference == "central", "--inference=central", "the policy then runs in one learner's process"),
        (launch.num_actors == 0, "--num_actors=0", "each learner is a process"),
    )
    for wrong, other, reason in refused:
        if wrong:
            raise UserError(f"{flag} does not go with {other}: {reason}.")
    if launch.role == "all" and 0 < launch.num_actors < count:
        raise UserError(f"{flag}: each learner needs an actor of its own; set --num_actors to at least {count}.")
    if launch.role != "learner":
        return
    if len(addresses) != count or not all(addresses):
        raise UserError(
            f"--role=learner with {flag} needs --learners, host:port of each of the {count} learners, separated by "
            f"commas, in the same order everywhere; it names {len(addresses)}."
        )
    if launch.learner_id >= count:
        raise UserError(f"--learner_id={launch.learner_id}: the {count} learners are numbered from 0.")


def _check_relay(launch: LaunchConfig) -> None:
    if launch.relay and launch.role != "actor":
        raise UserError(
            f"--relay={launch.relay} says where an actor started by hand pulls parameters from: remove it, or add "
            "--role=actor."
        )
    if launch.relays and launch.cluster == "none":
        raise UserError(
            "--relays is for --cluster=ray: add that, or remove it and start a relay on each machine by hand, with "
            "--role=relay."
        )
    if launch.architecture == "a3c" and (launch.relay or launch.relays or launch.role == "relay"):
        flag = "--relay" if launch.relay else "--relays" if launch.relays else "--role=relay"
        raise UserError(
            "--architecture=a3c goes without a relay, as its actors wait for parameters that their gradients have "
            f"changed: remove {flag}."
        )


def _check_a3c(config: Config) -> None:
    default, data, launch = DataConfig.batch_size, config.data, config.launch
    batch_size = (
        f"its updates take one unroll of each environment of an actor; add --batch_size={default}, which it ignores"
    )
    refused = (
        (launch.inference == "central", "--inference=central", "its actors run the policy themselves"),
        (launch.num_actors == 0, "--num_actors=0", "it needs actor processes"),
        (data.batch_size != default, f"--batch_size={data.batch_size}", batch_size),
        (data.prefetch != DataConfig.prefetch, f"--prefetch={data.prefetch}", "the next gradient is always prefetched"),
        (data.replay_fraction > 0, f"--replay_fraction={data.replay_fraction}", "its actors learn from fresh unrolls"),
    )
    for wrong, flag, reason in refused:
        if wrong:
            raise UserError(f"--architecture=a3c does not go with {flag}: {reason}.")
