"""Dead letters looked at, grouped, edited and redriven, under crashes at any await and lost answers."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    BatchConsumer,
    Boto3Sqs,
    ConsumerPolicy,
    DeadLetters,
    Drop,
    InThreads,
    Keep,
    Message,
    Poison,
    Quarantine,
    Redriven,
    Send,
    entry_of,
    error_of,
    group,
)
from patterns.dead_letters import Decide, rounds, with_error

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BODIES = ["a0", "a1", "a2", "b0", "b1", "c0"]
IN_ORDER = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0"]}


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


def to(url: str) -> Decide:
    return lambda message: Send(url, entry_of(message, url))


def groups(bodies: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for body in bodies:
        found.setdefault(body[0], []).append(body)
    return {key: [body for body, _ in itertools.groupby(those)] for key, those in sorted(found.items())}


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_a_crash_at_any_await_loses_nothing_and_keeps_groups_in_order(backend: str, kind: str) -> None:
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(1):
            dead, live = await sqs.create(f"dead{after}{kind}"), await sqs.create(f"live{after}{kind}")
            await sqs.send(dead, *BODIES)
            tool = DeadLetters(sqs, dead, hold_s=60)

            async def redrive(tool: DeadLetters = tool, live: str = live) -> None:
                await tool.redrive(to(live))

            crashed = await crash(after, redrive)
            await anyio.sleep(61)
            await tool.redrive(to(live))
            bodies = await sqs.take_all(live)
            assert await sqs.counts(dead) == (0, 0), after
            assert set(bodies) == set(BODIES), after
            if kind:
                assert sorted(bodies) == BODIES, after  # deduplicated
                assert groups(bodies) == IN_ORDER, after
            if not crashed:
                return
            crashes += 1

    played(backend, play)
    assert crashes > 5


class Lossy:
    """A client whose requests and answers get lost, and whose batches fail in part."""

    def __init__(self, client: Sqs, chance: random.Random) -> None:
        self._client, self._chance = client, chance

    def __getattr__(self, operation: str) -> Any:
        async def call(**parameters: Any) -> Any:
            dice = self._chance.random()
            if dice < 0.1:
                raise ConnectionError("before")
            failed = []
            if operation == "send_message_batch":
                failed = [one for one in parameters["Entries"] if self._chance.random() < 0.2]
                parameters["Entries"] = [one for one in parameters["Entries"] if one not in failed]
            refused = [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in failed]
            if operation == "send_message_batch" and not parameters["Entries"]:
                return {"Failed": refused}
            answer = await getattr(self._client, operation)(**parameters)
            if dice < 0.2:
                raise ConnectionError("after")
            return {**answer, "Failed": [*answer.get("Failed", ()), *refused]}

        return call


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_lost_answers_and_refusals_cost_duplicates_only(backend: str, kind: str) -> None:
    async def play(sqs: Sqs) -> None:
        for seed in range(15):
            dead, live = await sqs.create(f"dead{seed}{kind}"), await sqs.create(f"live{seed}{kind}")
            await sqs.send(dead, *BODIES)
            tool = DeadLetters(Lossy(sqs, random.Random(seed)), dead, hold_s=5)
            while await sqs.counts(dead) != (0, 0):
                try:
                    await tool.redrive(to(live))
                except ConnectionError:
                    await anyio.sleep(6)
            bodies = await sqs.take_all(live)
            assert set(bodies) == set(BODIES), seed
            if kind:
                assert groups(bodies) == IN_ORDER, seed

    played(backend, play)


@BACKENDS
def test_each_message_goes_where_it_was_decided_and_what_is_kept_is_there_at_once(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        dead, live, other = [await sqs.create(name) for name in ("dead", "live", "other")]
        await sqs.send(dead, *(f"{verdict}{number}" for number in range(8) for verdict in "sdkeo"))

        def decide(message: Message) -> Send | Keep | Drop:
            verdict = message.body[0]
            if verdict in "kd":
                return Keep() if verdict == "k" else Drop()
            url = other if verdict == "o" else live
            return Send(url, entry_of(message, url, body=message.body.upper() if verdict == "e" else None))

        report = await DeadLetters(sqs, dead).redrive(decide)
        assert report == Redriven(sent=24, dropped=8, kept=8, refused=[])
        assert await sqs.counts(dead) == (8, 0)
        assert sorted(await sqs.take_all(live)) == sorted([f"E{n}" for n in range(8)] + [f"s{n}" for n in range(8)])
        assert sorted(await sqs.take_all(other)) == [f"o{n}" for n in range(8)]
        assert sorted(message.body for message in await DeadLetters(sqs, dead).inspect()) == [f"k{n}" for n in range(8)]
        assert len(await DeadLetters(sqs, dead).inspect(limit=3)) == 3
        assert await sqs.counts(dead) == (8, 0)
        report = await DeadLetters(sqs, dead).redrive(lambda message: Drop(), limit=5)
        assert report.dropped == 5
        assert await sqs.counts(dead) == (3, 0)

    played(backend, play)


@BACKENDS
def test_of_a_fifo_group_nothing_overtakes_what_is_kept(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        dead, live = await sqs.create("dead.fifo"), await sqs.create("live.fifo")
        await sqs.send(dead, *BODIES)
        await DeadLetters(sqs, dead).redrive(
            lambda message: Keep() if message.body == "a1" else Send(live, entry_of(message, live))
        )
        assert sorted(await sqs.take_all(live)) == ["a0", "b0", "b1", "c0"]
        assert await sqs.take_all(dead) == ["a1", "a2"]

    played(backend, play)


@BACKENDS
@pytest.mark.parametrize("rate_per_s", [0.5, 5.0])
def test_a_rate_is_kept(backend: str, rate_per_s: float) -> None:
    async def play(sqs: Sqs) -> None:
        dead, live = await sqs.create("dead"), await sqs.create("live")
        await sqs.send(dead, *(str(number) for number in range(30)))
        start_s = anyio.current_time()
        await DeadLetters(sqs, dead, hold_s=30).redrive(to(live), rate_per_s=rate_per_s)
        took_s = anyio.current_time() - start_s
        assert (30 - 10) / rate_per_s <= took_s <= 40 / rate_per_s
        assert sorted(await sqs.take_all(live), key=int) == [str(number) for number in range(30)]

    played(backend, play)


@BACKENDS
def test_large_messages_go_in_requests_within_the_limit(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        dead, live = await sqs.create("dead"), await sqs.create("live")
        bodies = [letter * 400_000 for letter in "abcde"]
        await sqs.send(dead, *bodies)
        assert (await DeadLetters(sqs, dead).redrive(to(live))).sent == 5
        assert sorted(await sqs.take_all(live)) == bodies

    played(backend, play)


@BACKENDS
def test_what_a_decision_raises_ends_it_and_hides_nothing(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        dead = await sqs.create("dead")
        await sqs.send(dead, *BODIES)

        def decide(message: Message) -> Keep:
            raise ValueError(message.body)

        with pytest.raises(ValueError, match=r"[abc][012]"):
            await DeadLetters(sqs, dead).redrive(decide)
        assert await sqs.counts(dead) == (6, 0)

    played(backend, play)


def test_from_a_consumer_through_quarantine_and_back(sqs: Any) -> None:
    """With boto3 in threads: a poison message, its error, what SQS itself put aside, and an edit that heals."""
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    live = sqs.create_queue(QueueName="live", Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"})[
        "QueueUrl"
    ]
    sqs.send_message(QueueUrl=live, MessageBody="too often")
    for _ in range(2):
        sqs.receive_message(QueueUrl=live)
    attribute = {"DataType": "String", "StringValue": "yes"}
    sqs.send_message(QueueUrl=live, MessageBody="poison", MessageAttributes={"mine": attribute})
    handled: list[str] = []

    async def program() -> None:
        client = InThreads(sqs)

        async def handle(message: Message) -> None:
            if message.body == "poison":
                raise Poison("bad\x00 to the bone")
            handled.append(message.body)
            assert message.message_attributes["mine"]["StringValue"] == "yes"

        async def consume(until: Callable[[], bool]) -> None:
            consumer = BatchConsumer(
                Boto3Sqs(sqs, live), handle, ConsumerPolicy(wait_s=0), quarantine=Quarantine(client, dead)
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.run)
                while not until():  # noqa: ASYNC110 nobody tells
                    await anyio.sleep(0.05)
                consumer.stop()

        def there() -> int:
            attributes = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
            return int(attributes["ApproximateNumberOfMessages"])

        with anyio.fail_after(30):
            await consume(lambda: there() == 2)
            tool = DeadLetters(client, dead)
            found = group(await tool.inspect())
            assert {name: (one.count, one.example.body) for name, one in found.items()} == {
                "Poison": (1, "poison"),
                "received too often from live": (1, "too often"),
            }
            said = found["Poison"].example.message_attributes["ErrorMessage"]["StringValue"]
            assert said == "bad\ufffd to the bone"

            def heal(message: Message) -> Send | Drop:
                edited = entry_of(message, live, body="healed", attributes={"mine": attribute})
                return Send(live, edited) if error_of(message) == "Poison" else Drop()

            assert await tool.redrive(heal) == Redriven(sent=1, dropped=1)
            await consume(lambda: handled == ["healed"])

    anyio.run(program, backend="trio")


# The pure parts


def message(number: int, lane: str | None = None, **attributes: str) -> Message:
    ordered = {} if lane is None else {"MessageGroupId": lane, "SequenceNumber": str(number)}
    return Message(str(number), str(number), "x" * number, {**ordered, **attributes})


def test_errors_by_whoever_wrote_them() -> None:
    def of(**values: str) -> Message:
        return Message("1", "1", "", {}, {name: {"StringValue": value} for name, value in values.items()})

    assert error_of(of(ErrorCode="500")) == "500"
    assert error_of(of(ERROR_CODE="NO_PERMISSIONS")) == "NO_PERMISSIONS"
    assert error_of(of()) == "unknown"


def test_groups_by_size_with_their_span() -> None:
    those = [message(number, SentTimestamp=str(100 - number)) for number in range(5)]
    found = group(those, lambda one: "even" if int(one.message_id) % 2 == 0 else "odd")
    assert [(name, one.count, one.oldest_ms, one.newest_ms) for name, one in found.items()] == [
        ("even", 3, 96, 100),
        ("odd", 2, 97, 99),
    ]
    assert found["even"].example is those[4]


def test_an_entry_keeps_group_and_trace() -> None:
    one = message(3, "g", AWSTraceHeader="Root=1")
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
    fifo = {"MessageBody": "xxx", "MessageSystemAttributes": trace, "MessageGroupId": "g"}
    assert entry_of(one, "http://bus/q") == fifo
    assert entry_of(one, "http://bus/q.fifo") == {**fifo, "MessageDeduplicationId": "3"}
    lone = {"MessageBody": "x", "MessageGroupId": "1", "MessageDeduplicationId": "1"}
    assert entry_of(message(1), "http://bus/q.fifo") == lone


def test_an_error_never_makes_too_many_attributes() -> None:
    full = Message("1", "1", "", {}, {str(n): {"DataType": "String", "StringValue": "x"} for n in range(9)})
    assert len(with_error(full, ValueError("x"))) == 10
    assert with_error(message(1), ValueError())["ErrorMessage"]["StringValue"] == "ValueError"
    assert len(with_error(message(1), ValueError("x" * 10_000))["ErrorMessage"]["StringValue"]) == 1_000


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from("xy"), st.integers(1, 50)), max_size=10),
    st.integers(1, 100),
)
def test_rounds_hold_each_message_once_in_order_within_the_limit(
    drawn: list[tuple[str | None, str, int]], limit_bytes: int
) -> None:
    decided = [
        (message(number, lane), Send(url, {"MessageBody": "x" * size}))
        for number, (lane, url, size) in enumerate(drawn)
    ]
    found = rounds(decided, lambda entry: len(entry["MessageBody"]), limit_bytes)
    assert sorted(int(one.message_id) for those in found for one, _ in those) == list(range(len(decided)))
    for those in found:
        assert len({send.queue_url for _, send in those}) == 1
        assert len(those) == 1 or sum(len(send.entry["MessageBody"]) for _, send in those) <= limit_bytes
        lanes = [one.ordered_group for one, _ in those if one.ordered_group]
        assert len(lanes) == len(set(lanes))
    for lane in "ab":
        numbers = [int(one.message_id) for those in found for one, _ in those if one.ordered_group == lane]
        assert numbers == sorted(numbers)
