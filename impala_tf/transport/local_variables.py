"""Parameters from the learner to a policy in the same process: no copy leaves it."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class LocalVariables:
    """Stands in for `VariablePublisher` and `VariableClient` where both are one process."""

    def __init__(self, learner: Sequence[tf.Variable], policy: Sequence[tf.Variable]):
        """
        Args:
          learner: variables to copy from.
          policy: variables to overwrite, in the same order.
        """
        self._learner, self._policy = list(learner), list(policy)
        self._copy = tf.function(lambda: [tf.identity(v) for v in self._learner], autograph=False)
        self._newest: tuple[int, list[tf.Tensor]] | None = None
        self._held: tuple[int, list[tf.Tensor]] | None = None

    def publish(self, learner_step: int) -> None:
        """Copies the learner's variables, between two updates, as those of `learner_step`."""
        self._newest = (learner_step, self._copy())

    def refresh(self) -> int:
        """Overwrites the policy's variables, in the policy's thread; returns the learner step that made them."""
        newest = self._newest
        assert newest is not None, "publish comes first"
        if newest is not self._held:
            for variable, value in zip(self._policy, newest[1]):
                variable.assign(value)
            self._held = newest
        return newest[0]

    def wait_until_pushed(self, timeout: float) -> bool:
        """Returns True: what has been published can be had at once."""
        return True

    def stop(self) -> None:
        """Does nothing; `VariablePublisher.stop` ends a thread."""
