"""The ledger: what happened to each message, noted in the transaction that it tells of.

The rule: off, a hook costs one look at `is_on`. On, notes of a group are gathered and written with one `executemany`
just before its commit, after everything else that a commit prepares: so an entry is there if and only if what it tells
of is. A group that fails takes its notes with it. Beyond `capacity` the oldest go, in steps.

Who asks is `by`, which whoever calls an operation sets and takes back. Ugly: a delete of a message that is gone names
it only by the place where it lay; whose that was is remembered in RAM, of the last twenty thousand that were delivered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.errors import BrokerFailure
from broker.faults import Hit
from broker.ledger import events
from broker.names import parse_arn
from broker.store.port import LedgerEntry, NewMessage, Store, StoredMessage

CAPACITY = 1_000_000
DROP_ROWS = 500  # a step, in the group that goes beyond the capacity
SWEEP_ROWS = 5_000  # a step of its own, where much is to go
_REMEMBERED = 20_000
_MAX_CLIENTS = 10_000
_OTHERS = "one of very many clients"
_META = "ledger"
_UNTOLD = (events.FAULT, events.DEAD_LETTERED, events.EXPIRED)  # of this a client is not told

Row = tuple[int, int, str, int, str, int, int, int, int, str, str]


def is_capacity(given: object) -> bool:
    """Whether it is a number of entries, or None for the usual one."""
    return given is None or (isinstance(given, int) and not isinstance(given, bool) and 1 <= given < 1 << 53)


class Ledger:
    """Off until switched on. `note` and `fault` are for everybody; the others each for one place in the engine."""

    def __init__(self, clock: Clock, commit: GroupCommit, store: Store) -> None:
        self._clock = clock
        self._commit = commit
        self._meta = store
        self.store = store.ledger
        self.is_on = False
        self.by = ""  # who asks: set by whoever calls an operation, "access-key user-agent"
        self.capacity = CAPACITY
        self.count = 0  # entries there are
        self.dropped = 0  # the oldest, that had to go
        self.last_id = 0
        self._saved = (0, 0, 0)  # count, dropped and last_id as they are committed
        self._pending: list[Row] = []
        self._names: dict[str, int] = {"": 0}
        self._by_no: dict[int, str] = {0: ""}
        self._last_no = 0
        self._new_names: list[tuple[int, str]] = []
        self._clients = 0
        self._delivered: dict[int, str] = {}  # message ids by row ids, of those last delivered
        self._sweeping = False
        commit.after_rollback.append(self._reload)

    # on, off, how much

    def load(self) -> None:
        """Takes over what the store knows."""
        self.count, self.last_id = self.store.bounds()
        self._load()
        self._saved = (self.count, self.dropped, self.last_id)

    def _load(self) -> None:
        settings = json.loads(self._meta.get_meta(_META) or "{}")
        self.is_on = settings.get("enabled", False)
        self.capacity = settings.get("capacity", CAPACITY)
        self.dropped = settings.get("dropped", 0)
        self._load_names()

    def _load_names(self) -> None:
        self._by_no = {0: "", **dict(self.store.load_names())}
        self._names = {name: no for no, name in self._by_no.items()}
        self._clients = len(self._names)
        self._last_no = max(self._by_no)

    def _reload(self) -> None:
        self._pending, self._new_names = [], []
        self._load()
        self.count, self.dropped, self.last_id = self._saved

    def _save(self) -> None:
        self._meta.put_meta(
            _META, json.dumps({"enabled": self.is_on, "capacity": self.capacity, "dropped": self.dropped})
        )

    def enable(self, capacity: int | None = None) -> None:
        """From now on. It stays on, also after a restart on the same data. Raises ValueError."""
        if capacity is not None and capacity < 1:
            raise ValueError("The ledger's capacity is a number of entries from 1 on.")
        self._commit.enter()
        self.is_on = True
        self.capacity = capacity or self.capacity
        self._save()
        self._sweep_soon()

    def disable(self) -> None:
        """What was noted stays."""
        self._commit.enter()
        self.is_on = False
        self._save()

    def clear(self) -> None:
        """Forgets everything that was noted."""
        self._commit.enter()
        self._pending, self._new_names = [], []
        self.store.clear()
        self.count = self.dropped = 0
        self._names, self._by_no, self._clients, self._last_no = {"": 0}, {0: ""}, 0, 0
        self._save()
        self._commit.then(self._committed)

    def reset(self, account: str | None = None) -> None:
        """Forgets what happened in an account, or everything: for tests."""
        if not self.count and not self._pending:
            return
        self.write()
        resources = {no: arn.account for name, no in self._names.items() if (arn := parse_arn(name)) is not None}
        mine = [no for no, owner in resources.items() if owner == account]
        if account is None or len(mine) == len(resources) > 0:
            self.clear()  # at once, however much it is
        elif mine:
            self._commit.enter()
            self.count -= self.store.drop_of(mine)
            clients = [no for name, no in self._names.items() if name.startswith(f"{account} ")]
            self.store.drop_names([*mine, *clients])
            self._load_names()
            self._commit.then(self._committed)

    # noting

    def note(self, event: str, resource: str, message_id: str, detail: Mapping[str, Any] | None = None) -> None:
        """One thing that happened to a message of a resource (an ARN). Does nothing while off."""
        if self.is_on:
            self._add(event, resource, message_id, self._key(resource, message_id), detail=_dumped(detail))

    def fault(self, hit: Hit, resource: str, message_id: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """A fault struck, perhaps no message in particular. Does nothing while off.

        Of the detail, `receive` is the number of the receive that it struck, `visible_ms` when the message is to be
        had again, `operation`, `entry` (of a batch) and `md5` (of a body) what was asked.
        """
        if self.is_on:
            detail = detail or {}
            self._add(
                events.FAULT,
                resource,
                message_id,
                self._key(resource, message_id),
                detail.get("receive") or 0,
                detail.get("visible_ms") or 0,
                detail=_dumped({"kind": hit.kind, "rule": hit.rule, **detail}),
            )

    def mark(self) -> int:
        """Where notes stand: for `struck`."""
        return self.last_id

    def struck(self, hit: Hit, resource: str, mark: int, detail: Mapping[str, Any] | None = None) -> None:
        """A fault struck all that an operation has done with a resource's messages since the mark, as far as its
        client is told of them: one note for each message, or one for none."""
        if not self.is_on:
            return
        self.write()
        entries = self.store.after(mark, -1, resource_nos=self.numbers_of(resource))
        found = {e.message_id: e.number for e in entries if e.message_id and e.event not in _UNTOLD}
        for message_id, number in found.items():
            self.fault(hit, resource, message_id, {**(detail or {}), "receive": number})
        if not found:
            self.fault(hit, resource, "", detail)

    def _add(
        self,
        event: str,
        resource: str,
        message_id: str,
        key: int = 0,
        number: int = 0,
        until_ms: int = 0,
        origin: str = "",
        detail: str = "",
        by: str | None = None,
    ) -> None:
        self._commit.enter()
        self.last_id = id = self.last_id + 1
        resource_no = self._names.get(resource) or self._name(resource)
        asking = self.by if by is None else by
        by_no = (self._names.get(asking) or self._client(asking)) if asking else 0
        self._pending.append(
            (id, key, message_id, self._clock.now_ms(), event, resource_no, by_no, number, until_ms, origin, detail)
        )

    def _key(self, resource: str, message_id: str) -> int:
        """Of a message that somebody names: whose it is was noted with its sending."""
        resource_no = self._names.get(resource)
        if not message_id or resource_no is None or ":sqs:" not in resource:
            return 0
        self.write()
        return self.store.key_of(message_id, resource_no)

    def _client(self, name: str) -> int:
        """There are few, but anybody may make up more."""
        self._clients += 1
        return self._name(name if self._clients <= _MAX_CLIENTS else _OTHERS)

    def _name(self, name: str) -> int:
        no = self._names.get(name)
        if no is None:
            no = self._names[name] = self._last_no = self._last_no + 1
            self._by_no[no] = name
            self._new_names.append((no, name))
        return no

    # queues

    def sent(self, arn: str, messages: Iterable[NewMessage], by: str | None = None) -> None:
        """Whoever asks has sent these."""
        for message in messages:
            self.arrived(arn, message, by=by)

    def arrived(self, arn: str, message: NewMessage, origin: str = "", by: str | None = None, **through: str) -> None:
        """`through` is what brought it: a topic's subscription, a rule, a redrive, a dead-letter queue's source."""
        if message.group_id is None and not through:
            detail = f'{{"md5":"{message.md5}"}}'
        else:
            known = {"md5": message.md5, "group": message.group_id, **through}
            detail = _dumped({name: value for name, value in known.items() if value})
        hidden_ms = message.visible_ms if message.visible_ms > self._clock.now_ms() else 0
        self._add(events.SENT, arn, message.message_id, message.id, 0, hidden_ms, origin, detail, by)

    def deduplicated(self, arn: str, message_id: str, md5: str) -> None:
        key = self._key(arn, message_id)
        self._add(events.DEDUPLICATED, arn, message_id, key, detail=f'{{"md5":"{md5}"}}')

    def delivered(self, arn: str, messages: Iterable[StoredMessage], *, again: bool = False) -> None:
        """`again`: the answer to a receive is given a second time, to the same attempt."""
        detail = '{"again":true}' if again else ""
        now_ms, delivered = self._clock.now_ms(), self._delivered
        for message in messages:
            hidden_ms = max(message.visible_ms, now_ms)
            delivered[message.id] = message.message_id
            if len(delivered) > _REMEMBERED:
                del delivered[next(iter(delivered))]
            self._add(
                events.DELIVERED,
                arn,
                message.message_id,
                message.id,
                message.receive_count,
                hidden_ms,
                detail=detail,
            )

    def last_delivered(self, id: int) -> str:
        """The message id of a row, also of one that is gone; "" where that is forgotten."""
        return self._delivered.get(id, "")

    def changed(self, arn: str, id: int, message_id: str, receive_count: int, visible_ms: int) -> None:
        self._add(events.CHANGED, arn, message_id, id, receive_count, visible_ms)

    def deleting(
        self, arn: str, found: Mapping[int, tuple[str, int]], receives: Iterable[tuple[int, int]], *, good: bool = True
    ) -> None:
        """Deletes by these handles, (row id, receive count), of messages that are there: (message id, last receive).
        Not `good`: none of them is a handle that still holds."""
        here = dict(found)
        for id, receive_count in receives:
            message_id, last = here.pop(id, (self._delivered.get(id, ""), -1))
            if good and last == receive_count:
                self._add(events.ACKNOWLEDGED, arn, message_id, id, receive_count)
            elif message_id:
                here[id] = message_id, last
                self._add(events.STALE, arn, message_id, id, receive_count)

    def expired(self, arn: str, messages: Iterable[tuple[int, str]]) -> None:
        """By row id and message id."""
        for id, message_id in messages:
            self._add(events.EXPIRED, arn, message_id, id, by="")

    def purged(self, arn: str, messages: Iterable[tuple[int, str]] = ((0, ""),)) -> None:
        """By row id and message id; without them, all there are."""
        for id, message_id in messages:
            self._add(events.PURGED, arn, message_id, id)

    def dead_lettered(
        self, source: str, target: str, dead: Iterable[StoredMessage], moved: Iterable[NewMessage], max_receives: int
    ) -> None:
        """They keep their ids. A fault that moved one too early is noted before it."""
        detail = _dumped({"to": target, "why": f"received {max_receives} times without a delete (maxReceiveCount)"})
        for message, new in zip(dead, moved, strict=True):
            self._add(events.DEAD_LETTERED, source, message.message_id, message.id, detail=detail)
            self.arrived(target, new, dead_letter_of=source)

    def redriven(self, source: str, target: str, message: StoredMessage, new: NewMessage) -> None:
        """By a message move task, as a new message."""
        detail = _dumped({"to": target, "as": new.message_id})
        self._add(events.REDRIVEN, source, message.message_id, message.id, detail=detail, by="")
        self.arrived(target, new, message.message_id, "", redriven_from=source)

    # streams

    def put(self, arn: str, shard_id: str, first: int, last: int) -> None:
        """What came to a shard one after the other from the same client is one range."""
        if self._pending:
            before = LedgerEntry._make(self._pending[-1])
            if (
                before.event == events.PUT
                and before.message_id == shard_id
                and before.until_ms == first - 1
                and before.resource_no == self._names.get(arn)
                and before.by_no == (self._names.get(self.by, 0) if self.by else 0)
                and before.at_ms == self._clock.now_ms()
            ):
                self._pending[-1] = before._replace(until_ms=last)
                return
        self._add(events.PUT, arn, shard_id, 0, first, last)

    def read(self, arn: str, shard_id: str, first: int, last: int, reader: str = "") -> None:
        """`reader` is the ARN of who reads, where it has one; else it is whoever asks."""
        self._add(events.READ, arn, shard_id, 0, first, last, reader)

    # records in queues on streams, by their sequence numbers: a row each, as the store has

    def delivered_records(self, arn: str, received: Iterable[tuple[str, int]], visible_ms: int) -> None:
        for number, receive_count in received:
            self._add(events.DELIVERED, arn, number, 0, receive_count, visible_ms)

    def acknowledged_record(self, arn: str, number: str, receive_count: int) -> None:
        self._add(events.ACKNOWLEDGED, arn, number, 0, receive_count)

    def changed_record(self, visible_ms: int, arn: str, number: str, receive_count: int) -> None:
        self._add(events.CHANGED, arn, number, 0, receive_count, visible_ms)

    # topics, buses, deliveries

    def published(self, arn: str, message_id: str, **detail: object) -> None:
        self._add(events.PUBLISHED, arn, message_id, detail=_dumped({k: v for k, v in detail.items() if v}))

    def attempted(self, owner: str, message_id: str, number: int, again_ms: int, **outcome: str) -> None:
        self._add(events.ATTEMPTED, owner, message_id, 0, number, again_ms, detail=_dumped(outcome), by="")

    def given_up(self, owner: str, message_id: str, attempts: int, why: str, to: str = "") -> None:
        """Into the dead-letter queue `to`, if that took it."""
        event = events.DEAD_LETTERED if to else events.GIVEN_UP
        detail = {"why": why, "to": to} if to else {"why": why}
        self._add(event, owner, message_id, 0, attempts, detail=_dumped(detail), by="")

    # what consumers tell

    def effect(self, message_id: str, resource: str = "", key: str = "") -> tuple[str, bool]:
        """A consumer has done the work of a message. Returns the resource it is noted for, "" where none is known, and
        whether the message is known there.

        `key` tells one effect from another where a message has several, or several messages have one.
        """
        if not resource:
            self.write()
            for entry in self.store.of_message(message_id, -1):
                if entry.event in (events.DELIVERED, events.SENT):
                    resource = self._by_no[entry.resource_no]
        message_key = self._key(resource, message_id)
        self._add(events.EFFECT, resource, message_id, message_key, origin=key)
        return resource, message_key > 0 or (resource != "" and ":sqs:" not in resource)

    # once a group

    def write(self) -> None:
        """Writes what was noted: before a commit, and before somebody reads."""
        if not self._pending:
            return
        if self._new_names:
            self.store.put_names(self._new_names)
            self._new_names = []
        rows, self._pending = self._pending, []
        self.store.append(rows)  # type: ignore[arg-type]  # plain tuples: SQLite's binding is quicker with them
        self.count += len(rows)
        if self.count > self.capacity:
            over = self.count - self.capacity
            self._drop(min(over + min(DROP_ROWS, self.capacity // 10), max(SWEEP_ROWS, len(rows))))
            self._sweep_soon()
        self._commit.then(self._committed)

    def _committed(self, failure: BrokerFailure | None) -> None:
        if failure is None:
            self._saved = (self.count, self.dropped, self.last_id)

    def _drop(self, limit: int) -> None:
        dropped = self.store.drop_oldest(limit)
        self.count -= dropped
        self.dropped += dropped
        self._save()

    def _sweep_soon(self) -> None:
        """Where the capacity was lowered by much."""
        if self.count > self.capacity and not self._sweeping:
            self._sweeping = True
            self._clock.soon(partial(self._commit.run, self._sweep))

    def _sweep(self) -> None:
        self._sweeping = False
        if self.count > self.capacity:
            self._drop(min(self.count - self.capacity, SWEEP_ROWS))
            self._commit.then(self._committed)
            self._sweep_soon()

    # reading

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def name(self, no: int) -> str:
        return self._by_no.get(no, "")

    def numbers_of(self, *arns: str, beginning: str | None = None) -> list[int]:
        """The numbers of resources that something was noted of: these, and those that begin so."""
        found = [self._names[arn] for arn in arns if arn in self._names]
        if beginning is not None:
            found += [no for name, no in self._names.items() if name.startswith(beginning)]
        return found

    def numbers_in(self, account: str | None, region: str | None) -> list[int]:
        """The numbers of all resources of an account in a region; None means any."""
        arns = ((no, parse_arn(name)) for name, no in self._names.items())
        return [no for no, arn in arns if arn and account in (None, arn.account) and region in (None, arn.region)]

    def look(self) -> int:
        """Before reading: writes what was noted, and tells the last entry's id."""
        self._commit.enter()
        self.write()
        return self.last_id

    def entries_of(self, message_id: str) -> list[LedgerEntry]:
        self.look()
        return self.store.of_message(message_id, -1)


def _dumped(detail: Mapping[str, Any] | None) -> str:
    return orjson.dumps(detail, default=str).decode() if detail else ""
