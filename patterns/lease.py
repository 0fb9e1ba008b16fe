"""Leases: many workers share the shards of a stream, each shard has one reader at a time, and nobody's work is lost.

Five parts. `Lease` is a row that everybody sees, changed only by compare-and-set; `Watch` and `plan` say who seems
alive and what to take, `KeyedRecords` what may be handled at once and how far all is done (pure: no clock, no chance,
no I/O); `LeaseKeeper` drives them over a `LeaseStore` and runs one task a lease; `ShardReader`, which polls, and
`FanOutReader`, which is pushed to, are such tasks for Kinesis. The rule: whoever has held a lease longest ago has the
lowest fence, and a checkpoint is only written under the fence that is in the store.
A worker that is cancelled is a crash: its leases are silent, and after `lease_s` somebody else goes on from the
checkpoint. Clocks are never compared: silence is what a worker sees by its own.
Ugly: a holder that is paused and wakes up may finish what it had in hand after its successor began; only what it
writes down with its `fence` can be refused.
"""

from __future__ import annotations

import inspect
import logging
import math
import random as chance_source
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from patterns.retry import Backoff, FullJitter

log = logging.getLogger("patterns.lease")


@dataclass(frozen=True, slots=True)
class Lease:
    """What is worked on by one at a time: a shard. Each write raises `version`, each change of owner `fence`."""

    key: str
    parents: tuple[str, ...] = ()
    owner: str | None = None
    fence: int = 0
    version: int = 0
    checkpoint: str | None = None  # None: from the beginning
    is_done: bool = False
    wanted_by: str | None = None  # who gets it from its owner

    def changed(self, **changes: Any) -> Lease:
        return replace(self, version=self.version + 1, **changes)

    def taken(self, worker: str) -> Lease:
        return self.changed(owner=worker, fence=self.fence + 1, wanted_by=None)

    def released(self) -> Lease:
        return self.changed(owner=self.wanted_by, fence=self.fence + 1, wanted_by=None)

    def finished(self) -> Lease:
        return self.changed(owner=None, fence=self.fence + 1, wanted_by=None, is_done=True)


class LeaseStore(Protocol):
    """Where leases are kept. Each call is atomic, and sees all calls that were answered before it."""

    async def all(self) -> Sequence[Lease]: ...

    async def get(self, key: str) -> Lease | None: ...

    async def create(self, lease: Lease) -> bool:
        """False: it is there already, and stays as it is."""
        ...

    async def replace(self, old: Lease, new: Lease) -> bool:
        """False: the version is not that of `old` any more, or the lease is gone; nothing has changed."""
        ...

    async def delete(self, lease: Lease) -> bool:
        """False: as `replace`."""
        ...


class Fenced(Exception):
    """Somebody else has the lease. What was not checkpointed is theirs to do again."""


# What to take -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """`lease_s`: how long an owner may be silent. `handover_s`: how long work may take to end when it is asked to.

    Work that fails, or ends without being asked to or being finished, rests here by `backoff`.
    """

    lease_s: float = 10.0
    handover_s: float = 5.0
    sync_s: float = 60.0
    max_leases: int | None = None
    backoff: Backoff = field(default_factory=lambda: FullJitter(1.0, 60.0))

    def __post_init__(self) -> None:
        if min(self.lease_s, self.sync_s) <= 0 or self.handover_s < 0:
            raise ValueError("lease_s and sync_s are more than 0, handover_s at least 0")
        if self.max_leases is not None and self.max_leases < 1:
            raise ValueError("max_leases is at least 1")

    @property
    def renew_s(self) -> float:
        """How often to renew and to look around: a renewal has two more chances before the lease ends."""
        return self.lease_s / 3


class Watch:
    """Who seems alive: a lease whose version has not changed for `lease_s` while we looked is silent."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}  # the version, and when it was new to us

    def see(self, leases: Iterable[Lease], now_s: float) -> None:
        before = self._seen
        self._seen = {}
        for lease in leases:
            version, since_s = before.get(lease.key, (-1, now_s))
            self._seen[lease.key] = (lease.version, since_s if version == lease.version else now_s)

    def is_free(self, lease: Lease, now_s: float) -> bool:
        return lease.owner is None or now_s - self._seen[lease.key][1] >= self._lease_s


class Plan(NamedTuple):
    take: list[Lease]
    ask: list[Lease]  # their owners have too many


