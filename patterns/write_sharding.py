"""A key with more traffic than a shard takes is spread over several, and its reader puts the records together again.

Three pure parts: `HotKeys` says over how many shards a key goes now, `Stamps` numbers a key's records and places them
evenly on the stream's ring, `Together` gives them back in the order of their numbers. `KeyWriter` and `KeyReader` drive
them. The rule: the order is in the stamp, never in the shards, so spreading may change from one record to the next.
Ugly: the stamp is the partition key ("key/writer/number"), because a Kinesis record has no other place beside its data.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import anyio

from patterns.batch_producer import BatchProducer, Sent

T = TypeVar("T")

RING = 1 << 128  # of hash keys: https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html
MAX_PARTITION_KEY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HotKeyPolicy:
    """A key gets another shard for each `records_per_s` or `bytes_per_s`: the defaults are half of what a shard takes.

    Rates are over the last `over_s` or so. https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
    """

    records_per_s: float = 500.0
    bytes_per_s: float = 524_288.0
    max_shards: int = 16
    over_s: float = 10.0
    max_keys: int = 10_000  # that are remembered; the coldest are forgotten first

    def __post_init__(self) -> None:
        if min(self.records_per_s, self.bytes_per_s, self.over_s) <= 0 or min(self.max_shards, self.max_keys) < 1:
            raise ValueError("rates and over_s are more than 0, max_shards and max_keys at least 1")


class HotKeys:
    """How hot each key is, in shards: a sum that fades."""

    def __init__(self, policy: HotKeyPolicy | None = None) -> None:
        self.policy = policy or HotKeyPolicy()
        self._heat: dict[str, tuple[float, float]] = {}  # and when it was that

    def shards(self, key: str, size_bytes: int, now_s: float) -> int:
        """Counts a record, and says over how many shards its key goes now."""
        policy = self.policy
        # A steady rate of one shard's worth keeps the sum at over_s, so heat / over_s is in shards.
        heat = self._now(key, now_s) + max(1 / policy.records_per_s, size_bytes / policy.bytes_per_s)
        self._heat[key] = (heat, now_s)
        if len(self._heat) > policy.max_keys:
            self._forget(now_s)
        return max(1, min(policy.max_shards, math.ceil(heat / policy.over_s)))

    def _now(self, key: str, now_s: float) -> float:
        heat, at_s = self._heat.get(key, (0.0, now_s))
        return heat * math.exp(-max(0.0, now_s - at_s) / self.policy.over_s)

    def _forget(self, now_s: float) -> None:
        """The colder half, so that it happens seldom."""
        hottest = sorted(self._heat, key=lambda key: self._now(key, now_s), reverse=True)
        self._heat = {key: self._heat[key] for key in hottest[: self.policy.max_keys // 2 + 1]}


class Stamp(NamedTuple):
    """Which record of a key this is, of one writer, from 0."""

    key: str
    writer: str
    number: int

    def __str__(self) -> str:
        return f"{quote(self.key, safe='')}/{self.writer}/{self.number}"

    @classmethod
    def of(cls, text: str) -> Stamp:
        """Raises ValueError."""
        match text.split("/"):
            case [key, writer, number] if number.isascii() and number.isdigit():
                return cls(unquote(key), writer, int(number))
        raise ValueError(f"not a stamp: {text[:200]}")


class Stamps:
    """Numbers the records of each key. A `writer` is never used again: a new process is a new one."""

    def __init__(self, writer: str) -> None:
        if "/" in writer or not writer:
            raise ValueError("a writer has a name without /")
        self._writer = writer
        self._next: dict[str, int] = {}

    def next(self, key: str) -> Stamp:
        """Raises ValueError for a key that is too long."""
        stamp = Stamp(key, self._writer, self._next.get(key, 0))
        if len(str(stamp)) > MAX_PARTITION_KEY:
            raise ValueError(f"{key[:50]}… is too long: its stamp is over {MAX_PARTITION_KEY} characters")
        self._next[key] = stamp.number + 1
        return stamp


def place(stamp: Stamp, shards: int) -> int:
    """The hash key of a record: of `shards` places that are evenly far from each other, its number's.

    The first is where Kinesis would put the key itself.
    """
    home = int.from_bytes(hashlib.md5(stamp.key.encode(), usedforsecurity=False).digest(), "big")
    return (home + stamp.number % shards * (RING // shards)) % RING


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that did not come in time: of a writer, from `first` up to but not with `end`."""

    key: str
    writer: str
    first: int
    end: int


class Arrival(Enum):
    WAITS = "waits"  # for its turn, which may be now
    DUPLICATE = "duplicate"
    LATE = "late"  # of a gap that was given up


@dataclass(slots=True)
class _Line(Generic[T]):
    """What has come of one key and writer."""

    next: int = 0
    there: OrderedDict[int, tuple[float, T]] = field(default_factory=OrderedDict)  # in order of arrival, and when
    given_up: list[range] = field(default_factory=list)


