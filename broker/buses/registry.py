"""What EventBridge keeps, in RAM and in step with the store. Everything else of EventBridge works on these.

Buses and rules are objects; all other definitions are plain documents by kind, world and name. Everything is read
anew after a transaction that did not happen; what metrics counted is kept. Each world has a default bus from the
moment somebody asks for it, and it is stored only once something about it was set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from broker.buses.bus import DEFAULT_BUS, Bus, Rule
from broker.clock import Clock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.limits import Limits
from broker.names import World
from broker.store.port import BusItem, BusStore, QueueStore

BUS, RULE = "bus", "rule"

Document = dict[str, Any]


class Registry:
    """`buses` are by ARN; `items` has the rest."""

    def __init__(
        self,
        store: BusStore,
        queue_store: QueueStore,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
    ) -> None:
        self.store = store
        self.next_no = queue_store.next_no
        self.clock = clock
        self.commit = commit
        self.entropy = entropy
        self.limits = limits
        # Whether queues, topics and other accounts' buses must let somebody in by their policies.
        self.enforce_policies = False
        self.buses: dict[str, Bus] = {}
        self._by_name: dict[tuple[World, str], Bus] = {}
        self._items: dict[str, dict[tuple[World, str], Document]] = {}
        self.on_load: list[Callable[[], None]] = []  # makes its appointments again
        self.on_rule: list[Callable[[Rule], None]] = []  # a rule is new, or another than it was
        self.on_rule_gone: list[Callable[[Rule], None]] = []
        self.on_bus_gone: list[Callable[[Bus], None]] = []
        self.on_reset: list[Callable[[str | None], None]] = []  # an account, or everything, is forgotten
        commit.after_rollback.append(self.load)

    def load(self) -> None:
        before = self.buses
        self.buses, self._by_name, self._items = {}, {}, {}
        rules = []
        for item in self.store.load_items():
            world, document = World(item.account, item.region), json.loads(item.document)
            if item.kind == BUS:
                self._keep_bus(Bus(world, item.name, document))
            elif item.kind == RULE:
                rules.append((world, item.name, document))
            else:
                self.items(item.kind)[world, item.name] = document
        for world, key, document in rules:
            bus_name, _, name = key.rpartition("/")  # a partner's bus has slashes in its name, no rule has
            bus = self.bus(world, bus_name)
            rule = Rule(bus, name, document)
            bus.rules[name] = rule
            _index(rule)
        for arn, old in before.items():
            for rule in old.rules.values():
                if rule.timer is not None:
                    rule.timer.cancel()
            bus_again = self.buses.get(arn)
            if bus_again is not None:
                bus_again.counts = old.counts
                for name, rule in bus_again.rules.items():
                    if name in old.rules:
                        rule.counts = old.rules[name].counts
        for resume in self.on_load:
            resume()
        for bus in self.buses.values():
            for rule in bus.rules.values():
                self._tell(rule)

    # buses and rules

    def bus(self, world: World, name: str) -> Bus:
        """A bus that is known to be there; the default one always is."""
        found = self.find_bus(world, name)
        assert found is not None
        return found

    def find_bus(self, world: World, name: str) -> Bus | None:
        bus = self._by_name.get((world, name))
        if bus is None and name == DEFAULT_BUS:
            now_ms = self.clock.now_ms()
            bus = Bus(world, name, {"CreationTime": now_ms, "LastModifiedTime": now_ms, "Tags": {}})
            self._keep_bus(bus)
        return bus

    def buses_of(self, world: World) -> list[Bus]:
        """In the order of their names."""
        self.find_bus(world, DEFAULT_BUS)
        return sorted((bus for bus in self.buses.values() if bus.world == world), key=lambda bus: bus.name)

    def put_bus(self, bus: Bus) -> None:
        """Keeps a new bus, or a changed one."""
        self._keep_bus(bus)
        self.store.put_item(BusItem(BUS, *bus.world, bus.name, _dumped(bus.document)))

    def remove_bus(self, bus: Bus) -> None:
        for rule in list(bus.rules.values()):
            self.remove_rule(rule)
        del self.buses[bus.arn], self._by_name[bus.world, bus.name]
        self.store.delete_item(BUS, *bus.world, bus.name)
        for tell in self.on_bus_gone:
            tell(bus)

    def put_rule(self, bus: Bus, name: str, document: Document) -> Rule:
        """Keeps a new rule, or puts a changed one in its place: what was compiled of the old one is gone."""
        rule = Rule(bus, name, document)
        old = bus.rules.get(name)
        if old is not None:
            rule.counts = old.counts
            self._forget(old)
        bus.rules[name] = rule
        _index(rule)
        self.store.put_item(BusItem(RULE, *bus.world, rule.key, _dumped(document)))
        self._tell(rule)
        return rule

    def save_rule(self, rule: Rule) -> None:
        """One whose document has changed in nothing that is compiled of it."""
        self.store.put_item(BusItem(RULE, *rule.bus.world, rule.key, _dumped(rule.document)))

    def remove_rule(self, rule: Rule) -> None:
        self._forget(rule)
        del rule.bus.rules[rule.name]
        self.store.delete_item(RULE, *rule.bus.world, rule.key)
        for tell in self.on_rule_gone:
            tell(rule)

    def _keep_bus(self, bus: Bus) -> None:
        self.buses[bus.arn] = self._by_name[bus.world, bus.name] = bus

    def _forget(self, rule: Rule) -> None:
        if rule.enabled and rule.pattern is not None:
            rule.bus.index.remove(rule)
        if rule.timer is not None:
            rule.timer.cancel()
            rule.timer = None

    def _tell(self, rule: Rule) -> None:
        for tell in self.on_rule:
            tell(rule)

    # everything else

    def items(self, kind: str) -> dict[tuple[World, str], Document]:
        """The documents of a kind. Change one, or put a new one, with `put_item` only."""
        return self._items.setdefault(kind, {})

    def put_item(self, kind: str, world: World, name: str, document: Document) -> None:
        self.items(kind)[world, name] = document
        self.store.put_item(BusItem(kind, *world, name, _dumped(document)))

    def remove_item(self, kind: str, world: World, name: str) -> None:
        del self.items(kind)[world, name]
        self.store.delete_item(kind, *world, name)

    def reset(self, account: str | None) -> None:
        """Forgets everything, or all of one account."""
        self.commit.enter()
        for tell in self.on_reset:
            tell(account)
        for bus in list(self.buses.values()):
            if account in (None, bus.world.account):
                self.remove_bus(bus)
        for kind, items in self._items.items():
            for world, name in list(items):
                if account in (None, world.account):
                    self.remove_item(kind, world, name)


def _index(rule: Rule) -> None:
    if rule.enabled and rule.pattern is not None:
        rule.bus.index.add(rule, rule.pattern)


def _dumped(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
