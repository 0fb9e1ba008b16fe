"""Transactions of several services: all their steps, or what undoes them; and reactions that wait for several events.

A saga is its log: `State.of` folds it, `Saga.next` says what comes next (pure: told the time), the `Orchestrator` does
it. The rule: the log says what is tried before it is tried, and an entry is appended only to the log that was read. So
a crash leaves in doubt the attempt under way alone, which is made again, and of two orchestrators one is stopped.
`Choreography` needs no orchestrator: each reaction has a log by correlation, of the events it has and still waits for.
Ugly: an attempt that was given up may still have its effect afterwards. Hand its key to whoever does the work.
"""

from __future__ import annotations

import json
import logging
import random as chance_source
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Protocol

import anyio
import anyio.abc

from patterns.outbox import SQLITE, Database, Dialect, Statement, plain_name, wall_ms
from patterns.retry import Backoff, FullJitter, RetryPolicy

log = logging.getLogger("patterns.saga")

_CONFLICT_BACKOFF = FullJitter(0.01, 1.0)
MARGIN_MS = 5_000  # after which somebody else may go on with a saga whose orchestrator has said nothing


class What(Enum):
    STARTED = "started"
    TRYING = "trying"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    UNDOING = "undoing"
    UNDONE = "undone"
    NOT_UNDONE = "not undone"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    ARRIVED = "arrived"
    REACTED = "reacted"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """`step` is that of a saga, its name when it starts, or a kind of event; `value` what JSON can hold: the saga's
    data, a result, an error or an event. Times are milliseconds of 1970; after a failure `again_ms` is the next
    attempt, None if there is none. `is_known`: the step said that it did nothing.
    """

    at_ms: int
    what: What
    step: str = ""
    value: Any = None
    again_ms: int | None = None
    is_known: bool = False


class SagaStore(Protocol):
    """Logs by identifier. `due_ms` of the last append: when somebody should look at it, None for never again."""

    async def load(self, saga_id: str) -> Sequence[LogEntry]: ...

    async def append(self, saga_id: str, before: Sequence[LogEntry], entry: LogEntry, due_ms: int | None) -> bool:
        """False, and nothing has changed, if the log is not as long as `before`."""
        ...

    async def due(self, now_ms: int, limit: int) -> Sequence[str]: ...


class MemorySagas:
    def __init__(self) -> None:
        self._logs: dict[str, tuple[LogEntry, ...]] = {}
        self._due_ms: dict[str, int] = {}

    async def load(self, saga_id: str) -> Sequence[LogEntry]:
        return self._logs.get(saga_id, ())

    async def append(self, saga_id: str, before: Sequence[LogEntry], entry: LogEntry, due_ms: int | None) -> bool:
        now = self._logs.get(saga_id, ())
        if len(now) != len(before):
            return False
        self._logs[saga_id] = (*now, entry)
        self._due_ms.pop(saga_id, None)
        if due_ms is not None:
            self._due_ms[saga_id] = due_ms
        return True

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        return sorted(saga_id for saga_id, due_ms in self._due_ms.items() if due_ms <= now_ms)[:limit]


class SqlSagas:
    """A row a saga, through the drivers of patterns.outbox: SQLite, and PostgreSQL by its dialects."""

    def __init__(self, database: Database, table: str = "sagas", dialect: Dialect = SQLITE) -> None:
        self._database = database
        self._table = plain_name(table)
        self._dialect = dialect

    async def _fetch(self, text: str, *parameters: Any) -> Sequence[Sequence[Any]]:
        return await self._database.fetch(Statement(self._dialect.sql(text.replace("sagas", self._table)), parameters))

    async def create_table(self) -> None:
        await self._fetch(
            "CREATE TABLE IF NOT EXISTS sagas"
            " (saga_id TEXT PRIMARY KEY, entries BIGINT NOT NULL, log TEXT NOT NULL, due_ms BIGINT)"
        )
        await self._fetch("CREATE INDEX IF NOT EXISTS sagas_due ON sagas (due_ms) WHERE due_ms IS NOT NULL")

    async def load(self, saga_id: str) -> Sequence[LogEntry]:
        rows = await self._fetch("SELECT log FROM sagas WHERE saga_id = ?", saga_id)
        return [LogEntry(**{**one, "what": What(one["what"])}) for one in json.loads(rows[0][0])] if rows else []

    async def append(self, saga_id: str, before: Sequence[LogEntry], entry: LogEntry, due_ms: int | None) -> bool:
        entries = [{**asdict(one), "what": one.what.value} for one in (*before, entry)]
        text = json.dumps(entries)
        if not before:
            sql = (
                "INSERT INTO sagas (saga_id, entries, log, due_ms) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (saga_id) DO NOTHING RETURNING saga_id"
            )
            return bool(await self._fetch(sql, saga_id, 1, text, due_ms))
        sql = "UPDATE sagas SET entries = ?, log = ?, due_ms = ? WHERE saga_id = ? AND entries = ? RETURNING saga_id"
        return bool(await self._fetch(sql, len(entries), text, due_ms, saga_id, len(before)))

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        rows = await self._fetch("SELECT saga_id FROM sagas WHERE due_ms <= ? ORDER BY due_ms LIMIT ?", now_ms, limit)
        return [row[0] for row in rows]


