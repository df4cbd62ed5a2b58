"""Environments in processes of their own, and the policy in batches of whichever of them wait for it.

IMPALA, Table 1: "dyn. batch". `worker` steps a group of environments in a process of its own and leaves what they
answer in shared memory (`mailbox`); another process (`inference`) runs the policy for all groups that wait, in one
batch, and collects their unrolls: no group waits for another.

With `--inference=central` that other process is the learner's, and the supervisor starts the workers. Environments that
are slow, or cannot share a process, are workers of an actor, one each, which the actor starts itself (`pool`).
"""
