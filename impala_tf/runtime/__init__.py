"""What turns actor and learner into a run: processes, log directory, checkpoints, progress, learning curve.

`supervisor` forks `children`, one that does `training` and several that do `acting`; `single_process` is both in one.
"""
