"""So many calls at once, so many waiting, and no more: what is slow may not sink the rest of the ship.

The rule: `BulkheadPolicy` only counts; whoever waits is served in order of arrival, and nobody waits while there is
room. Ugly: a place is handed from one call to the next, so a waiter that is cancelled at that moment must pass it on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

import anyio


class BulkheadFull(Exception):
    """Neither a place nor room to wait for one."""


class Entry(Enum):
    RUN = "run"
    WAIT = "wait"
    REFUSE = "refuse"


class BulkheadPolicy:
    def __init__(self, limit: int, max_waiting: int = 0) -> None:
        if limit < 1 or max_waiting < 0:
            raise ValueError("limit must be at least 1 and max_waiting at least 0")
        self.limit, self.max_waiting = limit, max_waiting
        self.running = self.waiting = 0

    def arrive(self) -> Entry:
        if self.running < self.limit:
            self.running += 1
            return Entry.RUN
        if self.waiting < self.max_waiting:
            self.waiting += 1
            return Entry.WAIT
        return Entry.REFUSE

    def leave(self) -> bool:
        """A call is over. True: its place goes to the first that waits."""
        if self.waiting:
            self.waiting -= 1
            return True
        self.running -= 1
        return False

    def give_up(self) -> None:
        """A call does not wait any more."""
        self.waiting -= 1


class Bulkhead:
    """`async with bulkhead.place(): …` For one event loop."""

    def __init__(self, limit: int, max_waiting: int = 0) -> None:
        self.policy = BulkheadPolicy(limit, max_waiting)
        self._waiters: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises BulkheadFull at once if there is no room to wait."""
        entry = self.policy.arrive()
        if entry is Entry.REFUSE:
            raise BulkheadFull(f"{self.policy.running} run and {self.policy.waiting} wait")
        if entry is Entry.WAIT:
            await self._turn()
        try:
            yield
        finally:
            self._leave()

    async def _turn(self) -> None:
        turn = anyio.Event()
        self._waiters.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._leave()
            else:
                self._waiters.remove(turn)
                self.policy.give_up()
            raise

    def _leave(self) -> None:
        if self.policy.leave():
            self._waiters.popleft().set()
