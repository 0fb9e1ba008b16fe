"""The ledger's account of random runs, against a naive one.

The naive account is kept by what operations answer and by looking at the rows after each: who was there and is not any
more has expired, become a dead letter, been moved or purged, whatever the case was. Time goes in steps of a second, and
at each every message is asked whether its visibility timeout is over. Groups that fail take back what was written down.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BrokerFailure, DomainError, InvalidParameterValue
from broker.queues import Queue
from broker.store.port import StoredMessage
from engine.ledger_support import events_of, verdict
from engine.support import WORLD, Engine

RETENTION_S = 60
MAX_RECEIVES = 2


@dataclass
class Message:
    """Where it is, and what has happened to it so far."""

    queue: str
    account: list[tuple[str, str]] = field(default_factory=list)  # (queue, event)
    sent_ms: int = 0
    first_ms: int = 0
    hidden_ms: int | None = None  # until when its last receive keeps it
    is_here: bool = True
    acknowledged_ms: int = 0
    acknowledged_in: str = ""

    def __post_init__(self) -> None:
        self.note("sent")

    def note(self, event: str, queue: str | None = None) -> None:
        self.account.append((queue or self.queue, event))

    def of(self, queue: str) -> list[str]:
        """The part of its account that is of a queue."""
        return [event for name, event in self.account if name == queue]


@dataclass(frozen=True)
class Handle:
    message_id: str
    queue: str
    purges: int
    message: StoredMessage


class Run:
    """An engine, and the naive account of what it does."""

    def __init__(self, *, fifo: bool) -> None:
        suffix = ".fifo" if fifo else ""
        self.fifo = fifo
        self.engine = Engine()
        self.engine.broker.ledger.enable()
        self.names = [f"orders{suffix}", f"dead{suffix}"]
        for name in self.names:
            self.engine.create(name, MessageRetentionPeriod=str(RETENTION_S))
        self.engine.set_redrive(self.queue(0), self.queue(1), MAX_RECEIVES)
        self.messages: dict[str, Message] = {}
        self.moved: dict[str, str] = {}  # by new id: the old one
        self.handles: list[Handle] = []
        self.purges = Counter[str]()
        self.sent = 0
        self.commit()

    def queue(self, place: int) -> Queue:
        return self.engine.find(self.names[place])

    @property
    def now_ms(self) -> int:
        return self.engine.clock.now_ms()

    def commit(self) -> None:
        self.engine.settle()
        self.look()
        self.committed = copy.deepcopy((self.messages, self.moved, self.handles, self.purges))

    def fail(self) -> None:
        self.engine.broker.commit.abort(BrokerFailure("on purpose"))
        self.messages, self.moved, self.handles, self.purges = copy.deepcopy(self.committed)
        self.engine.settle()

    def look(self) -> None:
        """Accounts for what the engine has done of its own accord, by its rows."""
        listings = {name: self.engine.listing(self.engine.find(name)) for name in self.names}
        rows = {row.message_id: row for listing in listings.values() for row in listing}
        there = {row.message_id: name for name, listing in listings.items() for row in listing}
        gone = [id for id, message in self.messages.items() if message.is_here and there.get(id) != message.queue]
        new = [id for id in there if id not in self.messages]
        for id in gone:
            message = self.messages[id]
            message.hidden_ms = None
            if id in there:
                message.note("dead-lettered")
                message.queue = there[id]
                message.note("sent")
                if self.fifo:  # whose retention begins anew
                    message.sent_ms = self.now_ms
                continue
            message.is_here = False
            if self.is_expired(message):
                message.note("expired")
            else:
                message.note("redriven")
                new_id = next(n for n in new if rows[n].body == self.bodies[id])
                new.remove(new_id)
                self.moved[new_id] = id
                self.messages[new_id] = Message(
                    there[new_id], sent_ms=rows[new_id].sent_ms, first_ms=rows[new_id].sent_ms
                )
                self.bodies[new_id] = self.bodies[id]
        assert not new

    def is_expired(self, message: Message) -> bool:
        return message.sent_ms + RETENTION_S * 1000 <= self.now_ms

    def returns(self) -> None:
        for message in self.messages.values():
            if message.is_here and message.hidden_ms is not None and message.hidden_ms <= self.now_ms:
                message.note("returned")
                message.hidden_ms = None

    # what clients do

    bodies: dict[str, str]

    def send(self, group: str, delay_s: int) -> None:
        self.sent += 1
        body = f"message-{self.sent}"
        given = {"group_id": group} if self.fifo else {"delay_s": delay_s}
        sent = self.engine.send(self.queue(0), body, **given)
        self.messages[sent.message_id] = Message(self.names[0], sent_ms=self.now_ms, first_ms=self.now_ms)
        self.bodies[sent.message_id] = body

    def receive(self, place: int, limit: int, timeout_s: int) -> None:
        before = {id: len(message.account) for id, message in self.messages.items()}
        received = self.engine.receive(self.queue(place), limit, visibility_timeout_s=timeout_s)
        self.look()
        assert all(id in before for id in self.messages)
        for found in received:
            message = self.messages[found.message_id]
            message.note(f"delivered {found.receive_count}")
            message.hidden_ms = self.now_ms + timeout_s * 1000
            name = self.names[place]
            self.handles.append(Handle(found.message_id, name, self.purges[name], found))
        self.returns()

    def handle(self, which: int) -> Handle | None:
        return self.handles[-1 - which % len(self.handles)] if self.handles else None

    def delete(self, which: int) -> None:
        handle = self.handle(which)
        if handle is None:
            return
        queue, message = self.engine.find(handle.queue), self.messages[handle.message_id]
        number = handle.message.receive_count
        is_last = message.is_here and message.queue == handle.queue and self.last_receive(message) == number
        if self.fifo and message.hidden_ms is None:
            is_last = False
        try:
            self.engine.delete(queue, handle.message)
        except InvalidParameterValue:
            assert self.fifo
            assert not is_last
        if handle.purges != self.purges[handle.queue]:
            return
        if is_last:
            message.note(f"acknowledged {number}")
            message.acknowledged_ms, message.acknowledged_in = self.now_ms, message.queue
            message.is_here, message.hidden_ms = False, None
        else:
            message.note(f"stale {number}", handle.queue)

    def last_receive(self, message: Message) -> int:
        """In the queue where it is now."""
        return max((int(e.split()[1]) for e in message.of(message.queue) if e.startswith("delivered")), default=0)

    def change(self, which: int, timeout_s: int) -> None:
        handle = self.handle(which)
        if handle is None:
            return
        try:
            self.engine.change_visibility(self.engine.find(handle.queue), handle.message, timeout_s)
        except DomainError:
            return
        message = self.messages[handle.message_id]
        message.note(f"changed {handle.message.receive_count}")
        message.hidden_ms = self.now_ms + timeout_s * 1000
        self.returns()

    def redrive(self) -> None:
        try:
            self.engine.move_tasks.start(WORLD, self.queue(1).arn, None, None)
        except DomainError:
            return
        self.step()

    def purge(self, place: int) -> None:
        self.look()
        self.engine.queues.purge(self.queue(place))
        self.purges[self.names[place]] += 1
        for message in self.messages.values():
            if message.is_here and message.queue == self.names[place]:
                message.note("purged")
                message.is_here, message.hidden_ms = False, None

    def step(self, steps: int = 1) -> None:
        self.commit()
        for _ in range(steps):
            self.engine.advance(1)
            self.returns()
            self.commit()

    # what the ledger says

    def check(self) -> None:
        self.commit()
        for id, message in self.messages.items():
            assert events_of(self.engine, id) == [name_of(event) for _, event in message.account], id
        for place, name in enumerate(self.names):
            self.check_verdict(place, name)

    def check_verdict(self, place: int, name: str) -> None:
        found = verdict(self.engine, self.queue(place))
        lives = [life for message in self.messages.values() if (life := message.of(name))]
        ends = Counter([name for name in map(name_of, life) if name != "stale"][-1] for life in lives)
        asked = [
            len({event.split()[1] for event in life if event.startswith(("acknowledged", "stale"))}) for life in lives
        ]
        counts = found.counts
        assert counts["sent"] == len(lives)
        assert counts["deliveries"] == sum(event.startswith("delivered") for life in lives for event in life)
        assert counts["processed_once"] == asked.count(1)
        assert counts["processed_more_than_once"] == sum(number > 1 for number in asked)
        assert counts["stale_deletes"] == sum(event.startswith("stale") for life in lives for event in life)
        for end, shown in (
            ("acknowledged", "acknowledged"),
            ("dead-lettered", "dead_lettered"),
            ("redriven", "redriven"),
            ("expired", "expired"),
            ("purged", "purged"),
        ):
            assert counts[shown] == sum(end in map(name_of, life) for life in lives), end
        assert counts["never_acknowledged"] == ends["returned"]
        spans = [m.acknowledged_ms - m.first_ms for m in self.messages.values() if m.acknowledged_in == name]
        if spans and place == 0:  # the dead letters' began elsewhere
            times = found.document()["send_to_delete_ms"]
            assert times["max"] == max(spans)
            assert times["median"] == sorted(spans)[(len(spans) - 1) // 2]


def name_of(event: str) -> str:
    return event.split()[0]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Groups fail on purpose here."""
    logging.getLogger("sidebus").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("sidebus").setLevel(logging.NOTSET)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("gh"), st.sampled_from([0, 0, 2])),
        st.tuples(st.just("send"), st.sampled_from("gh"), st.just(0)),
        st.tuples(
            st.just("receive"), st.sampled_from([0, 0, 0, 1]), st.integers(1, 10), st.sampled_from([0, 1, 3, 30])
        ),
        st.tuples(st.just("receive"), st.just(0), st.integers(1, 10), st.sampled_from([1, 3])),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("change"), st.integers(0, 5), st.sampled_from([0, 1, 5])),
        st.tuples(st.just("step"), st.sampled_from([1, 1, 2, 4, 40])),
        st.tuples(st.just("commit")),
        st.tuples(st.just("fail")),
        st.tuples(st.just("redrive")),
        st.tuples(st.just("purge"), st.integers(0, 1)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("fifo", [False, True])
@settings(max_examples=150, deadline=None)
@given(program=operations)
def test_the_account_is_the_naive_one(fifo: bool, program: list[tuple[object, ...]]) -> None:
    run = Run(fifo=fifo)
    run.bodies = {}
    try:
        for name, *arguments in program:
            getattr(run, str(name))(*arguments)
        run.check()
    finally:
        run.engine.close()
