"""What a run is made of: its processes, and who sends what to whom (the rows of the paper's Table 1).

An architecture is a function that returns a `Program`. It starts nothing; `impala_tf.launch` does.
"""
