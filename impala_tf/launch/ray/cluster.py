"""The Ray cluster of a run: joining it, its processors, placing hosts on it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any

from impala_tf.errors import UserError, one_line
from impala_tf.launch.ray import host

_REACH_SECONDS = 5.0
_INSTALL = '--cluster=ray needs Ray: pip install "impala-tf[ray]".'


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Connects this process to a cluster, and leaves it in the end.

    Args:
      address: host:port of the cluster's head; "auto": the cluster of this machine; "": that of RAY_ADDRESS, as in a
        submitted job, or else one of this machine alone, which is started for the run.

    Raises:
      UserError: Ray is not installed, or the cluster cannot be reached.
    """
    given = address or os.environ.get("RAY_ADDRESS", "")
    try:
        import ray
    except ImportError as error:
        raise UserError(_INSTALL if error.name == "ray" else f"{_INSTALL} ({one_line(error)})") from None
    if given.startswith("ray://"):
        raise UserError(
            f"--address={given}: the run's command must be on a machine of the cluster; start it there with "
            "--address=auto, or with `ray job submit`."
        )
    if ":" in given:
        _reach(given)
    # Ray has no setting for its messages about machines that are lost, which the driver notices itself.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not given:
        quiet |= {"include_dashboard": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=given or "local", namespace="impala_tf", **quiet)
    except Exception as error:  # Ray raises many types.
        cause = error.__cause__ or error  # Ray wraps why it could not connect, such as another version.
        problem = one_line(cause)
        if given == "auto" and isinstance(cause, ConnectionError) and "multiple" not in problem:
            problem = "no cluster runs on this machine; `ray start --head` starts one"
        raise UserError(f"--address={given or 'local'}: the Ray cluster cannot be used: {problem[:300]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises UserError if nothing listens at an address; Ray itself would try for a minute."""
    name, _, port = address.rpartition(":")
    try:
        socket.create_connection((name, int(port)), _REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--address={address}: no Ray cluster can be reached there ({reason}). Give host:port of its head, as "
            "`ray start --head` prints it, or auto."
        ) from None


def machines() -> int:
    """Returns the number of the cluster's machines at this moment."""
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def processors() -> tuple[int, int]:
    """Returns the numbers of CPUs and GPUs of the cluster at this moment, used or not."""
    import ray

    found = ray.cluster_resources()
    return int(found.get("CPU", 0)), int(found.get("GPU", 0))


def place(cpus: int, gpus: int = 0, saves: bool = False, node: str = "") -> Any:
    """Asks for a host, on a machine that has room or, if there is none, as soon as there is one.

    It is placed again for as long as the run goes on, elsewhere if its machine is lost and it may be elsewhere.

    Args:
      cpus, gpus: what it takes of its machine.
      saves: its process has something to save when it is ended. Ray would kill it with its host.
      node: Ray's name of the only machine where it may be; "": any.

    Returns:
      The Ray actor's handle; calls wait until it has been placed.

    Raises:
      UserError: that machine is gone.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if node and not any(known["Alive"] and known["NodeID"] == node for known in ray.nodes()):
        raise UserError("its machine is gone")

    options: dict[str, Any] = {}
    if saves:
        options["runtime_env"] = {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "false"}}
    made = ray.remote(_RayHost).options(
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=-1,
        max_task_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False) if node else "SPREAD",
        **options,
    )
    return made.remote()


class _RayHost(host.Host):
    """A host that knows from Ray where it is."""

    def __init__(self) -> None:
        import ray

        super().__init__(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())