def show(entries: Sequence[LogEntry]) -> str:
    """A log for people: a line an entry, with seconds since the first."""
    lines = []
    for entry in entries:
        value = "" if entry.value is None else f"  {json.dumps(entry.value)}"
        again = "" if entry.again_ms is None else f"  again in {(entry.again_ms - entry.at_ms) / 1000:.1f} s"
        since_s = (entry.at_ms - entries[0].at_ms) / 1000
        lines.append(f"{since_s:8.3f} s  {entry.what.value:<11} {entry.step}{value}{again}".rstrip())
    return "\n".join(lines)


# Orchestrated


class Refused(Exception):
    """Raise it from an action that has decided to do nothing: no further attempt, and it needs no compensation."""


class TakenOver(Exception):
    """Another orchestrator goes on with this saga."""


@dataclass(frozen=True, slots=True)
class StepCall:
    """What an action or compensation is told. `key` is the same at each attempt: what it does, it does once a key.

    `results` are those of the steps that are done. A compensation may be called for an action that never happened.
    """

    saga_id: str
    key: str
    data: Any
    results: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """`timeout_s` is for one attempt. Actions return what JSON can hold. Without compensation nothing is to be undone.

    After a `pivot` is done a saga only goes forward: what follows is tried until it succeeds.
    """

    name: str
    action: Callable[[StepCall], Awaitable[Any]]
    compensation: Callable[[StepCall], Awaitable[Any]] | None = None
    timeout_s: float = 30.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(FullJitter(0.5, 30.0), attempts=3))
    pivot: bool = False


@dataclass(slots=True)
class State:
    """What a log says."""

    data: Any = None
    started_ms: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)  # tried and not undone
    tries: int = 0  # of the step that is next
    failures: int = 0
    since_ms: int = 0  # when that was tried first
    again_ms: int = 0
    is_backward: bool = False
    outcome: What | None = None

    @staticmethod
    def of(entries: Sequence[LogEntry]) -> State:
        state = State()
        for entry in entries:
            state._add(entry)
        return state

    def _add(self, entry: LogEntry) -> None:
        what = entry.what
        if what is What.STARTED:
            self.data, self.started_ms = entry.value, entry.at_ms
        elif what is What.TRYING:
            self.touched.add(entry.step)
            self.tries += 1
            self.since_ms = self.since_ms or entry.at_ms
        elif what in (What.FAILED, What.NOT_UNDONE) and entry.again_ms is not None:
            self.failures += 1
            self.again_ms = entry.again_ms
        elif what in (What.DONE, What.FAILED, What.EXPIRED, What.UNDONE):
            is_untouched = entry.is_known and self.tries == 1  # what was tried before is in doubt
            self.tries = self.failures = self.since_ms = self.again_ms = 0
            self.is_backward |= what in (What.FAILED, What.EXPIRED)
            if what is What.DONE:
                self.results[entry.step] = entry.value
            elif what is What.UNDONE or is_untouched:
                self.touched.discard(entry.step)
        elif what in (What.COMPLETED, What.COMPENSATED):
            self.outcome = what


