"""The machine's clock frozen, set, sped up and travelling, under trio and asyncio."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import broker.clock
from broker.clock import CENTURY_MS, FASTEST, LAST_MS, ClockRefusal, ManualClock, SystemClock, Travelling
from broker.core import Broker
from broker.entropy import Entropy
from broker.queues import Sending, Waiter
from broker.store.port import StoredMessage
from broker.store.sqlite import SqliteStore
from engine.clock_support import BACKENDS, START_MS, Machine, advance, loop_soon, run_on, settled, travel
from engine.support import WORLD

DAY_MS = 86_400_000

on_both = pytest.mark.parametrize("backend", BACKENDS)

# what it shows


def bent(soon: Callable[[Callable[[], None]], object] = lambda job: None) -> tuple[SystemClock, Machine]:
    machine = Machine()
    return SystemClock(soon, machine), machine


def test_unbent_it_is_the_machines() -> None:
    clock, machine = bent()
    assert clock.state() == {
        "now": "2023-11-14T22:13:20.000Z",
        "now_ms": START_MS,
        "frozen": False,
        "speed": 1.0,
        "offset_ms": 0,
        "dates": "broker",
        "travelling_to": None,
    }
    machine.pass_ms(1234.9)
    assert (clock.now_ms(), clock.dates_ms()) == (START_MS + 1234, START_MS + 1234)


def test_frozen_it_stands_and_resumed_it_goes_on_from_there() -> None:
    clock, machine = bent()
    machine.pass_ms(10)
    clock.freeze()
    machine.pass_ms(5000)
    assert (clock.now_ms(), clock.state()["frozen"], clock.state()["offset_ms"]) == (START_MS + 10, True, -5000)
    clock.freeze()
    clock.resume()
    machine.pass_ms(7)
    assert (clock.now_ms(), clock.state()["frozen"]) == (START_MS + 17, False)


def test_a_set_clock_runs_on_at_the_same_distance() -> None:
    clock, machine = bent()
    machine.pass_ms(0.7)
    clock.jump(START_MS + DAY_MS)
    for _ in range(1000):
        machine.pass_ms(3.21)
        assert clock.state()["offset_ms"] == DAY_MS
    clock.restore()
    assert clock.now_ms() == START_MS + 3210


def test_sixty_times_as_fast() -> None:
    clock, machine = bent()
    clock.set_speed(60)
    machine.pass_ms(1000)
    assert (clock.now_ms(), clock.state()["speed"]) == (START_MS + 60_000, 60.0)
    clock.set_speed(0.5)
    machine.pass_ms(1000)
    assert clock.now_ms() == START_MS + 60_500
    clock.freeze()
    clock.set_speed(2)  # it runs, whatever it did before
    machine.pass_ms(1000)
    assert clock.now_ms() == START_MS + 62_500
    clock.freeze()
    clock.resume()
    assert clock.state()["speed"] == 1.0


@given(
    st.lists(st.tuples(st.sampled_from(["freeze", "resume", "slow", "fast", "drift", "none"]), st.integers(0, 10**13)))
)
def test_it_never_goes_backwards_by_itself(steps: list[tuple[str, int]]) -> None:
    clock, machine = bent()
    seen = [clock.now_ms()]
    bends: dict[str, Callable[[], None]] = {
        "freeze": clock.freeze,
        "resume": clock.resume,
        "slow": lambda: clock.set_speed(0.001),
        "fast": lambda: clock.set_speed(1000),
        "drift": lambda: clock.set_speed(1.001),
        "none": lambda: None,
    }
    for name, by_ns in steps:
        bends[name]()
        seen.append(clock.now_ms())
        machine.now_ns += by_ns
        seen.append(clock.now_ms())
    assert all(earlier <= later for earlier, later in pairwise(seen))


def test_it_drifts() -> None:
    clock, machine = bent()
    clock.drift(1000)
    machine.pass_ms(1_000_000)
    assert clock.now_ms() - START_MS == pytest.approx(1_001_000, abs=1)
    clock.set_speed(60)
    clock.drift(-1000)
    begun_ms = clock.now_ms()
    machine.pass_ms(1000)
    assert clock.now_ms() - begun_ms == pytest.approx(59_940, abs=1)
    clock.freeze()
    frozen_ms = clock.now_ms()
    clock.drift(1000)
    machine.pass_ms(1000)
    assert clock.now_ms() == frozen_ms
    with pytest.raises(ClockRefusal):
        clock.drift(-1_000_000)


def test_dates_go_by_the_broker_or_by_the_machine() -> None:
    clock, _ = bent()
    clock.jump(START_MS + DAY_MS)
    assert clock.dates_ms() == START_MS + DAY_MS
    clock.set_dates("machine")
    assert (clock.dates_ms(), clock.now_ms()) == (START_MS, START_MS + DAY_MS)
    assert clock.state()["dates"] == "machine"
    with pytest.raises(ClockRefusal, match='dates are "broker" or "machine", not \'sundial\''):
        clock.set_dates("sundial")
    clock.restore()
    assert clock.state()["dates"] == "broker"


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), -float("inf"), FASTEST * 2])
def test_impossible_speeds(speed: float) -> None:
    clock, _ = bent()
    with pytest.raises(ClockRefusal, match="The speed must be more than 0 and at most 1000000"):
        clock.set_speed(speed)
    assert clock.state()["speed"] == 1.0


def test_impossible_moments() -> None:
    clock, _ = bent()
    for go in (clock.jump, partial(clock.travel, arrived=lambda: None)):
        with pytest.raises(ClockRefusal, match="more than a century ahead"):
            go(START_MS + CENTURY_MS + 1)
        for to_ms in (-1, LAST_MS, 10**30):
            with pytest.raises(ClockRefusal, match="between the years 1970 and 9999"):
                go(to_ms)
    assert clock.state()["offset_ms"] == 0


# appointments


@on_both
def test_frozen_nothing_falls_due_until_it_goes_on(backend: str) -> None:
    async def main(clock: SystemClock, machine: Machine) -> None:
        kept: list[int] = []
        clock.freeze()
        clock.call_at(START_MS + 10, lambda: kept.append(clock.now_ms()))
        machine.pass_ms(1000)
        await anyio.sleep(0.02)
        assert kept == []
        due = anyio.Event()
        clock.call_at(clock.now_ms(), due.set)  # what is due at once is, also then
        await due.wait()
        clock.resume()
        machine.pass_ms(10)
        done = anyio.Event()
        clock.call_at(START_MS + 10, done.set)
        await done.wait()
        assert kept == [START_MS + 10]

    run_on(backend, main)


@on_both
def test_what_is_hours_ahead_comes_soon_where_time_is_fast(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        clock = SystemClock(clock._loop_soon)  # the machine's own time
        async with anyio.create_task_group() as group:
            group.start_soon(clock.run)
            begun_ms, done = clock.now_ms(), anyio.Event()
            clock.call_at(begun_ms + 3_600_000, done.set)
            await anyio.sleep(0.005)  # the clock is asleep now
            clock.set_speed(360_000)
            await done.wait()
            assert clock.now_ms() >= begun_ms + 3_600_000
            group.cancel_scope.cancel()

    run_on(backend, main)


@on_both
def test_a_journey_keeps_each_appointment_at_its_moment_and_in_order(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[tuple[str, int]] = []

        def keep(name: str) -> None:
            kept.append((name, clock.now_ms() - START_MS))

        def tick() -> None:
            keep("tick")
            clock.call_at(clock.now_ms() + 400, tick)

        clock.call_at(START_MS + 900, lambda: keep("b"))
        clock.call_at(START_MS + 500, lambda: keep("a"))
        clock.call_at(START_MS + 900, lambda: keep("c"))
        clock.call_at(START_MS + 1001, lambda: keep("not yet"))
        clock.call_at(START_MS + 400, tick)
        await travel(clock, START_MS + 1000)
        assert kept == [("tick", 400), ("a", 500), ("tick", 800), ("b", 900), ("c", 900)]
        assert clock.now_ms() == START_MS + 1000
        await travel(clock, START_MS + 1001)
        assert kept[-1] == ("not yet", 1001)

    run_on(backend, main)


@on_both
def test_what_is_to_run_soon_runs_before_time_goes_on(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[tuple[str, int]] = []

        def chain(left: int) -> None:
            kept.append((f"link {left}", clock.now_ms() - START_MS))
            if left:
                clock.soon(lambda: chain(left - 1))

        clock.call_at(START_MS + 10, lambda: chain(2))
        clock.call_at(START_MS + 10, lambda: kept.append(("same moment", 10)))
        clock.call_at(START_MS + 11, lambda: kept.append(("next", 11)))
        clock.soon(lambda: clock.soon(lambda: chain(1)))  # in the loop's hands when the journey begins
        await travel(clock, START_MS + DAY_MS)
        assert kept == [
            ("link 1", 0), ("link 0", 0),
            ("link 2", 10), ("link 1", 10), ("link 0", 10), ("same moment", 10),
            ("next", 11),
        ]  # fmt: skip

    run_on(backend, main)


@on_both
def test_a_journey_of_no_time_does_what_is_due(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        clock.freeze()
        kept: list[str] = []
        clock.call_at(START_MS, lambda: kept.append("due"))
        await advance(clock, 0)
        assert (kept, clock.now_ms()) == (["due"], START_MS)

    run_on(backend, main)


@on_both
@pytest.mark.parametrize("frozen", [False, True])
def test_after_a_journey_time_goes_on_as_before(backend: str, frozen: bool) -> None:
    async def main(clock: SystemClock, machine: Machine) -> None:
        if frozen:
            clock.freeze()
        else:
            clock.set_speed(60)
        machine.pass_ms(1000)
        begun_ms = clock.now_ms()
        clock.call_at(begun_ms + 5, lambda: machine.pass_ms(100))  # it stands while it travels
        await advance(clock, DAY_MS)
        assert clock.now_ms() == begun_ms + DAY_MS
        machine.pass_ms(1000)
        assert clock.now_ms() == begun_ms + DAY_MS + (0 if frozen else 60_000)
        assert (clock.state()["frozen"], clock.state()["speed"]) == (frozen, 1.0 if frozen else 60.0)

    run_on(backend, main)


@on_both
def test_backwards_nothing_falls_due_and_whoever_asked_is_told(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[int] = []
        told: list[int] = []
        clock.on_set_back.append(lambda: told.append(clock.now_ms()))
        clock.call_at(START_MS + 50, lambda: kept.append(clock.now_ms()))
        await travel(clock, START_MS - DAY_MS)
        assert (clock.now_ms(), kept, told) == (START_MS - DAY_MS, [], [START_MS - DAY_MS])
        await travel(clock, START_MS + 49)
        assert kept == []
        await travel(clock, START_MS + 50)
        assert kept == [START_MS + 50]
        clock.restore()
        await settled(clock)
        assert told == [START_MS - DAY_MS, START_MS]

    run_on(backend, main)


@on_both
def test_a_broken_appointment_does_not_stop_a_journey(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[str] = []
        clock.call_at(START_MS + 1, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
        clock.call_at(START_MS + 2, lambda: clock.soon(lambda: [][1]) and None)  # type: ignore[misc]
        clock.call_at(START_MS + 3, lambda: kept.append("kept"))
        await advance(clock, 10)
        assert kept == ["kept"]

    run_on(backend, main)
    assert "ZeroDivisionError" in caplog.text
    assert "IndexError" in caplog.text


@on_both
def test_one_journey_at_a_time(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        refusals: list[str] = []

        def again() -> None:
            with pytest.raises(Travelling) as refused:
                clock.travel(START_MS + 2 * DAY_MS, lambda: None)
            refusals.append(str(refused.value))
            assert clock.state()["travelling_to"] == "2023-11-15T22:13:20.000Z"

        clock.call_at(START_MS + 5, again)
        await advance(clock, DAY_MS)
        assert refusals == ["The clock is on its way to 2023-11-15T22:13:20.000Z: ask again when it has arrived."]
        assert clock.state()["travelling_to"] is None
        await advance(clock, DAY_MS)
        assert clock.now_ms() == START_MS + 2 * DAY_MS

    run_on(backend, main)


@on_both
def test_what_bends_time_on_the_way_holds_from_the_arrival_on(backend: str) -> None:
    async def main(clock: SystemClock, machine: Machine) -> None:
        clock.call_at(START_MS + 5, clock.freeze)
        await advance(clock, 1000)
        machine.pass_ms(1000)
        assert clock.now_ms() == START_MS + 1000
        clock.call_at(clock.now_ms() + 5, lambda: clock.set_speed(2))
        await advance(clock, 1000)
        machine.pass_ms(1000)
        assert clock.now_ms() == START_MS + 4000

    run_on(backend, main)


@on_both
def test_a_jump_on_the_way(backend: str) -> None:
    """As when the machine's clock is set: what it passes over happens late."""

    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[int] = []
        for in_ms in (20, 60):
            clock.call_at(START_MS + in_ms, lambda: kept.append(clock.now_ms() - START_MS))
        clock.call_at(START_MS + 10, lambda: clock.jump(START_MS + 50))
        await travel(clock, START_MS + 100)
        assert (kept, clock.now_ms()) == ([50, 60], START_MS + 100)

    run_on(backend, main)


