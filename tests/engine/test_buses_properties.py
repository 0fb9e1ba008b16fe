"""Buses against a naive model: random rules, targets, events, restarts and failures; each queue must hold what it must.

The model keeps definitions as plain dictionaries, asks every rule about every event, and follows events from bus to bus
by the guide's words. It knows of patterns only what it makes itself: a set of values wanted for one field.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.errors import BrokerFailure, LimitExceededException
from broker.names import World, queue_arn
from engine.bus_support import OTHER_ACCOUNT, OTHER_REGION, Bridge, bus_arn, open_to_rules
from engine.support import WORLD, Engine

BUSES = [(WORLD, "default"), (WORLD, "b"), (OTHER_REGION, "b"), (OTHER_ACCOUNT, "b")]
QUEUES = ["q0", "q1", "letters"]
NAMES = ["r0", "r1"]

Place = tuple[World, str]
buses = st.sampled_from(BUSES)
names = st.sampled_from(NAMES)
VALUES = 2
values = st.integers(0, VALUES - 1)
ends = st.one_of(
    st.sampled_from([("queue", name) for name in (*QUEUES[:2], "gone")]), st.sampled_from([("bus", b) for b in BUSES])
)


class Events(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.engine = Engine(Path(self.directory.name))
        self.bridge = Bridge(self.engine)
        self.bridge.events.enforce_policies()
        for name in QUEUES:
            open_to_rules(self.engine, self.engine.create(name))
        for world, name in BUSES[1:]:
            self.bridge.create_bus(name, world)
        permission = {"Action": "events:PutEvents", "Principal": OTHER_ACCOUNT.account, "StatementId": "one"}
        self.bridge.buses.put_permission(WORLD, {"EventBusName": "b", **permission})
        self.rules: dict[tuple[Place, str], dict[str, Any]] = {}
        self.held: dict[str, Counter[str]] = {name: Counter() for name in QUEUES}
        self.number = 0
        self.keep()

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            self.directory.cleanup()

    def keep(self) -> None:
        """What has happened so far is committed."""
        self.engine.settle()
        self.committed = deepcopy((self.rules, self.held))

    # what is done, in the engine and in the model

    @rule(place=buses, name=names, wanted=st.sets(values, min_size=1), enabled=st.booleans())
    def put_rule(self, place: Place, name: str, wanted: set[int], enabled: bool) -> None:
        world, bus = place
        pattern = {"detail": {"n": sorted(wanted)}}
        self.bridge.put_rule(name, pattern, bus, world, State="ENABLED" if enabled else "DISABLED")
        known = self.rules.get((place, name), {"targets": {}})
        self.rules[place, name] = {**known, "wanted": wanted, "enabled": enabled}

    @rule(place=buses, name=names, ends=st.lists(ends, min_size=1, max_size=5), letters=st.booleans())
    def put_rule_with_targets(self, place: Place, name: str, ends: list[tuple[str, Any]], letters: bool) -> None:
        self.put_rule(place, name, set(range(VALUES)), True)
        for number, end_of in enumerate(ends):
            self.put_target(place, name, str(number), end_of, letters)

    @rule(place=buses, name=names, id=st.integers(0, 6).map(str), end_of=ends, letters=st.booleans())
    def put_target(self, place: Place, name: str, id: str, end_of: tuple[str, Any], letters: bool) -> None:
        if (place, name) not in self.rules:
            return
        kind, end = end_of
        arn = queue_arn(WORLD, end) if kind == "queue" else bus_arn(end[1], end[0])
        given: dict[str, Any] = {"Id": id, "Arn": arn}
        if letters:
            given["DeadLetterConfig"] = {"Arn": queue_arn(WORLD, "letters")}
        known = self.rules[place, name]["targets"]
        try:
            self.bridge.put_targets(name, given, bus=place[1], world=place[0])
        except LimitExceededException:
            assert len(known) == 5
            assert id not in known
        else:
            assert len(known) < 5 or id in known
            known[id] = (kind, end, letters)

    @rule(place=buses, name=names)
    def delete_rule(self, place: Place, name: str) -> None:
        world, bus = place
        ids = list(self.rules.pop((place, name), {"targets": {}})["targets"])
        given = {"Rule": name, "Name": name, "EventBusName": bus}
        if ids:
            self.bridge.rules.remove_targets(world, {**given, "Ids": ids})
        self.bridge.rules.delete(world, given)

    @rule(events=st.lists(st.tuples(buses, values), min_size=1, max_size=5))
    def put_events(self, events: list[tuple[Place, int]]) -> None:
        entries = []
        for (world, bus), n in events:
            self.number += 1
            detail = json.dumps({"n": n, "number": self.number})
            refused = world == OTHER_ACCOUNT  # whose bus lets nobody in
            entries.append((bus_arn(bus, world), detail, refused))
            if not refused:
                self.arrive((world, bus), n, str(self.number), None)
        told = self.bridge.events.publisher.put_events(
            WORLD,
            {
                "Entries": [
                    {"Source": "s", "DetailType": "t", "Detail": detail, "EventBusName": arn}
                    for arn, detail, _ in entries
                ]
            },
        )
        assert ["ErrorCode" in entry for entry in told["Entries"]] == [refused for _, _, refused in entries]

    @rule(n=values)
    def put_event_of_another_account(self, n: int) -> None:
        self.number += 1
        detail = {"n": n, "number": self.number}
        self.bridge.put(detail, "b", OTHER_ACCOUNT)
        self.arrive((OTHER_ACCOUNT, "b"), n, str(self.number), None)

    @rule()
    def commit(self) -> None:
        self.keep()

    @rule()
    def restart(self) -> None:
        self.keep()
        self.engine.restart()
        self.bridge.events.enforce_policies()

    @rule()
    def fail(self) -> None:
        self.engine.broker.commit.abort(BrokerFailure("the disk is full"))
        self.rules, self.held = deepcopy(self.committed)

    # the model

    def arrive(self, place: Place, n: int, number: str, came_from: Place | None) -> None:
        for (bus, _), known in self.rules.items():
            if bus == place and known["enabled"] and n in known["wanted"]:
                for kind, end, letters in known["targets"].values():
                    taken = (
                        self.queue(end, number) if kind == "queue" else self.send_on(place, end, n, number, came_from)
                    )
                    if not taken and letters:
                        self.held["letters"][number] += 1

    def queue(self, name: str, number: str) -> bool:
        if name in self.held:
            self.held[name][number] += 1
        return name in self.held

    def send_on(self, here: Place, there: Place, n: int, number: str, came_from: Place | None) -> bool:
        """Whether it is settled: arrived, or dropped without a dead letter."""
        if there in (here, came_from):
            return True
        if came_from is not None:
            return there[0] == here[0]
        if there[0].account != here[0].account and there != (WORLD, "b"):
            return False
        self.arrive(there, n, number, here)
        return True

    # what must hold

    @invariant()
    def queues_hold_what_they_must(self) -> None:
        if not hasattr(self, "engine"):
            return
        for name in QUEUES:
            found = self.engine.listing(self.engine.find(name))
            assert Counter(str(json.loads(m.body)["detail"]["number"]) for m in found) == self.held[name]

    @invariant()
    def rules_are_told_of(self) -> None:
        if not hasattr(self, "engine"):
            return
        for place in BUSES:
            told = {r["Name"]: r["State"] == "ENABLED" for r in self.bridge.rules.list_rules(*place)}
            assert told == {name: known["enabled"] for (bus, name), known in self.rules.items() if bus == place}


TestEvents = Events.TestCase
TestEvents.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
