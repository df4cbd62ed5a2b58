"""IMPALA (Espeholt et al., 2018) in TensorFlow 2: actors, Reverb, and a V-trace learner.

Importing this package imports neither TensorFlow nor Reverb. It checks that the installed libraries are compatible
(`impala_tf.versions`) and silences their start-up messages (`impala_tf.quiet`).
"""

from impala_tf import quiet, versions

__version__ = "0.1.0"

versions.check()
quiet.environment()