def plan(leases: Sequence[Lease], worker: str, is_free: Callable[[Lease], bool], max_leases: int | None = None) -> Plan:
    """What a worker does about its share: an equal part of what can be worked on, rounded up.

    It takes what is free, in the order given. If nothing is, it asks those who have two more than it has.
    """
    open_leases = startable(leases)
    held = Counter(lease.owner for lease in open_leases if lease.owner is not None and not is_free(lease))
    mine = held.pop(worker, 0)
    share = math.ceil(len(open_leases) / (len(held) + 1))
    room = (share if max_leases is None else min(share, max_leases)) - mine
    free = [lease for lease in open_leases if is_free(lease) and lease.owner != worker]
    take = free[: max(0, room)]
    if free:
        return Plan(take, [])
    mine += sum(lease.wanted_by == worker for lease in open_leases)
    for lease in open_leases:
        if lease.wanted_by is not None and lease.owner == worker:
            mine -= 1
        elif lease.wanted_by is not None and lease.owner is not None and not is_free(lease):
            held[lease.owner] -= 1
    ask: list[Lease] = []
    while held and mine < share and (max_leases is None or mine < max_leases):
        donor, count = held.most_common(1)[0]
        spare = [
            lease for lease in open_leases if lease.owner == donor and lease.wanted_by is None and lease not in ask
        ]
        if count - mine < 2 or not spare:
            break
        ask.append(spare[0])
        held[donor] -= 1
        mine += 1
    return Plan(take, ask)


def startable(leases: Sequence[Lease]) -> list[Lease]:
    """What is not done, and whose parents are."""
    unfinished = {lease.key for lease in leases if not lease.is_done}
    return [lease for lease in leases if not lease.is_done and unfinished.isdisjoint(lease.parents)]


# Holding ------------------------------------------------------------------------------------------


class LeaseHappening(Enum):
    """What `on_event` is told of a lease."""

    TAKEN = "taken"
    ASKED = "asked for"
    RELEASED = "released"
    FINISHED = "finished"
    FAILED = "failed"  # the work raised, and the lease is released
    LOST = "lost"


OnLease = Callable[[LeaseHappening, str, Exception | None], None]


def log_lease(happening: LeaseHappening, key: str, error: Exception | None) -> None:
    level = logging.INFO if error is None else logging.WARNING
    log.log(level, "%s %s%s", key, happening.value, "" if error is None else f": {error!r}")


class HeldLease:
    """A lease while it is ours: what work is given. `fence` belongs into what the work writes elsewhere."""

    def __init__(self, store: LeaseStore, lease: Lease, end_s: float, lease_s: float) -> None:
        self.key = lease.key
        self.fence = lease.fence
        self.stopping = anyio.Event()
        self.is_lost = False
        self.has_saved = False
        self._store = store
        self._lease = lease
        self._end_s = end_s
        self._lease_s = lease_s
        self._writing = anyio.Lock()
        self._scope = anyio.CancelScope()

    @property
    def checkpoint(self) -> str | None:
        """Where to begin: what was last saved, by whomever."""
        return self._lease.checkpoint

    @property
    def is_done(self) -> bool:
        return self._lease.is_done

    @property
    def is_stopping(self) -> bool:
        """Whether to come to an end soon: save, and return."""
        return self.stopping.is_set()

    async def save(self, checkpoint: str) -> None:
        """All up to here is done. Raises Fenced, and what the store raises."""
        await self._write(lambda lease: lease.changed(checkpoint=checkpoint))
        self.has_saved = True

    async def finish(self) -> None:
        """Nothing will come any more: children may start. Raises Fenced, and what the store raises."""
        await self._write(Lease.finished)

    async def _write(self, change: Callable[[Lease], Lease]) -> None:
        async with self._writing:
            while True:
                if self.is_lost:
                    raise Fenced(self.key)
                began_s = anyio.current_time()
                new = change(self._lease)
                if await self._store.replace(self._lease, new):
                    self._lease, self._end_s = new, began_s + self._lease_s
                    return
                found = await self._store.get(self.key)
                if found == new:  # the store did it, and we were not told
                    self._lease, self._end_s = new, began_s + self._lease_s
                    return
                if found is None or found.fence != self.fence:
                    self._lose()
                    raise Fenced(self.key)
                self._notice(found)

    def _notice(self, lease: Lease) -> None:
        """Somebody asks for it, or an answer of the store's was lost."""
        if lease.fence == self.fence and lease.version > self._lease.version:
            self._lease = lease
        if lease.wanted_by is not None:
            self.stopping.set()

    def _lose(self) -> None:
        self.is_lost = True
        self.stopping.set()
        self._scope.cancel()


