"""What each process of a run does: the learner, an actor, an environment process.

A role is a function of values that whoever started the run has resolved: settings, tasks, topology, its own number.
No role starts another one.
"""
