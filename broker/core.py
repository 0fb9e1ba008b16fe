"""The broker: one store, one clock, one source of chance, and the services on them."""

from __future__ import annotations

from collections.abc import Callable

from broker.buses.service import Events
from broker.clock import Clock
from broker.commit import GroupCommit
from broker.delivery import Outbox, Signer
from broker.entropy import Entropy
from broker.errors import BrokerFailure
from broker.faults import Faults
from broker.ledger import Ledger
from broker.limits import RELAXED, Limits
from broker.queues import Messaging, Queues
from broker.store.port import Store
from broker.streams import Streams
from broker.tables import Tables
from broker.topics import Notifications, Unsigned


class Broker:
    """All services of one process. Raises BrokerFailure where the store cannot be read.

    Operations are plain calls, each atomic; `commit.then` says when what has happened is safe to tell. Whoever runs
    the broker runs the clock.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        entropy: Entropy | None = None,
        limits: Limits = RELAXED,
        signer: Signer | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.entropy = entropy or Entropy()
        self.limits = limits
        self.on_end: list[Callable[[], None]] = []  # who else has somebody wait
        self.commit = GroupCommit(store, clock.soon)
        self.faults = Faults(clock, self.entropy)
        self.ledger = Ledger(clock, self.commit, store)
        self.queues = Queues(store.queues, clock, self.commit, self.entropy, limits, self.faults, self.ledger)
        self.messaging = Messaging(self.queues.flow, self.entropy, limits)
        self.outbox = Outbox(store.deliveries, clock, self.commit, self.messaging, self.entropy)
        self.notifications = Notifications(
            store,
            clock,
            self.commit,
            self.entropy,
            limits,
            self.queues,
            self.messaging,
            self.outbox,
            signer or Unsigned(),
        )
        self.streams = Streams(store, clock, self.commit, self.entropy, limits, self.faults, self.ledger)
        self.events = Events(
            store,
            clock,
            self.commit,
            self.entropy,
            limits,
            self.messaging,
            self.notifications,
            self.outbox,
            self.streams,
        )
        self.tables = Tables(store, clock, self.commit, self.entropy)
        self.commit.before_commit.append(self.ledger.write)  # the last: what a commit prepares is noted too
        clock.on_set_back.append(self._clock_set_back)
        try:
            self.commit.enter()
            self.ledger.load()
            self._load()
            self.outbox.load()
        except Exception as error:
            self.commit.stop()
            raise store.failure(error) or error from error

    def _load(self) -> None:
        self.queues.load()
        self.notifications.load()
        self.streams.load()
        self.tables.load()
        self.events.load()

    def _clock_set_back(self) -> None:
        """What the store knows of a later time stays there. All else begins anew: nobody waits until then."""
        self.queues.end_waiting()
        self.streams.end_waiting()
        self.commit.settle()
        self.commit.run(self._load)
        self.commit.run(self.outbox.clock_set_back)

    def failed(self, error: Exception) -> BrokerFailure:
        """An operation broke in a way that is not the caller's doing: its group has not happened."""
        failure = self.store.failure(error) or BrokerFailure(f"Sidebus failed ({type(error).__name__}): see its log.")
        self.commit.abort(failure)
        return failure

    def reset(self, account: str | None = None) -> None:
        """Empties the broker, or one account."""
        self.queues.reset(account)
        self.notifications.reset(account)
        self.streams.reset(account)
        self.tables.reset(account)
        self.events.reset(account)
        self.outbox.reset(account)
        self.ledger.reset(account)

    def end_waiting(self) -> None:
        """Answers the long polls with what there is, nothing, and ends the streams' subscriptions."""
        self.clock.halt()
        for end in self.on_end:
            end()
        self.queues.close()
        self.streams.close()

    def close(self) -> None:
        """Ends what waits, commits what is open, closes the store."""
        self.end_waiting()
        self.commit.flush()
        self.store.close()
