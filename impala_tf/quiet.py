"""Keeps other libraries' informational messages off the user's terminal.

They reach standard error by several ways:

- TensorFlow's C++ start-up log (oneDNN, missing CUDA drivers, CPU features): read from the environment when TensorFlow
  is loaded; `environment()`.
- Gym's notice that it is unmaintained, printed when TF-Agents imports it, and the notices of Farama's packages:
  `environment()`.
- Python's SyntaxWarnings about TF-Agents' source, where it was installed without being compiled, and an old pygame's
  warning about pkg_resources: `environment()`.
- A search for sound cards when pygame, which draws some of Gymnasium's environments, starts: `environment()`.
- Reverb's and XLA's lines, written to file descriptor 2 without any switch; `native_stderr()`.

TF_CPP_MIN_LOG_LEVEL=0 in the environment shows everything.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pathlib
import sys
import warnings

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def environment() -> None:
    """Sets what the libraries read when they are loaded; `import impala_tf` calls it. What the user has set stays."""
    os.environ.setdefault(_LEVEL, "3")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if not _show_everything():
        # For a file that is being compiled, the module is its path without the ending.
        warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*\btf_agents\b")
        # pygame of TF-Agents' time, which MiniGrid and VizDoom import; nobody here can do anything about it.
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", module=r"pygame\b")
        with contextlib.suppress(ImportError):
            # A table {gym's version: notice} in a package without code of its own; gym prints what it finds there.
            from gym_notices.notices import notices

            notices.clear()
        with contextlib.suppress(ImportError):
            # The same for Gymnasium, VizDoom and MiniGrid: {package: {version: notice}}.
            from farama_notifications import notifications

            notifications.clear()


def native_stderr(log: pathlib.Path | str) -> None:
    """From now on, what native code writes to standard error is appended to `log`; Python's still goes to the terminal.

    The crash of a native library is reported on the terminal all the same.
    """
    if _show_everything():
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    faulthandler.enable(sys.stderr)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 2)


def _show_everything() -> bool:
    return os.environ.get(_LEVEL) == "0"
