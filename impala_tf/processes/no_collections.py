"""Importing this turns garbage collections off: for the imports of the fork server (see `imports`)."""

import gc

gc.disable()