class Together(Generic[T]):
    """The records of each key and writer by number, each once. What is missing is waited for, `gap_s` long."""

    def __init__(self, gap_s: float, positions: Mapping[tuple[str, str], int] | None = None) -> None:
        """`positions` of an earlier one: what was given then is not given again."""
        self._gap_s = gap_s
        self._lines: dict[tuple[str, str], _Line[T]] = {
            line: _Line(next=number) for line, number in (positions or {}).items()
        }
        self._waiting: dict[tuple[str, str], _Line[T]] = {}

    def add(self, stamp: Stamp, record: T, now_s: float) -> Arrival:
        """Only what waits is kept here."""
        line = self._lines.setdefault(stamp[:2], _Line())
        if any(stamp.number in gap for gap in line.given_up):
            return Arrival.LATE
        if stamp.number < line.next or stamp.number in line.there:
            return Arrival.DUPLICATE
        line.there[stamp.number] = now_s, record
        self._waiting[stamp[:2]] = line
        return Arrival.WAITS

    def ready(self, line: tuple[str, str], now_s: float) -> tuple[Stamp, T] | Gap | None:
        """What comes next of a key and writer, again and again until `done`."""
        this = self._lines[line]
        if this.next in this.there:
            return Stamp(*line, this.next), this.there[this.next][1]
        if this.there and now_s >= self._due_s(this):
            return Gap(*line, this.next, min(this.there))
        return None

    def done(self, what: Stamp | Gap) -> None:
        line = what[:2] if isinstance(what, Stamp) else (what.key, what.writer)
        this = self._lines[line]
        if isinstance(what, Gap):
            this.given_up.append(range(what.first, what.end))
            this.next = what.end
            return
        del this.there[what.number]
        this.next = what.number + 1
        if not this.there:
            del self._waiting[line]

    def _due_s(self, line: _Line[T]) -> float:
        return next(iter(line.there.values()))[0] + self._gap_s

    def due_s(self) -> float:
        """When the first gap is given up; infinity without one."""
        return min(map(self._due_s, self._waiting.values()), default=math.inf)

    def lines(self) -> list[tuple[str, str]]:
        """The keys and writers of which something waits."""
        return list(self._waiting)

    def waiting(self) -> Iterator[T]:
        """What has come and is not done: a checkpoint must lie before all of it."""
        return (record for line in self._waiting.values() for _, record in line.there.values())

    def positions(self) -> dict[tuple[str, str], int]:
        return {line: this.next for line, this in self._lines.items()}

    def forget(self, key: str, writer: str) -> None:
        """Its position, and what waits."""
        self._lines.pop((key, writer), None)
        self._waiting.pop((key, writer), None)


class KeyWriter:
    """Over a BatchProducer of a KinesisTarget, which need not be `in_order`. For one event loop."""

    def __init__(self, producer: BatchProducer, policy: HotKeyPolicy | None = None, writer: str | None = None) -> None:
        """`writer` must be new with each process: without it, it is."""
        self._producer = producer
        self._hot = HotKeys(policy)
        self._stamps = Stamps(writer or uuid.uuid4().hex)

    async def put(self, key: str, data: bytes) -> Sent:
        """As BatchProducer.put. Of a key, the order is that of these calls.

        A record that is not sent in the end is a gap, for which readers wait.
        """
        shards = self._hot.shards(key, len(data), anyio.current_time())
        stamp = self._stamps.next(key)
        entry = {"Data": data, "PartitionKey": str(stamp), "ExplicitHashKey": str(place(stamp, shards))}
        return await self._producer.put(entry)


class KeyReader(Generic[T]):
    """Gives a key's records to `handle` in order, one at a time, each after the one before has returned.

    `give` it the records of all shards, in any order among shards, and keep `run` going, which gives up gaps after
    `gap_s` and tells `on_gap`; what comes after that goes to `late`, at once. What `handle` raises comes out of `give`
    or `run`; the record stays and is tried again with the next of its key. For one event loop.
    """

    def __init__(
        self,
        handle: Callable[[str, T], Awaitable[None]],
        *,
        gap_s: float = 30.0,
        on_gap: Callable[[Gap], None],
        late: Callable[[str, T], Awaitable[None]],
        positions: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        self.together: Together[T] = Together(gap_s, positions)
        self._handle = handle
        self._on_gap = on_gap
        self._late = late
        self._turns: dict[tuple[str, str], anyio.Lock] = {}
        self._changed = anyio.Event()

    async def give(self, partition_key: str, record: T) -> None:
        """Returns when all that it made ready is handled. Raises ValueError for a key that is no stamp."""
        stamp = Stamp.of(partition_key)
        if self.together.add(stamp, record, anyio.current_time()) is Arrival.LATE:
            await self._late(stamp.key, record)
            return
        self._changed.set()
        await self._give_ready(stamp[:2])

    def forget(self, key: str, writer: str) -> None:
        """A writer that has ended: nothing of it comes any more."""
        self.together.forget(key, writer)
        self._turns.pop((key, writer), None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self.together.due_s()):
                await self._changed.wait()
                continue
            for line in self.together.lines():
                await self._give_ready(line)

    async def _give_ready(self, line: tuple[str, str]) -> None:
        async with self._turns.setdefault(line, anyio.Lock()):
            while (what := self.together.ready(line, anyio.current_time())) is not None:
                if isinstance(what, Gap):
                    self._on_gap(what)
                    self.together.done(what)
                else:
                    stamp, record = what
                    await self._handle(stamp.key, record)
                    self.together.done(stamp)


def kinesis_record(record: Mapping[str, Any]) -> tuple[str, bytes]:
    """What `give` takes, of a record of GetRecords: `await reader.give(*kinesis_record(record))`."""
    return record["PartitionKey"], record["Data"]
