"""Short forms for tests of archives and replays on an `Engine`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from broker.buses.bus import events_arn
from broker.limits import RELAXED
from broker.names import World, queue_arn
from broker.queues import Queue
from engine.support import WORLD, Engine

Document = dict[str, Any]

AT_ONCE = replace(RELAXED, replay_start_ms=0)


def bus_arn(name: str = "orders", world: World = WORLD) -> str:
    return events_arn(world, f"event-bus/{name}")


class Desk:
    """The bus `orders` of an engine, its rules with a queue each, its archives and replays."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events.buses.create(WORLD, {"Name": "orders"})

    @property
    def events(self) -> Any:
        return self.engine.broker.events

    def rule(self, name: str, pattern: Document, bus: str = "orders") -> Queue:
        """A rule and the queue that is its target."""
        queue = self.engine.create(name, MessageRetentionPeriod="1209600")
        self.events.rules.put(WORLD, {"Name": name, "EventBusName": bus, "EventPattern": json.dumps(pattern)})
        target = {"Id": "q", "Arn": queue_arn(WORLD, name)}
        self.events.rules.put_targets(WORLD, {"Rule": name, "EventBusName": bus, "Targets": [target]})
        return queue

    def put(self, *details: Document, time_ms: int | None = None, source: str = "shop", bus: str = "orders") -> None:
        """One call of PutEvents."""
        entry: Document = {"EventBusName": bus, "Source": source, "DetailType": "Placed"}
        if time_ms is not None:
            entry |= {"Time": time_ms}
        entries = [{**entry, "Detail": json.dumps(detail, ensure_ascii=False)} for detail in details]
        assert self.events.publisher.put_events(WORLD, {"Entries": entries})["FailedEntryCount"] == 0

    def archive(self, name: str = "a", pattern: Document | None = None, bus: str = "orders", **given: Any) -> Document:
        given = {"ArchiveName": name, "EventSourceArn": bus_arn(bus), **given}
        if pattern is not None:
            given["EventPattern"] = json.dumps(pattern)
        return self.events.archives.create(WORLD, given)  # type: ignore[no-any-return]

    def change(self, name: str, pattern: Document | None) -> None:
        self.events.archives.update(WORLD, {"ArchiveName": name, "EventPattern": json.dumps(pattern)})

    def held(self, name: str = "a") -> tuple[int, int]:
        """How many events an archive tells of, and how many bytes."""
        told = self.events.archives.describe(WORLD, name)
        return told["EventCount"], told["SizeBytes"]

    def rows(self) -> list[tuple[int, int]]:
        """How many events and bytes lie in the store, by archive number, after all has been written."""
        self.engine.broker.commit.flush()
        rows = self.engine.store._connection.execute(
            "SELECT count(*), sum(length(CAST(event AS BLOB))) FROM archived_event GROUP BY archive_no"
        )
        return [tuple(row) for row in rows]

    def replay(
        self,
        name: str = "r",
        archive: str = "a",
        start_ms: int = 0,
        end_ms: int = 1 << 50,
        rules: tuple[str, ...] = (),
        **given: Any,
    ) -> Document:
        destination: Document = {"Arn": bus_arn()}
        if rules:
            destination["FilterArns"] = [events_arn(WORLD, f"rule/orders/{rule}") for rule in rules]
        given = {
            "ReplayName": name,
            "EventSourceArn": events_arn(WORLD, f"archive/{archive}"),
            "EventStartTime": start_ms,
            "EventEndTime": end_ms,
            "Destination": destination,
            **given,
        }
        return self.events.replays.start(WORLD, given)  # type: ignore[no-any-return]

    def shown(self, name: str = "r") -> Document:
        return self.events.replays.describe(WORLD, name)  # type: ignore[no-any-return]

    def state(self, name: str = "r") -> str:
        return str(self.shown(name)["State"])

    def turn(self) -> None:
        """One turn of the event loop: what is in hand now happens, what that begins does not."""
        in_hand = self.engine.clock._soon
        for _ in range(len(in_hand)):
            in_hand.popleft()()

    def given(self, queue: Queue) -> list[Document]:
        """The events that a rule's queue was given, in order."""
        return [json.loads(message.body) for message in self.engine.listing(queue)]

    def numbers(self, queue: Queue, replay: str | None = None) -> list[int]:
        """The `n` of their details: of the live ones, or of those of a replay."""
        return [event["detail"]["n"] for event in self.given(queue) if event.get("replay-name") == replay]

    def transactions(self) -> Counter[str]:
        """Counts what is begun from now on."""
        begun: Counter[str] = Counter()
        begin = self.engine.store.begin

        def counted() -> None:
            begun["begun"] += 1
            begin()

        self.engine.store.begin = counted  # type: ignore[method-assign]
        return begun
