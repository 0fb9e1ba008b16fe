"""The small patterns: what their policies promise for any input, and their drivers on trio's jumping clock."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patterns import (
    Backoff,
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

CHANCE = st.floats(0, 1, exclude_max=True)
BACKOFFS: list[Backoff] = [Fixed(3.0), Exponential(0.1, 20.0), FullJitter(0.1, 20.0), DecorrelatedJitter(0.1, 20.0)]


class Flaky:
    """Fails so often, then answers with the moments of all calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.called_s: list[float] = []

    async def __call__(self) -> list[float]:
        self.called_s.append(anyio.current_time())
        if len(self.called_s) <= self.failures:
            raise ConnectionError(len(self.called_s))
        return self.called_s


@given(st.sampled_from(BACKOFFS), st.integers(1, 10_000), st.floats(0, 20), CHANCE)
def test_no_wait_is_negative_or_beyond_the_cap(
    backoff: Backoff, failures: int, previous_s: float, chance: float
) -> None:
    assert 0 <= backoff.delay_s(failures, previous_s, chance) <= 20.0


@given(st.integers(1, 9), st.integers(0, 9), st.floats(0.5, 60), CHANCE)
def test_attempts_and_deadline_bound_retries(attempts: int, failures: int, deadline_s: float, chance: float) -> None:
    policy = RetryPolicy(Exponential(0.1, 20.0), attempts, deadline_s)
    delay_s = policy.next_delay_s(max(failures, 1), 0.0, 1.0, chance)
    assert delay_s is None or (failures < attempts and 1.0 + delay_s < deadline_s)


@pytest.mark.trio
async def test_retry_waits_as_the_policy_says(autojump_clock: trio.abc.Clock) -> None:
    start_s = anyio.current_time()
    called_s = await retry(Flaky(3), RetryPolicy(Exponential(1.0, 60.0), attempts=4))
    assert [round(moment - start_s, 3) for moment in called_s] == [0, 1, 3, 7]
    with pytest.raises(ConnectionError, match="4"):
        await retry(Flaky(4), RetryPolicy(Exponential(1.0, 60.0), attempts=4))
    with pytest.raises(ConnectionError, match="1"):
        await retry(Flaky(1), is_transient=lambda error: False)
    with pytest.raises(TimeoutError):
        await retry(lambda: anyio.sleep(100), RetryPolicy(deadline_s=5.0))


@pytest.mark.trio
async def test_an_empty_budget_leaves_first_attempts(autojump_clock: trio.abc.Clock) -> None:
    budget = RetryBudget(capacity=10, cost=5)
    policy = RetryPolicy(Fixed(0.1), attempts=5)
    with pytest.raises(ConnectionError, match="3"):  # two retries are paid for
        await retry(Flaky(9), policy, budget=budget)
    with pytest.raises(ConnectionError, match="1"):
        await retry(Flaky(9), policy, budget=budget)
    for _ in range(5):
        await retry(Flaky(0), policy, budget=budget)
    assert await retry(Flaky(1), policy, budget=budget)


@given(
    st.floats(0.5, 50),
    st.floats(1, 20),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 1)), min_size=1, max_size=60),
)
def test_no_span_takes_more_than_burst_and_rate(rate: float, burst: float, asked: list[tuple[float, float]]) -> None:
    bucket, now_s = TokenBucket(rate, burst), 1_000.0
    taken: list[tuple[float, float]] = []
    for pause_s, tokens in asked:
        now_s += pause_s
        if bucket.take(tokens, now_s) == 0.0:
            taken.append((now_s, tokens))
    for first, (since_s, _) in enumerate(taken):
        total = 0.0
        for moment_s, tokens in taken[first:]:
            total += tokens
            assert total <= burst + rate * (moment_s - since_s) + 1e-3


@pytest.mark.trio
async def test_a_limiter_keeps_the_rate_and_the_order(autojump_clock: trio.abc.Clock) -> None:
    limiter, done = RateLimiter(rate_per_s=2.0, burst=1.0), []
    start_s = anyio.current_time()

    async def work(number: int) -> None:
        await limiter.acquire()
        done.append((number, round(anyio.current_time() - start_s, 3)))

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(work, number)
            await anyio.lowlevel.checkpoint()
    assert sorted(moment for _, moment in done) == [0, 0.5, 1.0, 1.5]


@pytest.mark.trio
async def test_a_circuit_opens_probes_and_closes(autojump_clock: trio.abc.Clock) -> None:
    breaker = CircuitBreaker(CircuitPolicy(failures=2, window=4, open_s=30.0))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(Flaky(9))
    calls = Flaky(0)
    with pytest.raises(CircuitOpen) as refused:
        await breaker.call(calls)
    assert calls.called_s == []
    assert 0 < refused.value.retry_after_s <= 30
    await anyio.sleep(31)
    with pytest.raises(ConnectionError):  # the probe fails: open again
        await breaker.call(Flaky(9))
    with pytest.raises(CircuitOpen):
        await breaker.call(calls)
    await anyio.sleep(31)
    await breaker.call(calls)
    await breaker.call(calls)
    assert len(calls.called_s) == 2


@pytest.mark.trio
async def test_a_bulkhead_admits_so_many_and_lets_so_many_wait(autojump_clock: trio.abc.Clock) -> None:
    bulkhead, inside, most, refused = Bulkhead(2, max_waiting=1), 0, 0, 0

    async def work() -> None:
        nonlocal inside, most, refused
        try:
            async with bulkhead.place():
                inside += 1
                most = max(most, inside)
                await anyio.sleep(1)
                inside -= 1
        except BulkheadFull:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(work)
    assert (most, refused, inside) == (2, 2, 0)
    async with bulkhead.place():  # every place was given back
        pass
