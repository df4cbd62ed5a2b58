"""New processes, forked from one that has imported TensorFlow and Reverb.

The imports take seconds of a core; the fork server of `multiprocessing` makes them once for all processes, and again
for none that is restarted. TensorFlow may be forked after it is imported, not after it has computed anything.
"""

from __future__ import annotations

import multiprocessing

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["impala_tf.runtime.training", "impala_tf.runtime.acting"])
