"""What turns actor and learner into a run: processes, log directory, checkpoints, progress, learning curve.

`supervisor` starts one process with `training` and several with `acting`; `single_process` is both in one.
"""
