"""Lambda's poller for streams: what follows from an answer, by table and against naive models; then the driver in the
real application, in time that jumps: crashes, reshards, positions, bisecting, ages, lanes, tumbling windows.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_lease import Client
from virtual import Sqs, broker, crash, run_virtually

from patterns import DynamoDbLeases, Fixed, InThreads, Lease, LeasePolicy, LeaseStore, MemoryLeases
from patterns.event_source import (
    Batch,
    Discard,
    Function,
    KinesisEventSource,
    KinesisSourcePolicy,
    Progress,
    SnsDestination,
    SourceHappening,
    SqsDestination,
    StartingPosition,
    StreamRecord,
    Window,
    invocation_record,
    kinesis_event_record,
    record_by_record,
)

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
FUNCTION_ARN = "arn:aws:lambda:us-east-2:123456789012:function:myfunction"
BEGIN = StartingPosition.TRIM_HORIZON
LEASES = LeasePolicy(lease_s=9.0, handover_s=2.0, sync_s=30.0, backoff=Fixed(1.0))


def policy_of(**options: Any) -> KinesisSourcePolicy:
    options = {"starting_position": BEGIN, "backoff": Fixed(0.5), **options}
    return KinesisSourcePolicy(**options)


def records_of(*numbers: int, key: str = "k", arrival_ms: int = 0) -> tuple[StreamRecord, ...]:
    return tuple(StreamRecord(str(number), key, arrival_ms or number, "{}") for number in numbers)


# What the function is given


def test_a_record_as_the_guide_shows_it() -> None:
    record = {
        "PartitionKey": "1",
        "SequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "Data": b"Hello, this is a test.",
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(1545084650.987, UTC),
    }
    role = "arn:aws:iam::123456789012:role/lambda-role"
    # https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    expected = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "1",
            "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
            "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": "us-east-2",
        "eventSourceARN": ARN,
    }
    assert kinesis_event_record(record, ARN, "shardId-000000000006") == expected
    other = {**record, "ApproximateArrivalTimestamp": 1545084650.987}
    assert kinesis_event_record(other, ARN, "shardId-000000000006", role) == expected


def test_what_a_destination_is_told_is_what_the_guide_shows() -> None:
    first = StreamRecord("49601189658422359378836298521827638475320189012309704722", "k", 1573691884835, "")
    last = StreamRecord("49601189658422359378836298522902373528957594348623495186", "k", 1573691885580, "")
    batch = Batch((first, last), failures=1, invokes=1, is_error=True)

    def told(batch: Batch, why: Discard) -> dict[str, Any]:
        return invocation_record(
            batch,
            why,
            request_id="c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            function_arn=FUNCTION_ARN,
            stream_arn="arn:aws:kinesis:us-east-2:123456789012:stream/mystream",
            shard_id="shardId-000000000001",
            now_ms=1573691886021,
        )

    # https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    document = {
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            "functionArn": FUNCTION_ARN,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 1,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:38:06.021Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000001",
            "startSequenceNumber": "49601189658422359378836298521827638475320189012309704722",
            "endSequenceNumber": "49601189658422359378836298522902373528957594348623495186",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:05.580Z",
            "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-east-2:123456789012:stream/mystream",
        },
    }
    assert told(batch, Discard.RETRIES) == document
    assert list(told(batch, Discard.RETRIES)) == list(document)
    reported = told(Batch((first,), 1, 2), Discard.RETRIES)
    assert reported["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    never = told(Batch((first,)), Discard.AGE)
    assert "responseContext" not in never
    assert never["requestContext"]["condition"] == "RecordAgeExceeded"
    assert never["requestContext"]["approximateInvokeCount"] == 0


# What follows from an answer


def test_a_policy_is_what_aws_accepts() -> None:
    mapping = {
        "EventSourceArn": ARN,
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": datetime.fromtimestamp(1541139109, UTC),
        "BatchSize": 500,
        "MaximumBatchingWindowInSeconds": 2,
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 2,
        "MaximumRecordAgeInSeconds": 3600,
        "ParallelizationFactor": 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }
    policy = KinesisSourcePolicy.of(mapping)
    assert policy.starting_position_timestamp_s == 1541139109
    assert policy.batch_size == 500
    assert policy.maximum_batching_window_s == 2
    assert policy.bisect_batch_on_function_error
    assert policy.maximum_retry_attempts == 2
    assert policy.maximum_record_age_s == 3600
    assert policy.parallelization_factor == 5
    assert policy.report_batch_item_failures
    plain = KinesisSourcePolicy.of({"StartingPosition": "LATEST"})
    defaults = (
        plain.batch_size,
        plain.maximum_retry_attempts,
        plain.maximum_record_age_s,
        plain.parallelization_factor,
    )
    assert defaults == (100, -1, -1, 1)
    wrongs: tuple[dict[str, Any], ...] = (
        {"StartingPosition": None},
        {"StartingPosition": "AT_TIMESTAMP"},
        {"StartingPosition": "AFTER"},
        {"StartingPositionTimestamp": 5},
        {"BatchSize": 10_001},
        {"MaximumRetryAttempts": 10_001},
        {"MaximumRecordAgeInSeconds": 59},
        {"MaximumRecordAgeInSeconds": 604_801},
        {"ParallelizationFactor": 11},
        {"TumblingWindowInSeconds": 901},
        {"TumblingWindowInSeconds": 60, "ParallelizationFactor": 2},
        {"ScalingConfig": {}},
        {"DestinationConfig": {}},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"from|required|has|valid|not of|one state"):
            KinesisSourcePolicy.of({"StartingPosition": "LATEST", **wrong})


ABCDE = records_of(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("options", "batch", "failed_at", "done", "again", "discarded"),
    [
        # a success, and a failure without bisecting
        ({}, Batch(ABCDE), None, 5, [], None),
        ({}, Batch(ABCDE), 0, 0, [(5, 1)], None),
        ({}, Batch(ABCDE, failures=10_000), 0, 0, [(5, 10_001)], None),
        ({"maximum_retry_attempts": 2}, Batch(ABCDE, failures=1), 0, 0, [(5, 2)], None),
        ({"maximum_retry_attempts": 2}, Batch(ABCDE, failures=2), 0, 0, [], 5),
        ({"maximum_retry_attempts": 0}, Batch(ABCDE), 0, 0, [], 5),
        # a partial success: the rest is a retry of its first record
        ({}, Batch(ABCDE, failures=7), 2, 2, [(3, 1)], None),
        ({"maximum_retry_attempts": 0}, Batch(ABCDE), 2, 2, [], 3),
        # bisecting does not count
        ({"bisect_batch_on_function_error": True}, Batch(ABCDE), 0, 0, [(3, 0), (2, 0)], None),
        (
            {"bisect_batch_on_function_error": True, "maximum_retry_attempts": 0},
            Batch(ABCDE),
            0,
            0,
            [(3, 0), (2, 0)],
            None,
        ),
        ({"bisect_batch_on_function_error": True}, Batch(ABCDE), 2, 2, [(3, 0)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 0}, Batch(ABCDE), 2, 2, [(3, 0)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 1}, Batch(ABCDE[:1]), 0, 0, [(1, 1)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 1}, Batch(ABCDE[:1], 1), 0, 0, [], 1),
    ],
)
def test_what_follows_from_an_answer(
    options: dict[str, Any],
    batch: Batch,
    failed_at: int | None,
    done: int,
    again: list[tuple[int, int]],
    discarded: int | None,
) -> None:
    step = policy_of(**options).after(batch, failed_at)
    assert len(step.done) == done
    assert [(len(one.records), one.failures) for one in step.again] == again
    assert (step.discarded and len(step.discarded.records)) == discarded
    rest = [record for one in step.again for record in one.records]
    given_up = list(step.discarded.records) if step.discarded else []
    assert [*step.done, *rest, *given_up] == list(batch.records)
    assert {one.invokes for one in step.again} <= {batch.invokes + 1}


@given(
    count=st.integers(1, 20),
    bad=st.sets(st.integers(0, 19)),
    bisect=st.booleans(),
    attempts=st.integers(0, 3),
    reports=st.booleans(),
)
def test_a_batch_comes_to_its_end_in_order(
    count: int, bad: set[int], bisect: bool, attempts: int, reports: bool
) -> None:
    """The function stops at the first bad record, and reports it if it may. The naive model: what may become of a
    record, by what is beside it."""
    policy = policy_of(bisect_batch_on_function_error=bisect, maximum_retry_attempts=attempts)
    todo = [Batch(records_of(*range(count)))]
    ends: list[tuple[int, str]] = []
    invocations: dict[int, int] = dict.fromkeys(range(count), 0)
    while todo:
        batch = todo.pop(0)
        numbers = [int(record.sequence_number) for record in batch.records]
        first_bad = next((at for at, number in enumerate(numbers) if number in bad), None)
        for number in numbers[: None if first_bad is None else first_bad + 1]:
            invocations[number] += 1
        step = policy.after(batch, first_bad if reports or first_bad is None else 0)
        ends += [(int(record.sequence_number), "done") for record in step.done]
        ends += [(int(record.sequence_number), "lost") for record in (step.discarded.records if step.discarded else ())]
        todo[:0] = step.again
    assert [number for number, _ in ends] == list(range(count)), "each once, in order"
    lost = {number for number, end in ends if end == "lost"}
    wrong = {number for number in bad if number < count}
    assert wrong <= lost
    if bisect:
        assert lost == wrong, "bisecting isolates"
        assert all(invocations[number] >= attempts + 1 for number in wrong), "and each has its retries"
    elif reports:
        assert lost == (set(range(min(wrong), count)) if wrong else set())
    else:
        assert lost == (set(range(count)) if wrong else set())
        assert not wrong or invocations[0] == attempts + 1


@given(st.lists(st.integers(0, 200), min_size=1, max_size=10), st.integers(0, 400))
def test_what_is_too_old_is_given_up_before_the_function_sees_it(arrivals_s: list[int], now_s: int) -> None:
    records = [StreamRecord(str(at), "k", arrival * 1000, "") for at, arrival in enumerate(sorted(arrivals_s))]
    old, rest = policy_of(maximum_record_age_s=60).aged(Batch(tuple(records), 3, 4, True), now_s * 1000)
    assert [record.arrival_ms < (now_s - 60) * 1000 for record in records] == [True] * len(old.records) + [False] * len(
        rest.records
    )
    assert (old.invokes, old.is_error) == (4, True)
    assert rest.failures == (0 if old.records else 3), "the first record is another one"
    assert policy_of().aged(Batch(tuple(records)), now_s * 1000)[0].records == ()


@given(st.lists(st.integers(0, 9), max_size=30))
def test_a_checkpoint_passes_nothing_that_is_not_done(order: list[int]) -> None:
    progress, taken, done = Progress(), 0, set[int]()
    for number in order:
        if number >= taken:
            progress.take(str(taken))
            taken += 1
        elif number not in done:
            done.add(number)
            progress.done([str(number)])
        reached = next((at for at in range(taken) if at not in done), taken)
        assert progress.position == (str(reached - 1) if reached else None)
        assert progress.is_complete == (reached == taken)


def test_a_batch_ends_at_its_size_its_payload_and_its_window() -> None:
    assert policy_of(batch_size=3).cut(ABCDE) == (3, True)
    assert policy_of(batch_size=6).cut(ABCDE) == (5, False)
    assert policy_of().cut([]) == (0, False)
    large = [StreamRecord(str(at), "k", 0, "x" * 1_400_000) for at in range(6)]
    assert policy_of().cut(large) == (4, True)
    assert policy_of().cut([StreamRecord("0", "k", 0, "x" * 7_000_000), *large]) == (1, True)
    minutes = [StreamRecord(str(at), "k", at * 25_000, "") for at in range(4)]
    assert policy_of(tumbling_window_s=60).cut(minutes) == (3, True)
    assert policy_of(tumbling_window_s=60).cut(minutes[3:]) == (1, False)


def test_a_window_begins_where_the_clock_says() -> None:
    window = Window.of(1607497475000, 120)
    assert window.members("shardId-000000000006", ARN, is_final=False, is_early=False) == {
        "window": {"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"},
        "state": {},
        "shardId": "shardId-000000000006",
        "eventSourceARN": ARN,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }
    assert not Window(0, 1, "x" * (1024 * 1024 - 2)).is_too_big
    assert Window(0, 1, "x" * (1024 * 1024 - 1)).is_too_big


def test_where_a_new_shard_begins() -> None:
    def begin(policy: KinesisSourcePolicy, *parents: str | None) -> str | None:
        return policy.begin([Lease("p", checkpoint=parent) for parent in parents], 5000)

    latest = policy_of(starting_position=StartingPosition.LATEST)
    timed = policy_of(starting_position=StartingPosition.AT_TIMESTAMP, starting_position_timestamp_s=1.5)
    assert [begin(policy_of()), begin(policy_of(), "17")] == [None, None]
    assert [begin(latest), begin(latest, "17"), begin(latest, None)] == ["@5000", None, None]
    assert [begin(latest, "@1000"), begin(latest, "@3000", "@200"), begin(latest, "@1000", "17")] == [
        "@1000",
        "@200",
        None,
    ]
    assert [begin(timed), begin(timed, "17")] == ["@1500", "@1500"]


# The driver

KEYS = [f"key-{number}" for number in range(6)]
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/stream"


def played(backend: str, play: Callable[[World], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(World(sqs))

    run_virtually(backend, program)


def numbers_of(event: Any) -> list[tuple[str, int]]:
    return [(r["kinesis"]["partitionKey"], int(base64.b64decode(r["kinesis"]["data"]))) for r in event["Records"]]


class World:
    """A stream, who reads it, and what the function has seen."""

    def __init__(self, sqs: Sqs) -> None:
        self.sqs = sqs
        self.kinesis = Client(sqs, "kinesis")
        self.seen: list[tuple[str, int]] = []
        self.rounds = 0

    async def create(self, shards: int = 1) -> None:
        await self.kinesis.create_stream(StreamName="stream", ShardCount=shards)

    async def put(self, rounds: int, keys: Sequence[str] = KEYS) -> None:
        for number in range(self.rounds, self.rounds + rounds):
            data = base64.b64encode(str(number).encode()).decode()
            records = [{"PartitionKey": key, "Data": data} for key in keys]
            await self.kinesis.put_records(StreamName="stream", Records=records)
        self.rounds += rounds

    async def records(self) -> Any:
        """Of the only shard."""
        (shard,) = (await self.kinesis.list_shards(StreamName="stream"))["Shards"]
        position = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = (await self.kinesis.get_shard_iterator(StreamName="stream", **position))["ShardIterator"]
        return (await self.kinesis.get_records(ShardIterator=iterator))["Records"]

    async def reshard(self, to: int) -> None:
        await self.kinesis.update_shard_count(StreamName="stream", TargetShardCount=to, ScalingType="UNIFORM_SCALING")

    def source(self, handler: Any, store: LeaseStore | None = None, **options: Any) -> KinesisEventSource:
        named = {name: options.pop(name) for name in ("on_failure", "on_event", "worker") if name in options}
        return KinesisEventSource(
            Client(self.sqs, "kinesis"),
            STREAM_ARN,
            Function(handler, timeout_s=options.pop("timeout_s", 30)),
            policy_of(**options),
            store=store,
            leases=LEASES,
            now_ms=lambda: 1_700_000_000_000 + round(anyio.current_time() * 1000),
            random=random.Random(1).random,
            **named,
        )

    async def saw(self, event: Any, context: Any) -> None:
        for one in numbers_of(event):
            self.seen.append(one)
            await anyio.lowlevel.checkpoint()

    async def run(self, source: KinesisEventSource, seconds: float) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await anyio.sleep(seconds)
            source.stop()

    async def run_until(self, source: KinesisEventSource, is_over: Callable[[], bool]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            with anyio.fail_after(2000):
                while not is_over():  # noqa: ASYNC110 the time is virtual
                    await anyio.sleep(0.5)
            source.stop()

    @property
    def is_all_seen(self) -> bool:
        return len(set(self.seen)) == self.rounds * len(KEYS)

    def check(self) -> None:
        """Each record, and each key's in order: the first time that they were seen."""
        first: dict[str, list[int]] = {key: [] for key in KEYS}
        for key, number in dict.fromkeys(self.seen):
            first[key].append(number)
        assert first == {key: list(range(self.rounds)) for key in KEYS}