@on_both
def test_restore_ends_a_journey(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[str] = []
        clock.call_at(START_MS + 5, lambda: clock.soon(lambda: kept.append("soon")))
        clock.call_at(START_MS + 5, lambda: (clock.soon(lambda: kept.append("soon, too")), clock.restore())[1])
        clock.call_at(START_MS + 6, lambda: kept.append("late"))
        await advance(clock, DAY_MS)
        assert clock.now_ms() == START_MS
        assert clock.state()["travelling_to"] is None
        await anyio.sleep(0.01)
        assert kept == ["soon", "soon, too"]

    run_on(backend, main)


@on_both
def test_a_journey_that_is_cut_short_is_told_of(backend: str) -> None:
    """The broker stops while the clock travels."""

    async def main() -> None:
        machine = Machine()
        told: list[int] = []
        async with anyio.create_task_group() as group:
            clock = SystemClock(loop_soon(backend), machine)

            def tick() -> None:
                clock.call_at(clock.now_ms() + 1, tick)

            clock.call_at(START_MS, tick)
            group.start_soon(clock.run)
            clock.travel(START_MS + CENTURY_MS, lambda: told.append(clock.now_ms()))
            await anyio.sleep(0.05)  # it lets others work
            assert told == []
            assert START_MS < clock.now_ms() < START_MS + CENTURY_MS
            group.cancel_scope.cancel()
        await settled(clock)
        assert told == [clock.now_ms()]

    anyio.run(main, backend=backend)


# what is under way elsewhere


@on_both
def test_a_journey_waits_for_what_is_under_way(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[tuple[str, int]] = []

        def keep(name: str) -> None:
            kept.append((name, clock.now_ms() - START_MS))

        async def deliver(name: str) -> None:
            for _ in range(5):
                await anyio.sleep(0.001)
            keep(name)
            clock.soon(lambda: (keep(f"{name} committed"), clock.release())[1])

        async with anyio.create_task_group() as deliveries:

            def begin(name: str) -> None:
                clock.hold()
                deliveries.start_soon(deliver, name)

            clock.call_at(START_MS + 10, lambda: begin("a"))
            clock.call_at(START_MS + 20, lambda: keep("next"))
            clock.call_at(START_MS + 30, lambda: begin("b"))
            await advance(clock, 30)
        assert kept == [("a", 10), ("a committed", 10), ("next", 20), ("b", 30), ("b committed", 30)]

    run_on(backend, main)


@on_both
def test_a_journey_does_not_wait_for_ever(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.clock, "GRACE_S", 0.05)

    async def main(clock: SystemClock, _: Machine) -> None:
        kept: list[str] = []
        clock.hold()  # and nothing comes of it
        for in_ms in range(1000):
            clock.call_at(START_MS + in_ms, lambda: kept.append("kept"))
        begun_s = anyio.current_time()
        busy = anyio.Event()

        async def others() -> None:  # who ask for this or that meanwhile do not make it wait longer
            while not busy.is_set():
                clock.soon(lambda: None)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(others)
            await advance(clock, DAY_MS)
            busy.set()
        assert len(kept) == 1000
        assert anyio.current_time() - begun_s >= 0.05
        clock.release()

        # What is new is waited for, also beside what hangs.
        clock.hold()
        clock.call_at(clock.now_ms() + 10, clock.hold)

        async def release() -> None:
            await anyio.sleep(0.06)
            kept.append("released")
            clock.release()

        async with anyio.create_task_group() as group:
            clock.call_at(clock.now_ms() + 10, lambda: group.start_soon(release))
            clock.call_at(clock.now_ms() + 20, lambda: kept.append("after"))
            await advance(clock, DAY_MS)
        assert sorted(kept[-2:]) == ["after", "released"]

    run_on(backend, main)


# against a naive model


@st.composite
def programs(draw: st.DrawFn) -> dict[int, tuple[list[tuple[int, int]], list[int], list[int]]]:
    """By name of a job: (delay, name) of the appointments it makes, what it runs soon, what it cancels."""
    names = st.integers(0, 12)
    jobs = {}
    for name in range(13):
        later = [(delay, other) for delay, other in draw(st.lists(st.tuples(st.integers(-3, 40), names), max_size=2))]
        soon = [other for other in draw(st.lists(names, max_size=1)) if other > name]  # or it would never end
        jobs[name] = (
            [(delay, o) for delay, o in later if delay > 0 or o > name],
            soon,
            draw(st.lists(names, max_size=1)),
        )
    return jobs


class Run:
    """A program on a clock: what was done, when."""

    def __init__(
        self, clock: SystemClock | ManualClock, program: dict[int, tuple[list[tuple[int, int]], list[int], list[int]]]
    ) -> None:
        self.clock = clock
        self.program = program
        self.done: list[tuple[int, int]] = []
        self.timers: dict[int, broker.clock.Timer] = {}

    def start(self, names: list[int]) -> None:
        for delay_ms, name in enumerate(names):
            self.timers[name] = self.clock.call_at(self.clock.now_ms() + delay_ms % 3, partial(self.do, name))

    def do(self, name: int) -> None:
        self.done.append((self.clock.now_ms() - START_MS, name))
        if len(self.done) > 300:
            return
        later, soon, cancelled = self.program[name]
        for other in soon:
            self.clock.soon(partial(self.do, other))
        for other in cancelled:
            if other in self.timers:
                self.timers[other].cancel()
        for delay_ms, other in later:
            self.timers[other] = self.clock.call_at(self.clock.now_ms() + delay_ms, partial(self.do, other))


class NaiveClock:
    """A list of what is to come, searched for the next from the front each time."""

    def __init__(self) -> None:
        self.time_ms = START_MS
        self.timers: list[broker.clock.Timer] = []
        self.jobs: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        return self.time_ms

    def soon(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def call_at(self, when_ms: int, job: Callable[[], None]) -> broker.clock.Timer:
        self.timers.append(broker.clock.Timer(when_ms, job))
        return self.timers[-1]

    def travel(self, to_ms: int) -> None:
        while True:
            while self.jobs:
                self.jobs.pop(0)()
            due = [timer for timer in self.timers if timer.callback is not None and timer.when_ms <= to_ms]
            if not due:
                break
            timer = min(due, key=lambda timer: timer.when_ms)
            self.timers.remove(timer)
            self.time_ms = max(self.time_ms, timer.when_ms)
            job, timer.callback = timer.callback, None
            assert job is not None
            job()
        self.time_ms = to_ms


@settings(max_examples=60, deadline=None)
@given(
    programs(),
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.sampled_from(BACKENDS),
)
def test_stepping_and_travelling_keep_the_same_appointments_in_the_same_order(
    program: dict[int, tuple[list[tuple[int, int]], list[int], list[int]]],
    begun: list[int],
    steps_ms: list[int],
    backend: str,
) -> None:
    naive = Run(NaiveClock(), program)  # type: ignore[arg-type]
    naive.start(begun)
    naive.clock.travel(START_MS + sum(steps_ms))  # type: ignore[union-attr]

    manual = Run(ManualClock(START_MS), program)
    manual.start(begun)
    manual.clock.advance(sum(steps_ms))  # type: ignore[union-attr]
    assert manual.done == naive.done

    async def main(legs_ms: list[int], clock: SystemClock, _: Machine) -> None:
        clock.freeze()
        run = Run(clock, program)
        run.start(begun)
        for by_ms in legs_ms:
            await advance(clock, by_ms)
        assert run.done == naive.done

    run_on(backend, partial(main, steps_ms))
    run_on(backend, partial(main, [sum(steps_ms)]))


# a broker


@on_both
def test_a_broker_whose_clock_travels(backend: str) -> None:
    """A long poll is answered by a message that becomes visible on the way; the other's time is up."""

    async def main(clock: SystemClock, _: Machine) -> None:
        served = Broker(SqliteStore(), clock, Entropy(1))
        clock.freeze()
        queue = served.queues.create(WORLD, "q", {})
        answers: list[tuple[int, list[str]]] = []

        def poll(wait_time_s: int) -> None:
            waiter = served.messaging.receive(queue, wait_time_s=wait_time_s)
            assert isinstance(waiter, Waiter)

            def take(messages: list[StoredMessage]) -> None:
                now_ms = clock.now_ms() - START_MS
                served.commit.then(lambda _: answers.append((now_ms, [message.body for message in messages])))

            waiter.done = take

        served.messaging.send(queue, Sending("later", delay_s=12), "me")
        poll(5)
        poll(20)
        await advance(clock, 60_000)
        assert answers == [(5_000, []), (12_000, ["later"])]
        await advance(clock, 4 * DAY_MS)
        assert served.queues.get_attributes(queue, ["ApproximateNumberOfMessagesNotVisible"]) == {
            "ApproximateNumberOfMessagesNotVisible": "0"
        }
        served.close()

    run_on(backend, main)
