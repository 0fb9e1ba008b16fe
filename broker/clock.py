"""Time: "now" and "wake me at", and nothing else in the engine knows of either.

The rule: whatever waits for a moment asks `call_at`, never sleeps. So a `ManualClock` can jump fourteen days and
everything due in between happens at once, each thing at its own moment and in order.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import anyio
import anyio.lowlevel

log = logging.getLogger("sidebus.clock")


def iso_8601_ms(moment_ms: int) -> str:
    """A moment as AWS writes it in messages: 2012-05-02T00:54:06.655Z."""
    return f"{_iso_8601(moment_ms // 1000)}.{moment_ms % 1000:03d}Z"


@lru_cache(maxsize=16)
def _iso_8601(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_iso_8601(text: str) -> int | None:
    """The moment that a text like 2023-08-31T23:51:00.000Z names, or None where it names none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


RESUME_MS = 1_000
"""How long after a group that failed the broker goes on with what it does by itself."""


class Timer:
    """One appointment. `cancel()` may be called at any time, also after it has run."""

    __slots__ = ("callback", "when_ms")

    def __init__(self, when_ms: int, callback: Callable[[], None]) -> None:
        self.when_ms = when_ms
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Clock(Protocol):
    """What the engine sees of time. Moments are whole milliseconds since 1970-01-01 UTC."""

    def now_ms(self) -> int: ...

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer: ...

    def soon(self, callback: Callable[[], None]) -> object:
        """Runs it once the work at hand is through, before anything that is read after it."""
        ...


Soon = Callable[[Callable[[], None]], object]


class Resumption:
    """A job that goes on a while after a group that failed: once, however many fail until then."""

    def __init__(self, clock: Clock, job: Callable[[], None]) -> None:
        self._clock = clock
        self._job = job
        self._timer: Timer | None = None

    def appoint(self) -> None:
        """Not at once: a full disk stays full for a while."""
        if self._timer is None or self._timer.callback is None:
            self._timer = self._clock.call_at(self._clock.now_ms() + RESUME_MS, self._job)


class _Appointments:
    """Timers in the order they fall due; those of the same moment in the order they were made."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._made = 0

    def add(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(when_ms, callback)
        self._made += 1
        heapq.heappush(self._heap, (when_ms, self._made, timer))
        if self._made % 4096 == 0:  # long polls that were answered early leave cancelled timers behind
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
        return timer

    def next_ms(self) -> int | None:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_next(self) -> None:
        timer = heapq.heappop(self._heap)[2]
        callback, timer.callback = timer.callback, None
        if callback is not None:
            callback()


class SystemClock:
    """The machine's time. `run()` must be running for appointments to be kept.

    `soon` is the event loop's own: `loop.call_soon` under asyncio, `token.run_sync_soon` under trio.
    """

    def __init__(self, soon: Soon) -> None:
        self.soon = soon
        self._appointments = _Appointments()
        self._asleep_until_ms: int | None = None
        self._sooner: anyio.Event | None = None

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        timer = self._appointments.add(when_ms, callback)
        if self._sooner is not None and (self._asleep_until_ms is None or when_ms < self._asleep_until_ms):
            self._sooner.set()
        return timer

    async def run(self) -> None:
        """Keeps appointments until cancelled."""
        while True:
            while (due_ms := self._appointments.next_ms()) is not None and due_ms <= self.now_ms():
                try:
                    self._appointments.run_next()
                except Exception:  # one broken appointment must not stop time for all others
                    log.exception("what was due could not be done")
            self._asleep_until_ms, self._sooner = due_ms, anyio.Event()
            # Never longer than a minute: the machine's own clock may be set meanwhile.
            delay_s = 60.0 if due_ms is None else min(60.0, max(0.0, (due_ms - self.now_ms()) / 1000))
            with anyio.move_on_after(delay_s):
                await self._sooner.wait()
            self._sooner = None
            await anyio.lowlevel.checkpoint()


class ManualClock:
    """Time that moves only when told to. `advance` returns when everything due on the way has happened.

    Without an event loop's `soon`, what is to run soon runs at the next `settle`, `advance` or `set`.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000, soon: Soon | None = None) -> None:
        self._now_ms = now_ms
        self._soon: deque[Callable[[], None]] = deque()
        self.soon: Soon = soon or self._soon.append
        self._appointments = _Appointments()

    def now_ms(self) -> int:
        return self._now_ms

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        return self._appointments.add(when_ms, callback)

    def next_ms(self) -> int | None:
        """When the next appointment is."""
        return self._appointments.next_ms()

    def advance(self, by_ms: int) -> None:
        self.set(self._now_ms + by_ms)

    def set(self, to_ms: int) -> None:
        """Goes to a moment. Backwards is allowed, as with a machine's clock: nothing falls due by it."""
        self.settle()
        while (due_ms := self._appointments.next_ms()) is not None and due_ms <= to_ms:
            self._now_ms = max(self._now_ms, due_ms)
            self._appointments.run_next()
            self.settle()
        self._now_ms = to_ms

    def settle(self) -> None:
        """Finishes the work at hand."""
        while self._soon:
            self._soon.popleft()()
