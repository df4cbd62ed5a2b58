"""Where a run's processes run: on this machine (`local`), or all in one process and thread (`in_turns`)."""
