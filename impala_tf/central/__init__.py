"""Central inference with dynamic batching (IMPALA, Table 1: "dyn. batch"): `--inference=central`.

`worker` steps a group of environments in a process of its own and leaves what they answer in shared memory
(`mailbox`); the learner's process (`inference`) runs the policy for all groups that wait, in one batch, and collects
their unrolls.
"""
