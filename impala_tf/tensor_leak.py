"""Stops TensorFlow 2.15 from leaking memory with every tensor on Python 3.11.

On Python 3.11, each new EagerTensor gets 16 bytes for attributes, which TensorFlow's destructor, written for earlier
versions of Python, never frees (https://github.com/tensorflow/tensorflow/issues/62551). At 700 tensors a second, that
is a gigabyte a day.

Python allocates these bytes only for types whose `tp_dictoffset` is not 0. `stop` sets it to 0. Where the attributes of
a tensor are kept follows from another field of the type, so they still work; their dictionary is then made when the
first one is set.
"""

from __future__ import annotations

import ctypes
import sys

_DICTOFFSET = 36  # Position of tp_dictoffset among the words of a PyTypeObject in 64-bit CPython 3.11.
_MANAGED_DICT = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: attributes are kept before the object, wherever tp_dictoffset points.


def stop() -> bool:
    """Stops the leak in this process; returns whether it was there. Calling it again does nothing.

    Imports TensorFlow.
    """
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11) or sys.maxsize < 2**32:
        return False
    from tensorflow.python.framework.ops import EagerTensor

    if not EagerTensor.__flags__ & _MANAGED_DICT or not EagerTensor.__dictoffset__:
        return False
    field = ctypes.c_ssize_t.from_address(id(EagerTensor) + _DICTOFFSET * ctypes.sizeof(ctypes.c_ssize_t))
    if field.value != EagerTensor.__dictoffset__:  # A build of Python that lays out types differently.
        return False
    field.value = 0
    return True
