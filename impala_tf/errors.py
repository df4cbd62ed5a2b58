"""Errors that the user can act on."""


class UserError(Exception):
    """An error whose message says in one line what went wrong and what to do; shown without a traceback.

    Raise it for bad input: flags, environment ids, log directories, addresses, missing packages.
    """


class LearnerLost(UserError):
    """A learner of the run has died or cannot be reached: another learner, or that of an actor."""


def one_line(error: BaseException) -> str:
    """Formats an exception as one line; omits the type for `UserError`."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