@dataclass(frozen=True, slots=True)
class Next:
    """TRYING or UNDOING a step from `at_ms` on; or the entry that ends something: EXPIRED, COMPLETED, COMPENSATED."""

    what: What
    step: Step | None = None
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Saga:
    """Steps in order. After `deadline_s` from its start no action is tried any more, except behind a pivot."""

    name: str
    steps: Sequence[Step]
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if len({step.name for step in self.steps}) != len(self.steps):
            raise ValueError("the steps of a saga have different names")

    def is_beyond_pivot(self, state: State) -> bool:
        return any(step.pivot and step.name in state.results for step in self.steps)

    def next(self, state: State, now_ms: int) -> Next:
        if state.is_backward:
            for step in reversed(self.steps):
                if step.name in state.touched and step.compensation is not None:
                    return Next(What.UNDOING, step, state.again_ms)
            return Next(What.COMPENSATED)
        step_left = next((step for step in self.steps if step.name not in state.results), None)
        if step_left is None:
            return Next(What.COMPLETED)
        if self.deadline_s is not None and not self.is_beyond_pivot(state):
            end_ms = state.started_ms + round(self.deadline_s * 1000)
            if now_ms >= end_ms:
                return Next(What.EXPIRED)
            return Next(What.TRYING, step_left, min(state.again_ms, end_ms))
        return Next(What.TRYING, step_left, state.again_ms)

    def again_ms(self, state: State, step: Step, now_ms: int, chance: float, *, is_known: bool) -> int | None:
        """When a step that has failed once more is tried again; None when that was all."""
        failures = state.failures + 1
        if state.is_backward or self.is_beyond_pivot(state):
            return now_ms + round(step.retry.backoff.delay_s(failures, 0.0, chance) * 1000)
        elapsed_s = (now_ms - (state.since_ms or now_ms)) / 1000
        delay_s = None if is_known else step.retry.next_delay_s(failures, 0.0, elapsed_s, chance)
        return None if delay_s is None else now_ms + round(delay_s * 1000)


