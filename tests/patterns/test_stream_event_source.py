"""Lambda's poller for streams in the real application, in time that jumps: crashes, reshards, positions, bisecting,
ages, lanes, tumbling windows.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from test_lease import Client
from virtual import Sqs, broker, crash, run_virtually

from patterns import DynamoDbLeases, Fixed, InThreads, LeasePolicy, LeaseStore, MemoryLeases
from patterns.event_source import Function, SourceHappening, record_by_record
from patterns.stream_batches import KinesisSourcePolicy, StartingPosition
from patterns.stream_documents import SnsDestination, SqsDestination
from patterns.stream_event_source import KinesisEventSource

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BEGIN = StartingPosition.TRIM_HORIZON
LEASES = LeasePolicy(lease_s=9.0, handover_s=2.0, sync_s=30.0, backoff=Fixed(1.0))
KEYS = [f"key-{number}" for number in range(6)]
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/stream"


def policy_of(**options: Any) -> KinesisSourcePolicy:
    options = {"starting_position": BEGIN, "backoff": Fixed(0.5), **options}
    return KinesisSourcePolicy(**options)


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


@pytest.mark.parametrize(
    ("backend", "factor", "begin"), [("asyncio", 1, 1), ("trio", 1, 15), ("asyncio", 3, 8), ("trio", 3, 22)]
)
def test_a_crash_at_any_moment(backend: str, factor: int, begin: int) -> None:
    """The moments are dealt out among the variants."""

    async def program() -> None:
        for after in range(begin, 200, 28):
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

        async def handle(record: Any) -> None:
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


@pytest.mark.parametrize(("backend", "begin"), [("asyncio", 1), ("trio", 8)])
def test_a_window_that_was_crashed_in_begins_anew_and_each_ends_once_more_at_most(backend: str, begin: int) -> None:
    async def program() -> None:
        for after in range(begin, 120, 14):
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
def test_an_answer_that_fails_its_batch_leaves_the_state_as_it_was(backend: str) -> None:
    states: list[int] = []

    async def play(world: World) -> None:
        await world.create()
        await world.put(2, KEYS[:1])

        async def handler(event: Any, context: Any) -> Any:
            states.append(event["state"].get("n", 0))
            answer = {"state": {"n": states[-1] + len(event["Records"])}}
            return {**answer, "batchItemFailures": [{"itemIdentifier": "unknown"}]} if len(states) == 1 else answer

        await world.run(world.source(handler, tumbling_window_s=60, report_batch_item_failures=True), 120)

    played(backend, play)
    assert states == [0, 0, 2], "the batch, the batch again, and the end"


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
