"""A shard's records on their way to a handler: batch after batch, or keys beside each other; and the checkpoint behind.

`KeyedRecords` says what may be handled at once and how far all is done (pure: no clock, no I/O). `InOrder` and `Beside`
are what a reader of lease_readers.py puts records into. The rule: a key's records are handled by one call at a time and
in their order, and no checkpoint passes what is not done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.abc

from patterns.lease import HeldLease

Record = Mapping[str, Any]  # as GetRecords has it
Records = Sequence[Record]
Handler = Callable[[HeldLease, Records], Awaitable[None]]


class KeyedRecords:
    """Records of a shard in hand: a key's are handled one lot at a time and in their order, keys beside each other.

    `checkpoint` is the last sequence number up to which all is done, of what was added since `in_hand` was 0.
    """

    def __init__(self, of_a_key: int = 100) -> None:
        self.checkpoint: str | None = None
        self._of_a_key = of_a_key
        self._waiting: dict[str, deque[tuple[int, Record]]] = {}  # of every key that has some in hand
        self._ready: deque[str] = deque()
        self._lots: dict[str, list[int]] = {}  # under way
        self._order: deque[tuple[int, str]] = deque()  # what no checkpoint has passed: number, sequence number
        self._done: set[int] = set()
        self._next = 0

    @property
    def in_hand(self) -> int:
        """How many a crash would have handled again, or has not handled yet."""
        return len(self._order)

    @property
    def under_way(self) -> int:
        """How many lots."""
        return len(self._lots)

    def add(self, records: Records) -> None:
        for record in records:
            key, number = record["PartitionKey"], self._next
            self._next += 1
            self._order.append((number, record["SequenceNumber"]))
            if key not in self._waiting:
                self._waiting[key] = deque()
                self._ready.append(key)
            self._waiting[key].append((number, record))

    def take(self) -> tuple[str, Records] | None:
        """A key with what waits of it, up to `of_a_key`. The key rests until `done`."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        waiting = self._waiting[key]
        lot = [waiting.popleft() for _ in range(min(len(waiting), self._of_a_key))]
        self._lots[key] = [number for number, _ in lot]
        return key, [record for _, record in lot]

    def done(self, key: str) -> None:
        self._done.update(self._lots.pop(key))
        if self._waiting[key]:
            self._ready.append(key)
        else:
            del self._waiting[key]
        while self._order and self._order[0][0] in self._done:
            number, self.checkpoint = self._order.popleft()
            self._done.remove(number)

    def failed(self, key: str) -> None:
        """It is not done and rests for ever: no checkpoint passes it."""
        del self._lots[key]


@dataclass(frozen=True, slots=True)
class PerKey:
    """For a reader instead of a handler: calls it for many partition keys at once, and for each key in order.

    A call has what waits of one key, `of_a_key` records at most. `concurrency` is that of a shard. When `in_hand`
    records are read and not passed by the checkpoint, reading rests: so many can come again after a crash. Where a
    handler raises, no other starts, those under way come to their end, and the work raises what it raised.
    """

    handler: Handler
    concurrency: int = 10
    in_hand: int = 5_000
    of_a_key: int = 100

    def __post_init__(self) -> None:
        if min(self.concurrency, self.in_hand, self.of_a_key) < 1:
            raise ValueError("concurrency, in_hand and of_a_key are at least 1")


class Sink(Protocol):
    """What a reader puts records into, inside of `run`. Saves what is done."""

    async def run(self, read: Callable[[], Awaitable[bool]]) -> bool:
        """Reads; whether that came to the shard's end and all is done. Raises what a handler or `read` raised."""
        ...

    async def put(self, records: Records) -> None:
        """Waits while there is enough in hand."""
        ...


def sink(handler: Handler | PerKey, held: HeldLease) -> Sink:
    return _Beside(handler, held) if isinstance(handler, PerKey) else _InOrder(handler, held)


class _InOrder:
    """What a reader gives its records to: a handler, called for one batch after the other."""

    def __init__(self, handler: Handler, held: HeldLease) -> None:
        self._handler = handler
        self._held = held

    async def run(self, read: Callable[[], Awaitable[bool]]) -> bool:
        return await read()

    async def put(self, records: Records) -> None:
        if records:
            await self._handler(self._held, records)
            await self._held.save(records[-1]["SequenceNumber"])


class _Beside:
    """The same for `PerKey`. What is done is saved while others are under way, as often as the store can."""

    def __init__(self, how: PerKey, held: HeldLease) -> None:
        self._how = how
        self._held = held
        self._records = KeyedRecords(how.of_a_key)
        self._saved: str | None = None
        self._failure: Exception | None = None
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup

    async def run(self, read: Callable[[], Awaitable[bool]]) -> bool:
        is_end = False
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._save_often)
            self._tasks.start_soon(self._stop)
            try:
                is_end = await read()
            except Exception as error:
                self._failure = self._failure or error
            while self._records.under_way or (self._records.in_hand and not self._is_ending):
                await self._changed.wait()
            self._tasks.cancel_scope.cancel()
        if self._records.checkpoint != self._saved and not self._held.is_lost:
            try:
                await self._save()
            except Exception as error:
                self._failure = self._failure or error
        if self._failure is not None:
            raise self._failure
        return is_end and not self._records.in_hand

    async def put(self, records: Records) -> None:
        self._records.add(records)
        self._start()
        while self._records.in_hand >= self._how.in_hand and not self._is_ending:
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def _is_ending(self) -> bool:
        return self._held.is_stopping or self._failure is not None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _start(self) -> None:
        while self._records.under_way < self._how.concurrency and not self._is_ending:
            lot = self._records.take()
            if lot is None:
                return
            self._tasks.start_soon(self._handle, *lot)

    async def _handle(self, key: str, records: Records) -> None:
        try:
            await self._how.handler(self._held, records)
        except Exception as error:
            self._failure = self._failure or error
            self._records.failed(key)
        else:
            self._records.done(key)
        self._start()
        self._wake()

    async def _save_often(self) -> None:
        while True:
            if self._records.checkpoint == self._saved:
                await self._changed.wait()
                continue
            try:
                await self._save()
            except Exception as error:
                self._failure = self._failure or error
                self._wake()
                return

    async def _save(self) -> None:
        checkpoint = self._records.checkpoint
        if checkpoint is not None:
            await self._held.save(checkpoint)
            self._saved = checkpoint

    async def _stop(self) -> None:
        await self._held.stopping.wait()
        self._wake()
