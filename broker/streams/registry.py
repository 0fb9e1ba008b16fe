"""The streams, shards and consumers in RAM, in step with the store. Everything else of Kinesis works on these.

Records that come in a group are gathered shard by shard and written as segments just before the commit, or when
somebody reads the shard before that. Then `on_arrival` tells who waits for records, still inside the transaction: what
they read there they hand out with `commit.then`. Everything is read anew after a transaction that did not happen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVarTuple

from broker.clock import Clock, Timer
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.errors import (
    InvalidArgumentException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from broker.faults import Faults
from broker.ledger import Ledger
from broker.limits import Limits
from broker.names import World
from broker.store.port import QueueStore, StreamItem, StreamStore
from broker.streams import segments
from broker.streams.stream import ACTIVE, CREATING, UPDATING, Consumer, Shard, Stream
from broker.streams.throughput import API_RATES, CallRates
from broker.streams.tokens import mark_of
from broker.sweeper import Sweeper

SWEEP_BYTES = 4 * 1024 * 1024  # a step of a long sweep: some 5 ms
RESUME_MS = 1_000

Arguments = TypeVarTuple("Arguments")


class Resource(Protocol):
    """What has tags and a policy: a stream, a consumer, a queue."""

    arn: str
    tags: dict[str, str]
    policy: str | None

    def item(self) -> StreamItem: ...


class Registry:
    """`streams` are by account, region and name, `consumers` by ARN."""

    def __init__(
        self,
        store: StreamStore,
        queue_store: QueueStore,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
        faults: Faults,
        ledger: Ledger,
    ) -> None:
        self.store = store
        self.next_no = queue_store.next_no
        self.clock = clock
        self.commit = commit
        self.entropy = entropy
        self.limits = limits
        self.faults = faults
        self.ledger = ledger
        self.streams: dict[tuple[World, str], Stream] = {}
        self.by_arn: dict[str, Stream] = {}
        self.by_mark: dict[int, Stream] = {}
        self.consumers: dict[str, Consumer] = {}
        self.on_load: list[Callable[[], None]] = []  # makes appointments again
        self.on_arrival: list[Callable[[Shard], None]] = []  # a shard has new records, or was closed
        self.on_remove: list[Callable[[Stream], None]] = []
        self.on_deregister: list[Callable[[Consumer], None]] = []
        self.find_other: list[Callable[[str], Resource | None]] = []  # for tags and policies: queues on streams
        self._rates = CallRates()
        self._arrived: dict[Shard, None] = {}
        self._sweeper = Sweeper(clock, commit, lambda: store.sweep_shards(SWEEP_BYTES))
        self._resume_ms = 0
        commit.after_rollback.append(self._reload)
        commit.before_commit.append(self._before_commit)

    def _reload(self) -> None:
        """After a group that failed. What is due is not done at once: a full disk stays full for a while."""
        self._resume_ms = self.clock.now_ms() + RESUME_MS
        self._take_over()

    def call_at(self, due_ms: int, job: Callable[[*Arguments], None], *arguments: *Arguments) -> Timer:
        """An appointment for a job in a group of its own."""
        return self.clock.call_at(max(due_ms, self._resume_ms), partial(self.commit.run, job, *arguments))

    def load(self) -> None:
        """Takes over what the store knows, and makes all appointments."""
        self._resume_ms = 0
        self._take_over()

    def _take_over(self) -> None:
        for stream in self.streams.values():
            _cancel(stream)
        self._arrived.clear()
        self.streams, self.by_arn, self.by_mark, self.consumers = {}, {}, {}, {}
        by_no: dict[int, Stream] = {}
        for item in self.store.load_items("stream"):
            stream = Stream.from_item(item)
            by_no[stream.stream_no] = stream
            self._keep(stream)
        for record in self.store.load_shards():
            stream = by_no[record.stream_no]
            stream.shards[record.shard_index] = Shard.from_record(stream, record)
        for item in self.store.load_items("consumer"):
            stream = self.streams[World(item.account, item.region), item.name.partition("/")[0]]
            consumer = Consumer.from_item(stream, item)
            stream.consumers[consumer.arn] = self.consumers[consumer.arn] = consumer
        for stream in self.streams.values():
            stream.index_shards()
            for shard in stream.shards.values():
                self.appoint_expiry(shard)
        for resume in self.on_load:
            resume()
        self._sweeper.resume()

    # finding

    def find(self, world: World, name: str | None = None, arn: str | None = None, id: str | None = None) -> Stream:
        """By what was given of the three, which must agree. Raises InvalidArgument…, ResourceNotFoundException."""
        if arn is not None:
            stream = self.by_arn.get(arn)
            if stream is None:
                account, _, resource = arn.partition(":kinesis:")[2].partition(":")[2].partition(":")
                raise not_found(resource.partition("/")[2] or arn, account or world.account)
            if name is not None and name != stream.name:
                raise InvalidArgumentException(f"StreamName {name} does not match StreamARN {arn}.")
        elif name is not None:
            stream = self.streams.get((world, name))
            if stream is None:
                raise not_found(name, world.account)
        elif id is not None:
            stream = next((s for (owner, _), s in self.streams.items() if owner == world and s.stream_id == id), None)
            if stream is None:
                raise not_found(id, world.account)
        else:
            raise InvalidArgumentException("Either StreamName or StreamARN must be specified.")
        if id is not None and id != stream.stream_id:
            raise InvalidArgumentException(f"StreamId {id} does not match stream {stream.name}.")
        return stream

    def of_world(self, world: World) -> list[Stream]:
        return [stream for (owner, _), stream in self.streams.items() if owner == world]

    def rate(self, operation: str, world: World, owner: str = "") -> None:
        """Counts a call, of an account or of a stream. Raises LimitExceededException."""
        if not self.limits.stream_api_rates:
            return
        scope = API_RATES[operation][1]
        if not self._rates.lets(operation, owner if scope == "stream" else "/".join(world), self.clock.now_ms()):
            raise LimitExceededException(
                f"Rate exceeded for stream {owner} under account {world.account}."
                if scope == "stream"
                else f"Rate exceeded for account {world.account}."
            )

    # definitions

    def add_stream(self, stream: Stream) -> None:
        self._keep(stream)
        self.put(stream)

    def put(self, resource: Resource) -> None:
        self.store.put_item(resource.item())

    def remove_stream(self, stream: Stream) -> None:
        for tell in self.on_remove:
            tell(stream)
        for consumer in list(stream.consumers.values()):
            self.remove_consumer(consumer)
        for shard in list(stream.shards.values()):
            self._discard(shard)
        if stream.timer is not None:
            stream.timer.cancel()
        del self.streams[stream.world, stream.name], self.by_arn[stream.arn], self.by_mark[mark_of(stream.secret)]
        self.store.delete_item("stream", *stream.world, stream.name)

    def add_consumer(self, consumer: Consumer) -> None:
        consumer.stream.consumers[consumer.arn] = self.consumers[consumer.arn] = consumer
        self.put(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        for tell in self.on_deregister:
            tell(consumer)
        if consumer.timer is not None:
            consumer.timer.cancel()
        del consumer.stream.consumers[consumer.arn], self.consumers[consumer.arn]
        self.store.delete_item("consumer", *consumer.stream.world, consumer.item_name)

    def add_shard(self, shard: Shard) -> None:
        """The stream's `index_shards` is to be called when all are there."""
        shard.stream.shards[shard.index] = shard
        self.store.put_shard(shard.record())

    def close_shard(self, shard: Shard, now_ms: int) -> None:
        self.end_segment(shard)
        shard.closed_ms = max(now_ms, shard.last_arrival_ms)
        self.store.put_shard(shard.record())
        self._arrived[shard] = None
        self.appoint_expiry(shard)

    def _discard(self, shard: Shard) -> None:
        """Its records go later."""
        if shard.expiry is not None:
            shard.expiry.cancel()
        self._arrived.pop(shard, None)
        del shard.stream.shards[shard.index]
        self.store.discard_shard(shard.shard_no)
        self._sweeper.soon()

    def reset(self, account: str | None) -> None:
        self.commit.enter()
        for stream in list(self.streams.values()):
            if account in (None, stream.world.account):
                self.remove_stream(stream)

    def _keep(self, stream: Stream) -> None:
        self.streams[stream.world, stream.name] = self.by_arn[stream.arn] = stream
        self.by_mark[mark_of(stream.secret)] = stream

    # records of the open group

    def begin_segment(self, shard: Shard, now_ms: int) -> None:
        """What comes to a shard in one millisecond of a group lies in one segment, and has one time of arrival."""
        self.end_segment(shard)
        # The clock may have been set back: readers by time rely on arrivals in order.
        arrival_ms = shard.last_arrival_ms = max(now_ms, shard.last_arrival_ms)
        shard.segment_ms = now_ms
        shard.number_base = shard.sequence_number(0, arrival_ms)
        self._arrived[shard] = None
        if shard.expiry is None:
            self._appoint(shard, arrival_ms + shard.stream.retention_ms)

    def end_segment(self, shard: Shard) -> None:
        """Writes what was gathered."""
        shard.segment_ms = -1
        if shard.segment_data:
            count = len(shard.segment_data)
            self.store.add_segment(
                segments.packed(
                    shard,
                    shard.last_sequence - count + 1,
                    shard.last_arrival_ms,
                    shard.stream.encryption != "NONE",
                    shard.segment_keys,
                    shard.segment_data,
                )
            )
            shard.segment_keys, shard.segment_data, shard.segment_bytes = [], [], 0

    def _before_commit(self) -> None:
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, {}
        for shard in arrived:
            self.end_segment(shard)
        self.store.save_arrivals([(s.last_sequence, s.last_arrival_ms, s.shard_no) for s in arrived])
        for shard in arrived:
            for tell in self.on_arrival:
                tell(shard)

    # sweeps, each in steps of its own transaction

    def appoint_expiry(self, shard: Shard) -> None:
        """For the oldest record's end, or the closed shard's own."""
        if shard.expiry is not None:
            shard.expiry.cancel()
            shard.expiry = None
        oldest_ms = self.store.oldest_arrival_ms(shard.shard_no)
        if oldest_ms is None and shard.segment_data:
            oldest_ms = shard.last_arrival_ms
        if oldest_ms is None:
            oldest_ms = shard.closed_ms
        if oldest_ms is not None:
            self._appoint(shard, oldest_ms + shard.stream.retention_ms)

    def _appoint(self, shard: Shard, due_ms: int) -> None:
        shard.expiry = self.call_at(due_ms, self._expire, shard)

    def _expire(self, shard: Shard) -> None:
        stream = shard.stream
        if shard.expiry is not None:
            shard.expiry.cancel()
            shard.expiry = None
        if self.by_arn.get(stream.arn) is not stream or stream.shards.get(shard.index) is not shard:
            return
        horizon_ms = stream.horizon_ms(self.clock.now_ms())
        self.end_segment(shard)
        if self.store.expire_segments(shard.shard_no, horizon_ms, SWEEP_BYTES):
            self.clock.soon(partial(self.commit.run, self._expire, shard))
        elif shard.closed_ms is not None and shard.closed_ms < horizon_ms:
            self._discard(shard)
            stream.index_shards()
        else:
            self.appoint_expiry(shard)