Work = Callable[[HeldLease], Awaitable[None]]
Source = Callable[[], Awaitable[Sequence[Lease]]]


class LeaseKeeper:
    """Runs `work` for each lease that this worker gets. `worker` is a name that no other process has, now or before.

    Work saves how far it is, and finishes its lease when nothing will come any more. It ends when `held.stopping` is
    set, and is cancelled after `handover_s`, or when the lease is lost. `source` lists what there is to work on, as
    leases that nobody has. `on_event` must not raise. One `run` an object.
    """

    def __init__(
        self,
        store: LeaseStore,
        worker: str,
        source: Source,
        work: Work,
        policy: LeasePolicy | None = None,
        *,
        on_event: OnLease = log_lease,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy or LeasePolicy()
        self.held: dict[str, HeldLease] = {}
        self._store = store
        self._worker = worker
        self._source = source
        self._work = work
        self._tell = on_event
        self._random = random
        self._watch = Watch(self.policy.lease_s)
        self._failures: Counter[str] = Counter()
        self._resting_s: dict[str, float] = {}  # until when
        self._stopping = anyio.Event()
        self._sync_wanted = True
        self._wake = anyio.Event()
        self._tasks: anyio.abc.TaskGroup

    def stop(self) -> None:
        """Begins a graceful end: work is asked to end, leases are released, and `run` returns."""
        self._stopping.set()
        self._wake.set()
        for held in self.held.values():
            held.stopping.set()

    async def run(self) -> None:
        """Until `stop`. What the store or the source raises is logged, and tried again."""
        async with anyio.create_task_group() as self._tasks:
            synced_s = -math.inf
            while not self._stopping.is_set():
                self._wake = anyio.Event()
                now_s = anyio.current_time()
                try:
                    if self._sync_wanted or now_s - synced_s >= self.policy.sync_s:
                        self._sync_wanted, synced_s = False, now_s
                        await self._sync()
                    await self._look()
                except Exception as error:
                    log.warning("leases not looked at: %r", error)
                    self._sync_wanted = True
                with anyio.move_on_after(self.policy.renew_s):
                    await self._wake.wait()

    async def _sync(self) -> None:
        """Makes the leases that are missing, and deletes those that are done and of no shard any more."""
        listed = await self._source()
        known = {lease.key: lease for lease in await self._store.all()}
        for lease in listed:
            if lease.key not in known:
                await self._store.create(lease)
        keys = {lease.key for lease in listed}
        for lease in known.values():
            if lease.is_done and lease.key not in keys:
                await self._store.delete(lease)

    async def _look(self) -> None:
        leases = list(await self._store.all())
        now_s = anyio.current_time()
        self._watch.see(leases, now_s)
        leases.sort(key=lambda lease: self._random())  # or all would reach for the same one
        for lease in leases:
            if lease.key in self.held:
                self.held[lease.key]._notice(lease)
            elif lease.owner == self._worker and not lease.is_done:  # handed over to us, or left by an answer lost
                await self._take(lease)

        def is_free(lease: Lease) -> bool:
            is_ours = lease.key in self.held or self._resting_s.get(lease.key, now_s) > now_s
            return not is_ours and self._watch.is_free(lease, now_s)

        wanted = plan(leases, self._worker, is_free, self.policy.max_leases)
        for lease in wanted.take:
            await self._take(lease)
        for lease in wanted.ask:
            if not self._stopping.is_set() and await self._store.replace(lease, lease.changed(wanted_by=self._worker)):
                self._tell(LeaseHappening.ASKED, lease.key, None)

    async def _take(self, lease: Lease) -> None:
        if self._stopping.is_set() or lease.key in self.held:
            return
        began_s = anyio.current_time()
        taken = lease.taken(self._worker)
        if await self._store.replace(lease, taken):
            held = HeldLease(self._store, taken, began_s + self.policy.lease_s, self.policy.lease_s)
            self.held[lease.key] = held
            if self._stopping.is_set():
                held.stopping.set()
            self._tasks.start_soon(self._hold, held)

    async def _hold(self, held: HeldLease) -> None:
        self._tell(LeaseHappening.TAKEN, held.key, None)
        error: Exception | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._renew, held)
            beside.start_soon(self._end_in_time, held)
            with held._scope:
                try:
                    await self._work(held)
                except Exception as raised:
                    error = raised
            if not held.is_done and not held.is_lost:
                try:
                    await held._write(Lease.released)
                except Exception as raised:
                    log.warning("%s not released: %r", held.key, raised)
            beside.cancel_scope.cancel()
        del self.held[held.key]
        self._rest(held, error)
        if held.is_done:
            self._tell(LeaseHappening.FINISHED, held.key, None)
        elif held.is_lost:
            self._tell(LeaseHappening.LOST, held.key, error)
        else:
            self._tell(LeaseHappening.RELEASED if error is None else LeaseHappening.FAILED, held.key, error)
        if held.is_done:
            self._sync_wanted = True
            self._wake.set()

    def _rest(self, held: HeldLease, error: Exception | None) -> None:
        if error is None and held.is_stopping:
            self._failures.pop(held.key, None)
        elif not held.is_done and not held.is_lost:
            self._failures[held.key] = 1 if held.has_saved else self._failures[held.key] + 1
            delay_s = self.policy.backoff.delay_s(self._failures[held.key], 0.0, self._random())
            self._resting_s[held.key] = anyio.current_time() + delay_s

    async def _renew(self, held: HeldLease) -> None:
        while not (held.is_lost or held.is_done):
            await anyio.sleep(min(self.policy.renew_s, max(0.0, held._end_s - anyio.current_time())))
            with anyio.move_on_after(held._end_s - anyio.current_time()):
                try:
                    await held._write(Lease.changed)
                except Fenced:
                    return
                except Exception as error:
                    log.warning("%s not renewed: %r", held.key, error)
            if anyio.current_time() >= held._end_s:
                held._lose()

    async def _end_in_time(self, held: HeldLease) -> None:
        await held.stopping.wait()
        await anyio.sleep(self.policy.handover_s)
        held._scope.cancel()


