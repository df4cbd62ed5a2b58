"""Keeps other libraries' informational messages off the terminal.

`environment()` silences

- TensorFlow's C++ start-up log (oneDNN, missing CUDA drivers, CPU features), by an environment variable that TensorFlow
  reads when it is loaded;
- Gym's notice that it is unmaintained, printed when TF-Agents imports Gym, and the notices of Farama's packages;
- Python's SyntaxWarnings about TF-Agents' source, if it was installed without being compiled, and an old pygame's
  and DeepMind Lab's warning about pkg_resources;
- errors from pygame's search for sound cards, when Gymnasium uses it for rendering.

`native_stderr()` redirects the log of Reverb and XLA, which write to file descriptor 2 unconditionally.

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
    """Silences libraries before they are loaded; `import impala_tf` calls it. Keeps variables that the user has set."""
    os.environ.setdefault(_LEVEL, "3")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if not _show_everything():
        # For warnings from the compiler, the module is the file's path without its suffix.
        warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*\btf_agents\b")
        # From whichever library uses it, such as the old pygame that TF-Agents requires; users cannot act on it.
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        with contextlib.suppress(ImportError):
            # A table {gym version: notice}, from which gym prints at import.
            from gym_notices.notices import notices

            notices.clear()
        with contextlib.suppress(ImportError):
            # The same for Gymnasium, VizDoom and MiniGrid: {package: {version: notice}}.
            from farama_notifications import notifications

            notifications.clear()


def native_stderr(log: pathlib.Path | str) -> None:
    """Redirects native code's standard error to the end of the file `log`; Python's still goes to the terminal.

    Crashes of native code are still reported on the terminal.
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
