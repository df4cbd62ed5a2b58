"""Clusters made with `ray start`: one that takes jobs, and one of machines with addresses of their own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

from clusters import FAST, PYTHONPATH, running
from watched import Run

RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command `ray`."""


class Head:
    """A cluster of one node that takes jobs."""

    def __init__(self, run: Run, folder: pathlib.Path):
        ports = [free_port() for _ in range(4)]
        self.address, self.url = f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        self._environment = {**os.environ, **run.environment, "PYTHONPATH": PYTHONPATH}
        self._process = subprocess.Popen(
            [
                *RAY,
                *("start", "--head", "--block", "--num-cpus=3", "--include-dashboard=true", "--disable-usage-stats"),
                *(f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--ray-client-server-port={ports[2]}"),
                *(f"--dashboard-agent-listen-port={ports[3]}", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"),
                *(f"--{name}-port={free_port()}" for name in ("metrics-export", "runtime-env-agent")),
                f"--object-store-memory={80 << 20}",
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._run = run

    def _do(self, *arguments: str) -> str:
        done = subprocess.run(
            [*RAY, "job", arguments[0], f"--address={self.url}", *arguments[1:]],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    def submit(self, run: Run) -> str:
        command = [sys.executable, "-m", "run.train", *run.flags, "--total_frames=1000000000000"]
        for _ in range(40):
            said = self._do("submit", "--no-wait", "--", *command)
            if found := re.search(r"Job '(\w+)' submitted", said):
                return found[1]
            time.sleep(2)
        raise SystemExit(f"ERROR: the job could not be submitted\n{said}")

    def logs(self, job_id: str) -> str:
        return self._do("logs", job_id)

    def stop(self, job_id: str) -> None:
        self._do("stop", "--no-wait", job_id)

    def kill(self) -> None:
        """Kills the head's own processes, and its command; those of its workers have to notice."""
        names = ("raylet", "gcs_server", "python", "ray")
        for pid, comm in running(self._run.mark).items():
            if comm.startswith(names) and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Machines:
    """Three machines with addresses of their own, on one network: network namespaces, which only root can make.

    The first is the head, without CPUs; the command runs there. A machine whose Ray has ended starts it again, as
    systemd or Kubernetes would.
    """

    def __init__(self, run: Run, folder: pathlib.Path):
        self.address, self._run, self._folder = "10.77.0.1:6379", run, folder
        self._tag = uuid.uuid4().hex[:6]
        self._bridge = f"br{self._tag}"
        self._ended = threading.Event()
        _do("ip", "link", "add", self._bridge, "type", "bridge")
        _do("ip", "link", "set", self._bridge, "up")
        for number in (1, 2, 3):
            name = self.name(number)
            _do("ip", "netns", "add", name)
            _do("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _do("ip", "link", "set", f"v{name}", "master", self._bridge, "up")
            for line in (f"addr add 10.77.0.{number}/24 dev eth0", "link set eth0 up", "link set lo up"):
                _do("ip", "-n", name, *line.split())
        self._threads = [threading.Thread(target=self._keep_up, args=(n,)) for n in (1, 2, 3)]
        for thread in self._threads:
            thread.start()
            time.sleep(8)

    def name(self, number: int) -> str:
        return f"m{number}{self._tag}"

    def inside(self, number: int) -> list[str]:
        """What a command is preceded by to run on a machine; each has a /tmp/ray of its own."""
        own = self._folder / f"machine{number}"
        own.mkdir(exist_ok=True)
        mounted = f'mkdir -p /tmp/ray && mount --bind {own} /tmp/ray && exec "$@"'
        return ["ip", "netns", "exec", self.name(number), "unshare", "-m", "sh", "-c", mounted, "sh"]

    def _keep_up(self, number: int) -> None:
        head = ("--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
        role = head if number == 1 else (f"--address={self.address}", "--num-cpus=3")
        common = (f"--node-ip-address=10.77.0.{number}", f"--object-store-memory={80 << 20}")
        settings = {f"RAY_{name}": str(value) for name, value in FAST.items()}
        while not self._ended.is_set():
            with open(self._folder / f"machine{number}.log", "ab") as log:
                process = subprocess.Popen(
                    [*self.inside(number), *RAY, "start", "--block", *role, *common],
                    env={**os.environ, **self._run.environment, **settings, "PYTHONPATH": PYTHONPATH},
                    stdout=log,
                    stderr=log,
                )
            while process.poll() is None and not self._ended.wait(0.5):
                pass
            self._ended.wait(1.0)

    def cut(self, number: int, seconds: float) -> None:
        """Takes a machine's link down for a while; does not wait."""
        link = f"v{self.name(number)}"
        _do("ip", "link", "set", link, "down")
        threading.Timer(seconds, lambda: _do("ip", "link", "set", link, "up")).start()

    def close(self) -> None:
        self._ended.set()
        self._run.close()
        for thread in self._threads:
            thread.join(10)
        for number in (1, 2, 3):
            _do("ip", "netns", "del", self.name(number))
        _do("ip", "link", "del", self._bridge)


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