@BACKENDS
@pytest.mark.parametrize("factor", [1, 3])
def test_a_crash_at_any_moment(backend: str, factor: int) -> None:
    async def program() -> None:
        for after in range(1, 200, 7):
            async with broker() as sqs:
                world = World(sqs)
                table = DynamoDbLeases(Client(sqs, "dynamodb"), "leases")
                await table.create_table()
                await world.create()
                await world.put(3)
                await world.reshard(2)
                await world.put(2)
                failed = False

                async def handler(event: Any, context: Any, world: World = world) -> Any:
                    nonlocal failed
                    await world.saw(event, context)
                    if not failed:
                        failed = True
                        return {
                            "batchItemFailures": [{"itemIdentifier": event["Records"][1]["kinesis"]["sequenceNumber"]}]
                        }
                    return None

                options: dict[str, Any] = {
                    "batch_size": 4,
                    "parallelization_factor": factor,
                    "report_batch_item_failures": True,
                }
                doomed = world.source(handler, table, worker="doomed", **options)
                heir = world.source(handler, table, worker="heir", **options)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(crash, after, doomed.run)
                    await anyio.sleep(0.1)
                    await world.run_until(heir, lambda world=world: world.is_all_seen)  # type: ignore[misc]
                    doomed.stop()
                world.check()

    run_virtually(backend, program)