class Orchestrator:
    """Runs sagas, each to its end. Any number may share a store: one whose orchestrator is silent is taken over."""

    def __init__(
        self,
        store: SagaStore,
        sagas: Iterable[Saga],
        *,
        concurrency: int = 10,
        poll_s: float = 1.0,
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self._store = store
        self._sagas = {saga.name: saga for saga in sagas}
        self._concurrency, self._poll_s = concurrency, poll_s
        self._now_ms, self._random = now_ms, random
        self._stopping = anyio.Event()

    async def start(self, name: str, data: Any, saga_id: str | None = None, *, here: bool = False) -> str:
        """Its identifier, when it is in the store; one that is there stays as it is. `work` does it, wherever that is,
        or with `here` you call `run`.
        """
        if name not in self._sagas:
            raise KeyError(name)
        saga_id, now_ms = saga_id or str(uuid.uuid4()), self._now_ms()
        due_ms = now_ms + MARGIN_MS if here else now_ms
        await self._store.append(saga_id, (), LogEntry(now_ms, What.STARTED, name, data), due_ms)
        return saga_id

    async def log(self, saga_id: str) -> Sequence[LogEntry]:
        return await self._store.load(saga_id)

    async def run(self, saga_id: str) -> What:
        """To its end: COMPLETED or COMPENSATED. Raises KeyError for one unknown, TakenOver, and the store's errors,
        after which `work` or another `run` goes on. Cancelling it is a crash.
        """
        entries = list(await self._store.load(saga_id))
        if not entries:
            raise KeyError(saga_id)
        saga = self._sagas[entries[0].step]
        while (state := State.of(entries)).outcome is None:
            task = saga.next(state, self._now_ms())
            if task.at_ms > self._now_ms():
                await anyio.sleep((task.at_ms - self._now_ms()) / 1000)
            elif task.step is None:
                await self._append(saga_id, entries, LogEntry(self._now_ms(), task.what))
            else:
                await self._try(saga_id, saga, entries, task.step, is_undoing=task.what is What.UNDOING)
        return state.outcome

    async def work(self) -> None:
        """Until `stop`: goes on with what was only started, and with what others have left."""
        running: set[str] = set()
        left_s: dict[str, float] = {}  # what has just failed stays due, and must not take the place of others

        async def one(saga_id: str) -> None:
            try:
                await self.run(saga_id)
            except TakenOver:
                log.info("saga %s was taken over", saga_id)
            except Exception as error:
                log.warning("saga %s is left for later: %r", saga_id, error)
                left_s[saga_id] = anyio.current_time() + MARGIN_MS / 1000
            finally:
                running.discard(saga_id)

        async with anyio.create_task_group() as tasks:
            while not self._stopping.is_set():
                await self._begin(tasks, one, running, left_s)
                with anyio.move_on_after(self._poll_s):
                    await self._stopping.wait()

    async def _begin(
        self,
        tasks: anyio.abc.TaskGroup,
        one: Callable[[str], Coroutine[Any, Any, None]],
        running: set[str],
        left_s: dict[str, float],
    ) -> None:
        for saga_id in [saga_id for saga_id, until_s in left_s.items() if until_s <= anyio.current_time()]:
            del left_s[saga_id]
        if len(running) >= self._concurrency:
            return
        try:
            due = await self._store.due(self._now_ms(), self._concurrency + len(running) + len(left_s))
        except Exception as error:
            log.warning("the sagas' store failed: %r", error)
            return
        for saga_id in due:
            if len(running) < self._concurrency and saga_id not in running and saga_id not in left_s:
                running.add(saga_id)
                tasks.start_soon(one, saga_id)

    def stop(self) -> None:
        """Ends `work` when what it runs has come to its end."""
        self._stopping.set()

    async def _append(self, saga_id: str, entries: list[LogEntry], entry: LogEntry, timeout_s: float = 0.0) -> None:
        is_over = entry.what in (What.COMPLETED, What.COMPENSATED)
        quiet_ms = max(entry.at_ms + round(timeout_s * 1000), entry.again_ms or 0) + MARGIN_MS
        if not await self._store.append(saga_id, entries, entry, None if is_over else quiet_ms):
            raise TakenOver(saga_id)
        entries.append(entry)

    async def _try(self, saga_id: str, saga: Saga, entries: list[LogEntry], step: Step, *, is_undoing: bool) -> None:
        what = What.UNDOING if is_undoing else What.TRYING
        await self._append(saga_id, entries, LogEntry(self._now_ms(), what, step.name), step.timeout_s)
        state = State.of(entries)
        key = f"{saga_id}/{step.name}" + ("/undo" if is_undoing else "")
        function = step.compensation if is_undoing else step.action
        assert function is not None
        try:
            with anyio.fail_after(step.timeout_s):
                result = await function(StepCall(saga_id, key, state.data, dict(state.results)))
            json.dumps(result)  # what no store can hold is an error of the step
        except Exception as error:
            now_ms, is_known = self._now_ms(), isinstance(error, Refused) and not is_undoing
            again_ms = saga.again_ms(state, step, now_ms, self._random(), is_known=is_known)
            what = What.NOT_UNDONE if is_undoing else What.FAILED
            said = "".join((type(error).__name__, ": " if str(error) else "", str(error)))
            entry = LogEntry(now_ms, what, step.name, said, again_ms, is_known and again_ms is None)
        else:
            what = What.UNDONE if is_undoing else What.DONE
            entry = LogEntry(self._now_ms(), what, step.name, None if is_undoing else result)
        await self._append(saga_id, entries, entry)


# Choreographed


@dataclass(frozen=True, slots=True)
class Reaction:
    """`react` is called with the events, by kind, once all of `needs` have come with one correlation.

    With `within_s`, counted from the first of them, `overdue` is called instead with those that have come by then: it
    is where the compensating event is published.
    """

    name: str
    needs: frozenset[str]
    react: Callable[[str, Mapping[str, Any]], Awaitable[None]]
    within_s: float | None = None
    overdue: Callable[[str, Mapping[str, Any]], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        if not self.needs or (self.within_s is None) != (self.overdue is None) or "/" in self.name:
            raise ValueError(
                "a reaction needs something, has within_s and overdue or neither, and no slash in its name"
            )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits for what, with which correlation, since when."""

    reaction: str
    correlation: str
    has: frozenset[str]
    misses: frozenset[str]
    since_ms: int


def waiting_of(reaction: Reaction, correlation: str, entries: Sequence[LogEntry]) -> Waiting:
    has = frozenset(entry.step for entry in entries if entry.what is What.ARRIVED)
    return Waiting(reaction.name, correlation, has, reaction.needs - has, entries[0].at_ms if entries else 0)


def is_over(entries: Sequence[LogEntry], *whats: What) -> bool:
    return any(entry.what in whats for entry in entries)


class Choreography:
    """Hands events to reactions, each at least once when all that it needs is there. Events may come twice, in any
    order, to any process that shares the store. Delete an event's message after `handle` has returned.
    """

    def __init__(
        self,
        store: SagaStore,
        reactions: Iterable[Reaction],
        *,
        poll_s: float = 1.0,
        backoff: Backoff | None = None,  # of what `watch` has tried in vain
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self._store = store
        self._reactions = {reaction.name: reaction for reaction in reactions}
        self._poll_s = poll_s
        self._failed = backoff or FullJitter(1.0, 300.0)
        self._now_ms, self._random = now_ms, random

    async def handle(self, kind: str, correlation: str, event: Any) -> list[Waiting]:
        """Who waits for more after this event. The first event of a kind counts; raises what a reaction raises, and the
        event must come again then.
        """
        still: list[Waiting] = []
        for reaction in self._reactions.values():
            if kind in reaction.needs:
                waiting = await self._arrive(reaction, kind, correlation, event)
                still += [waiting] if waiting is not None else []
        return still

    async def waiting(self, reaction: str, correlation: str) -> Waiting | None:
        """What a reaction waits for; None when it has reacted or was overdue."""
        entries = await self._store.load(f"{reaction}/{correlation}")
        return (
            None
            if is_over(entries, What.REACTED, What.OVERDUE)
            else waiting_of(self._reactions[reaction], correlation, entries)
        )

    async def watch(self) -> None:
        """Until it is cancelled: calls `overdue` where it is due, and again after an error."""
        while True:
            try:
                for log_id in await self._store.due(self._now_ms(), 100):
                    await self._look_at(log_id)
            except Exception as error:
                log.warning("overdue reactions are left for later: %r", error)
            await anyio.sleep(self._poll_s)

    async def _arrive(self, reaction: Reaction, kind: str, correlation: str, event: Any) -> Waiting | None:
        log_id, conflicts = f"{reaction.name}/{correlation}", 0
        while True:
            entries = list(await self._store.load(log_id))
            if is_over(entries, What.REACTED, What.OVERDUE):
                return None
            if kind not in waiting_of(reaction, correlation, entries).has:
                entry = LogEntry(self._now_ms(), What.ARRIVED, kind, event)
                since_ms = (entries or [entry])[0].at_ms
                due_ms = None if reaction.within_s is None else since_ms + round(reaction.within_s * 1000)
                if not await self._store.append(log_id, entries, entry, due_ms):
                    conflicts += 1  # another event came at the same time
                    await anyio.sleep(_CONFLICT_BACKOFF.delay_s(conflicts, 0.0, self._random()))
                    continue
                entries.append(entry)
            waiting = waiting_of(reaction, correlation, entries)
            if waiting.misses:
                return waiting
            await self._react(reaction, correlation, entries)
            return None

    async def _look_at(self, log_id: str) -> None:
        """Its time is over, or somebody crashed in the middle of its end."""
        name, _, correlation = log_id.partition("/")
        reaction = self._reactions.get(name)
        entries = list(await self._store.load(log_id))
        if reaction is None or not entries:
            return
        if waiting_of(reaction, correlation, entries).misses and not is_over(entries, What.OVERDUE):
            # Before it is called: an event that comes now is too late, and does not cause the reaction as well.
            entry = LogEntry(self._now_ms(), What.OVERDUE)
            if not await self._store.append(log_id, entries, entry, entry.at_ms + MARGIN_MS):
                return
            entries.append(entry)
        try:
            await self._react(reaction, correlation, entries)
        except Exception as error:
            failures = sum(entry.what is What.FAILED for entry in entries) + 1
            again_ms = self._now_ms() + round(self._failed.delay_s(failures, 0.0, self._random()) * 1000)
            log.warning("%s of %s failed: %r", name, correlation, error)
            await self._store.append(
                log_id, entries, LogEntry(self._now_ms(), What.FAILED, name, repr(error), again_ms), again_ms
            )

    async def _react(self, reaction: Reaction, correlation: str, entries: Sequence[LogEntry]) -> None:
        function = reaction.overdue if is_over(entries, What.OVERDUE) else reaction.react
        assert function is not None
        await function(correlation, {entry.step: entry.value for entry in entries if entry.what is What.ARRIVED})
        entry = LogEntry(self._now_ms(), What.REACTED)
        await self._store.append(f"{reaction.name}/{correlation}", entries, entry, None)
