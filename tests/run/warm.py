"""Runs commands in forks of a process that has imported TensorFlow, which takes half of the time of a short run.

Such a command is a process like any other, with arguments, environment, folder and output of its own; so are the fork
server and the commands (`impala_tf.processes.command`) that it starts. Only /proc/<pid>/cmdline is not theirs. Tests of
what happens while a command starts have it started as users do.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import multiprocessing.forkserver
import multiprocessing.util
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from typing import Any, NoReturn

from impala_tf.processes import command, imports, signals
from impala_tf.processes.lifeline import hold

MARK = "IMPALA_TF_TEST"
"""The variable of the environment by whose value, 36 characters, `conftest.running` finds a command's processes."""
_MODULES = ("impala_tf.roles.learner", "impala_tf.roles.actor", "impala_tf.roles.a3c_worker")
_LATER = ("pandas", "matplotlib.figure", "matplotlib.backends.backend_agg")
"""What a command imports for its picture, when TensorFlow, from which some of it is hidden, has been imported."""
ADDRESS = "IMPALA_TF_WARM"
"""The variable of the environment that tells `forking/sitecustomize.py` the process's address."""
_START_SECONDS, _ALONE_SECONDS = 20.0, 1.0


class Warm:
    """The process that is forked: one for all workers of pytest. It ends once nobody is connected any more.

    Attributes:
      address: its name.
    """

    def __init__(self) -> None:
        self.address = f"impala_tf_warm_{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
        self._channel = _new_socket()
        deadline = time.monotonic() + _START_SECONDS
        while self._channel.connect_ex(f"\0{self.address}"):
            assert time.monotonic() < deadline, "the process that is forked cannot be started"
            self._launch()

    def _launch(self) -> None:
        """Starts the process, unless another worker is starting it."""
        with _new_socket() as listener:
            try:
                listener.bind(f"\0{self.address}")
            except OSError:
                time.sleep(0.01)
                return
            listener.listen()
            subprocess.run(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # No terminal, so that commands write to files as they do otherwise.
                env={**os.environ, MARK: 36 * "-"},
                pass_fds=[listener.fileno()],
                timeout=_START_SECONDS,
                check=True,
            )

    def start(
        self,
        line: Sequence[str],
        output: Sequence[int],
        cwd: pathlib.Path,
        env: dict[str, str],
        group: bool,
    ) -> Command:
        """Runs `python -m module` or `python -c code`.

        Args:
          line: "-m" and the module's name, or "-c" and the code; then its arguments.
          output: the files that become standard output and standard error.
          cwd, env: its working directory and environment.
          group: whether it leads a session.
        """
        return _ask(self._channel, line, output, str(cwd), env, group)

    def close(self) -> None:
        """Disconnects; the commands go on."""
        self._channel.close()


class Command:
    """A command that runs in a fork: what tests need of `subprocess.Popen`."""

    def __init__(self, reader: int):
        """
        Args:
          reader: a pipe from which come the process id and, at the end, the exit status, a line each.
        """
        self._lines = open(reader, "rb", buffering=0)  # noqa: SIM115 - open until the command has ended
        line = self._lines.readline()
        assert line, "the process that is forked has ended; its error is on pytest's standard error"
        self.pid = int(line)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._lines], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._lines.readline())
            self._lines.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _ask(
    channel: socket.socket, line: Sequence[str], files: Sequence[int], cwd: str, env: dict[str, str], group: bool
) -> Command:
    """Sends a request. After the two files of its output, the command may get its lifeline."""
    reader, writer = os.pipe()
    request = {"line": list(line), "cwd": cwd, "env": env, "group": group}
    socket.send_fds(channel, [json.dumps(request).encode()], [*files[:2], writer, *files[2:]])
    os.close(writer)
    return Command(reader)


