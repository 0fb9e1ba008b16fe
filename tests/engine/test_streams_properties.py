"""Streams against a naive model: random puts, reshards, reads of every kind, expiry, lost groups, crashes.

The model keeps all records of each shard in a list and the shards' lineage; a reader is a place in a list. Operations
leave their group open at random, so that groups of several, failing ones and crashes are part of it.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.errors import DomainError, ExpiredIteratorException, ResourceNotFoundException
from broker.streams import Event
from broker.streams.registry import RESUME_MS
from broker.streams.stream import MAX_HASH_KEY, Shard
from engine.stream_support import ANY_SCALE, HOUR_MS, WORLD, Client, StreamEngine

TOP = MAX_HASH_KEY + 1
flushes = st.sampled_from([True, True, False])
keys = st.sampled_from(["a", "b", "c", "d", "e", "f"])
some = st.integers(0, 1000)  # picks one of what there is
kinds = st.sampled_from(["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])


@dataclass
class Kept:
    number: str
    arrival_ms: int
    key: str
    text: str


@dataclass
class ShardModel:
    index: int
    hash_keys: tuple[int, int]
    parents: list[int]
    created_ms: int
    closed_ms: int | None = None
    records: list[Kept] = field(default_factory=list)

    def ever(self, now_ms: int, retention_ms: int) -> bool:
        return self.closed_ms is None or self.closed_ms + retention_ms > now_ms


@dataclass
class Reader:
    index: int
    place: int  # in the shard's list
    iterator: str
    given_ms: int


class Streaming(RuleBasedStateMachine):
    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("sidebus").setLevel(logging.CRITICAL)  # groups fail on purpose here
        self.directory = tempfile.TemporaryDirectory()
        self.engine = StreamEngine(Path(self.directory.name) if self.on_disk else None, limits=ANY_SCALE)
        self.shards: dict[int, ShardModel] = {}
        self.last_of_key: dict[str, int] = {}
        self.readers: list[Reader] = []
        self.retention_ms = 24 * HOUR_MS
        self.serial = 0
        self.subscribers: list[tuple[Client, int, int]] = []  # with shard and place where it began
        self.errors: list[AssertionError] = []
        self.committed: Any = None

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.engine.create(shards=count)
        self.created_ms = self.now_ms
        bounds = [number * TOP // count for number in range(count + 1)]
        for index in range(count):
            self.shards[index] = ShardModel(index, (bounds[index], bounds[index + 1] - 1), [], self.now_ms)
        stream = self.engine.find()
        self.consumers = [self.engine.consumers.register(stream, f"c{number}").arn for number in range(3)]
        self.done(True)

    def teardown(self) -> None:
        self.engine.close()
        self.directory.cleanup()
        logging.getLogger("sidebus").setLevel(logging.NOTSET)

    @property
    def now_ms(self) -> int:
        return self.engine.clock.now_ms()

    def done(self, flush: bool) -> None:
        if flush:
            self.engine.settle()
            self.note_commit()

    def note_commit(self) -> None:
        self.committed = copy.deepcopy(
            (self.shards, self.last_of_key, self.readers, self.retention_ms, getattr(self, "floor_ms", 0))
        )

    def forget_open_group(self) -> None:
        self.shards, self.last_of_key, self.readers, self.retention_ms, self.floor_ms = copy.deepcopy(self.committed)

    floor_ms = 0

    @property
    def horizon_ms(self) -> int:
        return max(self.floor_ms, self.now_ms - self.retention_ms + 1)

    def open(self) -> list[ShardModel]:
        return [shard for shard in self.shards.values() if shard.closed_ms is None]

    def there(self) -> list[ShardModel]:
        return [s for s in self.shards.values() if s.closed_ms is None or s.closed_ms >= self.horizon_ms]

    def real(self, model: ShardModel) -> Shard:
        return self.engine.find().shards[model.index]

    # writing

    @rule(entries=st.lists(keys, min_size=1, max_size=6), one_by_one=st.booleans(), flush=flushes)
    def put(self, entries: list[str], one_by_one: bool, flush: bool) -> None:
        stream = self.engine.find()
        given = []
        for key in entries:
            self.serial += 1
            given.append((key, f"{self.serial}"))
        if one_by_one:
            outcomes: list[Any] = [self.engine.put(stream, text, key=key)[0] for key, text in given]
        else:
            outcomes = list(self.engine.put_all(stream, *given))
        for (key, text), put in zip(given, outcomes, strict=True):
            hash_key = int(md5(key.encode()).hexdigest(), 16)
            [shard] = [s for s in self.open() if s.hash_keys[0] <= hash_key <= s.hash_keys[1]]
            assert put.shard_id == f"shardId-{shard.index:012d}"
            assert int(put.sequence_number) > self.last_of_key.get(key, 0), "a key's numbers grow, also across reshards"
            self.last_of_key[key] = int(put.sequence_number)
            shard.records.append(Kept(put.sequence_number, self.now_ms, key, text))
        self.done(flush)

    # resharding

    def child(self, hash_keys: tuple[int, int], parents: list[ShardModel]) -> None:
        index = max(self.shards) + 1
        for parent in parents:
            parent.closed_ms = self.now_ms
        self.shards[index] = ShardModel(index, hash_keys, [parent.index for parent in parents], self.now_ms)

    @rule(pick=some, part=st.integers(1, 99), flush=flushes)
    def split(self, pick: int, part: int, flush: bool) -> None:
        opened = self.open()
        shard = opened[pick % len(opened)]
        first, last = shard.hash_keys
        key = first + max(2, (last - first) * part // 100)
        self.engine.shards.split(self.engine.find(), f"shardId-{shard.index:012d}", str(key))
        self.child((first, key - 1), [shard])
        self.child((key, last), [shard])
        self.done(flush)

    @precondition(lambda self: len(self.open()) > 1)
    @rule(pick=some, swapped=st.booleans(), flush=flushes)
    def merge(self, pick: int, swapped: bool, flush: bool) -> None:
        opened = sorted(self.open(), key=lambda shard: shard.hash_keys)
        place = pick % (len(opened) - 1)
        pair = opened[place : place + 2]
        if swapped:
            pair.reverse()
        ids = [f"shardId-{shard.index:012d}" for shard in pair]
        self.engine.shards.merge(self.engine.find(), *ids)
        lower, upper = sorted(shard.hash_keys for shard in pair)
        self.child((lower[0], upper[1]), pair)
        self.done(flush)

    @rule(count=st.integers(1, 5), flush=flushes)
    def update_count(self, count: int, flush: bool) -> None:
        """What it does in between is the engine's choice; in the end the shards are equal and nothing is lost."""
        stream = self.engine.find()
        self.engine.shards.update_count(stream, count)
        for index in range(max(self.shards) + 1, stream.next_index):
            new = stream.shards[index]
            parents = [self.shards[int(id[-12:])] for id in new.parent_ids]
            ranges = sorted(parent.hash_keys for parent in parents)
            if len(parents) == 2:
                assert (ranges[0][0], ranges[1][1]) == new.hash_keys
                assert ranges[0][1] + 1 == ranges[1][0]
            else:
                assert ranges[0][0] <= new.starting_hash_key <= new.ending_hash_key <= ranges[0][1]
            for parent in parents:
                parent.closed_ms = self.now_ms
            self.shards[index] = ShardModel(index, new.hash_keys, [parent.index for parent in parents], self.now_ms)
        bounds = [number * TOP // count for number in range(count + 1)]
        assert sorted(shard.hash_keys[0] for shard in self.open()) == bounds[:-1]
        self.done(flush)

    # reading

    @rule(pick=some, place=some, kind=kinds, limit=st.sampled_from([1, 2, 5, None]), flush=flushes)
    def new_reader(self, pick: int, place: int, kind: str, limit: int | None, flush: bool) -> None:
        there = self.there()
        shard = there[pick % len(there)]
        number, at_ms = None, None
        if kind == "LATEST":
            start = len(shard.records)
        elif kind == "AT_TIMESTAMP":
            moments = [record.arrival_ms for record in shard.records] or [self.now_ms]
            at_ms = min(self.now_ms, moments[place % len(moments)] + place % 3 - 1)
            start = sum(record.arrival_ms < at_ms for record in shard.records)
        elif kind == "TRIM_HORIZON" or not shard.records:
            kind, start = "TRIM_HORIZON", 0
        else:
            start = place % len(shard.records)
            number = shard.records[start].number
            start += kind == "AFTER_SEQUENCE_NUMBER"
        iterator = self.engine.iterator(self.real(shard), kind, number, at_ms)
        self.readers.append(Reader(shard.index, start, iterator, self.now_ms))
        self.read(-1, limit, flush)

    @precondition(lambda self: self.readers)
    @rule(pick=some, limit=st.sampled_from([1, 2, 5, None]), flush=flushes)
    def read(self, pick: int, limit: int | None, flush: bool) -> None:
        reader = self.readers[pick % len(self.readers)]
        shard = self.shards[reader.index]
        try:
            page = self.engine.records.get_records(reader.iterator, limit)
        except ExpiredIteratorException:
            assert self.now_ms > reader.given_ms + 300_000
            self.readers.remove(reader)
            return
        except ResourceNotFoundException:
            assert shard not in self.there()
            self.readers.remove(reader)
            return
        assert shard in self.there()
        left = [(n, r) for n, r in enumerate(shard.records) if n >= reader.place and r.arrival_ms >= self.horizon_ms]
        expected = left[:limit]
        assert [(r.sequence_number, r.arrival_ms, r.partition_key, r.data.decode()) for r in page.records] == [
            (r.number, r.arrival_ms, r.key, r.text) for _, r in expected
        ]
        reader.place = expected[-1][0] + 1 if expected else len(shard.records)
        at_end = reader.place == len(shard.records)
        assert page.behind_ms == (0 if at_end else max(1, self.now_ms - expected[-1][1].arrival_ms))
        children = sorted(s.index for s in self.shards.values() if shard.index in s.parents)
        if at_end and shard.closed_ms is not None:
            assert page.next_iterator is None
            assert sorted(child.index for child in page.child_shards) == children != []
            self.readers.remove(reader)
        else:
            assert page.next_iterator is not None
            assert page.child_shards == []
            reader.iterator, reader.given_ms = page.next_iterator, self.now_ms
        self.done(flush)

    # subscribers

    @rule(pick=some, consumer=st.integers(0, 2), latest=st.booleans())
    def subscribe(self, pick: int, consumer: int, latest: bool) -> None:
        self.done(True)
        there = self.there()
        shard = there[pick % len(there)]
        registered = self.engine.streams.registry.consumers[self.consumers[consumer]]
        try:
            client = self.engine.subscribe(registered, self.real(shard), "LATEST" if latest else "TRIM_HORIZON")
        except DomainError:  # one is there already
            assert any(
                c.subscription.shard is self.real(shard) and c.subscription.consumer_arn == registered.arn
                for c, *_ in self.subscribers
            )
            return
        start = len(shard.records) if latest else sum(r.arrival_ms < self.horizon_ms for r in shard.records)
        push = client.subscription._push

        def watched(event: Event) -> bool:
            try:
                stored = {record.number for record in self.shards[shard.index].records}
                assert all(record.sequence_number in stored for record in event.records), "pushed before it is safe"
            except AssertionError as error:
                self.errors.append(error)
            return push(event)

        client.subscription._push = watched
        self.subscribers = [one for one in self.subscribers if one[0].ended in ([], [None])]  # it may have taken over
        self.subscribers.append((client, shard.index, start))
        self.done(True)

    @precondition(lambda self: self.subscribers)
    @rule(pick=some, takes=st.booleans())
    def pause(self, pick: int, takes: bool) -> None:
        client = self.subscribers[pick % len(self.subscribers)][0]
        client.takes = takes
        if takes:
            client.subscription.resume()
        self.done(True)

    @precondition(lambda self: self.subscribers)
    @rule(pick=some)
    def leave(self, pick: int) -> None:
        self.subscribers.pop(pick % len(self.subscribers))[0].subscription.cancel()

    # time, retention, failures

    @rule(by_ms=st.sampled_from([1, 1, 999, 1000, 6000, 301_000, HOUR_MS, 23 * HOUR_MS, 24 * HOUR_MS, 50 * HOUR_MS]))
    def wait(self, by_ms: int) -> None:
        self.done(True)
        if by_ms > 5000:  # what they are given meanwhile may expire, and they end
            for client, *_ in self.subscribers:
                client.subscription.cancel()
            self.subscribers.clear()
        self.engine.advance(by_ms)
        self.done(True)

    @rule(hours=st.sampled_from([24, 25, 48, 72]), flush=flushes)
    def retain(self, hours: int, flush: bool) -> None:
        stream = self.engine.find()
        if hours * HOUR_MS >= self.retention_ms:
            self.engine.definitions.increase_retention(stream, hours)
        else:
            self.engine.definitions.decrease_retention(stream, hours)
        if hours * HOUR_MS != self.retention_ms:
            self.floor_ms = self.horizon_ms
            self.retention_ms = hours * HOUR_MS
        self.done(flush)
        self.engine.advance(0)
        self.note_commit()

    @rule(at_the_last=st.booleans())
    def lose_the_group(self, at_the_last: bool) -> None:
        if at_the_last:
            self.engine.fail_commit()
        else:
            self.engine.fail()
        self.forget_open_group()
        self.wait(RESUME_MS)  # until then what is due waits

    @precondition(lambda self: self.on_disk)
    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if crash:
            self.forget_open_group()
        else:
            self.done(True)
        self.engine.restart(crash=crash)
        self.subscribers.clear()
        self.done(True)

    # what always holds

    @invariant()
    def shards_are_as_the_model_has_them(self) -> None:
        stream = self.engine.find()
        for error in self.errors:
            raise error
        assert {
            s.index: (s.hash_keys, sorted(int(id[-12:]) for id in s.parent_ids), s.created_ms, s.closed_ms)
            for s in stream.shards.values()
        } == {s.index: (s.hash_keys, sorted(s.parents), s.created_ms, s.closed_ms) for s in self.there()}
        for shard in stream.shards.values():
            for id in shard.parent_ids:
                parent = stream.shard(id)
                if parent is not None:
                    assert int(parent.ending_sequence_number or "") < int(shard.starting_sequence_number)

    @invariant()
    def shards_are_listed_by_every_filter(self) -> None:
        stream, there = self.engine.find(), self.there()
        for filter_type, moment_ms in (
            ("AT_TRIM_HORIZON", max(self.created_ms, self.horizon_ms)),
            ("AT_TIMESTAMP", self.now_ms - 1000),
            ("FROM_TIMESTAMP", self.now_ms - 1000),
        ):
            at_ms = max(self.created_ms, self.horizon_ms, moment_ms)
            since = [s for s in there if s.closed_ms is None or s.closed_ms >= at_ms]
            at = since if filter_type == "FROM_TIMESTAMP" else [s for s in since if s.created_ms <= at_ms]
            listed = self.engine.listed(stream, filter_type, filter_timestamp_ms=moment_ms)
            assert listed == [shard.index for shard in at], filter_type
        assert self.engine.listed(stream, "AT_LATEST") == sorted(shard.index for shard in self.open())
        assert self.engine.listed(stream) == [shard.index for shard in there]
        paged: list[int] = []
        token = None
        while True:
            _, page, token = self.engine.shards.list_shards(WORLD, None if token else stream, token=token, limit=2)
            paged += [shard.index for shard in page]
            if token is None:
                break
        assert paged == [shard.index for shard in there]

    @invariant()
    def subscribers_have_what_is_committed_and_nothing_twice(self) -> None:
        if self.committed is None:
            return
        for client, index, start in self.subscribers:
            safe = [record.text for record in self.committed[0][index].records[start:]]
            assert client.texts == safe[: len(client.texts)]
            if client.subscription.is_ready and not client.ended:
                assert client.texts == safe
            if client.ended:
                assert client.ended == [None]
                assert client.events[-1].child_shards


class StreamingOnDisk(Streaming):
    on_disk = True


def run(machine: type[Streaming], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("machine", [Streaming, StreamingOnDisk])
def test_streams_do_as_the_model_says(machine: type[Streaming]) -> None:
    run(machine, examples=25 if machine.on_disk else 60, steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Streaming, StreamingOnDisk])
def test_streams_do_as_the_model_says_at_length(machine: type[Streaming]) -> None:
    run(machine, examples=500, steps=80)
