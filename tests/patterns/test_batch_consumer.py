"""The consumer against the real application, in time that jumps: crashes, lost answers, leases, poison, draining.

A handler asserts nothing here: its errors are the consumer's business. It writes down, and the test looks afterwards.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    AioSqs,
    BatchConsumer,
    Boto3Sqs,
    ConsumerPolicy,
    Fixed,
    Happening,
    LeaseLost,
    Message,
    Poison,
    Refusal,
    SqsClient,
    TooManyReceives,
)
from patterns.batch_consumer import GroupLanes, Held, Lease

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BODIES = ["a0", "a1", "a2", "b0", "b1", "b2"]


def in_order(done: Sequence[str]) -> dict[str, list[str]]:
    """What was done in each group, where a message that was done again and again counts once."""
    groups: dict[str, list[str]] = {}
    for body in done:
        groups.setdefault(body[0], []).append(body)
    return {group: [body for body, _ in itertools.groupby(bodies)] for group, bodies in groups.items()}


EXPECTED = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}


async def consume_all(sqs: Sqs, url: str, consumer: BatchConsumer) -> None:
    """Until the queue is empty."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.run)
        await sqs.until_empty(url)
        consumer.stop()


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_a_crash_at_any_await_loses_nothing_and_keeps_groups_in_order(backend: str, kind: str) -> None:
    policy = ConsumerPolicy(concurrency=2, prefetch=3, handler_timeout_s=5, wait_s=1, backoff=Fixed(1))
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(1):
            url = await sqs.create(f"q{after}{kind}")
            await sqs.send(url, *BODIES)
            done: list[str] = []

            async def handle(message: Message, done: list[str] = done) -> None:
                await anyio.lowlevel.checkpoint()
                if message.body == "a1" and message.receive_count == 1:
                    raise RuntimeError("not at the first time")
                done.append(message.body)
                await anyio.lowlevel.checkpoint()

            first = BatchConsumer(AioSqs(sqs, url), handle, policy)
            async with anyio.create_task_group() as tasks:

                async def end_it(url: str = url, first: BatchConsumer = first) -> None:
                    await sqs.until_empty(url)
                    first.stop()

                tasks.start_soon(end_it)
                crashed = await crash(after, first.run)
                tasks.cancel_scope.cancel()
            await consume_all(sqs, url, BatchConsumer(AioSqs(sqs, url), handle, policy))
            assert set(done) == set(BODIES), after
            if kind:
                assert in_order(done) == EXPECTED, after
            if not crashed:
                break
            crashes += 1
            await sqs.call("DeleteQueue", {"QueueUrl": url})

    played(backend, play)
    assert crashes > 40


class Lossy:
    """Requests that fail before or after they have their effect, and batches that fail in part."""

    def __init__(self, client: SqsClient, chance: random.Random) -> None:
        self._client, self._chance = client, chance

    async def _perhaps(self) -> None:
        if self._chance.random() < 0.2:
            raise ConnectionError("lost")

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        await self._perhaps()
        answer = await self._client.receive(max_messages=max_messages, wait_s=wait_s, visibility_s=visibility_s)
        await self._perhaps()
        return answer

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        await self._perhaps()
        kept = [handle for handle in receipt_handles if self._chance.random() < 0.2]
        gone = [handle for handle in receipt_handles if handle not in kept]
        refused = dict(await self._client.delete_batch(gone)) if gone else {}
        await self._perhaps()
        return refused | {handle: Refusal("InternalError", sender_fault=False) for handle in kept}

    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]:
        await self._perhaps()
        answer = await self._client.change_visibility(visibility_s)
        await self._perhaps()
        return answer


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_lost_requests_and_answers_cost_duplicates_only(backend: str, kind: str) -> None:
    policy = ConsumerPolicy(
        concurrency=3, prefetch=3, handler_timeout_s=2, wait_s=1, backoff=Fixed(1), max_receives=99, call_attempts=20
    )

    async def play(sqs: Sqs) -> None:
        for seed in range(20):
            chance = random.Random(seed)
            url = await sqs.create(f"q{seed}{kind}")
            await sqs.send(url, *BODIES)
            done: list[str] = []

            async def handle(message: Message, done: list[str] = done, chance: random.Random = chance) -> None:
                await anyio.sleep(chance.choice([0, 0.1, 3]))  # three seconds are too long
                done.append(message.body)
                if chance.random() < 0.2:
                    raise RuntimeError("after the effect")

            await consume_all(sqs, url, BatchConsumer(Lossy(AioSqs(sqs, url), chance), handle, policy))
            assert set(done) == set(BODIES), seed
            if kind:
                assert in_order(done) == EXPECTED, seed

    played(backend, play)


