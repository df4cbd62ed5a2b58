"""Moves unrolls and parameters through Reverb; no other folder imports Reverb.

`learner_end` and `actor_end` are the two ends, each made and stopped as one. The learner's end hosts the server,
samples unrolls in time-major batches and publishes parameters; an actor's end writes unrolls and pulls parameters.
In A3C, gradients take the place of unrolls: `gradient_ends`. Every wait is bounded (`connection`).
"""

TRAJECTORIES = "trajectories"
REPLAY = "replay"
GRADIENTS = "gradients"
VARIABLES = "variables"
RUN = "run"
FINISHED = "finished"
FIELDS = "unroll_fields"
"""Names of Reverb's tables: unrolls that wait for the learner; the newest unrolls, if there is replay; A3C's gradients;
parameters; what the learner tells actors about the run; that the run has finished, if there is an item; and a table
without items, whose signature says what the bytes of an unroll mean (`rows`)."""
