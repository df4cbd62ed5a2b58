"""What the parts of the system cost alone, and what the whole reaches: `impala-benchmark`.

`parts` measures environment, inference, learner and transport, each alone in processes of its own; `whole` runs the
real system; `report` compares the two.
"""
