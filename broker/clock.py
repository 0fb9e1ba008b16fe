"""Time: "now" and "wake me at", and nothing else in the engine knows of either.

The rule: whatever waits for a moment asks `call_at`, never sleeps. So time can be frozen, run faster, or travel
fourteen days, and everything due in between happens at once, each thing at its own moment and in order.

What is ugly about it: while it travels, `SystemClock` keeps for itself what is to run soon, lest it jumps on before
that is through. What runs in tasks of its own, a delivery to a remote end, it knows of by `hold` and `release` alone.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import perf_counter, time_ns
from typing import Any, Protocol

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

    def dates_ms(self) -> int:
        """The time that answers are dated with and signatures are checked by."""
        ...

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer: ...

    def soon(self, callback: Callable[[], None]) -> object:
        """Runs it once the work at hand is through, before anything that is read after it."""
        ...

    def hold(self) -> None:
        """Something is under way elsewhere that belongs to this moment; a clock that travels waits for `release`."""
        ...

    def release(self) -> None: ...

    def halt(self) -> None:
        """If it travels, it ends here: the broker is about to stop."""
        ...

    @property
    def on_set_back(self) -> list[Callable[[], None]]:
        """Called when time has gone backwards: what lasts from one moment to another would last too long."""
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
        resume_ms = self._clock.now_ms() + RESUME_MS
        timer = self._timer
        if timer is None or timer.callback is None or timer.when_ms > resume_ms:  # the clock was set back
            if timer is not None:
                timer.cancel()
            self._timer = self._clock.call_at(resume_ms, self._job)


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


class ClockRefusal(ValueError):
    """What the clock was told cannot be. Its text is one sentence that says why."""


class Travelling(ClockRefusal):
    """It is on its way already."""


CENTURY_MS = 100 * 366 * 86_400_000
LAST_MS = 253_370_764_800_000  # the year 9999: no calendar goes further
FASTEST = 1_000_000.0

GRACE_S = 5.0
"""How long a journey waits, in real time, while nothing of what is under way comes to its end; then it goes on without,
and waits half as long the next time."""

_LEAST_GRACE_S = 0.05
_SLICE_S = 0.01  # how long a journey keeps the event loop from other work


class _Journey:
    """`ready` is what is to run soon; `given_up`, how much of what is under way is not waited for any longer."""

    __slots__ = ("arrived", "given_up", "grace_s", "ready", "to_ms", "waits_since_s")

    def __init__(self, to_ms: int, arrived: Callable[[], None]) -> None:
        self.to_ms = to_ms
        self.arrived = arrived
        self.ready: deque[Callable[[], None]] = deque()
        self.given_up = 0
        self.grace_s = GRACE_S
        self.waits_since_s: float | None = None  # None again whenever something comes to its end


class SystemClock:
    """The machine's time, or what it was bent to. `run()` must be running for appointments to be kept.

    `soon` is the event loop's own: `loop.call_soon` under asyncio, `token.run_sync_soon` under trio. `machine_ns` is
    the machine's time. Nothing here is for threads. What bends time raises ClockRefusal, or Travelling.
    """

    def __init__(self, soon: Soon, machine_ns: Callable[[], int] = time_ns) -> None:
        self._loop_soon = soon
        self._machine_ns = machine_ns
        self._appointments = _Appointments()
        self._asleep_until_ms: int | None = None
        self._sooner: anyio.Event | None = None
        # Bent: `_base_ms` and `_speed` times what has passed on the machine `_since_ns`; if it stands, `_base_ms`.
        self._bent = False
        self._base_ms = self._since_ns = 0
        self._speed: float = 1  # whole where it is 1, for the sake of exactness
        self._frozen = False
        self._stands = False  # frozen, or on a journey
        self._dates = "broker"
        self._journey: _Journey | None = None
        self._holds = 0
        self._released: anyio.Event | None = None
        self._on_set_back: list[Callable[[], None]] = []

    @property
    def on_set_back(self) -> list[Callable[[], None]]:
        return self._on_set_back

    def now_ms(self) -> int:
        if self._bent:
            return self._bent_ms()
        return self._machine_ns() // 1_000_000

    def _bent_ms(self) -> int:
        if self._stands:
            return self._base_ms
        return self._base_ms + int((self._machine_ns() - self._since_ns) * self._speed) // 1_000_000

    def dates_ms(self) -> int:
        """What answers are dated with and signatures checked by: the broker's time, or always the machine's."""
        if self._bent and self._dates == "broker":
            return self._bent_ms()
        return self._machine_ns() // 1_000_000

    def call_at(self, when_ms: int, callback: Callable[[], None]) -> Timer:
        timer = self._appointments.add(when_ms, callback)
        if self._sooner is not None and (self._asleep_until_ms is None or when_ms < self._asleep_until_ms):
            self._sooner.set()
        return timer

    def soon(self, callback: Callable[[], None]) -> None:
        journey = self._journey
        if journey is None:
            self._loop_soon(callback)
            return
        journey.ready.append(callback)
        if self._released is not None:
            self._released.set()

    def hold(self) -> None:
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        journey = self._journey
        if journey is not None:
            journey.waits_since_s = None
            journey.given_up = min(journey.given_up, self._holds)
            if self._released is not None and self._holds == journey.given_up:
                self._released.set()

    # bending it

    def state(self) -> dict[str, Any]:
        """As the page shows it."""
        now_ms, journey = self.now_ms(), self._journey
        return {
            "now": iso_8601_ms(now_ms),
            "now_ms": now_ms,
            "frozen": self._frozen,
            "speed": float(self._speed),
            "offset_ms": now_ms - self._machine_ns() // 1_000_000,
            "dates": self._dates,
            "travelling_to": None if journey is None else iso_8601_ms(journey.to_ms),
        }

    def freeze(self) -> None:
        """Time stands still."""
        self._bend(self.now_ms(), frozen=True)

    def resume(self) -> None:
        """It goes on from where it stands, as fast as the machine's."""
        self._bend(self.now_ms(), speed=1, frozen=False)

    def set_speed(self, speed: float) -> None:
        """It goes on from where it stands, so many times as fast as the machine's."""
        _check_speed(speed)
        self._bend(self.now_ms(), speed=1 if speed == 1 else speed, frozen=False)

    def drift(self, ppm: float) -> None:
        """It goes faster than it did by so many millionths, or slower; if it is frozen, from when it no longer is."""
        speed = self._speed * (1 + ppm / 1_000_000)
        _check_speed(speed)
        self._bend(self.now_ms(), speed=speed)

    def jump(self, to_ms: int) -> None:
        """It is another time at once, as when a machine's clock is set. What fell due in between happens, but late."""
        is_back = self._check(to_ms) < 0
        self._bend(to_ms)
        if is_back:
            self._tell_set_back()

    def travel(self, to_ms: int, arrived: Callable[[], None]) -> None:
        """Forwards everything due on the way happens, each at its own moment and in order, before it has `arrived`.

        Each thing has settled before the next: the commits, what follows from them, the deliveries to remote ends.
        Backwards it is a jump, and nothing falls due. Then time goes on as before, or is frozen as before.
        """
        if self._journey is not None:
            where = iso_8601_ms(self._journey.to_ms)
            raise Travelling(f"The clock is on its way to {where}: ask again when it has arrived.")
        if self._check(to_ms) < 0:
            self.jump(to_ms)
            self._loop_soon(partial(_guarded, arrived))
            return
        self._bend(self.now_ms())
        self._journey = _Journey(to_ms, arrived)
        self._stands = True

    def halt(self) -> None:
        """A journey ends where it is, and has `arrived` there."""
        journey = self._journey
        if journey is None:
            return
        self._journey = None
        for callback in (*journey.ready, journey.arrived):
            self._loop_soon(partial(_guarded, callback))
        if self._released is not None:
            self._released.set()
        self._bend(self._base_ms)

    def restore(self) -> None:
        """Back to the machine's time, whatever it was bent to; a journey ends where it is."""
        self.halt()
        was_ms = self.now_ms()
        self._bent = self._frozen = self._stands = False
        self._speed, self._dates = 1, "broker"
        self._wake()
        if self.now_ms() < was_ms:
            self._tell_set_back()

    def set_dates(self, dates: str) -> None:
        """Whose time answers are dated with and signatures are checked by: "broker" or "machine"."""
        if dates not in ("broker", "machine"):
            raise ClockRefusal(f'dates are "broker" or "machine", not {dates!r}.')
        self._dates = dates

    def _check(self, to_ms: int) -> int:
        """How far it is."""
        by_ms = to_ms - self.now_ms()
        if not 0 <= to_ms < LAST_MS:
            raise ClockRefusal("The broker's time must lie between the years 1970 and 9999.")
        if by_ms > CENTURY_MS:
            raise ClockRefusal(f"{iso_8601_ms(to_ms)} is more than a century ahead.")
        return by_ms

    def _bend(self, now_ms: int, *, speed: float | None = None, frozen: bool | None = None) -> None:
        self._base_ms = now_ms
        self._since_ns = self._machine_ns() // 1_000_000 * 1_000_000  # so that an offset stays what it is
        if speed is not None:
            self._speed = speed
        if frozen is not None:
            self._frozen = frozen
        self._stands = self._frozen or self._journey is not None
        self._bent = True
        self._wake()

    def _tell_set_back(self) -> None:
        for tell in self._on_set_back:
            self.soon(partial(_guarded, tell))

    # keeping appointments

    async def run(self) -> None:
        """Keeps appointments until cancelled."""
        appointments = self._appointments
        try:
            while True:
                if self._journey is not None:
                    await self._travel(self._journey)
                while (due_ms := appointments.next_ms()) is not None and due_ms <= self.now_ms():
                    self._keep_next()
                if self._journey is None:
                    self._asleep_until_ms, self._sooner = due_ms, anyio.Event()
                    with anyio.move_on_after(self._delay_s(due_ms)):
                        await self._sooner.wait()
                    self._sooner = None
                await anyio.lowlevel.checkpoint()
        finally:
            if self._journey is not None:
                self._journey.ready.clear()
                self.halt()

    def _delay_s(self, due_ms: int | None) -> float:
        """Never longer than a minute: the machine's own clock may be set meanwhile."""
        if due_ms is None or self._stands:
            return 60.0
        return min(60.0, max(0.0, (due_ms - self.now_ms()) / 1000 / self._speed))

    def _wake(self) -> None:
        if self._sooner is not None:
            self._sooner.set()

    def _keep_next(self) -> None:
        try:
            self._appointments.run_next()
        except Exception:  # one broken appointment must not stop time for all others
            log.exception("what was due could not be done")

    async def _travel(self, journey: _Journey) -> None:
        """One thing after the other, until it has arrived or was halted."""
        in_hand = anyio.Event()
        self._loop_soon(in_hand.set)  # it comes after what the loop had in hand when the journey began
        await in_hand.wait()
        pause_s = perf_counter() + _SLICE_S
        while self._journey is journey:
            if perf_counter() > pause_s:
                await anyio.lowlevel.checkpoint()
                pause_s = perf_counter() + _SLICE_S
            elif journey.ready:
                _guarded(journey.ready.popleft())
            elif self._holds > journey.given_up:
                await self._wait(journey)
            elif (due_ms := self._appointments.next_ms()) is not None and due_ms <= journey.to_ms:
                self._base_ms = max(self._base_ms, due_ms)
                self._keep_next()
            else:
                self._base_ms = max(self._base_ms, journey.to_ms)
                self.halt()

    async def _wait(self, journey: _Journey) -> None:
        """Until what is under way has come to its end, or something is ready to run, or the grace is over."""
        if journey.waits_since_s is None:
            journey.waits_since_s = anyio.current_time()
        self._released = anyio.Event()
        with anyio.move_on_after(journey.waits_since_s + journey.grace_s - anyio.current_time()):
            await self._released.wait()
        self._released = None
        if journey.waits_since_s is not None and anyio.current_time() >= journey.waits_since_s + journey.grace_s:
            journey.given_up, journey.waits_since_s = self._holds, None
            journey.grace_s = max(journey.grace_s / 2, _LEAST_GRACE_S)