@BACKENDS
def test_positions_to_start_from_and_to_go_on_from(backend: str) -> None:
    async def play(world: World) -> None:
        await world.create(2)
        await world.put(2)
        await anyio.sleep(10)
        store = MemoryLeases()
        latest: dict[str, Any] = {"starting_position": StartingPosition.LATEST}
        await world.run(world.source(world.saw, store, **latest), 5)
        assert world.seen == []
        await world.put(1)  # nobody reads, and no checkpoint tells more than where it began
        await world.reshard(4)
        await world.put(1)
        await anyio.sleep(40)
        await world.run(world.source(world.saw, store, **latest), 120)
        assert sorted(world.seen) == [(key, number) for key in KEYS for number in (2, 3)]
        world.seen.clear()
        await world.run(world.source(world.saw, store, **latest), 20)
        assert world.seen == [], "it goes on from its checkpoints"
        since: dict[str, Any] = {
            "starting_position": StartingPosition.AT_TIMESTAMP,
            "starting_position_timestamp_s": 1_700_000_012.0,
        }
        await world.run(world.source(world.saw, **since), 120)
        assert sorted(set(world.seen)) == [(key, number) for key in KEYS for number in (2, 3)]
        world.seen.clear()
        await world.run(world.source(world.saw), 120)
        world.check()

    played(backend, play)


