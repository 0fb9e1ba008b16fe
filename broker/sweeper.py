"""What a deletion leaves behind goes later, in steps of a transaction each, with other work in between."""

from __future__ import annotations

from collections.abc import Callable

from broker.clock import Clock, Resumption
from broker.commit import GroupCommit


class Sweeper:
    """Takes steps until one says that there is nothing left. `step` works on the store, and returns how much it did."""

    def __init__(self, clock: Clock, commit: GroupCommit, step: Callable[[], int]) -> None:
        self._clock = clock
        self._commit = commit
        self._step = step
        self._ahead = False
        self._resumption = Resumption(clock, self.soon)

    def soon(self) -> None:
        """There is something to sweep."""
        if not self._ahead:
            self._ahead = True
            self._clock.soon(self._run)

    def resume(self) -> None:
        """There may be, after a start or a group that failed."""
        self._resumption.appoint()

    def _run(self) -> None:
        self._ahead = False
        self._commit.run(self._take_step)

    def _take_step(self) -> None:
        if self._step():
            self.soon()