def not_found(name: str, account: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"Stream {name} under account {account} not found.")


def shard_missing(stream: Stream, id: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(
        f"Shard {id} in stream {stream.name} under account {stream.world.account} does not exist"
    )


def check_active(stream: Stream) -> None:
    """For what changes a stream. Raises ResourceInUseException."""
    if stream.status != ACTIVE:
        raise ResourceInUseException(
            f"Stream {stream.name} under account {stream.world.account} not ACTIVE, instead in state {stream.status}"
        )


def check_usable(stream: Stream) -> None:
    """For what needs its shards. Raises ResourceInUseException."""
    if stream.status not in (ACTIVE, UPDATING):
        raise ResourceInUseException(
            f"Stream {stream.name} under account {stream.world.account} not ACTIVE or UPDATING, "
            f"instead in state {stream.status}"
        )


def check_there(stream: Stream) -> None:
    """For records, which can be written and read until a stream is gone. Raises ResourceNotFoundException."""
    if stream.status == CREATING:
        raise not_found(stream.name, stream.world.account)


def _cancel(stream: Stream) -> None:
    for timer in (
        stream.timer,
        *(shard.expiry for shard in stream.shards.values()),
        *(consumer.timer for consumer in stream.consumers.values()),
    ):
        if timer is not None:
            timer.cancel()
