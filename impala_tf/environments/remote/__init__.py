"""Environments in processes of their own, connected to the policy by arrays in shared memory.

`worker` steps one group of environments and leaves their outputs in shared memory (`mailbox`). Another process reads
them there and sends actions: to whichever workers have answered (`impala_tf.acting.dynamic_batching`), or to all of
them at once (`lockstep`). `pool` starts the workers of slow environments and restarts those that fail.
"""
