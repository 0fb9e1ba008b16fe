"""The producer against the real application, in time that jumps: crashes, lost answers, parts of batches refused."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    Accepted,
    BatchProducer,
    BatchTarget,
    Entry,
    EntryTooLarge,
    EventsTarget,
    Fixed,
    InThreads,
    KinesisTarget,
    Limits,
    NotSent,
    ProducerClosed,
    ProducerPolicy,
    Rejected,
    RetryPolicy,
    SqsTarget,
)
from patterns.batch_producer import Collector, Sent

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BODIES = [f"{group}{number}" for number in range(4) for group in "abc"]


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


def fifo(body: str) -> Entry:
    return {"MessageBody": body, "MessageGroupId": body[0], "MessageDeduplicationId": body}


def in_groups(bodies: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for body in bodies:
        groups.setdefault(body[0], []).append(body)
    return groups


class Recorded:
    """A target that writes down what was asked of it."""

    def __init__(self, target: BatchTarget) -> None:
        self._target, self.limits = target, target.limits
        self.size_bytes, self.lane = target.size_bytes, target.lane
        self.requests: list[tuple[float, list[str]]] = []

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        self.requests.append((anyio.current_time(), [entry["MessageBody"] for entry in entries]))
        return await self._target.send(entries)


class Lossy(Recorded):
    """Requests that fail before or after they have their effect, and entries that are refused."""

    def __init__(self, target: BatchTarget, chance: random.Random) -> None:
        super().__init__(target)
        self._chance = chance

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        await anyio.sleep(self._chance.choice([0, 0.01, 0.5]))
        if self._chance.random() < 0.2:
            raise ConnectionError("lost")
        refused = {number for number in range(len(entries)) if self._chance.random() < 0.2}
        rest = [entry for number, entry in enumerate(entries) if number not in refused]
        answers = iter(await super().send(rest) if rest else [])
        if self._chance.random() < 0.2:
            raise ConnectionError("the answer is lost")
        throttled = Rejected("Throttled", "", sender_fault=False)
        return [throttled if number in refused else next(answers) for number in range(len(entries))]


@BACKENDS
def test_a_crash_at_any_await_loses_nothing_that_was_answered(backend: str) -> None:
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(1):
            url = await sqs.create(f"q{after}.fifo")
            answered: list[str] = []

            async def produce(url: str = url, answered: list[str] = answered) -> None:
                async with BatchProducer(SqsTarget(sqs, url)) as producer:
                    on_the_way = [(body, await producer.put(fifo(body))) for body in BODIES]
                    for body, sent in on_the_way:
                        await sent.outcome()
                        answered.append(body)

            crashed = await crash(after, produce)
            arrived = in_groups(await sqs.take_all(url))
            assert set(answered) <= set(itertools.chain(*arrived.values())), after
            for group, bodies in arrived.items():
                assert bodies == [f"{group}{number}" for number in range(len(bodies))], after
            if not crashed:
                assert sum(map(len, arrived.values())) == len(BODIES)
                break
            crashes += 1
            await sqs.call("DeleteQueue", {"QueueUrl": url})

    played(backend, play)
    assert crashes > 20


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_lost_requests_and_answers_and_refused_entries(backend: str, kind: str) -> None:
    policy = ProducerPolicy(retry=RetryPolicy(Fixed(0.2), attempts=50), entries=4)

    async def play(sqs: Sqs) -> None:
        for seed in range(20):
            url = await sqs.create(f"q{seed}{kind}")
            target = Lossy(SqsTarget(sqs, url), random.Random(seed))
            async with BatchProducer(target, policy) as producer:
                for body in BODIES:
                    await producer.put(fifo(body) if kind else {"MessageBody": body})
            arrived = await sqs.take_all(url)
            assert set(arrived) == set(BODIES), seed
            if kind:
                assert in_groups(arrived) == in_groups(BODIES), seed

    played(backend, play)


@BACKENDS
def test_only_what_failed_is_sent_again_and_its_error_told_at_last(backend: str) -> None:
    class Refusing(Recorded):
        async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
            faults = {"theirs": Rejected("Busy", "", False), "mine": Rejected("Bad", "", True)}
            await super().send(entries)
            return [faults.get(entry["MessageBody"], Accepted({})) for entry in entries]

    async def play(sqs: Sqs) -> None:
        target = Refusing(SqsTarget(sqs, await sqs.create("q")))
        async with BatchProducer(target, ProducerPolicy(retry=RetryPolicy(Fixed(1), attempts=3))) as producer:
            good, mine, theirs = [await producer.put({"MessageBody": body}) for body in ("good", "mine", "theirs")]
            await good.outcome()
            with pytest.raises(NotSent, match="Bad"):
                await mine.outcome()
            assert len(target.requests) == 1
            with pytest.raises(NotSent, match="Busy"):
                await theirs.outcome()
        assert [bodies for _, bodies in target.requests] == [["good", "mine", "theirs"], ["theirs"], ["theirs"]]

    played(backend, play)


@BACKENDS
def test_ten_go_at_once_fewer_after_the_linger_and_no_batch_is_too_big(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        target = Recorded(SqsTarget(sqs, await sqs.create("q")))
        async with BatchProducer(target, ProducerPolicy(linger_ms=50, bytes=1000)) as producer:
            start_s = anyio.current_time()
            for number in range(12):
                await producer.put({"MessageBody": str(number)})
            await anyio.sleep(1)
            for size in (600, 400, 1):
                await producer.put({"MessageBody": "é" * (size // 2) + "x" * (size % 2)})
            with pytest.raises(EntryTooLarge):
                await producer.put({"MessageBody": "x" * 1001})
            await anyio.sleep(1)
        told = [(round(at_s - start_s, 2), len(bodies)) for at_s, bodies in target.requests]
        assert told == [(0, 10), (0.05, 2), (1, 2), (1.05, 1)]

    played(backend, play)


@BACKENDS
def test_callers_wait_when_too_much_is_unanswered_and_batches_grow_meanwhile(backend: str) -> None:
    class Slow(Recorded):
        async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
            await anyio.sleep(1)
            return await super().send(entries)

    async def play(sqs: Sqs) -> None:
        target = Slow(SqsTarget(sqs, await sqs.create("q")))
        start_s = anyio.current_time()
        async with BatchProducer(target, ProducerPolicy(linger_ms=0, requests=1, unanswered=8)) as producer:
            first = await producer.send({"MessageBody": "0"})
            assert first["MessageId"]
            for number in range(16):
                await producer.put({"MessageBody": str(number)})
            assert anyio.current_time() - start_s == pytest.approx(3, abs=0.1)
        sizes = [len(bodies) for _, bodies in target.requests]
        assert sum(sizes) == 17
        assert max(sizes) <= 8
        assert len(sizes) <= 6

    played(backend, play)


@BACKENDS
def test_tasks_that_put_at_the_same_time_go_in_the_order_of_their_calls(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q.fifo")
        called: list[str] = []
        async with BatchProducer(SqsTarget(sqs, url)) as producer, anyio.create_task_group() as tasks:

            async def put(body: str) -> None:
                called.append(body)
                await producer.put(fifo(body))

            for number in range(20):
                tasks.start_soon(put, f"a{number}")
        assert await sqs.take_all(url) == called

    played(backend, play)


@BACKENDS
def test_what_is_cancelled_in_time_is_not_sent_and_what_is_left_is_told(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        producer = BatchProducer(SqsTarget(sqs, url), ProducerPolicy(linger_ms=1000))

        async def produce() -> None:
            async with producer:
                with anyio.move_on_after(0.5):
                    await producer.send({"MessageBody": "cancelled"})
                kept = await producer.put({"MessageBody": "kept"})
                await kept.outcome()
                dropped.append(await producer.put({"MessageBody": "dropped"}))
                raise ValueError("the caller's own")

        dropped: list[Sent] = []
        with pytest.raises(ValueError, match="the caller's own"):
            await produce()
        with pytest.raises(ProducerClosed):
            await dropped[0].outcome()
        with pytest.raises(ProducerClosed):
            await producer.put({"MessageBody": "late"})
        assert await sqs.take_all(url) == ["kept"]

    played(backend, play)


@BACKENDS
def test_records_of_a_key_keep_their_order(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        async def kinesis(operation: str, **parameters: Any) -> dict[str, Any]:
            return await sqs.call(operation, {"StreamName": "s", **parameters}, "Kinesis_20131202")

        await kinesis("CreateStream", ShardCount=1)
        await anyio.sleep(60)
        async with BatchProducer(KinesisTarget(sqs, "s", in_order=True)) as producer:
            all_sent = [await producer.put({"Data": body.encode(), "PartitionKey": body[0]}) for body in BODIES]
        assert (await all_sent[0].outcome())["SequenceNumber"]
        iterator = await kinesis("GetShardIterator", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
        records = (await sqs.call("GetRecords", iterator, "Kinesis_20131202"))["Records"]
        assert in_groups([base64.b64decode(one["Data"]).decode() for one in records]) == in_groups(BODIES)

    played(backend, play)


@BACKENDS
def test_a_bad_event_is_told_and_does_not_hold_up_the_others(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        async with BatchProducer(EventsTarget(sqs)) as producer:
            good, bad = [
                await producer.put({"Source": "test", "DetailType": "t", "Detail": detail}) for detail in ("{}", "{")
            ]
        assert (await good.outcome())["EventId"]
        with pytest.raises(NotSent, match="MalformedDetail"):
            await bad.outcome()

    played(backend, play)


@BACKENDS
def test_boto3_in_threads(backend: str, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="producer.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]

    async def program() -> None:
        async with BatchProducer(SqsTarget(InThreads(sqs), url)) as producer:
            for body in BODIES:
                await producer.put(fifo(body))

    anyio.run(program, backend=backend)
    arrived: list[str] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            arrived.append(message["Body"])
    assert in_groups(arrived) == in_groups(BODIES)


def test_what_an_entry_counts() -> None:
    attributes = {
        "é": {"DataType": "String", "StringValue": "ab"},
        "bin": {"DataType": "Binary", "BinaryValue": b"\xff\xff"},
    }
    assert SqsTarget(None, "q").size_bytes({"MessageBody": "é", "MessageAttributes": attributes}) == 2 + 10 + 11
    assert KinesisTarget(None, "s").size_bytes({"Data": b"1234", "PartitionKey": "é"}) == 6
    event = {"Source": "ab", "DetailType": "c", "Detail": "{}", "Resources": ["xyz"], "Time": 0}
    assert EventsTarget(None).size_bytes(event) == 8 + 14


@given(
    st.lists(st.tuples(st.sampled_from(["add", "add", "take", "flush", "finish"]), st.integers(0, 9)), max_size=80),
    st.integers(1, 3),
)
def test_batches_keep_limits_and_order_and_lose_nobody(steps: list[tuple[str, int]], of_a_lane: int) -> None:
    collector = Collector(Limits(4, 20), 5.0, of_a_lane)
    added: list[Sent] = []
    taken: list[Sent] = []
    on_the_way: list[list[Sent]] = []

    def check(batch: list[Sent]) -> None:
        assert len(batch) <= 4
        assert sum(sent.size_bytes for sent in batch) <= 20
        for lane in {sent.lane for sent in batch} - {None}:
            assert sum(sent.lane == lane for sent in batch) <= of_a_lane
            assert all(sent.lane != lane for other in on_the_way for sent in other)
        taken.extend(batch)
        if batch:
            on_the_way.append(batch)

    for now_s, (action, number) in enumerate(steps):
        if action == "add":
            sent = Sent({}, number * 2 + 1, [None, "a", "b"][number % 3], float(now_s))
            added.append(sent)
            collector.add(sent)
        elif action == "finish" and on_the_way:
            collector.finish(on_the_way.pop(number % len(on_the_way)))
        elif action in ("take", "flush"):
            is_due = collector.due_s() <= now_s
            batch = collector.take(float(now_s), flush=action == "flush")
            assert bool(batch) == is_due or action == "flush"
            check(batch)
    while not collector.is_empty or on_the_way:
        check(collector.take(1e9, flush=True))
        if on_the_way:
            collector.finish(on_the_way.pop())
    assert len(taken) == len(added)
    for lane in ("a", "b"):
        assert [sent for sent in taken if sent.lane == lane] == [sent for sent in added if sent.lane == lane]