@BACKENDS
def test_groups_run_in_parallel_and_work_in_hand_is_bounded(backend: str) -> None:
    policy = ConsumerPolicy(concurrency=3, prefetch=2, wait_s=1)
    running: Counter[str] = Counter()
    most = most_in_hand = most_of_a_group = 0

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q.fifo")
        await sqs.send(url, *(f"{group}{number}" for number in range(4) for group in "abcde"))

        async def handle(message: Message) -> None:
            nonlocal most, most_in_hand, most_of_a_group
            running[message.body[0]] += 1
            most = max(most, running.total())
            most_in_hand = max(most_in_hand, (await sqs.counts(url))[1])
            most_of_a_group = max(most_of_a_group, running[message.body[0]])
            await anyio.sleep(1)
            running[message.body[0]] -= 1

        await consume_all(sqs, url, BatchConsumer(AioSqs(sqs, url), handle, policy))

    played(backend, play)
    assert most == 3
    assert most_in_hand == 5
    assert most_of_a_group == 1


@BACKENDS
def test_a_heartbeat_keeps_what_takes_longer_than_its_visibility(backend: str) -> None:
    done: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "slow")

        async def handle(message: Message) -> None:
            await anyio.sleep(100)
            done.append(message.body)

        policy = ConsumerPolicy(handler_timeout_s=200, visibility_s=6, wait_s=1)
        await consume_all(sqs, url, BatchConsumer(AioSqs(sqs, url), handle, policy))

    played(backend, play)
    assert done == ["slow"]


class NoHeartbeats(AioSqs):
    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]:
        raise ConnectionError("down")


@BACKENDS
def test_a_handler_is_cancelled_before_its_lease_ends(backend: str) -> None:
    lived_s: list[float] = []
    events: list[tuple[Happening, Exception | None]] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "slow")

        async def handle(message: Message) -> None:
            start_s = anyio.current_time()
            try:
                await anyio.sleep(100 if message.receive_count == 1 else 0)
            finally:
                lived_s.append(anyio.current_time() - start_s)

        policy = ConsumerPolicy(handler_timeout_s=200, visibility_s=12, wait_s=1)
        consumer = BatchConsumer(
            NoHeartbeats(sqs, url), handle, policy, on_event=lambda what, _, error: events.append((what, error))
        )
        await consume_all(sqs, url, consumer)

    played(backend, play)
    assert len(lived_s) == 2
    assert 8 <= lived_s[0] < 12
    assert [type(error) for what, error in events if what is Happening.LEASE_LOST] == [LeaseLost]


