"""What EventBridge says of itself: events on the default bus, in the transaction of what they tell of.

Guide, "Amazon EventBridge events detail reference". (Scheduled events go to their rule alone: scheduled.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from broker.buses.bus import DEFAULT_BUS, Bus
from broker.buses.envelope import Event
from broker.buses.registry import Registry
from broker.clock import iso_8601_ms
from broker.names import World

SOURCE = "aws.events"


class Notices:
    """`deliver` is the dispatch's: it needs what tells of itself here."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.deliver: Callable[[Bus, Event], None] = lambda bus, event: None

    def tell(self, world: World, detail_type: str, arn: str, detail: Mapping[str, str]) -> None:
        """An event about the thing of this ARN; its detail gets a Timestamp."""
        registry = self._registry
        registry.commit.enter()
        now_ms = registry.clock.now_ms()
        moment = f"{iso_8601_ms(now_ms)[:19].replace('T', ' ')} +0000 UTC"
        text = orjson.dumps({**detail, "Timestamp": moment}).decode()
        event = Event.create(registry.entropy.uuid(), world, SOURCE, detail_type, text, [arn], now_ms, now_ms)
        self.deliver(registry.bus(world, DEFAULT_BUS), event)
