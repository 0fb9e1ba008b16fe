"""Which batches of a stream's records a function is given, and what follows from its answers: all of it pure.

`KinesisSourcePolicy` decides where to begin, where a batch ends, and what is done, retried, bisected or given up after
an invocation; `Progress` how far a checkpoint may go; `Window` is a tumbling window. stream_event_source.py does it.
The rule: the records of a lane come to their end in order, each once.
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from patterns.event_source import MAX_PAYLOAD_BYTES, check_batches, policy_fields
from patterns.lease import Lease
from patterns.retry import Backoff, FullJitter

MAX_STATE_BYTES = 1024 * 1024  # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html


class StartingPosition(Enum):
    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """`text` is the record as Lambda gives it, as JSON."""

    sequence_number: str
    partition_key: str
    arrival_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """`failures` is how often its first record has failed since it was first, as far as that counts for the quota.

    `is_error`: its last invocation failed, it did not only report items.
    """

    records: tuple[StreamRecord, ...]
    failures: int = 0
    invokes: int = 0
    is_error: bool = False


class Verdict(NamedTuple):
    """What follows from an invocation: what is done, what is to be invoked next, in order, and what is given up."""

    done: tuple[StreamRecord, ...] = ()
    again: tuple[Batch, ...] = ()
    discarded: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisSourcePolicy:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html

    -1 is for ever. `starting_position_timestamp_s` is the time of day. `backoff` is what comes between invocations when
    one has failed.
    """

    starting_position: StartingPosition
    starting_position_timestamp_s: float | None = None
    batch_size: int = 100
    maximum_batching_window_s: int = 0
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_s: int = -1
    parallelization_factor: int = 1
    report_batch_item_failures: bool = False
    tumbling_window_s: int = 0
    filter_criteria: Mapping[str, Any] | None = None
    poll_s: float = 1.0
    call_attempts: int = 5
    backoff: Backoff = field(default_factory=lambda: FullJitter(0.2, 60.0))

    def __post_init__(self) -> None:
        check_batches(self.batch_size, self.maximum_batching_window_s)
        if not -1 <= self.maximum_retry_attempts <= 10_000:
            raise ValueError("maximum_retry_attempts is from -1 to 10000")
        if self.maximum_record_age_s != -1 and not 60 <= self.maximum_record_age_s <= 604_800:
            raise ValueError("maximum_record_age_s is -1, or from 60 to 604800")
        if not 1 <= self.parallelization_factor <= 10 or not 0 <= self.tumbling_window_s <= 900:
            raise ValueError("parallelization_factor is from 1 to 10, tumbling_window_s from 0 to 900")
        if self.tumbling_window_s and self.parallelization_factor > 1:
            raise ValueError("a tumbling window has one state a shard: its parallelization_factor is 1")
        is_timed = self.starting_position is StartingPosition.AT_TIMESTAMP
        if is_timed != (self.starting_position_timestamp_s is not None):
            raise ValueError("AT_TIMESTAMP has a starting_position_timestamp_s, and nothing else has")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> KinesisSourcePolicy:
        """From the parameters of CreateEventSourceMapping. Raises ValueError for what is none of a stream's.

        A DestinationConfig is one: the destination is given to KinesisEventSource, with a client that can reach it.
        """
        names = {
            "StartingPosition": "starting_position",
            "StartingPositionTimestamp": "starting_position_timestamp_s",
            "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
            "MaximumRetryAttempts": "maximum_retry_attempts",
            "MaximumRecordAgeInSeconds": "maximum_record_age_s",
            "ParallelizationFactor": "parallelization_factor",
            "TumblingWindowInSeconds": "tumbling_window_s",
        }
        fields = policy_fields(mapping, names)
        if "starting_position" not in fields:
            raise ValueError("StartingPosition is required")
        fields["starting_position"] = StartingPosition(fields["starting_position"])
        moment = fields.get("starting_position_timestamp_s")
        if isinstance(moment, datetime):
            fields["starting_position_timestamp_s"] = moment.timestamp()
        return cls(**fields)

    def after(self, batch: Batch, failed_at: int | None, *, is_error: bool = False) -> Verdict:
        """`failed_at` is the first record that failed, 0 if the invocation did, None for a success.

        Splitting does not count as a retry. Where the guide is silent: a batch that fails at its first record is split
        in the middle, also when that was reported, or one bad record would take the good ones behind it along; and a
        record that fails as the first one for the first time has all its retries before it.
        """
        if failed_at is None:
            return Verdict(batch.records)
        done, rest = batch.records[:failed_at], batch.records[failed_at:]
        bisects = self.bisect_batch_on_function_error
        left = Batch(rest, 0, batch.invokes + 1, is_error)
        if bisects and done:
            return Verdict(done, (left,))
        if bisects and len(rest) > 1:
            middle = (len(rest) + 1) // 2
            return Verdict((), (replace(left, records=rest[:middle]), replace(left, records=rest[middle:])))
        left = replace(left, failures=1 if done else batch.failures + 1)
        if 0 <= self.maximum_retry_attempts < left.failures:
            return Verdict(done, (), left)
        return Verdict(done, (left,))

    def aged(self, batch: Batch, now_ms: int) -> tuple[Batch, Batch]:
        """The records that are too old to be given to the function, and the rest."""
        count = 0
        if self.maximum_record_age_s >= 0:
            oldest_ms = now_ms - self.maximum_record_age_s * 1000
            while count < len(batch.records) and batch.records[count].arrival_ms < oldest_ms:
                count += 1
        rest = replace(batch, records=batch.records[count:], failures=batch.failures if count == 0 else 0)
        return replace(batch, records=batch.records[:count]), rest

    def cut(self, records: Collection[StreamRecord]) -> tuple[int, bool]:
        """How many of the first make a batch, and whether no more would fit into it."""
        count = size = 0
        window = None
        for record in records:
            size += len(record.text.encode()) + 1
            if self.tumbling_window_s:
                window = window or Window.of(record.arrival_ms, self.tumbling_window_s)
                if not window.has(record.arrival_ms):
                    return count, True
            if count and size > MAX_PAYLOAD_BYTES - MAX_STATE_BYTES * bool(window):  # the event has the state, too
                return count, True
            count += 1
            if count == self.batch_size:
                return count, True
        return count, False

    def lane(self, partition_key: str) -> int:
        return zlib.crc32(partition_key.encode()) % self.parallelization_factor

    def begin(self, parents: Sequence[Lease], now_ms: int) -> str | None:
        """The checkpoint that a new shard's lease begins with; None is TRIM_HORIZON.

        A moment is written down as @ and milliseconds, so that a shard without records begins where it would have
        begun. Children of a shard that has been read begin with their first record.
        """
        if self.starting_position is StartingPosition.TRIM_HORIZON:
            return None
        if self.starting_position_timestamp_s is not None:
            return f"@{round(self.starting_position_timestamp_s * 1000)}"
        begun = [lease.checkpoint or "" for lease in parents]
        if not all(checkpoint.startswith("@") for checkpoint in begun):
            return None
        return min(begun, key=lambda checkpoint: int(checkpoint[1:]), default=f"@{now_ms}")


@dataclass(frozen=True, slots=True)
class Window:
    """A tumbling window, with the state that the last invocation answered."""

    start_ms: int
    end_ms: int
    state: Any = field(default_factory=dict)

    @staticmethod
    def of(arrival_ms: int, length_s: int) -> Window:
        start_ms = arrival_ms - arrival_ms % (length_s * 1000)
        return Window(start_ms, start_ms + length_s * 1000)

    def has(self, arrival_ms: int) -> bool:
        return self.start_ms <= arrival_ms < self.end_ms

    @property
    def is_too_big(self) -> bool:
        return len(json.dumps(self.state).encode()) > MAX_STATE_BYTES


class Progress:
    """Records are taken in order and done in any: how far all of them are done."""

    def __init__(self) -> None:
        self.position: str | None = None
        self._taken: deque[str] = deque()
        self._done: set[str] = set()

    def take(self, sequence_number: str) -> None:
        self._taken.append(sequence_number)

    def done(self, sequence_numbers: Iterable[str]) -> None:
        self._done.update(sequence_numbers)
        while self._taken and self._taken[0] in self._done:
            self.position = self._taken.popleft()
            self._done.remove(self.position)

    @property
    def is_complete(self) -> bool:
        return not self._taken
