"""SubscribeToShard: records are pushed to a consumer when they are committed, as fast as its client takes them.

A subscription is at a place in a shard. Just before a commit that brought records to it, they are read once for all
who are at the same place; after it they go out: nothing is pushed that is not safe, and nobody polls. A client that is
slow says so by its `push`, and its subscription rests at its place until `resume`: what waits for it waits in the
store. A subscription belongs to the process: it outlives a group that failed, not a restart.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from broker.clock import Timer
from broker.errors import (
    BrokerFailure,
    DomainError,
    DryRunOperationException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from broker.limits import RESUBSCRIBE_MS, SUBSCRIPTION_MS
from broker.streams import sequence
from broker.streams.definitions import check_consumer_active
from broker.streams.faults import StreamFaults
from broker.streams.records import Records
from broker.streams.registry import Registry, check_usable, shard_missing
from broker.streams.segments import Record
from broker.streams.stream import Consumer, Shard, Stream

EVENT_RECORDS, EVENT_BYTES = 1_000, 1024 * 1024
"""What one event carries at most, but for a single record that is larger. AWS gives no figures."""

HEARTBEAT_MS = 5_000  # without records an event tells where the shard is; clients take silence for a broken connection
CALL_INTERVAL_MS = 1_000  # one call a second of each consumer and shard


class Event(NamedTuple):
    """SubscribeToShardEvent. Subscribers at the same place are given the same object, so that it is encoded once:
    `encoded` is for whoever does, by the form.

    At the end of a closed shard there are `child_shards` and no `continuation_sequence_number`.
    """

    records: list[Record]
    continuation_sequence_number: str | None
    behind_ms: int
    child_shards: list[Shard]
    encoded: dict[str, bytes]


Push = Callable[[Event], bool]
"""Takes an event; False where no other must come before `resume`."""

End = Callable[[DomainError | None], None]
"""Called once, when the subscription ends by itself, with what the client is told of it."""


class Subscription:
    """One call of SubscribeToShard. It begins to push with the first `resume`, when the answer has begun."""

    __slots__ = (
        "_end",
        "_heartbeat",
        "_home",
        "_push",
        "_timer",
        "consumer_arn",
        "free_ms",
        "is_ready",
        "is_served",
        "position",
        "shard",
        "since_ms",
    )

    def __init__(
        self, home: Subscriptions, consumer_arn: str, shard: Shard, position: int, push: Push, end: End, now_ms: int
    ) -> None:
        self._home = home
        self._push = push
        self._end: End | None = end
        self.consumer_arn = consumer_arn
        self.shard = shard
        self.position = position
        self.since_ms = now_ms
        self.is_ready = False  # the client takes another event
        self.is_served = False  # one is on its way, or waits for its turn
        self.free_ms = 0  # where there is a limit of throughput: when the next event may go
        self._heartbeat: Timer | None = None
        self._timer = home.clock.call_at(now_ms + SUBSCRIPTION_MS, self.end)

    def is_over(self) -> bool:
        return self._end is None

    def resume(self) -> None:
        """The client takes another event."""
        if not self.is_over() and not self.is_ready:
            self.is_ready = True
            if self._has_more() or self._heartbeat is None:
                self._home.serve_soon(self)

    def _has_more(self) -> bool:
        return self.position <= self.shard.last_sequence or not self.shard.is_open

    def _beat(self) -> None:
        self._heartbeat = None
        self._home.serve_soon(self)

    def cancel(self) -> None:
        """The client has gone."""
        self._end = None
        self._leave()

    def end(self, error: DomainError | None = None) -> None:
        """Its time is up, or it cannot go on."""
        end, self._end = self._end, None
        self._leave()
        if end is not None:
            end(error)

    def _leave(self) -> None:
        self._timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._home.forget(self)

    def deliver(self, event: Event, position: int) -> None:
        """The event is committed."""
        self.is_served = False
        if self.is_over():
            return
        self.position = position
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if not self._push(event):
            self.is_ready = False
        if self.is_over():  # the client left while it was given the event
            return
        if event.continuation_sequence_number is None:
            self.end()
            return
        self._heartbeat = self._home.clock.call_at(self._home.clock.now_ms() + HEARTBEAT_MS, self._beat)
        if self.is_ready and self._has_more():
            self._home.serve_soon(self)


class Subscriptions:
    """All that are open."""

    def __init__(self, registry: Registry, records: Records, faults: StreamFaults) -> None:
        self._registry = registry
        self._records = records
        self._struck = faults
        self.clock = registry.clock
        self._commit = registry.commit
        self._active: dict[tuple[str, int], Subscription] = {}  # by consumer's ARN and shard's number
        self._by_shard: dict[int, dict[Subscription, None]] = {}
        self._called_ms: dict[tuple[str, int], int] = {}
        registry.on_arrival.append(self._on_arrival)
        registry.on_remove.append(self._on_remove)
        registry.on_deregister.append(self._on_deregister)
        registry.on_load.append(self._rebind)

    def subscribe(
        self,
        consumer: Consumer,
        shard_id: str,
        position_type: str,
        sequence_number: str | None = None,
        timestamp_ms: int | None = None,
        *,
        push: Push,
        end: End,
        dry_run: bool = False,
    ) -> Subscription:
        """Raises ResourceNotFound…, InvalidArgument…, ResourceInUse…, LimitExceeded…, DryRunOperationException."""
        stream = consumer.stream
        shard = stream.shard(shard_id)
        if shard is None:
            raise shard_missing(stream, shard_id)
        check_consumer_active(consumer)
        check_usable(stream)
        now_ms = self.clock.now_ms()
        key = consumer.arn, shard.shard_no
        earlier = self._active.get(key)
        if earlier is not None and now_ms < earlier.since_ms + RESUBSCRIBE_MS:
            raise _in_use(consumer, shard)
        if self._registry.limits.stream_api_rates:
            if now_ms < self._called_ms.get(key, -CALL_INTERVAL_MS) + CALL_INTERVAL_MS:
                raise LimitExceededException(f"Rate exceeded for consumer {consumer.arn} and shard {shard.shard_id}.")
            self._called_ms = {one: ms for one, ms in self._called_ms.items() if now_ms < ms + CALL_INTERVAL_MS}
        self._commit.enter()
        position = self._records.position(shard, position_type, sequence_number, timestamp_ms, "SubscribeToShard")
        if dry_run:
            raise DryRunOperationException("The request would have succeeded, but the DryRun parameter was set.")
        if earlier is not None:
            earlier.end(_in_use(consumer, shard))
        self._called_ms[key] = now_ms
        subscription = Subscription(self, consumer.arn, shard, position, push, end, now_ms)
        self._active[key] = subscription
        self._by_shard.setdefault(shard.shard_no, {})[subscription] = None
        if "subscription" in self._registry.faults.points:
            self._struck.on_subscribe(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        key = subscription.consumer_arn, subscription.shard.shard_no
        if self._active.get(key) is subscription:
            del self._active[key]
        of_shard = self._by_shard.get(subscription.shard.shard_no, {})
        of_shard.pop(subscription, None)
        if not of_shard:
            self._by_shard.pop(subscription.shard.shard_no, None)

    def close(self) -> None:
        """Ends them all: the broker stops, or its clock was set back."""
        for subscription in list(self._active.values()):
            subscription.end()
        self._called_ms.clear()

    def count(self) -> int:
        return len(self._active)

    # serving

    def serve_soon(self, subscription: Subscription) -> None:
        self.clock.soon(partial(self._commit.run, self._serve_one, subscription))

    def _serve_one(self, subscription: Subscription) -> None:
        self._serve(subscription, {})

    def _serve_again(self, subscription: Subscription) -> None:
        subscription.is_served = False
        self.serve_soon(subscription)

    def _on_arrival(self, shard: Shard) -> None:
        """Inside the group that brought records, or closed the shard."""
        read: dict[int, tuple[Event, int]] = {}
        for subscription in self._by_shard.get(shard.shard_no, ()):
            self._serve(subscription, read)

    def _serve(self, subscription: Subscription, read: dict[int, tuple[Event, int]]) -> None:
        if subscription.is_over() or not subscription.is_ready or subscription.is_served:
            return
        position, shard = subscription.position, subscription.shard
        now_ms = self.clock.now_ms()
        if now_ms < subscription.free_ms:
            subscription.is_served = True
            self.clock.call_at(subscription.free_ms, partial(self._serve_again, subscription))
            return
        found = read.get(position)
        if found is None:
            try:
                found = read[position] = self._next_event(shard, position)
            except Exception:  # what cannot be read must not be tried again with each group
                subscription.end()
                raise
        event, following = found
        ledger = self._registry.ledger
        if event.records and ledger.is_on:
            ledger.read(
                shard.stream.arn,
                shard.shard_id,
                following - len(event.records),
                following - 1,
                subscription.consumer_arn,
            )
        bytes_per_s = self._registry.limits.shard_read_bytes_per_s
        if bytes_per_s is not None:
            subscription.free_ms = now_ms + sum(len(record.data) for record in event.records) * 1000 // bytes_per_s
        subscription.is_served = True
        self._commit.then(partial(_deliver, subscription, event, following))

    def _next_event(self, shard: Shard, position: int) -> tuple[Event, int]:
        """What is there from a place on, if only that there is nothing, and the place after it."""
        records, following = self._records.read(shard, position, EVENT_RECORDS, EVENT_BYTES)
        behind_ms = self._records.behind_ms(shard, records, following)
        if following > shard.last_sequence and not shard.is_open:
            return Event(records, None, behind_ms, shard.children, {}), following
        if records:
            number = int(records[-1].sequence_number)
        else:
            number = shard.sequence_number(max(0, following - 1), shard.last_arrival_ms)
        return Event(records, str(sequence.after(number)), behind_ms, [], {}), following

    # what ends them

    def _end_of(self, subscriptions: list[Subscription], error: DomainError) -> None:
        """Once it is committed that what they read is gone."""

        def tell(failure: BrokerFailure | None) -> None:
            if failure is None:
                for subscription in subscriptions:
                    subscription.end(error)

        if subscriptions:
            self._commit.then(tell)

    def _on_remove(self, stream: Stream) -> None:
        self._end_of(
            [one for one in self._active.values() if one.shard.stream is stream],
            ResourceNotFoundException(f"Stream {stream.name} under account {stream.world.account} not found."),
        )

    def _on_deregister(self, consumer: Consumer) -> None:
        self._end_of(
            [one for one in self._active.values() if one.consumer_arn == consumer.arn],
            ResourceNotFoundException(f"Consumer {consumer.arn}, account {consumer.stream.world.account} not found."),
        )

    def _rebind(self) -> None:
        """A group did not happen, and the shards in RAM are new ones. What was on its way to clients does not go."""
        for subscription in list(self._active.values()):
            consumer = self._registry.consumers.get(subscription.consumer_arn)
            shard = None if consumer is None else consumer.stream.shards.get(subscription.shard.index)
            if shard is None or shard.shard_no != subscription.shard.shard_no:
                subscription.end(ResourceNotFoundException(f"Consumer {subscription.consumer_arn} not found."))
                continue
            subscription.shard = shard
            subscription.position = min(subscription.position, shard.last_sequence + 1)
            subscription.is_served = False
            if subscription.is_ready:
                self._registry.call_at(0, self._serve_one, subscription)


def _deliver(subscription: Subscription, event: Event, following: int, failure: BrokerFailure | None) -> None:
    if failure is None:
        subscription.deliver(event, following)


def _in_use(consumer: Consumer, shard: Shard) -> ResourceInUseException:
    stream = consumer.stream
    return ResourceInUseException(
        f"Another active subscription exists for this consumer: {stream.world.account}:{stream.name}:"
        f"{shard.shard_id}:{consumer.name}"
    )