@BACKENDS
def test_what_fails_comes_again_by_its_backoff_and_in_the_end_is_quarantined(backend: str) -> None:
    tried_s: list[float] = []
    quarantined: list[tuple[str, str]] = []
    put_aside_before: list[int] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q.fifo")
        await sqs.send(url, "a-bad", "a-poison", "a-good")

        async def handle(message: Message) -> None:
            if message.body == "a-poison":
                raise Poison("never")
            if message.body == "a-bad":
                tried_s.append(anyio.current_time())
                raise RuntimeError("bad")
            put_aside_before.append(len(quarantined))

        async def quarantine(message: Message, error: Exception) -> None:
            quarantined.append((message.body, repr(error)))

        policy = ConsumerPolicy(backoff=Fixed(7), max_receives=3, wait_s=20)
        await consume_all(sqs, url, BatchConsumer(AioSqs(sqs, url), handle, policy, quarantine=quarantine))

    played(backend, play)
    assert [round(after - before) for before, after in itertools.pairwise(tried_s)] == [7, 7]
    assert put_aside_before == [2]
    assert quarantined == [("a-bad", "RuntimeError('bad')"), ("a-poison", "Poison('never')")]


@BACKENDS
def test_what_kills_its_consumers_is_quarantined_unhandled(backend: str) -> None:
    quarantined: list[Exception] = []
    handled: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "killer")
        client = AioSqs(sqs, url)
        for _ in range(2):
            assert await client.receive(max_messages=1, wait_s=5, visibility_s=1)

        async def handle(message: Message) -> None:
            handled.append(message.body)

        async def quarantine(message: Message, error: Exception) -> None:
            quarantined.append(error)

        policy = ConsumerPolicy(max_receives=2)
        await consume_all(sqs, url, BatchConsumer(client, handle, policy, quarantine=quarantine))

    played(backend, play)
    assert [type(error) for error in quarantined] == [TooManyReceives]
    assert handled == []


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_stop_finishes_what_has_started_and_gives_the_rest_back(backend: str, kind: str) -> None:
    done: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create(f"q{kind}")
        await sqs.send(url, *BODIES)

        async def handle(message: Message) -> None:
            await anyio.sleep(3)
            done.append(message.body)

        consumer = BatchConsumer(AioSqs(sqs, url), handle, ConsumerPolicy(concurrency=2, wait_s=20))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            await anyio.sleep(1)
            consumer.stop()
        assert anyio.current_time() <= 21
        assert await sqs.counts(url) == (4, 0)

    played(backend, play)
    assert len(done) == 2


@BACKENDS
def test_a_queue_that_is_not_there_ends_the_consumer_with_its_error(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        async def handle(message: Message) -> None:
            raise AssertionError

        with pytest.raises(RuntimeError, match="QueueDoesNotExist"):
            await BatchConsumer(AioSqs(sqs, "http://bus.test/000000000000/none"), handle).run()

    played(backend, play)


@BACKENDS
def test_boto3_in_threads(backend: str, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="threads.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    for body in BODIES:
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0], MessageDeduplicationId=body)
    done: list[str] = []

    async def program() -> None:
        async def handle(message: Message) -> None:
            if message.body == "a1" and message.receive_count == 1:
                raise RuntimeError("not at the first time")
            done.append(message.body)
            if len(done) == len(BODIES):
                consumer.stop()

        consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, ConsumerPolicy(wait_s=1, backoff=Fixed(0)))
        with anyio.fail_after(10):
            await consumer.run()

    anyio.run(program, backend=backend)
    assert in_order(done) == EXPECTED
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


class SlowDeletions(AioSqs):
    """Each takes five seconds, and the first is refused for good."""

    def __init__(self, sqs: Sqs, queue_url: str) -> None:
        super().__init__(sqs, queue_url)
        self.answered_s: list[float] = []

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        await anyio.sleep(5)
        is_first = not self.answered_s
        refused = {} if is_first else dict(await super().delete_batch(receipt_handles))
        self.answered_s.append(anyio.current_time())
        return dict.fromkeys(receipt_handles, Refusal("ReceiptHandleIsInvalid", True)) if is_first else refused


