"""Short forms for tests of buses on an `Engine`."""

from __future__ import annotations

import json
from typing import Any

from broker.buses.bus import Rule, events_arn
from broker.names import World
from broker.queues import Queue
from engine.support import WORLD, Engine

Document = dict[str, Any]

OTHER_ACCOUNT = World("111111111111", WORLD.region)
OTHER_REGION = World(WORLD.account, "eu-west-1")


def bus_arn(name: str = "b", world: World = WORLD) -> str:
    return events_arn(world, f"event-bus/{name}")


def rule_arn(name: str = "r", bus: str | None = None, world: World = WORLD) -> str:
    return events_arn(world, f"rule/{name}" if bus is None else f"rule/{bus}/{name}")


def open_to_rules(engine: Engine, queue: Queue) -> None:
    """The queue lets EventBridge in by its policy."""
    service = {"Service": "events.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": service, "Action": "sqs:SendMessage", "Resource": queue.arn}
    engine.set(queue, Policy={"Version": "2012-10-17", "Statement": [statement]})


class Bridge:
    """EventBridge of an engine. Where no bus is named it is the default one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def events(self) -> Any:
        return self.engine.broker.events

    @property
    def rules(self) -> Any:
        return self.events.rules

    @property
    def buses(self) -> Any:
        return self.events.buses

    def create_bus(self, name: str = "b", world: World = WORLD, **given: Any) -> Document:
        return self.buses.create(world, {"Name": name, **given})  # type: ignore[no-any-return]

    def put_rule(
        self, name: str = "r", pattern: Any = None, bus: str | None = None, world: World = WORLD, **given: Any
    ) -> str:
        given |= {"Name": name} | ({} if bus is None else {"EventBusName": bus})
        if pattern is not None:
            given["EventPattern"] = pattern if isinstance(pattern, str) else json.dumps(pattern)
        return str(self.rules.put(world, given)["RuleArn"])

    def put_targets(self, rule: str, *targets: Document, bus: str | None = None, world: World = WORLD) -> None:
        given = {"Rule": rule, "Targets": list(targets)} | ({} if bus is None else {"EventBusName": bus})
        assert self.rules.put_targets(world, given) == {"FailedEntryCount": 0, "FailedEntries": []}

    def remove_targets(self, rule: str, *ids: str, bus: str | None = None) -> None:
        given = {"Rule": rule, "Ids": list(ids)} | ({} if bus is None else {"EventBusName": bus})
        self.rules.remove_targets(WORLD, given)

    def connect(
        self,
        pattern: Any,
        arn: str | Queue,
        name: str = "r",
        bus: str | None = None,
        world: World = WORLD,
        **given: Any,
    ) -> None:
        """A rule with one target, whose id is `t`."""
        self.put_rule(name, pattern, bus, world)
        target = {"Id": "t", "Arn": arn if isinstance(arn, str) else arn.arn, **given}
        self.put_targets(name, target, bus=bus, world=world)

    def rule(self, name: str = "r", bus: str = "default", world: World = WORLD) -> Rule:
        rule: Rule = self.events.registry.bus(world, bus).rules[name]
        return rule

    def put_entry(self, world: World = WORLD, **entry: Any) -> Document:
        """The outcome of an entry that was given as it is."""
        answer = self.events.publisher.put_events(world, {"Entries": [entry]})
        [outcome] = answer["Entries"]
        assert answer["FailedEntryCount"] == ("ErrorCode" in outcome)
        return outcome  # type: ignore[no-any-return]

    def put(self, detail: Any = None, bus: str | None = None, world: World = WORLD, **entry: Any) -> str:
        """Puts an event of the source `s` and the type `t`; returns its id."""
        text = detail if isinstance(detail, str) else json.dumps({} if detail is None else detail)
        given = {"Source": "s", "DetailType": "t", "Detail": text} | ({} if bus is None else {"EventBusName": bus})
        return str(self.put_entry(world, **{**given, **entry})["EventId"])

    def received(self, queue: Queue) -> list[Document]:
        """What the queue has been given, parsed and taken out."""
        messages = []
        while batch := self.engine.receive(queue, 10):
            messages += [json.loads(message.body) for message in batch]
            self.engine.delete(queue, *batch)
        return messages

    def details(self, queue: Queue) -> list[Any]:
        return [event["detail"] for event in self.received(queue)]
