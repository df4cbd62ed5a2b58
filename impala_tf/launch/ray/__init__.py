"""Runs a program on a Ray cluster.

Ray places hosts (`host`) on the cluster's machines and replaces those that are lost. A host runs one process of the
program. The driver (`driver`), in the command's process, tells every host what to run and starts again what fails.
"""
