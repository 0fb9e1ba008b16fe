"""Long polls: receivers in the order they came, each woken only by a message it will get.

A waiter costs its entry and one appointment. It is served inside the group commit that brought the message, so a
message goes from sender to receiver in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.clock import Clock, Timer
from broker.queues.queue import Queue
from broker.store.port import StoredMessage

log = logging.getLogger("sidebus.queues")


class Waiter:
    """A receive that waits. `done` is called once: with messages, or with none when its time is up.

    `take` tries to receive; it is called with the group commit open.
    """

    __slots__ = ("_timer", "done", "queue", "take")

    def __init__(self, queue: Queue, take: Callable[[], list[StoredMessage]], clock: Clock, deadline_ms: int) -> None:
        self.queue = queue
        self.take = take
        self.done: Callable[[list[StoredMessage]], None] | None = None
        self._timer: Timer = clock.call_at(deadline_ms, self.give_up)
        queue.waiters[self] = None

    def finish(self, messages: list[StoredMessage]) -> None:
        self._leave()
        done, self.done = self.done, None
        if done is not None:
            try:
                done(messages)
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
        self.queue.waiters.pop(self, None)
        if not self.queue.waiters and self.queue.wake is not None:
            self.queue.wake.cancel()
            self.queue.wake = None