@BACKENDS
def test_bisecting_isolates_the_bad_record_and_its_metadata_go_to_a_destination(backend: str) -> None:
    told: list[Any] = []
    seen: list[list[int]] = []

    async def destination(document: Any) -> None:
        told.append(document)
        if len(told) == 1:
            raise ConnectionError("the destination is down for a moment")

    async def play(world: World) -> None:
        await world.create()
        await world.put(8, KEYS[:1])

        async def handler(event: Any, context: Any) -> None:
            numbers = [number for _, number in numbers_of(event)]
            seen.append(numbers)
            if 5 in numbers:
                raise ValueError("five")

        options: dict[str, Any] = {
            "bisect_batch_on_function_error": True,
            "maximum_retry_attempts": 1,
            "on_failure": destination,
        }
        source = world.source(handler, **options)
        await world.run(source, 60)
        leases = await source._store.all()
        records = await world.records()
        assert leases[0].checkpoint == records[7]["SequenceNumber"]
        batch = told[1]["KinesisBatchInfo"]
        assert batch["startSequenceNumber"] == batch["endSequenceNumber"] == records[5]["SequenceNumber"]

    played(backend, play)
    assert seen == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [5], [6, 7]]
    assert len(told) == 2, "the destination was tried again"
    assert told[1]["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told[1]["requestContext"]["approximateInvokeCount"] == 5
    assert told[1]["KinesisBatchInfo"]["batchSize"] == 1


@BACKENDS
def test_the_lowest_number_reported_is_the_checkpoint(backend: str) -> None:
    seen: list[list[int]] = []

    async def play(world: World) -> None:
        await world.create()
        await world.put(6, KEYS[:1])

        async def handler(event: Any, context: Any) -> Any:
            seen.append([number for _, number in numbers_of(event)])
            if len(seen) == 1:
                sequence_numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
                return {"batchItemFailures": [{"itemIdentifier": sequence_numbers[at]} for at in (4, 2, 5)]}
            return None

        await world.run(world.source(handler, report_batch_item_failures=True), 30)

    played(backend, play)
    assert seen == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]]


