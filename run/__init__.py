"""Command line: start and supervise learners and actors."""
