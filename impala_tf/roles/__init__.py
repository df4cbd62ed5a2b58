"""What each process of a run does: the learner, an actor, an environment process.

Each role is a function of values that were resolved by whoever started the run (settings, tasks, topology, its own
number); none of them starts another role.
"""
