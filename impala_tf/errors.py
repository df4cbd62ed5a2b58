"""Errors that a user can act on."""


class UserError(Exception):
    """What went wrong and what to do about it, in one line; shown without a traceback.

    Raise it for bad input: flags, environment ids, log directories, addresses, missing packages.
    """
