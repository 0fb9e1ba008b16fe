"""Long polls of queues on streams, as those of SQS's queues: in the order they came, each woken by what it will get.

A line outlives the queue in RAM that it is for, which is a new one after a group that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.clock import Clock, Timer

if TYPE_CHECKING:
    from broker.streams.queue_records import Received

log = logging.getLogger("sidebus.streams")


class Line:
    """Those who wait at one end of a queue: for its records, or for its dead letters."""

    __slots__ = ("waiters", "wake")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.wake: Timer | None = None  # the next becomes visible

    def sleep(self) -> None:
        if self.wake is not None:
            self.wake.cancel()
            self.wake = None

    def give_up(self) -> None:
        for waiter in list(self.waiters):
            waiter.give_up()


class Waiter:
    """A receive that waits. `done` is called once: with records, or with none when its time is up.

    `take` tries to receive; it is called with the group commit open.
    """

    __slots__ = ("_line", "_timer", "done", "take")

    def __init__(self, line: Line, take: Callable[[], list[Received]], clock: Clock, deadline_ms: int) -> None:
        self.take = take
        self.done: Callable[[list[Received]], None] | None = None
        self._line = line
        self._timer = clock.call_at(deadline_ms, self.give_up)
        line.waiters[self] = None

    def finish(self, found: list[Received]) -> None:
        self._leave()
        done, self.done = self.done, None
        if done is not None:
            try:
                done(found)
            except Exception:  # one client's answer must not cost the others theirs
                log.exception("a long poll could not be answered")

    def give_up(self) -> None:
        """The time is up, or the broker stops: answered with nothing."""
        self.finish([])

    def cancel(self) -> None:
        """The client has gone: it must not be handed a record."""
        self.done = None
        self._leave()

    def _leave(self) -> None:
        self._timer.cancel()
        self._line.waiters.pop(self, None)
        if not self._line.waiters:
            self._line.sleep()
