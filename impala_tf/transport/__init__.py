"""The way of trajectories and parameters through Reverb: the only modules that import it.

An actor's `UnrollWriter` inserts unrolls into the table `trajectories` of the `server` that lives in the learner's
process; the learner's `dataset` samples them as time-major batches. The learner's `VariablePublisher` pushes
parameters into the table `variables`; an actor's `VariableClient` pulls them. `connection` bounds every wait.
"""

TRAJECTORIES = "trajectories"
VARIABLES = "variables"