def _serve(listener: socket.socket) -> tuple[dict, list[int]]:
    """Forks for every request, and reports how the forks end; returns the request and its files in a fork only."""
    connected: list[socket.socket] = []
    running: dict[int, tuple[int, int]] = {}
    while True:
        waiting = [listener, *connected, *running]
        ready = select.select(waiting, [], [], None if connected else _ALONE_SECONDS)[0]
        if not ready:
            os._exit(0)
        for each in ready:
            if each in running:
                pid, writer = running.pop(each)
                os.close(each)
                _report(writer, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(writer)
                continue
            if each is listener:
                connected.append(listener.accept()[0])
                continue
            message, files, *_ = socket.recv_fds(each, 1 << 16, 4)
            if not message:
                connected.remove(each)
                each.close()
                continue
            pid = os.fork()
            if not pid:
                return json.loads(message), files
            writer = files.pop(2)
            running[os.pidfd_open(pid)] = pid, writer
            _report(writer, pid)
            for file in files:
                os.close(file)


def _report(writer: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # The test has ended.
        os.write(writer, b"%d\n" % number)


def _become(request: dict, files: list[int], address: str) -> None:
    """Makes this fork a process that has just been started with a line; at the address, it can start commands."""
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    lifeline = files[3] if files[3:] else 2
    os.closerange(3, lifeline)
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    if request["group"]:
        os.setsid()
    if files[3:]:
        hold(lifeline, signal.SIGTERM)
    os.chdir(request["cwd"])
    _keep_spare()
    _set_environment(request["env"])
    sys.path[:1] = [request["cwd"], *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = request["line"][2:]
    start_commands_at(address)


def _set_environment(variables: dict[str, str]) -> None:
    # The kernel shows the variables with which a process was started: the mark is changed in their place.
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    ctypes.memmove(getenv(MARK.encode()), variables[MARK].encode(), 36)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # Is found again, from TMPDIR.


def start_commands_at(address: str) -> None:
    """Has the package's commands that this process starts run in forks, too; other programs are started as usual."""

    def popen(line: list[str], **options: Any) -> Command | subprocess.Popen:
        program = line[len(command.HELD) + 1 :]
        if program[:2] != [sys.executable, "-m"]:
            return subprocess.Popen(line, **options)
        output = options["stdout"].fileno()
        with _new_socket() as channel:
            channel.connect(f"\0{address}")
            files = [output, output, *options["pass_fds"]]
            return _ask(channel, program[1:], files, os.getcwd(), dict(os.environ), options["start_new_session"])

    command.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})  # type: ignore[attr-defined]


def _keep_spare() -> None:
    """Has this command's first fork server be a fork of what the process is now; others are started as usual."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with signals.blocked():
        pid = os.fork()
        if not pid:
            ours.close()
            _become_fork_server(its)
    its.close()
    spawn, spare = multiprocessing.util.spawnv_passfds, [ours]

    def spawnv_passfds(path: bytes, arguments: list[str], files: Sequence[int]) -> int:
        if not spare or "multiprocessing.forkserver" not in arguments[-1]:
            return spawn(path, arguments, files)
        with spare.pop() as channel:
            socket.send_fds(channel, [json.dumps(dict(os.environ)).encode()], files)
        return pid

    multiprocessing.util.spawnv_passfds = spawnv_passfds


def _become_fork_server(channel: socket.socket) -> NoReturn:
    """Waits until the command needs a fork server, or has ended."""
    message, files, *_ = socket.recv_fds(channel, 1 << 16, 2)
    if message:
        channel.close()
        _set_environment(json.loads(message))
        with contextlib.suppress(SystemExit):
            multiprocessing.forkserver.main(*files, preload=[])
    os._exit(0)


def main() -> None:
    """Serves; in a fork, runs the command."""
    if os.fork():
        os._exit(0)  # No worker's tests shall find the commands of another among their own descendants.
    sys.path[0] = str(pathlib.Path(__file__).parents[2])
    imports.begin()
    for module in _MODULES:
        importlib.import_module(module)
    imports.done()
    for module in _LATER:
        importlib.import_module(module)
    imports.done()  # Collects nothing of these, either.
    listener = socket.socket(fileno=int(sys.argv[1]))
    address = listener.getsockname()[1:].decode()
    with listener:  # Closed in a fork, before what it becomes.
        request, files = _serve(listener)
    _become(request, files, address)
    how, what, *_ = request["line"]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0], sys.modules["__main__"] = how, types.ModuleType("__main__")
        exec(what, vars(sys.modules["__main__"]))


if __name__ == "__main__":
    main()
