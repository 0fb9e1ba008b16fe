"""Long polls: receivers in the order they came, each woken only by what it will get.

A waiter costs its entry and one appointment. It is served inside the group commit that brought the message, so a
message goes from sender to receiver in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from broker.clock import Clock, Timer

log = logging.getLogger("sidebus.waiters")

T = TypeVar("T")


class Line(Protocol[T]):
    """Where receivers wait: `wake` is when the next message becomes visible to them."""

    waiters: dict[Waiter[T], None]  # in order of arrival
    wake: Timer | None


class Waiter(Generic[T]):
    """A receive that waits. `done` is called once: with what was received, or with nothing when its time is up.

    `take` tries to receive; it is called with the group commit open.
    """

    __slots__ = ("_line", "_timer", "done", "take")

    def __init__(self, line: Line[T], take: Callable[[], list[T]], clock: Clock, deadline_ms: int) -> None:
        self.take = take
        self.done: Callable[[list[T]], None] | None = None
        self._line = line
        self._timer: Timer = clock.call_at(deadline_ms, self.give_up)
        line.waiters[self] = None

    def finish(self, received: list[T]) -> None:
        self._leave()
        done, self.done = self.done, None
        if done is not None:
            try:
                done(received)
            except Exception:  # one client's answer must not cost the others theirs
                log.exception("a long poll could not be answered")

    def give_up(self) -> None:
        """The time is up, or the broker stops: answered with nothing."""
        self.finish([])

    def cancel(self) -> None:
        """The client has gone: it must not be handed a message."""
        self.done = None
        self._leave()

    def _leave(self) -> None:
        self._timer.cancel()
        line = self._line
        line.waiters.pop(self, None)
        if not line.waiters and line.wake is not None:
            line.wake.cancel()
            line.wake = None