@BACKENDS
def test_record_by_record_stops_at_the_first_failure(backend: str) -> None:
    tried: list[int] = []

    async def play(world: World) -> None:
        await world.create()
        await world.put(4, KEYS[:1])

        def handle(record: Any) -> None:
            number = int(base64.b64decode(record["kinesis"]["data"]))
            tried.append(number)
            if number == 1 and tried.count(1) < 3:
                raise RuntimeError("not yet")

        await world.run(world.source(record_by_record(handle), report_batch_item_failures=True), 30)

    played(backend, play)
    assert tried == [0, 1, 1, 1, 2, 3]


@BACKENDS
def test_what_gets_too_old_while_it_is_retried_is_discarded(backend: str) -> None:
    told: list[Any] = []
    tried_s: list[float] = []

    async def destination(document: Any) -> None:
        told.append(document)

    async def play(world: World) -> None:
        await world.create()
        await world.put(2, KEYS[:1])

        async def handler(event: Any, context: Any) -> None:
            tried_s.append(anyio.current_time())
            raise RuntimeError("never")

        source = world.source(handler, maximum_record_age_s=60, on_failure=destination, backoff=Fixed(7))
        await world.run(source, 120)

    played(backend, play)
    assert 50 < max(tried_s) <= 61
    assert [one["requestContext"]["condition"] for one in told] == ["RecordAgeExceeded"]
    assert told[0]["KinesisBatchInfo"]["batchSize"] == 2
    assert told[0]["responseContext"]["functionError"] == "Unhandled"