def _check_speed(speed: float) -> None:
    if not (math.isfinite(speed) and 0 < speed <= FASTEST):
        raise ClockRefusal(f"The speed must be more than 0 and at most {FASTEST:.0f}, and {speed:g} is not.")


def _guarded(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("what was to happen soon could not be done")


class ManualClock:
    """Time that moves only when told to. `advance` returns when everything due on the way has happened.

    Without an event loop's `soon`, what is to run soon runs at the next `settle`, `advance` or `set`.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000, soon: Soon | None = None) -> None:
        self._now_ms = now_ms
        self._soon: deque[Callable[[], None]] = deque()
        self.soon: Soon = soon or self._soon.append
        self._appointments = _Appointments()
        self._on_set_back: list[Callable[[], None]] = []

    @property
    def on_set_back(self) -> list[Callable[[], None]]:
        return self._on_set_back

    def now_ms(self) -> int:
        return self._now_ms

    def dates_ms(self) -> int:
        return self._now_ms

    def hold(self) -> None:
        """Nothing waits."""

    def release(self) -> None:
        """Nothing waits."""

    def halt(self) -> None:
        """It never is on its way."""

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
        is_back = to_ms < self._now_ms
        self._now_ms = to_ms
        if is_back:
            for tell in self._on_set_back:
                self.soon(tell)
            self.settle()

    def settle(self) -> None:
        """Finishes the work at hand."""
        while self._soon:
            self._soon.popleft()()
