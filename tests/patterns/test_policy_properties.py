"""What the small patterns hold under any order of events, cancellation and clocks set back; under asyncio and trio."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import run_virtually

from patterns import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    CircuitPolicy,
    DecorrelatedJitter,
    Exponential,
    Fixed,
    FullJitter,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    TokenBucket,
    retry,
)
from patterns.circuit_breaker import State

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
CHANCES = st.floats(0, 1, exclude_max=True)
WAITS_S = st.floats(0.001, 1e6)


@given(WAITS_S, WAITS_S, st.integers(1, 10**6), CHANCES, WAITS_S)
def test_waits_stay_within_their_bounds(base: float, more: float, failures: int, chance: float, before: float) -> None:
    cap = base + more
    exponential = Exponential(base, cap).delay_s(failures, before, chance)
    assert base <= exponential <= Exponential(base, cap).delay_s(failures + 1, before, chance) <= cap
    assert 0 <= FullJitter(base, cap).delay_s(failures, before, chance) <= exponential
    assert base <= DecorrelatedJitter(base, cap).delay_s(failures, before, chance) <= cap


def test_waits_by_hand() -> None:
    assert [Exponential(1, 10).delay_s(n, 0, 0.5) for n in range(1, 6)] == [1, 2, 4, 8, 10]
    assert [FullJitter(1, 10).delay_s(n, 0, 0.5) for n in range(1, 6)] == [0.5, 1, 2, 4, 5]
    assert DecorrelatedJitter(1, 10).delay_s(1, 0, 0.5) == 2
    assert DecorrelatedJitter(1, 10).delay_s(2, 2, 0.5) == 3.5


@given(st.lists(st.booleans(), max_size=300))
def test_a_budget_is_never_overdrawn_nor_overfull(outcomes: list[bool]) -> None:
    budget = RetryBudget(20, 5)
    for succeeds in outcomes:
        retried = budget.left >= 5
        assert budget.spend() == retried
        if succeeds:
            budget.succeeded(after_retry=retried)
        assert 0 <= budget.left <= 20


@BACKENDS
def test_a_deadline_interrupts_an_attempt_and_names_the_error_before(backend: str) -> None:
    async def fail() -> None:
        await anyio.sleep(4)
        raise ConnectionError

    async def program() -> None:
        start_s = anyio.current_time()
        with pytest.raises(TimeoutError) as caught:
            await retry(fail, RetryPolicy(Fixed(1), attempts=9, deadline_s=7))
        assert anyio.current_time() - start_s == pytest.approx(7)
        assert isinstance(caught.value.__cause__, ConnectionError)

    run_virtually(backend, program)


@given(st.lists(st.tuples(st.sampled_from(["admit", "good", "bad", "cancel"]), st.floats(0, 20)), max_size=80))
def test_only_verdicts_of_the_present_state_change_a_circuit(steps: list[tuple[str, float]]) -> None:
    policy = CircuitPolicy(failures=3, window=5, open_s=30, probes=2)
    now_s = opened_s = 0.0
    changes = 0  # of the state: calls let through before the last one decide nothing
    permits: list[tuple[int, int]] = []
    for action, passes_s in steps:
        now_s += passes_s
        was = policy.state.value
        if action == "admit":
            permit = policy.admit(now_s)
            changes += policy.state.value != was
            if was == "closed":
                assert permit is not None
            if was == "open":
                assert (permit is not None) == (now_s - opened_s >= 30)
            if permit is not None:
                permits.append((permit, changes))
            if policy.state is State.HALF_OPEN:
                assert sum(since == changes for _, since in permits) <= 2
        elif permits:
            permit, since = permits.pop()
            if action == "cancel":
                policy.release(permit)
            else:
                policy.record(permit, failed=action == "bad", now_s=now_s)
            if policy.state.value != was:
                assert since == changes
                assert (was, action, policy.state.value) in {
                    ("closed", "bad", "open"),
                    ("half-open", "bad", "open"),
                    ("half-open", "good", "closed"),
                }
                changes += 1
                opened_s = now_s


@BACKENDS
def test_a_cancelled_probe_frees_its_place(backend: str) -> None:
    async def down() -> None:
        raise ConnectionError

    async def program() -> None:
        breaker = CircuitBreaker(CircuitPolicy(failures=1, open_s=10))
        with pytest.raises(ConnectionError):
            await breaker.call(down)
        with pytest.raises(CircuitOpen):
            await breaker.call(anyio.lowlevel.checkpoint)
        await anyio.sleep(10)
        with anyio.move_on_after(1):
            await breaker.call(anyio.sleep_forever)
        assert breaker.policy.state is State.HALF_OPEN
        await breaker.call(anyio.lowlevel.checkpoint)
        assert breaker.policy.state.value == "closed"

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("cancel_at_s", [None, 0.5, 1.5, 2.5])
def test_a_bulkhead_serves_in_order_and_loses_no_place(backend: str, cancel_at_s: float | None) -> None:
    served: list[int] = []

    async def program() -> None:
        bulkhead, running, refused = Bulkhead(2, max_waiting=3), 0, 0

        async def use(number: int, scope: anyio.CancelScope) -> None:
            nonlocal running, refused
            with scope:
                try:
                    async with bulkhead.place():
                        running += 1
                        assert running <= 2
                        served.append(number)
                        try:
                            await anyio.sleep(1)
                        finally:
                            running -= 1
                except BulkheadFull:
                    refused += 1

        scopes = [anyio.CancelScope() for _ in range(6)]
        async with anyio.create_task_group() as tasks:
            for number, scope in enumerate(scopes):
                tasks.start_soon(use, number, scope)
                await anyio.sleep(0.01)  # trio starts tasks in any order
            if cancel_at_s is not None:
                await anyio.sleep(cancel_at_s)
                scopes[2].cancel()
        assert refused == 1
        assert (bulkhead.policy.running, bulkhead.policy.waiting) == (0, 0)

    run_virtually(backend, program)
    assert served == ([0, 1, 3, 4] if cancel_at_s == 0.5 else [0, 1, 2, 3, 4])


@BACKENDS
def test_a_place_handed_to_one_who_is_cancelled_at_that_moment_is_not_lost(backend: str) -> None:
    async def program() -> None:
        bulkhead, scope = Bulkhead(1, max_waiting=1), anyio.CancelScope()

        async def wait() -> None:
            with scope:
                async with bulkhead.place():
                    await anyio.sleep(1)

        async with anyio.create_task_group() as tasks:
            async with bulkhead.place():
                tasks.start_soon(wait)
                await anyio.sleep(1)
            scope.cancel()
        assert (bulkhead.policy.running, bulkhead.policy.waiting) == (0, 0)

    run_virtually(backend, program)


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.tuples(st.integers(1, 50), st.floats(0, 2)), max_size=40))
def test_a_bucket_says_how_long_and_that_is_enough(rate: float, burst: int, steps: list[tuple[int, float]]) -> None:
    bucket, now_s = TokenBucket(rate, burst), 1000.0
    for wanted, passes_s in steps:
        now_s += passes_s
        tokens = min(wanted, burst)
        wait_s = bucket.take(tokens, now_s)
        if wait_s:
            assert wait_s <= tokens / rate + 1e-5
            assert wait_s < 1e-5 or bucket.take(tokens, now_s + wait_s / 2) > 0
            now_s += wait_s
            assert bucket.take(tokens, now_s) == 0


def test_a_clock_set_back_costs_one_filling_at_most() -> None:
    bucket = TokenBucket(2, 10)
    assert bucket.take(10, 1e9) == 0
    assert bucket.take(10, 5.0) == pytest.approx(5)
    with pytest.raises(ValueError, match="never holds"):
        bucket.take(11, 5.0)


@BACKENDS
def test_a_cancelled_wait_takes_nothing(backend: str) -> None:
    async def program() -> None:
        limiter, start_s = RateLimiter(2, 1), anyio.current_time()
        await limiter.acquire()
        with anyio.move_on_after(0.2):
            await limiter.acquire()
        await limiter.acquire()
        assert anyio.current_time() - start_s == pytest.approx(0.5, abs=1e-4)

    run_virtually(backend, program)
