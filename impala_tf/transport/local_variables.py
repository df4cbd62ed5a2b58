"""Hands parameters from the learner to a policy in the same process, without Reverb."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class LocalVariables:
    """Replaces `VariablePublisher` and `VariableClient` where learner and policy share a process."""

    def __init__(self, learner: Sequence[tf.Variable], policy: Sequence[tf.Variable]):
        """Copies nothing yet.

        Args:
          learner: variables to copy from.
          policy: variables to overwrite, in the same order.
        """
        self._learner, self._policy = list(learner), list(policy)
        self._copy = tf.function(lambda: [tf.identity(v) for v in self._learner], autograph=False)
        self._newest: tuple[int, list[tf.Tensor]] | None = None
        self._held: tuple[int, list[tf.Tensor]] | None = None

    def publish(self, learner_step: int) -> None:
        """Copies the learner's variables as those of `learner_step`. Call it in the learner's thread."""
        self._newest = (learner_step, self._copy())

    def refresh(self) -> int:
        """Overwrites the policy's variables with the newest copy and returns the learner step that made it.

        Call it in the policy's thread, after the first `publish`.
        """
        newest = self._newest
        assert newest is not None, "publish comes first"
        if newest is not self._held:
            for variable, value in zip(self._policy, newest[1]):
                variable.assign(value)
            self._held = newest
        return newest[0]

    def wait_until_pushed(self, timeout: float) -> bool:
        """Returns True: `refresh` sees a copy as soon as `publish` has returned."""
        return True

    def stop(self) -> None:
        """Does nothing; there is no thread to end."""
