"""Importing this makes the imports after it quick: for those of the fork server (see `imports`)."""

from impala_tf.processes import imports

imports.begin()
