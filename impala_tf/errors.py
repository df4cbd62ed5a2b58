"""Errors that a user can act on."""


class UserError(Exception):
    """What went wrong and what to do about it, in one line; shown without a traceback.

    Raise it for bad input: flags, environment ids, log directories, addresses, missing packages.
    """


def one_line(error: BaseException) -> str:
    """An exception of whoever's code for a message to the user, who needs no type where the text is made for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