# Stores -------------------------------------------------------------------------------------------


class MemoryLeases:
    """A `LeaseStore` for the workers of one process, and for tests."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    async def all(self) -> Sequence[Lease]:
        await anyio.lowlevel.checkpoint()
        return list(self._leases.values())

    async def get(self, key: str) -> Lease | None:
        await anyio.lowlevel.checkpoint()
        return self._leases.get(key)

    async def create(self, lease: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._leases.setdefault(lease.key, lease) is lease

    async def replace(self, old: Lease, new: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        found = self._leases.get(old.key)
        if found is None or found.version != old.version:
            return False
        self._leases[new.key] = new
        return True

    async def delete(self, lease: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        found = self._leases.get(lease.key)
        if found is None or found.version != lease.version:
            return False
        del self._leases[lease.key]
        return True


# Kinesis ------------------------------------------------------------------------------------------

Record = Mapping[str, Any]  # as GetRecords has it
Records = Sequence[Record]
Handler = Callable[[HeldLease, Records], Awaitable[None]]


class Shards:
    """A `Source` of a Kinesis stream: its shards, closed ones too as long as they have records.

    `client` is one of aiobotocore or aioboto3, or boto3's through patterns.threads.InThreads.
    """

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self._stream = stream

    async def __call__(self) -> Sequence[Lease]:
        asked: dict[str, Any] = {"StreamName": self._stream}
        shards: list[dict[str, Any]] = []
        while asked:
            answer = await self._client.list_shards(**asked)
            shards += answer["Shards"]
            asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        return [
            Lease(
                shard["ShardId"],
                tuple(shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard),
            )
            for shard in shards
        ]


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


class ShardReader:
    """A `Work`: reads a Kinesis shard from its checkpoint on, and saves after each batch that `handler` has taken.

    With `PerKey` keys are handled beside each other, and it saves up to where all is done. `lag_ms` has how far behind
    each shard is. A read that fails is tried again `attempts` times in a row.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        handler: Handler | PerKey,
        *,
        limit: int = 1000,
        poll_s: float = 1.0,
        attempts: int = 5,
        backoff: Backoff | None = None,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.lag_ms: dict[str, int] = {}
        self._client = client
        self._stream = stream
        self._handler = handler
        self._limit = limit
        self._poll_s = poll_s
        self._attempts = attempts
        self._backoff = backoff or FullJitter(0.2, 5.0)
        self._random = random

    async def __call__(self, held: HeldLease) -> None:
        sink = _Beside(self._handler, held) if isinstance(self._handler, PerKey) else _InOrder(self._handler, held)
        place = _Place(held.checkpoint)
        try:
            if await sink.run(partial(self._read, held, sink, place)):
                await held.finish()
        finally:
            self.lag_ms.pop(held.key, None)

    async def _read(self, held: HeldLease, sink: _Sink, place: _Place) -> bool:
        """True at the shard's end."""
        return await self._poll(held, sink, place, math.inf)

    async def _poll(self, held: HeldLease, sink: _Sink, place: _Place, until_s: float) -> bool:
        iterator: str | None = None
        failures = 0
        while not held.is_stopping and anyio.current_time() < until_s:
            try:
                if iterator is None:
                    iterator = await self._iterator(held, place)
                answer = await self._client.get_records(ShardIterator=iterator, Limit=self._limit)
            except Exception as error:  # throttled, or the iterator has expired
                iterator, failures = None, failures + 1
                if failures >= self._attempts:
                    raise
                log.warning("%s not read: %r", held.key, error)
                await self._pause(held, self._backoff.delay_s(failures, 0.0, self._random()))
                continue
            failures = 0
            records: Records = answer["Records"]
            self.lag_ms[held.key] = answer.get("MillisBehindLatest", 0)
            await sink.put(records)
            place.passed(records)
            iterator = answer.get("NextShardIterator")
            if iterator is None:
                return True
            if not records:
                await self._pause(held, min(self._poll_s, until_s - anyio.current_time()))
        return False

    async def _iterator(self, held: HeldLease, place: _Place) -> str:
        position: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if place.read is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": place.read}
        answer = await self._client.get_shard_iterator(StreamName=self._stream, ShardId=held.key, **position)
        return str(answer["ShardIterator"])

    @staticmethod
    async def _pause(held: HeldLease, delay_s: float) -> None:
        with anyio.move_on_after(delay_s):
            await held.stopping.wait()


