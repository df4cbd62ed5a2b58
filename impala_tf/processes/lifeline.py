"""A pipe that hangs up when a process's parent ends, however it ends: the kernel signals the process then, on Linux.

The parent has the writing end, and the process the reading end. Unlike a thread that watches the parent, this needs no
interpreter, whose lock an environment may never release; unlike PR_SET_PDEATHSIG, it also reaches engines that are
programs of their own, and does not take the end of the thread that started the process for the end of the parent.

As a program of its own, without the package: `lifeline.py <reading end> <program> <arguments>` becomes that program,
which gets SIGTERM then.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

_F_SETSIG = 10  # Linux's; Python has no name for it before 3.13.


def hold(lifeline: int, sig: int, group: bool = False) -> None:
    """Has the kernel signal this process when its parent has ended, also if it has ended already; on Linux only.

    Args:
      lifeline: reading end, which must stay open. It goes on working in another program that takes this one's place.
      sig: the signal.
      group: signal the whole process group, which this process must lead.
    """
    if sys.platform != "linux":
        return
    target = -os.getpid() if group else os.getpid()
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, target)
    fcntl.fcntl(lifeline, _F_SETSIG, sig)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    hung_up = select.poll()  # Unlike `select.select`, for any number of open files.
    hung_up.register(lifeline, select.POLLHUP)
    if hung_up.poll(0):  # The parent ended before this.
        os.kill(target, sig)


def _main(lifeline: str, *line: str) -> None:
    os.set_inheritable(int(lifeline), True)
    hold(int(lifeline), signal.SIGTERM)
    try:
        os.execvp(line[0], line)
    except OSError as error:
        sys.exit(f"ERROR: {line[0]} could not be started: {error.strerror}.")


if __name__ == "__main__":
    _main(*sys.argv[1:])
