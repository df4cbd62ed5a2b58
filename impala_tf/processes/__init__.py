"""Child processes: how they start, report to their parent, are restarted, and end.

Nothing here is specific to reinforcement learning.
"""