_Sink = _InOrder | _Beside


@dataclass(slots=True)
class _Place:
    """Where a reader is: the last record that it was given, and from where a subscription goes on."""

    read: str | None
    continuation: str | None = None

    def passed(self, records: Records, continuation: str | None = None) -> None:
        if records:
            self.read = records[-1]["SequenceNumber"]
        self.continuation = continuation


class FanOutReader(ShardReader):
    """A ShardReader that is pushed to: enhanced fan-out, with a throughput of its own for the consumer `consumer`.

    The consumer is registered by whoever comes first; all workers share it. A subscription lasts five minutes, and is
    renewed from where it was; so is one that was silent for `silence_s`, as AWS tells of itself every few seconds.
    Where the shard or the consumer is in use, or no further consumer may be registered, it polls for `retry_s`, and
    tries again. With threads each shard holds one, and a connection: see max_pool_connections.
    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        consumer: str,
        handler: Handler | PerKey,
        *,
        retry_s: float = 5.0,
        silence_s: float = 35.0,
        limit: int = 1000,
        poll_s: float = 1.0,
        attempts: int = 5,
        backoff: Backoff | None = None,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        super().__init__(
            client,
            stream,
            handler,
            limit=limit,
            poll_s=poll_s,
            attempts=attempts,
            backoff=backoff,
            random=random,
        )
        self._consumer = consumer
        self._consumer_arn: str | None = None
        self._retry_s = retry_s
        self._silence_s = silence_s
        self._registering = anyio.Lock()

    async def deregister(self) -> None:
        """Deletes the consumer, if it is there: when nobody reads with it any more."""
        try:
            await self._client.deregister_stream_consumer(
                StreamARN=await self._stream_arn(), ConsumerName=self._consumer
            )
        except Exception as error:
            if _code(error) != "ResourceNotFoundException":
                raise
        self._consumer_arn = None

    async def _read(self, held: HeldLease, sink: _Sink, place: _Place) -> bool:
        failures = 0
        while not held.is_stopping:
            try:
                events = await self._subscribe(held, place)
            except Exception as error:
                if _code(error) in _BUSY:
                    log.info("%s is polled: %r", held.key, error)
                    if await self._poll(held, sink, place, anyio.current_time() + self._retry_s):
                        return True
                    continue
                failures = await self._failed(held, error, failures)
                continue
            ended: Exception | None = ConnectionError("it ended without an event")
            try:
                while not held.is_stopping:
                    event, raised = await self._next(held, events)
                    if event is None:
                        ended = raised or ended
                        break
                    failures, ended = 0, None
                    if await self._take(held, sink, place, event):
                        return True
            finally:
                await events.close()
            if ended is not None and _code(ended) not in _BUSY and not held.is_stopping:
                failures = await self._failed(held, ended, failures)
        return False

    async def _failed(self, held: HeldLease, error: Exception, failures: int) -> int:
        if _code(error) == "ResourceNotFoundException":
            self._consumer_arn = None  # perhaps it was deleted
        if failures + 1 >= self._attempts:
            raise error
        log.warning("%s not subscribed to: %r", held.key, error)
        await self._pause(held, self._backoff.delay_s(failures + 1, 0.0, self._random()))
        return failures + 1

    async def _subscribe(self, held: HeldLease, place: _Place) -> _Events:
        position = {"Type": "TRIM_HORIZON"}
        after = place.continuation or place.read
        if after is not None:
            position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        answer = await self._client.subscribe_to_shard(
            ConsumerARN=await self._registered(), ShardId=held.key, StartingPosition=position
        )
        return _Events(answer["EventStream"])

    async def _next(self, held: HeldLease, events: _Events) -> tuple[Mapping[str, Any] | None, Exception | None]:
        """None is the end: of the subscription, by an error, by silence, or because we are asked to stop."""
        event: Mapping[str, Any] | None = None
        raised: Exception | None = None
        async with anyio.create_task_group() as either:

            async def pull() -> None:
                nonlocal event, raised
                with anyio.move_on_after(self._silence_s) as waiting:
                    try:
                        event = await events.next()
                    except Exception as error:
                        raised = error
                if waiting.cancelled_caught:
                    raised = TimeoutError(f"silent for {self._silence_s} s")
                either.cancel_scope.cancel()

            either.start_soon(pull)
            await held.stopping.wait()
            either.cancel_scope.cancel()
        return event, raised

    async def _take(self, held: HeldLease, sink: _Sink, place: _Place, event: Mapping[str, Any]) -> bool:
        told = event.get("SubscribeToShardEvent")
        if told is None:
            return False
        self.lag_ms[held.key] = told.get("MillisBehindLatest", 0)
        continuation = told.get("ContinuationSequenceNumber")
        await sink.put(told["Records"])
        place.passed(told["Records"], continuation)
        return continuation is None

    async def _registered(self) -> str:
        async with self._registering:
            if self._consumer_arn is None:
                asked = {"StreamARN": await self._stream_arn(), "ConsumerName": self._consumer}
                try:
                    found = (await self._client.describe_stream_consumer(**asked))["ConsumerDescription"]
                except Exception as error:
                    if _code(error) != "ResourceNotFoundException":
                        raise
                    found = (await self._client.register_stream_consumer(**asked))["Consumer"]
                self._consumer_arn = str(found["ConsumerARN"])
            return self._consumer_arn

    async def _stream_arn(self) -> str:
        answer = await self._client.describe_stream_summary(StreamName=self._stream)
        return str(answer["StreamDescriptionSummary"]["StreamARN"])


_BUSY = {"ResourceInUseException", "LimitExceededException"}


class _Events:
    """The events of an answer, of botocore or of aiobotocore."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_async = hasattr(stream, "__aiter__")
        self._events = aiter(stream) if self._is_async else iter(stream)
        self._thread = anyio.CapacityLimiter(1)  # not of those that all share: it is held as long as we are subscribed
        self._guard = threading.Lock()
        self._is_pulling = self._is_left = False

    async def next(self) -> Mapping[str, Any] | None:
        """None at the end."""
        event: Mapping[str, Any] | None
        if self._is_async:
            event = await anext(self._events, None)
        else:
            self._is_pulling = True
            event = await anyio.to_thread.run_sync(self._pull, abandon_on_cancel=True, limiter=self._thread)
        return event

    def _pull(self) -> Mapping[str, Any] | None:
        try:
            event: Mapping[str, Any] | None = next(self._events, None)
            return event
        finally:
            with self._guard:
                self._is_pulling = False
                if self._is_left:
                    self._stream.close()

    async def close(self) -> None:
        """Who waits for an event in a thread closes when it has it: to close under a reader would wait for it too."""
        with anyio.CancelScope(shield=True):
            if self._is_async:
                if hasattr(self._events, "aclose"):
                    await self._events.aclose()
                closing = self._stream.close()
                if inspect.isawaitable(closing):
                    await closing
            else:
                with self._guard:
                    self._is_left = True
                    if not self._is_pulling:
                        self._stream.close()


def _code(error: Exception) -> str | None:
    """What AWS calls an error, of a botocore ClientError."""
    response: Any = getattr(error, "response", {})
    code: str | None = response.get("Error", {}).get("Code")
    return code