@BACKENDS
def test_the_next_of_a_group_starts_after_the_deletion_of_the_one_before(backend: str) -> None:
    done: list[str] = []
    answers: list[int] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q.fifo")
        await sqs.send(url, "a0", "a1", "a2")
        client = SlowDeletions(sqs, url)

        async def handle(message: Message) -> None:
            answers.append(len(client.answered_s))
            done.append(message.body)

        policy = ConsumerPolicy(handler_timeout_s=5, wait_s=1)
        await consume_all(sqs, url, BatchConsumer(client, handle, policy))

    played(backend, play)
    assert done == ["a0", "a0", "a1", "a2"]
    assert answers == [0, 1, 2, 3]  # one for each end before


# The pure parts


STEPS = st.sampled_from(["add", "add", "start", "start", "rest", "good", "bad", "drain", "close"])


@given(st.lists(STEPS, max_size=60), st.integers(1, 4), st.data())
def test_lanes_keep_a_group_in_order_one_at_a_time_and_lose_nobody(
    steps: list[str], concurrency: int, data: st.DataObject
) -> None:
    lanes, added = GroupLanes(concurrency), itertools.count()
    waiting: list[Held] = []
    working: list[Held] = []
    resting: list[Held] = []
    is_closed = False

    def lane_of(held: Held) -> str:
        return held.lane

    def one_of(some: list[Held]) -> Held:
        return some.pop(data.draw(st.integers(0, len(some) - 1)))

    for step in steps:
        if step == "add":
            group = data.draw(st.sampled_from(["a", "b", None]))
            attributes = {} if group is None else {"MessageGroupId": group, "SequenceNumber": "1"}
            number = next(added)
            held = Held(Message(str(number), str(number), "", attributes), 0.0, 0.0)
            waiting.append(held)
            lanes.add(held)
        elif step == "start":
            busy = set(map(lane_of, working + resting))
            may_start = [held for held in waiting if held.lane not in busy]
            started = lanes.start()
            assert (started is None) == (is_closed or len(working) == concurrency or not may_start)
            if started is not None:
                assert started is next(held for held in waiting if held.lane == started.lane)
                assert started.lane not in busy
                waiting.remove(started)
                working.append(started)
        elif step == "drain":
            assert sorted(lanes.drain(), key=lane_of) == sorted(waiting, key=lane_of)
            waiting.clear()
        elif step == "close":
            lanes.close()
            is_closed = True
        elif step == "rest":
            if working:
                resting.append(one_of(working))
                lanes.rest(resting[-1])
        elif resting:
            ended = one_of(resting)
            behind = [held for held in waiting if held.lane == ended.lane] if step == "bad" else []
            assert lanes.finish(ended, ok=step == "good") == behind
            waiting = [held for held in waiting if held not in behind]


def test_the_visibility_timeout_is_six_times_the_handlers() -> None:
    assert ConsumerPolicy(handler_timeout_s=30).lease_s == 180
    assert ConsumerPolicy(handler_timeout_s=0.1).lease_s == 1
    assert ConsumerPolicy(handler_timeout_s=10_000).lease_s == 43_200
    assert ConsumerPolicy(handler_timeout_s=30, visibility_s=45).lease_s == 45


@given(st.integers(1, 43_200), st.floats(0, 1))
def test_a_lease_is_extended_at_least_once_before_it_can_be_lost(visibility_s: int, phase: float) -> None:
    policy = ConsumerPolicy(visibility_s=visibility_s)
    looks = [policy.lease(visibility_s - (phase + number) * policy.heartbeat_s) for number in range(6)]
    assert looks[0] is Lease.KEEP
    assert looks.count(Lease.EXTEND) >= 2
    assert looks.index(Lease.LOST) > looks.index(Lease.EXTEND) if Lease.LOST in looks else True


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 200))
def test_no_more_is_asked_for_than_there_is_room(concurrency: int, prefetch: int, in_hand: int) -> None:
    wanted = ConsumerPolicy(concurrency=concurrency, prefetch=prefetch).wanted(in_hand)
    room = concurrency + prefetch - in_hand
    assert wanted == 0 if room <= 0 else 1 <= wanted <= min(10, room)
