"""Queues and channels on streams, on virtual time: the short forms that tests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.errors import BrokerFailure, DomainError
from broker.streams import Received, Stream, StreamQueue
from broker.waiters import Waiter
from engine.stream_support import WORLD, StreamEngine


class Waiting:
    """A long poll: what it was answered, and when. `received` is None while it waits."""

    def __init__(self, engine: QueueEngine, waiter: Waiter) -> None:
        self._engine = engine
        self._waiter = waiter
        self.received: list[Received] | None = None
        self.answered_ms = 0
        self.failure: BrokerFailure | None = None
        waiter.done = self._take

    def _take(self, received: list[Received]) -> None:
        assert self.received is None, "a long poll is answered once"
        self.received, self.answered_ms = received, self._engine.clock.now_ms()
        self._engine.commit.then(self._tell)

    def _tell(self, failure: BrokerFailure | None) -> None:
        self.failure = failure

    @property
    def texts(self) -> list[str] | None:
        return None if self.received is None else texts(self.received)

    def cancel(self) -> None:
        self._waiter.cancel()


class QueueEngine(StreamEngine):
    """Streams are on-demand, and have four shards."""

    def create(self, name: str = "s", shards: int | None = None, **given: Any) -> Stream:
        return super().create(name, shards, **{"mode": "ON_DEMAND", **given})

    def queue(self, stream: Stream, name: str = "q", starts: str = "TRIM_HORIZON", **given: Any) -> StreamQueue:
        return self.streams.queues.create(WORLD, name, stream, starts=starts, **given)

    def found(self, arn: str) -> StreamQueue:
        """After a restart."""
        return self.streams.queues.find(arn)

    def put_in(self, shard_index: int, *texts: str, stream: Stream | None = None) -> None:
        """Into the shard with that index."""
        stream = stream or self.find()
        key = str(stream.shards[shard_index].starting_hash_key)
        self.put(stream, *texts, explicit_hash_key=key)

    def receive(self, queue: StreamQueue, limit: int = 10, timeout_s: int | None = None) -> list[Received]:
        received = self.streams.queue_records.receive(queue, limit, 0, timeout_s)
        assert isinstance(received, list)
        return received

    def receive_dead(self, queue: StreamQueue, limit: int = 10, timeout_s: int | None = None) -> list[Received]:
        received = self.streams.queue_records.receive_dead_letters(queue, limit, 0, timeout_s)
        assert isinstance(received, list)
        return received

    def poll(
        self, queue: StreamQueue, limit: int = 10, wait_s: int = 20, *, dead: bool = False, timeout_s: int | None = None
    ) -> Waiting:
        records = self.streams.queue_records
        waiter = (records.receive_dead_letters if dead else records.receive)(queue, limit, wait_s, timeout_s)
        assert isinstance(waiter, Waiter), "something was there at once"
        return Waiting(self, waiter)

    def acknowledge(self, queue: StreamQueue, *received: Received) -> list[str]:
        return outcomes(self.streams.queue_records.acknowledge(queue, handles(received)))

    def acknowledge_dead(self, queue: StreamQueue, *received: Received) -> list[str]:
        return outcomes(self.streams.queue_records.acknowledge_dead_letters(queue, handles(received)))

    def restore(self, queue: StreamQueue, *received: Received) -> list[str]:
        return outcomes(self.streams.queue_records.restore(queue, handles(received)))

    def change_visibility(self, queue: StreamQueue, timeout_s: int, *received: Received) -> list[str]:
        entries = [(handle, timeout_s) for handle in handles(received)]
        return outcomes(self.streams.queue_records.change_visibility(queue, entries))

    def change_dead_visibility(self, queue: StreamQueue, timeout_s: int, *received: Received) -> list[str]:
        entries = [(handle, timeout_s) for handle in handles(received)]
        return outcomes(self.streams.queue_records.change_dead_letter_visibility(queue, entries))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """What cannot be seen through operations."""
        return self.store._connection.execute(f"SELECT * FROM {table}").fetchall()


def handles(received: Sequence[Received]) -> list[str]:
    return [one.receipt_handle for one in received]


def texts(received: Sequence[Received]) -> list[str]:
    return [one.record.data.decode() for one in received]


def outcomes(errors: Sequence[DomainError | None]) -> list[str]:
    """The errors' names; nothing for what succeeded."""
    return ["" if error is None else type(error).__name__ for error in errors]