@BACKENDS
def test_lanes_run_beside_each_other_in_order_of_their_keys(backend: str) -> None:
    running: set[str] = set()
    most = 0

    async def play(world: World) -> None:
        await world.create()
        await world.put(10)

        async def handler(event: Any, context: Any) -> None:
            nonlocal most
            keys = {key for key, _ in numbers_of(event)}
            assert running.isdisjoint(keys), "two at one key"
            running.update(keys)
            most = max(most, len(running))
            await anyio.sleep(0.5)
            world.seen.extend(numbers_of(event))
            running.difference_update(keys)

        source = world.source(handler, parallelization_factor=10, batch_size=2)
        await world.run_until(source, lambda: world.is_all_seen)
        world.check()

    played(backend, play)
    assert most >= 3


@BACKENDS
def test_a_lane_that_fails_does_not_hold_the_others_and_holds_the_checkpoint(backend: str) -> None:
    async def play(world: World) -> None:
        await world.create()
        await world.put(3)
        policy = policy_of(parallelization_factor=10)
        stuck = {key for key in KEYS if policy.lane(key) == policy.lane(KEYS[0])}
        assert stuck != set(KEYS)

        async def handler(event: Any, context: Any) -> None:
            if stuck & {key for key, _ in numbers_of(event)}:
                raise RuntimeError("stuck")
            await world.saw(event, context)

        source = world.source(handler, parallelization_factor=10)
        await world.run(source, 30)
        assert {key for key, _ in world.seen} == set(KEYS) - stuck
        world.seen.clear()
        await world.run(world.source(world.saw, source._store), 30)
        assert [number for key, number in world.seen if key == KEYS[0]] == [0, 1, 2]

    played(backend, play)


