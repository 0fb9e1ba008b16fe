"""Buses, rules and targets in RAM: definitions, and what was made of them for the way of an event.

What a restart must know is in `document`, under AWS's names where AWS has one; what was counted for metrics begins
anew.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from broker import matching
from broker.clock import Timer
from broker.matching.transformer import TargetInput
from broker.names import World, partition_of

if TYPE_CHECKING:
    from broker.matching import Index, Pattern

ENABLED, DISABLED, ENABLED_WITH_MANAGEMENT = (
    "ENABLED",
    "DISABLED",
    "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
)
DEFAULT_BUS = "default"


def events_arn(world: World, resource: str) -> str:
    return f"arn:{partition_of(world.region)}:events:{world.region}:{world.account}:{resource}"


class Target:
    """One target of a rule. `document` is the API's Target."""

    def __init__(self, rule: Rule, document: dict[str, Any]) -> None:
        self.rule = rule
        self.id: str = document["Id"]
        self.arn: str = document["Arn"]
        self.document = document
        self.input = TargetInput.compile(document)


class Rule:
    """One rule. `document` has what DescribeRule tells beyond its names, its tags, and its targets by id."""

    def __init__(self, bus: Bus, name: str, document: dict[str, Any]) -> None:
        self.bus = bus
        self.name = name
        self.document = document
        self.timer: Timer | None = None  # of a schedule
        self.counts: Counter[str] = Counter()  # under the names of CloudWatch's metrics

    @property
    def key(self) -> str:
        """Its name among the stored items."""
        return f"{self.bus.name}/{self.name}"

    @cached_property
    def arn(self) -> str:
        """The default bus's rules do not name it."""
        resource = self.name if self.bus.name == DEFAULT_BUS else self.key
        return events_arn(self.bus.world, f"rule/{resource}")

    @property
    def enabled(self) -> bool:
        return bool(self.document["State"] != DISABLED)

    @cached_property
    def pattern(self) -> Pattern | None:
        text = self.document.get("EventPattern")
        return None if text is None else matching.event_pattern(text)

    @cached_property
    def targets(self) -> list[Target]:
        return [Target(self, target) for target in self.document["Targets"].values()]


class Bus:
    """One bus, and the index of its enabled rules. `document` has what DescribeEventBus tells, and its tags."""

    def __init__(self, world: World, name: str, document: dict[str, Any]) -> None:
        self.world = world
        self.name = name
        self.arn = events_arn(world, f"event-bus/{name}")
        self.document = document
        self.rules: dict[str, Rule] = {}
        self.index: Index[Rule] = matching.Index()
        self.counts: Counter[str] = Counter()

    @property
    def policy(self) -> str | None:
        """The resource policy, as JSON."""
        policy: str | None = self.document.get("Policy")
        return policy
