"""Leases: many workers share the shards of a stream, each shard has one reader at a time, and nobody's work is lost.

Three parts. `Lease` is a row that everybody sees, changed only by compare-and-set; `Watch` and `plan` say who seems
alive and what to take (pure: no clock, no chance, no I/O); `LeaseKeeper` drives them over a `LeaseStore` and runs one
task a lease. The rule: whoever has held a lease longest ago has the lowest fence, and a checkpoint is only written
under the fence that is in the store. lease_stores.py has stores, lease_readers.py what such a task is for Kinesis.
A worker that is cancelled is a crash: its leases are silent, and after `lease_s` somebody else goes on from the
checkpoint. Clocks are never compared: silence is what a worker sees by its own.
Ugly: a holder that is paused and wakes up may finish what it had in hand after its successor began; only what it
writes down with its `fence` can be refused.
"""

from __future__ import annotations

import logging
import math
import random as chance_source
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.abc

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