@BACKENDS
def test_a_batching_window_gathers(backend: str) -> None:
    batches: list[tuple[float, int]] = []

    async def play(world: World) -> None:
        await world.create()

        async def handler(event: Any, context: Any) -> None:
            batches.append((anyio.current_time(), len(event["Records"])))

        source = world.source(handler, batch_size=20, maximum_batching_window_s=30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await anyio.sleep(5)
            for _ in range(5):
                await world.put(1)
                await anyio.sleep(2)
            await anyio.sleep(60)
            source.stop()

    played(backend, play)
    assert [count for _, count in batches] == [20, 10]
    assert batches[0][0] < 15
    assert 30 < batches[1][0] < 45


@BACKENDS
def test_what_the_filter_skips_is_passed_by_the_checkpoint(backend: str) -> None:
    told: list[tuple[SourceHappening, int]] = []

    async def play(world: World) -> None:
        await world.create()
        await world.put(3)
        criteria = {"Filters": [{"Pattern": json.dumps({"partitionKey": [KEYS[1], {"suffix": "-4"}]})}]}
        source = world.source(
            world.saw, filter_criteria=criteria, on_event=lambda what, ids, error: told.append((what, len(ids)))
        )
        await world.run(source, 20)
        assert sorted(world.seen) == [(key, number) for key in (KEYS[1], KEYS[4]) for number in range(3)]
        world.seen.clear()
        await world.run(world.source(world.saw, source._store), 20)
        assert world.seen == [], "nothing is behind the checkpoint"

    played(backend, play)
    assert sum(count for what, count in told if what is SourceHappening.FILTERED) == 12


class Tally:
    """A handler that counts records by key in its state, and keeps what it was told at the end of each window."""

    def __init__(self) -> None:
        self.windows: list[tuple[str, str, dict[str, int], bool]] = []
        self.calls = 0
        self.fails_at: set[int] = set()

    async def __call__(self, event: Any, context: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        self.calls += 1
        if self.calls in self.fails_at:
            raise RuntimeError("a hiccup")
        state = event["state"]
        for key, _ in numbers_of(event):
            state[key] = state.get(key, 0) + 1
        if event["isFinalInvokeForWindow"]:
            assert event["Records"] == []
            span = event["window"]
            self.windows.append((span["start"], span["end"], state, event["isWindowTerminatedEarly"]))
        return {"state": state}


@BACKENDS
@pytest.mark.parametrize("fails_at", [set(), {1}, {2, 3}, {4}, {3, 5, 6}])
def test_tumbling_windows_hold_their_state_and_end_with_the_clock(backend: str, fails_at: set[int]) -> None:
    tally = Tally()
    tally.fails_at = fails_at

    async def play(world: World) -> None:
        await world.create()  # at 22:13:20
        source = world.source(tally, tumbling_window_s=60, batch_size=5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await anyio.sleep(5)
            await world.put(2)
            await anyio.sleep(10)
            await world.put(1)
            await anyio.sleep(60)  # 22:14:35
            await world.put(1)
            await anyio.sleep(20)
            tally.windows.append(("22:14:55", "", {}, False))
            await anyio.sleep(100)
            source.stop()

    played(backend, play)
    first, second = dict.fromkeys(KEYS, 3), dict.fromkeys(KEYS, 1)
    assert tally.windows == [
        ("2023-11-14T22:13:00Z", "2023-11-14T22:14:00Z", first, False),
        ("22:14:55", "", {}, False),
        ("2023-11-14T22:14:00Z", "2023-11-14T22:15:00Z", second, False),
    ]


@BACKENDS
def test_a_window_that_was_crashed_in_begins_anew_and_each_ends_once_more_at_most(backend: str) -> None:
    async def program() -> None:
        for after in range(1, 120, 7):
            async with broker() as sqs:
                world, tally = World(sqs), Tally()
                await world.create()
                await world.put(2)
                await anyio.sleep(60)
                await world.put(1)
                await anyio.sleep(60)
                store = MemoryLeases()
                options: dict[str, Any] = {"tumbling_window_s": 60, "batch_size": 4}
                await crash(after, lambda: world.run(world.source(tally, store, worker="a", **options), 60))  # noqa: B023
                await world.run(world.source(tally, store, worker="b", **options), 60)
                ends = [(start, sum(state.values())) for start, _, state, _ in tally.windows]
                assert [count for _, count in dict.fromkeys(ends)] == [2 * len(KEYS), len(KEYS)], after
                assert ends == sorted(ends), after
                assert len(ends) <= 3

    run_virtually(backend, program)


@BACKENDS
def test_a_state_that_is_too_big_ends_its_window_early(backend: str) -> None:
    finals: list[tuple[bool, int]] = []

    async def play(world: World) -> None:
        await world.create()
        await world.put(3, KEYS[:1])

        async def handler(event: Any, context: Any) -> Any:
            if event["isFinalInvokeForWindow"]:
                finals.append((event["isWindowTerminatedEarly"], len(event["state"].get("x", ""))))
            return {"state": {"x": event["state"].get("x", "") + "x" * 600_000 * len(event["Records"])}}

        await world.run(world.source(handler, tumbling_window_s=60, batch_size=1), 90)

    played(backend, play)
    assert finals == [(True, 1_200_000), (False, 600_000)]


@BACKENDS
def test_without_a_state_in_its_answer_a_function_has_failed(backend: str) -> None:
    told: list[Any] = []
    finals: list[Any] = []

    async def destination(document: Any) -> None:
        told.append(document["KinesisBatchInfo"]["batchSize"])

    async def play(world: World) -> None:
        await world.create()
        await world.put(2, KEYS[:1])

        async def handler(event: Any, context: Any) -> Any:
            if event["isFinalInvokeForWindow"]:
                finals.append(event["state"])
                return {"state": None}
            return {}

        options: dict[str, Any] = {"tumbling_window_s": 60, "maximum_retry_attempts": 1, "on_failure": destination}
        await world.run(world.source(handler, **options), 120)

    played(backend, play)
    assert told == [2]
    assert finals == [{}]


@BACKENDS
def test_a_shard_that_ends_ends_its_window(backend: str) -> None:
    tally = Tally()

    async def play(world: World) -> None:
        await world.create()
        await world.put(1)
        await world.reshard(2)
        await world.put(1)
        await world.run(world.source(tally, tumbling_window_s=900), 60)

    played(backend, play)
    assert tally.windows[0][2] == dict.fromkeys(KEYS, 1), "the children's are still open"
    assert len(tally.windows) == 1


def test_destinations_are_told_by_boto3(sidebus: Any, connect: Any) -> None:
    sqs, sns, kinesis = (connect(sidebus, service) for service in ("sqs", "sns", "kinesis"))
    kinesis.create_stream(StreamName="told", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName="told")
    kinesis.put_record(StreamName="told", PartitionKey="k", Data=b"bad")
    arn = kinesis.describe_stream_summary(StreamName="told")["StreamDescriptionSummary"]["StreamARN"]
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("direct", "by-topic")}
    topic = sns.create_topic(Name="failures")["TopicArn"]
    account = arn.split(":")[4]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{account}:by-topic")
    to_queue, to_topic = SqsDestination(InThreads(sqs), urls["direct"]), SnsDestination(InThreads(sns), topic)

    def handler(event: Any, context: Any) -> None:
        raise RuntimeError("bad")

    async def program() -> None:
        async def both(document: Any) -> None:
            await to_queue(document)
            await to_topic(document)
            source.stop()

        policy = policy_of(maximum_retry_attempts=0)
        source = KinesisEventSource(InThreads(kinesis), arn, Function(handler), policy, on_failure=both)
        with anyio.fail_after(10):
            await source.run()

    anyio.run(program)
    bodies = [sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]["Body"] for url in urls.values()]
    direct = json.loads(bodies[0])
    assert direct["KinesisBatchInfo"]["streamArn"] == arn
    assert json.loads(json.loads(bodies[1])["Message"]) == direct
