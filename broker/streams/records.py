"""Records in and out: PutRecord, PutRecords, GetShardIterator, GetRecords.

A record's sequence number is given when it is put, inside the group commit: numbers of a shard grow in the order of
commits, and nobody is told of one before it is safe. A place in a shard is a count of records, so a read is one range
of rows. The loop of `put_records` is the hot path: it gathers, the registry writes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import md5
from typing import NamedTuple

from broker.errors import (
    DryRunOperationException,
    InvalidArgumentException,
    ProvisionedThroughputExceededException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import MAX_GET_BYTES, MAX_GET_RECORDS, MAX_PUT_BYTES, MAX_PUT_RECORDS, MIB, SHARD_ITERATOR_MS
from broker.streams import segments, sequence, tokens
from broker.streams.faults import StreamFaults
from broker.streams.putting import Put, Putting, Refused, exceeded, new_put, throttled
from broker.streams.registry import Registry, check_there, shard_missing
from broker.streams.scaling import Scaling
from broker.streams.segments import SEGMENT_BYTES, Record
from broker.streams.stream import AUTO, MAX_HASH_KEY, Shard, Stream, shard_id

_NUMBERED, _UNNUMBERED = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"), ("TRIM_HORIZON", "LATEST")


class Page(NamedTuple):
    """What GetRecords gives. `next_iterator` is None at the end of a closed shard, and only then are there children."""

    records: list[Record]
    next_iterator: str | None
    behind_ms: int
    child_shards: list[Shard]


class Records:
    """The records of all streams."""

    def __init__(self, registry: Registry, scaling: Scaling, faults: StreamFaults) -> None:
        self._registry = registry
        self._scaling = scaling
        self._struck = faults
        self._faults = registry.faults
        self._store = registry.store
        self._clock = registry.clock
        self._limits = registry.limits

    # in

    def put_record(
        self,
        stream: Stream,
        entry: Putting,
        sequence_number_for_ordering: str | None = None,
        *,
        dry_run: bool = False,
        operation: str = "PutRecord",
    ) -> Put:
        """Raises ResourceNotFound…, InvalidArgument…, Validation…, ProvisionedThroughputExceeded…, DryRun…."""
        if sequence_number_for_ordering is not None:
            self._check_ordering(stream, sequence_number_for_ordering)
        outcome = self._put(stream, (entry,), dry_run, "", operation)[0]
        if type(outcome) is Refused:
            raise ProvisionedThroughputExceededException(outcome.error_message)
        assert type(outcome) is Put
        return outcome

    def put_records(self, stream: Stream, entries: Sequence[Putting], *, dry_run: bool = False) -> list[Put | Refused]:
        """Each one's own outcome. Raises ResourceNotFound…, InvalidArgument…, Validation…, DryRunOperationException."""
        if not 1 <= len(entries) <= MAX_PUT_RECORDS:
            raise InvalidArgumentException(f"Records must have between 1 and {MAX_PUT_RECORDS} entries.")
        return self._put(stream, entries, dry_run, "records.{}.member.", "PutRecords")

    def _put(
        self, stream: Stream, entries: Sequence[Putting], dry_run: bool, path: str, operation: str
    ) -> list[Put | Refused]:
        check_there(stream)
        self._registry.commit.enter()
        shards = self._placed(stream, entries, path)
        if dry_run:
            raise DryRunOperationException("The request would have succeeded, but the DryRun parameter was set.")
        if "put-record" in self._faults.points:
            return self._struck.on_put(stream, entries, shards, operation, self._placed, self._write)
        return self._write(stream, entries, shards)

    def _write(self, stream: Stream, entries: Sequence[Putting], shards: Sequence[Shard]) -> list[Put | Refused]:
        now_ms = self._clock.now_ms()
        limited = self._limits.shard_write_bytes_per_s is not None
        noted = {shard: shard.last_sequence for shard in shards} if self._registry.ledger.is_on else None
        outcomes: list[Put | Refused] = []
        done = outcomes.append
        for (data, key, _), shard in zip(entries, shards, strict=True):
            if limited and not self._takes(shard, _size(data, key), now_ms):
                done(throttled(shard))
                continue
            if shard.segment_ms != now_ms:
                self._registry.begin_segment(shard, now_ms)
            shard.segment_keys.append(key)
            shard.segment_data.append(data)
            shard.segment_bytes += len(data)
            shard.last_sequence = count = shard.last_sequence + 1
            done(new_put((shard.shard_id, str(shard.number_base + (count << 80)))))
            if shard.segment_bytes >= SEGMENT_BYTES:
                self._registry.end_segment(shard)
        if limited:
            self._scaling.watch(stream, entries, now_ms)
        if noted is not None:
            for shard, last in noted.items():
                if shard.last_sequence > last:
                    self._registry.ledger.put(stream.arn, shard.shard_id, last + 1, shard.last_sequence)
        return outcomes

    def _placed(self, stream: Stream, entries: Sequence[Putting], path: str = "") -> list[Shard]:
        """Each record's shard. Raises InvalidArgumentException, ValidationException."""
        starts, opened = stream.starts, stream.open_shards
        if stream.distribution == AUTO:
            first = stream.turn
            stream.turn += len(entries)
            shards = [opened[turn % len(opened)] for turn in range(first, stream.turn)]
            self._check_sizes(stream, entries, sum(len(data) + len(key or "") for data, key, _ in entries), path)
            return shards
        shards, total = [], 0
        for data, key, explicit in entries:
            if key is None:
                keyless = [number for number, entry in enumerate(entries, 1) if entry.partition_key is None]
                raise _refusal(path + "partitionKey", keyless, "Value null", "Member must not be null")
            encoded = key.encode()
            total += len(data) + len(encoded)
            hash_key = md5(encoded, usedforsecurity=False).digest() if explicit is None else _read_hash_key(explicit)
            shards.append(opened[bisect_right(starts, hash_key) - 1])
        self._check_sizes(stream, entries, total, path)
        return shards

    def _check_sizes(self, stream: Stream, entries: Sequence[Putting], total: int, path: str) -> None:
        limit = stream.max_record_bytes
        if total > limit:  # else each is below it
            too_long = [number for number, entry in enumerate(entries, 1) if len(entry.data) > limit]
            if too_long:
                constraint = f"Member must have length less than or equal to {limit}"
                raise _refusal(path + "data", too_long, "Value", constraint)
            for data, key, _ in entries:
                if (size := _size(data, key)) > limit:
                    raise InvalidArgumentException(
                        f"A record of {size} bytes, with its partition key, is larger than the maximum record size of "
                        f"{limit} bytes of stream {stream.name} under account {stream.world.account}."
                    )
        if total > MAX_PUT_BYTES:
            raise InvalidArgumentException(f"Records size exceeds {MAX_PUT_BYTES // MIB} MB limit")

    def _takes(self, shard: Shard, size: int, now_ms: int) -> bool:
        bytes_per_s, records_per_s = self._limits.shard_write_bytes_per_s, self._limits.shard_write_records_per_s
        assert bytes_per_s is not None
        assert records_per_s is not None
        return shard.writes.takes(now_ms // 1000, size, bytes_per_s, records_per_s)

    def _check_ordering(self, stream: Stream, number: str) -> None:
        """A later record's number is always above an earlier one's: only what was never given is refused."""
        place = sequence.read(number)
        if number != "0" and (place is None or place.shard_index >= stream.next_index):
            raise InvalidArgumentException(
                f"ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {stream.name} under account "
                f"{stream.world.account} is invalid."
            )

    # iterators

    def get_shard_iterator(
        self,
        stream: Stream,
        shard_id: str,
        iterator_type: str,
        starting_sequence_number: str | None = None,
        timestamp_ms: int | None = None,
        *,
        dry_run: bool = False,
    ) -> str:
        """Raises ResourceNotFound…, InvalidArgument…, ProvisionedThroughputExceeded…, DryRunOperationException."""
        check_there(stream)
        shard = stream.shard(shard_id)
        if shard is None:
            raise shard_missing(stream, shard_id)
        now_ms = self._clock.now_ms()
        if self._limits.stream_api_rates and shard.is_open and not shard.reads.lets_iterator(now_ms):
            raise ProvisionedThroughputExceededException(exceeded(shard))
        self._registry.commit.enter()
        position = self.position(shard, iterator_type, starting_sequence_number, timestamp_ms, "GetShardIterator")
        if dry_run:
            raise DryRunOperationException("The request would have succeeded, but the DryRun parameter was set.")
        return tokens.make_iterator(stream.secret, shard.index, position, now_ms)

    def position(
        self, shard: Shard, iterator_type: str, number: str | None, timestamp_ms: int | None, operation: str
    ) -> int:
        """The count of the first record that is wanted. Raises InvalidArgumentException."""
        if iterator_type in (_NUMBERED if number is None else _UNNUMBERED):  # AWS's words: akkadotnet/Alpakka#160
            specified = "no" if number is None else "also a"
            raise InvalidArgumentException(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "
                "(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
                f"Request specified {iterator_type} and {specified} StartingSequenceNumber."
            )
        if iterator_type == "LATEST":
            return shard.last_sequence + 1
        if iterator_type == "TRIM_HORIZON":
            return 0
        if iterator_type == "AT_TIMESTAMP":
            if timestamp_ms is None:
                raise InvalidArgumentException(
                    "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP."
                )
            now_ms = self._clock.now_ms()
            if timestamp_ms > now_ms:
                raise InvalidArgumentException(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
                    f"timestampInMillis: {timestamp_ms}, currentTimestampInMillis: {now_ms}"
                )
            self._registry.end_segment(shard)
            first = self._store.first_sequence_since(shard.shard_no, timestamp_ms)
            return shard.last_sequence + 1 if first is None else first
        if number is None:
            raise InvalidArgumentException(f"ShardIteratorType {iterator_type} is not supported.")
        if number == "0":
            return 0
        place = sequence.read(number)
        if place is not None and place.shard_index != shard.index:  # AWS's words: awslabs/amazon-kinesis-client#391
            raise InvalidArgumentException(
                f"Invalid StartingSequenceNumber. It encodes {shard_id(place.shard_index)}, "
                f"while it was used in a call to a shard with {shard.shard_id}"
            )
        if place is None or place.born_s != shard.born_s or shard.last_sequence < place.position != sequence.LAST:
            raise InvalidArgumentException(
                f"StartingSequenceNumber {number} used in {operation} on shard {shard.shard_id} in stream "
                f"{shard.stream.name} under account {shard.stream.world.account} is invalid because it did not come "
                "from this stream."
            )
        following = place.position + (place.is_after or iterator_type == "AFTER_SEQUENCE_NUMBER")
        return min(following, shard.last_sequence + 1)

    # out

    def stream_of(self, iterator: str) -> Stream:
        """Whose iterator it is. Raises InvalidArgumentException, ResourceNotFoundException."""
        return self._read_iterator(iterator)[0]

    def get_records(
        self, iterator: str, limit: int | None = None, stream: Stream | None = None, *, dry_run: bool = False
    ) -> Page:
        """Raises ResourceNotFound…, InvalidArgument…, ProvisionedThroughputExceeded…, ExpiredIterator…, DryRun…."""
        owner, place = self._read_iterator(iterator)
        if stream not in (None, owner):
            raise InvalidArgumentException("ShardIterator does not belong to the stream.")
        if limit is not None and not 1 <= limit <= MAX_GET_RECORDS:
            raise InvalidArgumentException(f"Limit must be between 1 and {MAX_GET_RECORDS}.")
        check_there(owner)
        now_ms = self._clock.now_ms()
        if now_ms > place.given_ms + SHARD_ITERATOR_MS:
            raise tokens.expired(place.given_ms, now_ms)
        shard = owner.shards.get(place.shard_index)
        if shard is None:
            raise ResourceNotFoundException(
                f"Shard in stream {owner.name} under account {owner.world.account} does not exist"
            )
        lag = None
        if "get-records" in self._faults.points and not dry_run:
            lag = self._struck.on_get(shard, place.given_ms)
        bytes_per_s, reads_per_s = self._limits.shard_read_bytes_per_s, self._limits.shard_reads_per_s
        if (
            bytes_per_s is not None
            and reads_per_s is not None
            and not shard.reads.lets(now_ms, bytes_per_s, reads_per_s)
        ):
            raise ProvisionedThroughputExceededException(exceeded(shard))
        if dry_run:
            raise DryRunOperationException("The request would have succeeded, but the DryRun parameter was set.")
        self._registry.commit.enter()
        wanted = limit or MAX_GET_RECORDS
        if lag is not None:
            wanted = min(wanted, lag.records)
        records, position = self.read(shard, place.position, wanted, MAX_GET_BYTES)
        if bytes_per_s is not None:
            shard.reads.took(sum(len(record.data) for record in records), bytes_per_s)
        if records and self._registry.ledger.is_on:
            self._registry.ledger.read(owner.arn, shard.shard_id, position - len(records), position - 1)
        behind_ms = self.behind_ms(shard, records, position) + (0 if lag is None else lag.behind_ms)
        if position > shard.last_sequence and not shard.is_open:
            return Page(records, None, behind_ms, shard.children)
        return Page(records, tokens.make_iterator(owner.secret, shard.index, position, now_ms), behind_ms, [])

    def read(self, shard: Shard, position: int, limit: int, limit_bytes: int) -> tuple[list[Record], int]:
        """Records from a place on, and the place after them. The group is open."""
        if position > shard.last_sequence:
            return [], position
        if shard.segment_data:
            self._registry.end_segment(shard)
        horizon_ms = shard.stream.horizon_ms(self._clock.now_ms())
        found = self._store.segments(shard.shard_no, position, horizon_ms, limit, limit_bytes)
        if not found:  # all that was there is expired
            return [], shard.last_sequence + 1
        records: list[Record] = []
        for segment in found:
            unpacked, start = segments.unpacked(shard, segment, position)
            if not records:
                position = start
            records += unpacked
        if len(records) > limit:
            del records[limit:]
        if sum(len(segment.data) + len(segment.partition_keys) for segment in found) > limit_bytes:
            size = 0
            for number, record in enumerate(records):
                size += _size(record.data, record.partition_key)
                if size > limit_bytes and number:
                    del records[number:]
                    break
        return records, position + len(records)

    def behind_ms(self, shard: Shard, records: Sequence[Record], position: int) -> int:
        """How old what was read is, where more has come since. Readers take 0 for the end of what there is."""
        if position > shard.last_sequence or not records:
            return 0
        return max(1, self._clock.now_ms() - records[-1].arrival_ms)

    def _read_iterator(self, iterator: str) -> tuple[Stream, tokens.Iterator]:
        read = tokens.read_iterator(iterator)
        if read is None:
            raise InvalidArgumentException("Invalid ShardIterator.")
        place, raw = read
        stream = self._registry.by_mark.get(place.mark)
        if stream is None:
            raise ResourceNotFoundException("The stream of this ShardIterator does not exist.")
        if not tokens.is_signed(raw, stream.secret):
            raise InvalidArgumentException("Invalid ShardIterator.")
        return stream, place

    def put_event(self, arn: str, partition_key: str, data: bytes) -> str | None:
        """For targets inside the broker: an error's code where it cannot be put."""
        stream = self._registry.by_arn.get(arn)
        if stream is None:
            return "ResourceNotFoundException"
        try:
            self.put_record(stream, Putting(data, partition_key), operation="Deliver")
        except (
            ResourceNotFoundException,
            InvalidArgumentException,
            ValidationException,
            ProvisionedThroughputExceededException,
        ) as error:
            return type(error).__name__
        return None


def _refusal(path: str, numbers: list[int], value: str, constraint: str) -> ValidationException:
    """What depends on the stream, AWS refuses as if the model forbade it: awslabs/amazon-kinesis-producer#680."""
    shown = numbers[:10]
    sentences = "; ".join(
        f"{value} at '{path.format(number)}' failed to satisfy constraint: {constraint}" for number in shown
    )
    plural = "" if len(shown) == 1 else "s"
    return ValidationException(f"{len(shown)} validation error{plural} detected: {sentences}")


def _size(data: bytes, key: str | None) -> int:
    """What a record counts as."""
    return len(data) + (len(key.encode()) if key else 0)


def _read_hash_key(text: str) -> bytes:
    """As a digest is written. Raises InvalidArgumentException."""
    hash_key = int(text) if text.isdecimal() and len(text) <= 39 else -1
    if not 0 <= hash_key <= MAX_HASH_KEY:
        raise InvalidArgumentException(
            f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
        )
    return hash_key.to_bytes(16, "big")
