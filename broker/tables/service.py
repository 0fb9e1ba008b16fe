"""All of the tables, put together."""

from __future__ import annotations

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.names import World
from broker.store.port import Store
from broker.tables.definitions import Definitions
from broker.tables.items import Items
from broker.tables.queries import Reader
from broker.tables.registry import Registry
from broker.tables.table import Table


class Tables:
    """What the Kinesis Client Library keeps its leases in. Raises what its parts raise."""

    def __init__(self, store: Store, clock: Clock, commit: GroupCommit, entropy: Entropy) -> None:
        self._registry = Registry(store.tables, store.queues, clock, commit, entropy)
        self.definitions = Definitions(self._registry)
        self.items = Items(self._registry)
        self.reader = Reader(self._registry)

    def load(self) -> None:
        self._registry.load()

    def find(self, world: World, name: str) -> Table:
        """By name or ARN. Raises ResourceNotFoundException."""
        return self._registry.get(world, name)

    def reset(self, account: str | None = None) -> None:
        self._registry.reset(account)
