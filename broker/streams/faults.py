"""What goes wrong with shards when the plan says so: throttled, resharded, lagging, records twice, iterators too old.

The rule: no record is lost and none overtakes another of its shard. Reshards are the ordinary ones, so that readers see
a closed shard with children; what a reader is not given it is given later. Whoever calls has looked into
`faults.points` first, so that all of this costs nothing without a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from broker.entropy import Entropy
from broker.errors import InternalFailureException, LimitExceededException, ProvisionedThroughputExceededException
from broker.faults import Hit, Occasion
from broker.limits import MAX_GET_RECORDS, SHARD_ITERATOR_MS
from broker.queues.faults import content
from broker.streams import tokens
from broker.streams.lifecycle import Lifecycle
from broker.streams.putting import Put, Putting, Refused, exceeded, throttled
from broker.streams.registry import Registry
from broker.streams.shards import MAX_SHARDS, Shards
from broker.streams.stream import ACTIVE, PROVISIONED, Shard, Stream

if TYPE_CHECKING:
    from broker.streams.subscriptions import Subscription

Place = Callable[[Stream, Sequence[Putting]], list[Shard]]
Write = Callable[[Stream, Sequence[Putting], Sequence[Shard]], list[Put | Refused]]


class Lag(NamedTuple):
    """How a read falls short: by how much more it is behind, and how many records it gets at most."""

    behind_ms: int
    records: int


class StreamFaults:
    """Those of all streams."""

    def __init__(self, registry: Registry, lifecycle: Lifecycle, shards: Shards) -> None:
        self._lifecycle = lifecycle
        self._shards = shards
        self._faults = registry.faults
        self._ledger = registry.ledger
        self._clock = registry.clock
        # By a rule's chance, which lives as long as the rule: since when it makes which shard's readers lag.
        self._lagging: WeakKeyDictionary[Entropy, dict[int, int]] = WeakKeyDictionary()

    # in

    def on_put(
        self,
        stream: Stream,
        entries: Sequence[Putting],
        shards: Sequence[Shard],
        operation: str,
        place: Place,
        write: Write,
    ) -> list[Put | Refused]:
        """Writes the records, but for those whose shard is throttled, and some twice. Each one's own outcome."""
        if self._reshards(stream, entries, shards, operation):
            shards = place(stream, entries)
        outcomes: list[Put | Refused | None] = [None] * len(entries)
        kept: list[int] = []
        repeated: dict[int, Hit] = {}
        for number, entry in enumerate(entries):
            occasion = _occasion(self._ledger.by, stream, operation, entry)
            if (hit := self._faults.hit("put-record", occasion, "shard-throttle")) is not None:
                outcomes[number] = throttled(shards[number])
                self._ledger.fault(hit, stream.arn, "", {"operation": operation, "shard": shards[number].shard_id})
                continue
            kept.append(number)
            if (hit := self._faults.hit("put-record", occasion, "repeat-record")) is not None:
                kept.append(number)
                repeated[number] = hit
        done = write(stream, [entries[number] for number in kept], [shards[number] for number in kept])
        for number, outcome in zip(kept, done, strict=True):
            first = outcomes[number]
            if not isinstance(first, Put):
                outcomes[number] = outcome
            elif isinstance(outcome, Put):  # the producer is told of its second try, unless that was one too many
                outcomes[number] = outcome
                detail = {"operation": operation, "shard": outcome.shard_id, "first": first.sequence_number}
                self._ledger.fault(repeated[number], stream.arn, outcome.sequence_number, detail)
        return [outcome for outcome in outcomes if outcome is not None]

    def _reshards(self, stream: Stream, entries: Sequence[Putting], shards: Sequence[Shard], operation: str) -> bool:
        for entry, shard in zip(entries, shards, strict=True):
            if not _may_change(shard):
                return False
            hit = self._faults.hit("put-record", _occasion(self._ledger.by, stream, operation, entry), "reshard")
            if hit is not None:
                self._reshard(shard, hit)
                return True
        return False

    # out

    def on_get(self, shard: Shard, given_ms: int) -> Lag | None:
        """Raises ProvisionedThroughputExceededException, ExpiredIteratorException."""
        stream, now_ms = shard.stream, self._clock.now_ms()
        occasion = _occasion(self._ledger.by, stream, "GetRecords")
        hit = self._faults.hit("get-records", occasion, "shard-throttle", "expired-iterator")
        detail: dict[str, Any] = {"operation": "GetRecords", "shard": shard.shard_id}
        if hit is not None:
            self._ledger.fault(hit, stream.arn, "", detail)
            if hit.kind == "shard-throttle":
                raise ProvisionedThroughputExceededException(exceeded(shard))
            raise tokens.expired(min(given_ms, now_ms - SHARD_ITERATOR_MS - 1_000), now_ms)
        if _may_change(shard) and (hit := self._faults.hit("get-records", occasion, "reshard")) is not None:
            self._reshard(shard, hit)
        hit = self._faults.hit("get-records", occasion, "lag")
        if hit is None:
            return None
        since_ms = self._lagging.setdefault(hit.chance, {}).setdefault(shard.shard_no, now_ms)
        grown_ms = round(max(0, now_ms - since_ms) * hit.parameters["growth_per_s"] / 1000)
        lag = Lag(min(grown_ms, stream.retention_ms), hit.parameters.get("records_per_call") or MAX_GET_RECORDS)
        self._ledger.fault(hit, stream.arn, "", {**detail, "behind_ms": lag.behind_ms})
        return lag

    # shards

    def _reshard(self, shard: Shard, hit: Hit) -> None:
        """The ordinary operation, but that nobody has called it: no rate counts it. Nothing where it cannot be done."""
        stream = shard.stream
        if hit.parameters.get("how") == "merge":
            place = stream.open_shards.index(shard)
            neighbours = stream.open_shards[place + 1 : place + 2] or stream.open_shards[:place][-1:]
            if not neighbours:
                return
            self._lifecycle.update(stream, "MergeShards", shard=shard.index, adjacent=neighbours[0].index)
        else:
            middle = (shard.starting_hash_key + shard.ending_hash_key + 1) // 2
            if not shard.starting_hash_key + 1 < middle < shard.ending_hash_key:
                return
            try:
                if stream.mode == PROVISIONED:
                    self._shards.check_quota(stream.world, 1)
            except LimitExceededException:
                return
            self._lifecycle.update(stream, "SplitShard", shard=shard.index, hash_key=str(middle))
        self._ledger.fault(hit, stream.arn, "", {"shard": shard.shard_id})

    # subscriptions

    def on_subscribe(self, subscription: Subscription) -> None:
        """Perhaps it will end before its time, as if all was well or with an error."""
        shard = subscription.shard
        occasion = _occasion(self._ledger.by, shard.stream, "SubscribeToShard")
        hit = self._faults.hit("subscription", occasion, "cut-subscription")
        if hit is None:
            return

        def cut() -> None:
            if not subscription.is_over():
                self._ledger.fault(hit, shard.stream.arn, "", {"shard": shard.shard_id})
                is_error = hit.parameters.get("how") == "error"
                subscription.end(InternalFailureException("Internal service error.") if is_error else None)

        self._clock.call_at(self._clock.now_ms() + int(hit.parameters["after_ms"]), cut)


def _may_change(shard: Shard) -> bool:
    stream = shard.stream
    return stream.status == ACTIVE and shard.is_open and len(stream.open_shards) < MAX_SHARDS


def _occasion(client: str, stream: Stream, operation: str, entry: Putting | None = None) -> Occasion:
    def seen() -> dict[str, Any]:
        assert entry is not None
        given = {"PartitionKey": entry.partition_key, "ExplicitHashKey": entry.explicit_hash_key}
        attributes = {name: value for name, value in given.items() if value is not None}
        return {"body": content(entry.data.decode(errors="replace"), {})["body"], "attributes": attributes}

    account = stream.world.account
    return Occasion("kinesis", operation, stream.arn, account, client, None if entry is None else seen)
