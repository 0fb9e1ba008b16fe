"""Streams on virtual time: the service of Kinesis on a store of its own, and the short forms that tests use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from broker.clock import ManualClock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.errors import BrokerFailure, DomainError
from broker.faults import Faults
from broker.ledger import Ledger
from broker.limits import RELAXED, Limits
from broker.names import World
from broker.store.sqlite import SqliteStore
from broker.streams import Consumer, Event, Page, Put, Putting, Refused, Shard, Stream, Streams, Subscription

WORLD = World("111122223333", "us-east-1")
START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
ANY_SCALE = replace(RELAXED, shard_count_factor=None)


class StreamEngine:
    """In memory or in a directory. An operation's group is open until `settle` or `advance`."""

    def __init__(self, directory: Path | None = None, *, limits: Limits = RELAXED, now_ms: int = START_MS) -> None:
        self.directory = directory
        self.limits = limits
        self._seed = 0
        self._open(now_ms)

    def _open(self, now_ms: int) -> None:
        self._seed += 1
        self.clock = ManualClock(now_ms)
        self.store = SqliteStore(self.directory, sync="normal")
        self.commit = GroupCommit(self.store, self.clock.soon)
        self.faults = Faults(self.clock)
        ledger = Ledger(self.clock, self.commit, self.store)
        self.streams = Streams(
            self.store, self.clock, self.commit, Entropy(self._seed), self.limits, self.faults, ledger
        )
        self.definitions, self.shards = self.streams.definitions, self.streams.shards
        self.records, self.consumers = self.streams.records, self.streams.consumers
        self.subscriptions = self.streams.subscriptions
        self.commit.enter()
        self.streams.load()
        self.advance(0)

    def close(self) -> None:
        self.streams.close()
        self.commit.flush()
        self.store.close()

    def restart(self, *, crash: bool = False) -> None:
        """Ends and begins again on the same directory. What is not committed is lost in a crash."""
        if crash:
            self.commit.stop()
            self.store.rollback()
            self.store.close()
        else:
            self.close()
        self._open(self.clock.now_ms())

    def settle(self) -> None:
        self.clock.settle()

    def advance(self, by_ms: int) -> None:
        self.clock.advance(by_ms)

    def fail(self) -> None:
        """The open group does not happen."""
        self.commit.enter()
        self.commit.abort(BrokerFailure("on purpose"))

    def fail_commit(self) -> None:
        """The same, at the last moment."""

        def fail() -> None:
            raise BrokerFailure("on purpose")

        self.commit.enter()
        commit, self.store.commit = self.store.commit, fail  # type: ignore[method-assign]
        self.commit.flush()
        self.store.commit = commit  # type: ignore[method-assign]

    # streams

    def create(self, name: str = "s", shards: int | None = 1, **given: Any) -> Stream:
        return self.definitions.create(WORLD, name, shards, **given)

    def find(self, name: str = "s") -> Stream:
        return self.streams.find(WORLD, name)

    def ids(self, stream: Stream) -> list[str]:
        return [shard.shard_id for shard in sorted(stream.shards.values(), key=lambda shard: shard.index)]

    def listed(self, stream: Stream, filter_type: str | None = None, **given: Any) -> list[int]:
        _, shards, _ = self.shards.list_shards(WORLD, stream, filter_type=filter_type, **given)
        return [shard.index for shard in shards]

    # records

    def put(self, stream: Stream, *texts: str, key: str | None = "k", **given: Any) -> list[Put]:
        return [self.records.put_record(stream, Putting(text.encode(), key, **given)) for text in texts]

    def put_all(self, stream: Stream, *entries: tuple[str, str]) -> list[Put | Refused]:
        return self.records.put_records(stream, [Putting(text.encode(), key) for key, text in entries])

    def iterator(
        self, shard: Shard, kind: str = "TRIM_HORIZON", number: str | None = None, at_ms: int | None = None
    ) -> str:
        return self.records.get_shard_iterator(shard.stream, shard.shard_id, kind, number, at_ms)

    def read(self, shard: Shard, *given: Any, limit: int | None = None) -> list[str]:
        return texts(self.records.get_records(self.iterator(shard, *given), limit))

    def subscribe(self, consumer: Consumer, shard: Shard, kind: str = "TRIM_HORIZON", **given: Any) -> Client:
        return Client(self, consumer, shard, kind, **given)


class Client:
    """Who called SubscribeToShard: what it was given, and how it ended."""

    def __init__(self, engine: StreamEngine, consumer: Consumer, shard: Shard, kind: str, **given: Any) -> None:
        self.events: list[Event] = []
        self.takes = True  # how it answers a push
        self.ended: list[DomainError | None] = []
        self.subscription: Subscription = engine.subscriptions.subscribe(
            consumer, shard.shard_id, kind, push=self._push, end=self.ended.append, **given
        )
        engine.commit.then(self._begin)

    def _begin(self, failure: BrokerFailure | None) -> None:
        if failure is None:
            self.subscription.resume()
        else:
            self.subscription.cancel()

    def _push(self, event: Event) -> bool:
        assert not self.ended
        self.events.append(event)
        return self.takes

    @property
    def texts(self) -> list[str]:
        return [record.data.decode() for event in self.events for record in event.records]


def texts(page: Page) -> list[str]:
    return [record.data.decode() for record in page.records]


def outcome_of(operation: Any, *arguments: Any, **given: Any) -> str:
    """How it was refused: the error's name and text."""
    try:
        operation(*arguments, **given)
    except DomainError as error:
        return f"{type(error).__name__}: {error.message}"
    return ""
