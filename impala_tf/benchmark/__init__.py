"""Measures the cost of each part of the system and the throughput of the whole: `impala-benchmark`, `impala-scaling`.

`parts` measures environment, inference, learner and transport, each in its own processes; `whole` runs the complete
system; `report` compares the two; `table_1` compares architectures; `scaling` varies the number of actors, their rate
and the size of the queue.
"""
