"""A broker whose time stands still until a test moves it, and the short forms that tests use.

Nothing here runs by itself: an operation's group is open until `settle` or `advance`, as it is in a turn of the
event loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.clock import ManualClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.errors import BrokerFailure
from broker.limits import RELAXED, Limits
from broker.names import World
from broker.queues import Queue, Sending, Sent, Waiter, receipts
from broker.queues.attributes import COUNTS
from broker.store.port import StoredMessage
from broker.store.sqlite import SqliteStore

WORLD = World("000000000000", "us-east-1")
START_MS = 1_700_000_000_000
DAY_S = 86_400
FOREVER_MS = 1 << 60


class Poll:
    """A long poll: what it was answered, and when. `messages` is None while it waits."""

    def __init__(self, engine: Engine, waiter: Waiter) -> None:
        self._engine = engine
        self._waiter = waiter
        self.messages: list[StoredMessage] | None = None
        self.answered_ms = 0
        self.failure: BrokerFailure | None = None
        self.is_told = False
        waiter.done = self._take

    def _take(self, messages: list[StoredMessage]) -> None:
        assert self.messages is None, "a long poll is answered once"
        self.messages = messages
        self.answered_ms = self._engine.clock.now_ms()
        self._engine.broker.commit.then(self._tell)

    def _tell(self, failure: BrokerFailure | None) -> None:
        self.failure = failure
        self.is_told = True

    @property
    def bodies(self) -> list[str] | None:
        return None if self.messages is None else [message.body for message in self.messages]

    def cancel(self) -> None:
        self._waiter.cancel()


class Engine:
    """A broker on virtual time, in memory or in a directory."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        limits: Limits = RELAXED,
        seed: int = 1,
        now_ms: int = START_MS,
        sync: str = "normal",
    ) -> None:
        self.directory = directory
        self.limits = limits
        self._sync = sync
        self._seed = seed
        self._open(now_ms)

    def _open(self, now_ms: int) -> None:
        self.clock = ManualClock(now_ms)
        self.store = SqliteStore(self.directory, sync=self._sync)
        self.broker = Broker(self.store, self.clock, Entropy(self._seed), self.limits)
        self.queues = self.broker.queues
        self.messaging = self.broker.messaging
        self.move_tasks = self.queues.move_tasks
        self.advance(0)

    def restart(self, *, after_s: float = 0) -> None:
        """Ends and begins again on the same directory, now or after a while. Queues must be found anew."""
        self.close()
        self._seed += 1  # or the identifiers of the first run would come again
        self._open(self.clock.now_ms() + round(after_s * 1000))

    def close(self) -> None:
        self.broker.close()

    # time

    def settle(self) -> None:
        self.clock.settle()

    def advance(self, by_s: float) -> None:
        """Also by nothing: then what is due now happens."""
        self.clock.advance(round(by_s * 1000))

    # queues

    def create(self, name: str, **attributes: Any) -> Queue:
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        if name.endswith(".fifo"):
            given["FifoQueue"] = "true"
        return self.queues.create(WORLD, name, given)

    def find(self, name: str) -> Queue:
        return self.queues.find(WORLD, name)

    def set(self, queue: Queue, **attributes: Any) -> None:
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        self.queues.set_attributes(queue, given)

    def set_redrive(self, queue: Queue, target: Queue, max_receive_count: int) -> None:
        self.set(queue, RedrivePolicy={"deadLetterTargetArn": target.arn, "maxReceiveCount": max_receive_count})

    def counts(self, queue: Queue) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        shown = self.queues.get_attributes(queue, COUNTS)
        visible, in_flight, delayed = (int(shown[name]) for name in COUNTS)
        return visible, in_flight, delayed

    def listing(self, queue: Queue) -> list[StoredMessage]:
        """All messages of a queue in order of arrival, whatever their state, untouched."""
        return sorted(self.store.queues.take_for_move(queue.shelf_no, FOREVER_MS, -1))

    # messages

    def send(self, queue: Queue, body: str = "x", **given: Any) -> Sent:
        """A FIFO queue's message gets the group `g` and its body as deduplication id unless told otherwise."""
        if queue.fifo:
            given = {"group_id": "g", "deduplication_id": body, **given}
        return self.messaging.send(queue, Sending(body, **given), "me")

    def send_all(self, queue: Queue, bodies: str, **given: Any) -> None:
        for body in bodies.split():
            self.send(queue, body, **given)

    def receive(self, queue: Queue, limit: int = 10, **given: Any) -> list[StoredMessage]:
        received = self.messaging.receive(queue, limit, **given)
        assert isinstance(received, list), "nothing was there, and the queue's own wait time is not zero"
        return received

    def receive_bodies(self, queue: Queue, limit: int = 10, **given: Any) -> list[str]:
        return [message.body for message in self.receive(queue, limit, **given)]

    def poll(self, queue: Queue, limit: int = 10, wait_time_s: int | None = 20, **given: Any) -> Poll:
        waiter = self.messaging.receive(queue, limit, wait_time_s=wait_time_s, **given)
        assert isinstance(waiter, Waiter), "something was there at once"
        return Poll(self, waiter)

    def handle(self, queue: Queue, message: StoredMessage) -> str:
        return receipts.make(queue.tag, message.id, message.receive_count)

    def delete(self, queue: Queue, *messages: StoredMessage) -> None:
        for message in messages:
            self.messaging.delete_message(queue, self.handle(queue, message))

    def change_visibility(self, queue: Queue, message: StoredMessage, timeout_s: int) -> None:
        self.messaging.change_visibility(queue, self.handle(queue, message), timeout_s)

    # what cannot be seen through operations

    def rows(self, sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.store._connection.execute(sql, parameters).fetchall()
