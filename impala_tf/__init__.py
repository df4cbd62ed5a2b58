"""IMPALA (Espeholt et al., 2018) in TensorFlow 2: actors, Reverb, and a V-trace learner.

Importing this package imports neither TensorFlow nor Reverb. It checks that the installed libraries are compatible
(`impala_tf.versions`), silences their start-up messages (`impala_tf.quiet`), and lets processes share a GPU.
"""

import os

from impala_tf import quiet, versions

__version__ = "0.1.0"

versions.check()
quiet.environment()
# By default, the first process that uses a GPU takes all of its memory: a learner would leave nothing for an
# evaluation, another run or the parts of a benchmark. TensorFlow reads this when it first uses the GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
