"""Hot keys: as many shards as they need, evenly, and read in order whatever the shards and the network did."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    Accepted,
    BatchProducer,
    Entry,
    Fixed,
    Gap,
    HotKeyPolicy,
    HotKeys,
    InThreads,
    KeyReader,
    KeyWriter,
    KinesisTarget,
    ProducerPolicy,
    Rejected,
    RetryPolicy,
    Stamp,
    Stamps,
    Together,
    kinesis_record,
    place,
)
from patterns.write_sharding import RING, Arrival

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
HOT = HotKeyPolicy(records_per_s=1, over_s=1, max_shards=8)  # everything is hot


def no_gap(gap: Gap) -> None:
    raise AssertionError(gap)


async def no_late(key: str, record: object) -> None:
    raise AssertionError((key, record))


# Policies


@pytest.mark.parametrize(
    ("records_per_s", "size", "shards"), [(1, 10, 1), (450, 10, 1), (1900, 10, 4), (50, 20_000, 2)]
)
def test_a_key_gets_the_shards_it_needs_and_gives_them_back(records_per_s: int, size: int, shards: int) -> None:
    keys = HotKeys()
    for number in range(60 * records_per_s):
        last = keys.shards("hot", size, number / records_per_s)
    assert last == shards
    assert keys.shards("cold", size, 60.0) == 1
    assert keys.shards("hot", size, 120.0) == 1


def test_keys_that_are_remembered_are_few_and_the_hottest() -> None:
    keys = HotKeys(HotKeyPolicy(max_keys=10, records_per_s=1, over_s=1000.0))
    for number in range(3000):
        keys.shards("hot", 1, number / 1000)
        keys.shards(f"cold {number}", 1, number / 1000)
        assert len(keys._heat) <= 10
    assert keys.shards("hot", 1, 3.0) == 3


@given(st.text(max_size=20), st.integers(1, 16), st.integers(0, 1000))
def test_places_are_evenly_far_from_each_other(key: str, shards: int, number: int) -> None:
    places = sorted(place(Stamp(key, "w", number + n), shards) for n in range(shards))
    distances = [after - before for before, after in itertools.pairwise([*places, places[0] + RING])]
    assert min(distances) >= RING // shards
    assert max(distances) < RING // shards + shards
    assert all(0 <= one < RING for one in places)


@given(st.text(max_size=30), st.integers(0, 10**9))
def test_stamps_come_back(key: str, number: int) -> None:
    stamp = Stamp(key, "writer-1", number)
    assert Stamp.of(str(stamp)) == stamp


def test_what_is_no_stamp() -> None:
    for text in ("", "key", "key/w/-1", "key/w/x", "a/b/c/1", "key/w/²"):
        with pytest.raises(ValueError, match="not a stamp"):
            Stamp.of(text)
    stamps = Stamps("w")
    with pytest.raises(ValueError, match="too long"):
        stamps.next("x" * 260)
    assert [stamps.next("k").number for _ in range(3)] == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 2)), max_size=40), st.booleans())
def test_what_arrives_is_given_once_in_order_and_gaps_are_told(arrivals: list[tuple[int, float]], ends: bool) -> None:
    together: Together[int] = Together(5.0)
    line, now_s = ("k", "w"), 0.0
    given: list[int] = []
    missing: list[int] = []
    late: list[int] = []

    def take() -> None:
        while together.lines() and (what := together.ready(line, now_s)) is not None:
            if isinstance(what, Gap):
                missing.extend(range(what.first, what.end))
                together.done(what)
            else:
                assert what[0].number == what[1]
                given.append(what[1])
                together.done(what[0])

    for number, passes_s in arrivals:
        now_s += passes_s
        before = set(given) | set(together.waiting())
        arrival = together.add(Stamp("k", "w", number), number, now_s)
        assert (arrival is Arrival.LATE) == (number in missing)
        assert (arrival is Arrival.DUPLICATE) == (number in before)
        late += [number] if arrival is Arrival.LATE else []
        take()
    if ends:
        while together.lines():
            now_s = max(now_s, together.due_s())
            count = len(given)
            take()
            assert len(given) > count
    assert given == sorted(set(given))
    assert set(given) | set(together.waiting()) | set(late) == {number for number, _ in arrivals}
    assert sorted(given + missing) == list(range(together.positions().get(line, 0)))


# Drivers


class Lossy(KinesisTarget):
    """Throttles records, loses requests, and loses answers."""

    chance = random.Random(1)

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        await anyio.sleep(self.chance.choice([0, 0.01, 0.1]))
        refused = {number for number in range(len(entries)) if self.chance.random() < 0.2}
        rest = [entry for number, entry in enumerate(entries) if number not in refused]
        answers = iter(await super().send(rest) if rest else [])
        if self.chance.random() < 0.2:
            raise ConnectionError("the answer is lost")
        throttled = Rejected("ProvisionedThroughputExceededException", "", sender_fault=False)
        return [throttled if number in refused else next(answers) for number in range(len(entries))]


async def all_records(sqs: Sqs) -> list[list[dict[str, Any]]]:
    """Of each shard."""

    async def kinesis(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return await sqs.call(operation, parameters, "Kinesis_20131202")

    shards = []
    for shard in (await kinesis("ListShards", {"StreamName": "s"}))["Shards"]:
        where = {"StreamName": "s", "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        records = (await kinesis("GetRecords", await kinesis("GetShardIterator", where)))["Records"]
        shards.append([{**one, "Data": base64.b64decode(one["Data"])} for one in records])
    return shards


@BACKENDS
def test_through_throttling_and_lost_answers_a_key_is_read_in_order_and_each_record_once(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await sqs.call("CreateStream", {"StreamName": "s", "ShardCount": 4}, "Kinesis_20131202")
            await anyio.sleep(60)
            policy = ProducerPolicy(entries=7, retry=RetryPolicy(Fixed(0.05), attempts=50))
            async with BatchProducer(Lossy(sqs, "s"), policy) as producer:
                writer = KeyWriter(producer, HOT)
                for number in range(100):
                    await anyio.sleep(0.001)
                    for key in ("hot/ü", "b"):
                        await writer.put(key, f"{key} {number}".encode())
            shards = await all_records(sqs)
            assert sum(map(len, shards)) > 200  # some twice
            assert all(len(records) > 20 for records in shards)
            got: dict[str, list[bytes]] = {}

            async def handle(key: str, data: bytes) -> None:
                await anyio.lowlevel.checkpoint()
                got.setdefault(key, []).append(data)

            reader = KeyReader(handle, on_gap=no_gap, late=no_late)
            async with anyio.create_task_group() as tasks:
                for records in shards:

                    async def read(records: list[dict[str, Any]] = records) -> None:
                        for record in records:
                            await reader.give(*kinesis_record(record))

                    tasks.start_soon(read)
            assert got == {key: [f"{key} {number}".encode() for number in range(100)] for key in ("hot/ü", "b")}

    run_virtually(backend, program)


def disordered(seed: int) -> list[tuple[str, int]]:
    stamps = Stamps("w")
    records = [(str(stamps.next(key)), number) for number in range(4) for key in "ab"]
    random.Random(seed).shuffle(records)
    return records


@BACKENDS
def test_a_crash_at_any_await_repeats_at_most_what_was_in_hand(backend: str) -> None:
    crashes = 0

    async def program() -> None:
        nonlocal crashes
        for after in itertools.count(1):
            handled: list[tuple[str, int]] = []

            async def handle(key: str, record: int, handled: list[tuple[str, int]] = handled) -> None:
                await anyio.lowlevel.checkpoint()
                handled.append((key, record))
                await anyio.lowlevel.checkpoint()

            first = KeyReader(handle, on_gap=no_gap, late=no_late)

            async def read(first: KeyReader[int] = first, after: int = after) -> None:
                for record in disordered(after):
                    await first.give(*record)

            crashed = await crash(after, read)
            second = KeyReader(handle, on_gap=no_gap, late=no_late, positions=first.together.positions())
            for record in disordered(after):
                await second.give(*record)
            for key in "ab":
                mine = [number for one, number in handled if one == key]
                assert [number for number, _ in itertools.groupby(mine)] == [0, 1, 2, 3], after
            assert len(handled) <= 9
            if not crashed:
                break
            crashes += 1

    run_virtually(backend, program)
    assert crashes > 15


@BACKENDS
def test_a_gap_is_waited_for_and_then_told_and_what_comes_late_too(backend: str) -> None:
    told: list[Any] = []

    async def program() -> None:
        async def handle(key: str, record: int) -> None:
            told.append((round(anyio.current_time() - start_s), record))

        async def late(key: str, record: int) -> None:
            told.append(("late", record))

        start_s = anyio.current_time()
        reader = KeyReader(handle, gap_s=10, on_gap=told.append, late=late)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            for at_s, number in ((1, 0), (2, 2), (5, 3), (11, 1), (12, 7), (20, 6), (30, 4), (31, 8), (32, 8)):
                await anyio.sleep(start_s + at_s - anyio.current_time())
                await reader.give(str(Stamp("k", "w", number)), number)
            tasks.cancel_scope.cancel()

    run_virtually(backend, program)
    in_time = [(1, 0), (11, 1), (11, 2), (11, 3)]
    assert told == [*in_time, Gap("k", "w", 4, 6), (22, 6), (22, 7), ("late", 4), (31, 8)]


@BACKENDS
def test_what_fails_is_tried_again_in_its_place(backend: str) -> None:
    tried: list[int] = []

    async def program() -> None:
        async def handle(key: str, record: int) -> None:
            tried.append(record)
            if tried == [0]:
                raise RuntimeError("not at the first time")

        reader = KeyReader(handle, on_gap=no_gap, late=no_late)
        with pytest.raises(RuntimeError, match="not at the first time"):
            await reader.give(str(Stamp("k", "w", 0)), 0)
        assert list(reader.together.waiting()) == [0]
        await reader.give(str(Stamp("k", "w", 1)), 1)

    run_virtually(backend, program)
    assert tried == [0, 0, 1]


@BACKENDS
def test_boto3_in_threads(backend: str, sidebus: Any, connect: Any) -> None:
    kinesis = connect(sidebus, service="kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=4)
    kinesis.get_waiter("stream_exists").wait(StreamName="s", WaiterConfig={"Delay": 1})
    got: list[int] = []

    async def program() -> None:
        async with BatchProducer(KinesisTarget(InThreads(kinesis), "s")) as producer:
            writer = KeyWriter(producer, HOT)
            sent = [await writer.put("hot", str(number).encode()) for number in range(40)]
        assert len({(await one.outcome())["ShardId"] for one in sent}) == 4

        async def handle(key: str, data: bytes) -> None:
            got.append(int(data))

        reader = KeyReader(handle, on_gap=no_gap, late=no_late)
        for shard in kinesis.list_shards(StreamName="s")["Shards"]:
            where = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = kinesis.get_shard_iterator(StreamName="s", **where)["ShardIterator"]
            for record in kinesis.get_records(ShardIterator=iterator)["Records"]:
                await reader.give(*kinesis_record(record))

    anyio.run(program, backend=backend)
    assert got == list(range(40))
