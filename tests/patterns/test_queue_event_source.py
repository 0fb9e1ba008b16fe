"""Lambda's poller for queues: the events and their rules by table, then the driver in the real application, in time
that jumps: crashes at every await, windows, filters, order, concurrency, what is deleted and what comes again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_event_source import failing
from virtual import Sqs, broker, crash, run_virtually

from patterns import AioSqs, Boto3Sqs, Message, Refusal
from patterns.event_source import MAX_PAYLOAD_BYTES, Function, SourceHappening, record_by_record
from patterns.queue_event_source import SqsEventSource, SqsSourcePolicy, deletable, payloads, sqs_record

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ARN = "arn:aws:sqs:us-east-2:123456789012:my-queue"
REPORT = ["ReportBatchItemFailures"]


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


# What the function is given


def test_a_message_as_the_guide_shows_it() -> None:
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    }
    sent = {
        "text": {"StringValue": "é", "DataType": "String"},
        "price": {"StringValue": "100.5", "DataType": "Number.euro"},
        "blob": {"BinaryValue": b"\x00\x01", "DataType": "Binary"},
    }
    plain = Message("059f36b4-87a3-44ab-83d2-661975830a7d", "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...", "test", attributes)
    # https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    assert sqs_record(plain, ARN) == {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": "test",
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "us-east-2",
    }
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert sqs_record(Message("m", "r", "b", {}, sent), ARN)["messageAttributes"] == {
        "text": {"stringValue": "é", **lists, "dataType": "String"},
        "price": {"stringValue": "100.5", **lists, "dataType": "Number.euro"},
        "blob": {"binaryValue": "AAE=", **lists, "dataType": "Binary"},
    }


def test_digests_are_those_of_the_service(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="digests")["QueueUrl"]
    attributes = {
        "text": {"StringValue": "é", "DataType": "String"},
        "price": {"StringValue": "100.5", "DataType": "Number.euro"},
        "blob": {"BinaryValue": b"\x00\x01", "DataType": "Binary.png"},
    }
    answer = sqs.send_message(QueueUrl=url, MessageBody="körper", MessageAttributes=attributes)
    seen: list[Any] = []

    async def program() -> None:
        async def handler(event: Any, context: Any) -> None:
            seen.extend(event["Records"])
            assert context.function_name == "handler"
            assert context.function_version == "$LATEST"
            assert 0 < context.get_remaining_time_in_millis() <= 30_000
            source.stop()

        source = SqsEventSource(Boto3Sqs(sqs, url), ARN, Function(handler), SqsSourcePolicy(wait_s=0))
        with anyio.fail_after(10):
            await source.run()

    anyio.run(program)
    assert seen[0]["md5OfBody"] == answer["MD5OfMessageBody"]
    assert seen[0]["md5OfMessageAttributes"] == answer["MD5OfMessageAttributes"]
    assert seen[0]["messageAttributes"]["blob"]["binaryValue"] == "AAE="
    assert "Messages" not in sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)


# What follows from an answer


def queued(*bodies: str) -> list[Message]:
    """A capital letter is a message of a FIFO group of that name."""
    return [
        Message(
            body,
            f"handle {body}",
            body,
            {"MessageGroupId": body[0], "SequenceNumber": "1"} if body[0].isupper() else {},
        )
        for body in bodies
    ]


@pytest.mark.parametrize(
    ("bodies", "failed", "deleted"),
    [
        (["a", "b", "c"], ["b"], ["a", "c"]),
        (["a", "b"], [], ["a", "b"]),
        (["A1", "A2", "A3"], ["A2"], ["A1"]),
        (["A1", "A2", "A3"], ["A2", "A3"], ["A1"]),
        (["A1", "B1", "A2", "B2"], ["A1"], ["B1", "B2"]),
        (["A1", "B1", "A2", "B2"], ["A1", "B2"], ["B1"]),
    ],
)
def test_in_a_group_nothing_behind_the_first_failure_is_deleted(
    bodies: list[str], failed: list[str], deleted: list[str]
) -> None:
    assert [message.body for message in deletable(queued(*bodies), failed)] == deleted


@given(st.lists(st.sampled_from("aABC"), max_size=12), st.sets(st.integers(0, 11)))
def test_what_is_deletable_against_a_naive_model(groups: list[str], failed: set[int]) -> None:
    bodies = [f"{group}{number}" for number, group in enumerate(groups)]
    wrong = {bodies[number] for number in failed if number < len(bodies)}
    naive = []
    for at, body in enumerate(bodies):
        before = [other for other in bodies[: at + 1] if other == body or (body[0] != "a" and other[0] == body[0])]
        if wrong.isdisjoint(before):
            naive.append(body)
    assert [message.body for message in deletable(queued(*bodies), wrong)] == naive


@given(st.lists(st.integers(0, 60), max_size=30))
def test_events_are_filled_in_order_up_to_the_payload(sizes: list[int]) -> None:
    counts = payloads(sizes, 80)
    assert sum(counts) == len(sizes)
    assert 0 not in counts
    whole = len('{"Records":[]}')
    starts = list(itertools.accumulate([0, *counts]))
    for at, start in enumerate(starts[:-1]):
        part = sizes[start : starts[at + 1]]
        assert sum(part) + len(part) - 1 + whole <= 80 or len(part) == 1
        if starts[at + 1] < len(sizes):
            more = [*part, sizes[starts[at + 1]]]
            assert sum(more) + len(more) - 1 + whole > 80, "the next had no room"


def test_a_policy_is_what_aws_accepts() -> None:
    policy = SqsSourcePolicy.of(
        {
            "EventSourceArn": ARN,
            "FunctionName": "f",
            "BatchSize": 100,
            "MaximumBatchingWindowInSeconds": 5,
            "ScalingConfig": {"MaximumConcurrency": 7},
            "FunctionResponseTypes": REPORT,
            "FilterCriteria": None,
        }
    )
    assert policy == SqsSourcePolicy(
        batch_size=100, maximum_batching_window_s=5, maximum_concurrency=7, report_batch_item_failures=True
    )
    assert policy.lease_s(10) == 65
    assert SqsSourcePolicy.of({}) == SqsSourcePolicy()
    for wrong in (
        {"BatchSize": 0},
        {"BatchSize": 11},
        {"BatchSize": 10_001, "MaximumBatchingWindowInSeconds": 1},
        {"MaximumBatchingWindowInSeconds": 301},
        {"ScalingConfig": {"MaximumConcurrency": 1}},
        {"ScalingConfig": {"MaximumConcurrency": 1001}},
        {"FunctionResponseTypes": ["Report"]},
        {"StartingPosition": "LATEST"},
    ):
        with pytest.raises(ValueError, match=r"from|at least|needs|not of"):
            SqsSourcePolicy.of(wrong)
    for policy in (
        SqsSourcePolicy(batch_size=11, maximum_batching_window_s=1),
        SqsSourcePolicy(maximum_batching_window_s=1),
    ):
        with pytest.raises(ValueError, match="FIFO"):
            SqsEventSource(AioSqs(None, ""), ARN + ".fifo", Function(print), policy)


# The driver

BODIES = ["a0", "a1", "a2", "b0", "b1", "b2"]
EXPECTED = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}


def in_order(done: Sequence[str]) -> dict[str, list[str]]:
    """What was done in each group, by when it was first done. A batch that crashed comes again from its beginning."""
    groups: dict[str, list[str]] = {}
    for body in dict.fromkeys(done):
        groups.setdefault(body[0], []).append(body)
    return groups


async def until_empty(sqs: Sqs, url: str, source: SqsEventSource) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        await sqs.until_empty(url)
        source.stop()


def bodies_of(event: Any) -> list[str]:
    return [record["body"] for record in event["Records"]]


@pytest.mark.parametrize(
    ("backend", "kind", "begin"), [("asyncio", "", 1), ("trio", "", 3), ("asyncio", ".fifo", 2), ("trio", ".fifo", 4)]
)
def test_a_crash_at_any_await_loses_nothing_and_keeps_groups_in_order(backend: str, kind: str, begin: int) -> None:
    """The moments are dealt out among the variants."""
    policy = SqsSourcePolicy(batch_size=4, report_batch_item_failures=True, wait_s=1, maximum_concurrency=2)
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(begin, 4):
            url = await sqs.create(f"q{after}{kind}")
            await sqs.send(url, *BODIES)
            done: list[str] = []

            async def handle(record: Any, done: list[str] = done) -> None:
                await anyio.lowlevel.checkpoint()
                if record["body"] == "a1" and record["attributes"]["ApproximateReceiveCount"] == "1":
                    raise RuntimeError("not at the first time")
                done.append(record["body"])

            def source(url: str = url, handle: Any = handle) -> SqsEventSource:
                function = Function(record_by_record(handle), timeout_s=2)
                return SqsEventSource(AioSqs(sqs, url), ARN + kind, function, policy)

            first = source()
            async with anyio.create_task_group() as tasks:

                async def end_it(url: str = url, first: SqsEventSource = first) -> None:
                    await sqs.until_empty(url)
                    first.stop()

                tasks.start_soon(end_it)
                crashed = await crash(after, first.run)
                tasks.cancel_scope.cancel()
            await until_empty(sqs, url, source())
            assert set(done) == set(BODIES), after
            if kind:
                assert in_order(done) == EXPECTED, after
                assert in_order(done[::-1]) == {group: bodies[::-1] for group, bodies in EXPECTED.items()}, (
                    "the last, too"
                )
            if not crashed:
                break
            crashes += 1
            await sqs.call("DeleteQueue", {"QueueUrl": url})

    played(backend, play)
    assert crashes > 6


@BACKENDS
def test_only_what_succeeded_is_deleted_and_the_rest_comes_after_its_visibility(backend: str) -> None:
    batches: list[tuple[float, list[str]]] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "good", "bad", "fine")

        async def handler(event: Any, context: Any) -> Any:
            batches.append((anyio.current_time(), sorted(bodies_of(event))))
            if len(batches) == 1:
                return {
                    "batchItemFailures": [
                        {"itemIdentifier": r["messageId"]} for r in event["Records"] if r["body"] == "bad"
                    ]
                }
            return None

        policy = SqsSourcePolicy(report_batch_item_failures=True)
        await until_empty(sqs, url, SqsEventSource(AioSqs(sqs, url), ARN, Function(handler, timeout_s=4), policy))

    played(backend, play)
    assert [batch for _, batch in batches] == [["bad", "fine", "good"], ["bad"]]
    assert round(batches[1][0] - batches[0][0]) == 24, "six times the timeout of the function"


@BACKENDS
@pytest.mark.parametrize("answer", ["unknown id", "raises", "hangs", "not turned on"])
def test_a_batch_that_fails_as_a_whole_comes_again_as_a_whole(backend: str, answer: str) -> None:
    batches: list[list[str]] = []
    reports = answer != "not turned on"

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "a", "b")

        async def handler(event: Any, context: Any) -> Any:
            batches.append(sorted(bodies_of(event)))
            if len(batches) == 1:
                if answer == "raises":
                    raise RuntimeError("no")
                if answer == "hangs":
                    await anyio.sleep(60)
                return failing("unknown")
            return None

        policy = SqsSourcePolicy(report_batch_item_failures=reports)
        await until_empty(sqs, url, SqsEventSource(AioSqs(sqs, url), ARN, Function(handler, timeout_s=4), policy))

    played(backend, play)
    assert batches == [["a", "b"]] * (2 if reports else 1), "what is not turned on is not looked at"


@BACKENDS
def test_a_window_gathers_more_than_a_receive_and_ends_in_time(backend: str) -> None:
    batches: list[tuple[float, int]] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")

        async def handler(event: Any, context: Any) -> None:
            batches.append((anyio.current_time(), len(event["Records"])))

        policy = SqsSourcePolicy(batch_size=25, maximum_batching_window_s=10, maximum_concurrency=1)
        source = SqsEventSource(AioSqs(sqs, url), ARN, Function(handler), policy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await anyio.sleep(100)
            await sqs.send(url, *(str(number) for number in range(30)))
            await anyio.sleep(3)
            await sqs.send(url, "one more")
            await anyio.sleep(30)
            source.stop()
        assert await sqs.counts(url) == (0, 0)

    played(backend, play)
    assert [count for _, count in batches] == [25, 6]
    assert batches[0][0] == pytest.approx(100, abs=0.1), "a full batch does not wait"
    assert batches[1][0] == pytest.approx(110, abs=1.1)


@BACKENDS
def test_not_more_than_the_maximum_concurrency(backend: str) -> None:
    running = most = 0

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, *(str(number) for number in range(12)))

        async def handler(event: Any, context: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await anyio.sleep(5)
            running -= 1

        policy = SqsSourcePolicy(batch_size=1, maximum_concurrency=3)
        await until_empty(sqs, url, SqsEventSource(AioSqs(sqs, url), ARN, Function(handler), policy))
        assert 20 <= anyio.current_time() < 45, "three at once"

    played(backend, play)
    assert most == 3


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_what_the_filter_drops_is_deleted_unseen(backend: str, kind: str) -> None:
    seen: list[str] = []
    told: list[tuple[SourceHappening, int]] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create(f"q{kind}")
        await sqs.send(
            url, *(json.dumps({"n": number % 3, "x": number}, separators=(",", ":")) for number in range(12))
        )

        async def handler(event: Any, context: Any) -> None:
            seen.extend(bodies_of(event))

        policy = SqsSourcePolicy(filter_criteria={"Filters": [{"Pattern": '{"body": {"n": [{"numeric": [">", 1]}]}}'}]})
        source = SqsEventSource(
            AioSqs(sqs, url),
            ARN + kind,
            Function(handler),
            policy,
            on_event=lambda what, ids, error: told.append((what, len(ids))),
        )
        await until_empty(sqs, url, source)

    played(backend, play)
    assert sorted(json.loads(body)["x"] for body in seen) == [2, 5, 8, 11]
    assert sum(count for what, count in told if what is SourceHappening.FILTERED) == 8
    assert {what for what, _ in told} == {SourceHappening.FILTERED, SourceHappening.SUCCEEDED}


class Refusing(AioSqs):
    """Deletions fail by half, and the first as a whole; answers of receives are lost now and then."""

    calls = 0

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        answer = await super().receive(max_messages=max_messages, wait_s=wait_s, visibility_s=visibility_s)
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("lost")
        return answer

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        self.calls += 1
        if self.calls == 3:
            raise ConnectionError("down")
        kept = list(receipt_handles)[1::2]
        refused = dict(await super().delete_batch([one for one in receipt_handles if one not in kept]))
        return refused | {one: Refusal("InternalError", sender_fault=False) for one in kept}


@BACKENDS
def test_deletions_are_tried_again_and_lost_answers_cost_time_only(backend: str) -> None:
    done: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, *BODIES)

        async def handler(event: Any, context: Any) -> None:
            done.extend(bodies_of(event))

        await until_empty(sqs, url, SqsEventSource(Refusing(sqs, url), ARN, Function(handler, timeout_s=5)))

    played(backend, play)
    assert sorted(done) == BODIES


@BACKENDS
def test_stop_finishes_what_was_invoked_and_gives_back_what_was_gathered(backend: str) -> None:
    done: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, *BODIES)

        async def handler(event: Any, context: Any) -> None:
            await anyio.sleep(3)
            done.extend(bodies_of(event))

        policy = SqsSourcePolicy(batch_size=4, maximum_batching_window_s=100)
        source = SqsEventSource(AioSqs(sqs, url), ARN, Function(handler), policy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await anyio.sleep(1)
            source.stop()
        assert anyio.current_time() <= 21
        assert await sqs.counts(url) == (2, 0)

    played(backend, play)
    assert len(done) == 4


@BACKENDS
def test_an_event_is_never_over_the_payload_and_a_group_stops_between_two(backend: str) -> None:
    sizes: list[int] = []
    done: list[str] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q.fifo")
        for number in range(4):
            for group in "ab":
                body = f"{group}{number}" + "x" * 1_000_000
                entry = {"MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": body[:2]}
                await sqs.call("SendMessage", {"QueueUrl": url, **entry})

        async def handler(event: Any, context: Any) -> Any:
            sizes.append(sum(len(body) for body in bodies_of(event)))
            bodies = [body[:2] for body in bodies_of(event)]
            if len(sizes) == 1:
                done.extend(bodies[:1])
                return failing(*[record["messageId"] for record in event["Records"][1:]])
            done.extend(bodies)
            return None

        policy = SqsSourcePolicy(report_batch_item_failures=True)
        source = SqsEventSource(AioSqs(sqs, url), ARN + ".fifo", Function(handler, timeout_s=5), policy)
        await until_empty(sqs, url, source)

    played(backend, play)
    assert max(sizes) <= MAX_PAYLOAD_BYTES
    assert in_order(done) == {"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1", "b2", "b3"]}


@BACKENDS
def test_a_queue_that_is_not_there_ends_the_source_with_its_error(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        client = AioSqs(sqs, "http://bus.test/000000000000/none")
        with pytest.raises(RuntimeError, match="QueueDoesNotExist"):
            await SqsEventSource(client, ARN, Function(print)).run()

    played(backend, play)
