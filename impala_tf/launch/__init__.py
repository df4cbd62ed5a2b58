"""Runs a program: as processes on this machine (`local`), or all in one process and thread (`in_turns`)."""
