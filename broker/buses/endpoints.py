"""Global endpoints: one name for two buses that are called the same in two regions.

Events that come with an EndpointId go to the bus of the primary region and, where the endpoint replicates, to that of
the secondary as well. There are no health checks here: the primary is always well. An endpoint is of use at once, so
CREATING and UPDATING are seen only in the answers that say so, and no later than that.

AWS's sentences are not documented here; those of its other definitions were followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.buses.bus import events_arn
from broker.buses.registry import Document, Registry
from broker.errors import (
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import World, parse_arn, partition_of

ENDPOINT = "endpoint"

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SUFFIXES = {"aws-cn": "amazonaws.com.cn"}  # by partition, of the address


class Endpoints:
    """An endpoint belongs to its primary region, the one it was created in."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create(self, world: World, given: Mapping[str, Any]) -> Document:
        """`given` is CreateEndpoint's input; returns its output.

        Raises ResourceAlreadyExistsException, LimitExceededException, ValidationException.
        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateEndpoint.html
        """
        registry, name = self._registry, given["Name"]
        endpoints = registry.items(ENDPOINT)
        if (world, name) in endpoints:
            raise ResourceAlreadyExistsException(f"Endpoint '{name}' already exists.")
        limit = registry.limits.event_endpoints
        if limit is not None and sum(owner == world for owner, _ in endpoints) >= limit:
            raise LimitExceededException("The requested resource exceeds the maximum number allowed.")
        settings = {"ReplicationConfig": {"State": "ENABLED"}, **_settings(given)}
        self._check(world, settings)
        registry.commit.enter()
        endpoint_id = f"{self._letters(10)}.{self._letters(3)}"
        suffix = _SUFFIXES.get(partition_of(world.region), "amazonaws.com")
        now_ms = registry.clock.now_ms()
        document = {
            "Name": name,
            "Arn": events_arn(world, f"endpoint/{name}"),
            **settings,
            "EndpointId": endpoint_id,
            "EndpointUrl": f"https://{endpoint_id}.endpoint.events.{suffix}",
            "State": "ACTIVE",
            "CreationTime": now_ms,
            "LastModifiedTime": now_ms,
        }
        registry.put_item(ENDPOINT, world, name, document)
        return {**document, "State": "CREATING"}

    def update(self, world: World, given: Mapping[str, Any]) -> Document:
        """`given` is UpdateEndpoint's input: what it leaves out stays. Returns the output.

        Raises ResourceNotFoundException, ValidationException.
        """
        old = self._find(world, given["Name"])
        document = {**old, **_settings(given), "LastModifiedTime": self._registry.clock.now_ms()}
        self._check(world, document)
        self._registry.commit.enter()
        self._registry.put_item(ENDPOINT, world, given["Name"], document)
        return {**document, "State": "UPDATING"}

    def delete(self, world: World, name: str) -> None:
        """Raises ResourceNotFoundException."""
        self._find(world, name)
        self._registry.commit.enter()
        self._registry.remove_item(ENDPOINT, world, name)

    def describe(self, world: World, name: str) -> Document:
        """Raises ResourceNotFoundException."""
        return dict(self._find(world, name))

    def list_endpoints(self, world: World, name_prefix: str = "") -> list[Document]:
        """In the order of their names."""
        found = self._registry.items(ENDPOINT).items()
        return [
            dict(document)
            for (owner, name), document in sorted(found)
            if owner == world and name.startswith(name_prefix)
        ]

    def buses_for(self, endpoint_id: str) -> tuple[str, ...]:
        """The ARNs of the buses that its events go to, the primary region's first.

        Raises ValidationException if there is no such endpoint.
        """
        for (world, _), document in self._registry.items(ENDPOINT).items():
            if document["EndpointId"] == endpoint_id:
                primary, secondary = _in_order(world, document)
                return (primary, secondary) if document["ReplicationConfig"]["State"] == "ENABLED" else (primary,)
        raise ValidationException(f"Endpoint '{endpoint_id}' does not exist.")

    def _find(self, world: World, name: str) -> Document:
        document = self._registry.items(ENDPOINT).get((world, name))
        if document is None:
            raise ResourceNotFoundException(f"Endpoint '{name}' does not exist.")
        return document

    def _check(self, world: World, settings: Document) -> None:
        secondary = settings["RoutingConfig"]["FailoverConfig"]["Secondary"]["Route"]
        arns = [parse_arn(bus["EventBusArn"]) for bus in settings["EventBuses"]]
        first, second = arns
        assert first is not None
        assert second is not None
        if {first.region, second.region} != {world.region, secondary} or world.region == secondary:
            raise ValidationException("The event buses must be in the primary and in the secondary Region.")
        if first.resource != second.resource:
            raise ValidationException("The names of the event buses must be identical in each Region.")
        if {first.account, second.account} != {world.account}:
            raise ValidationException("The event buses must be in the account of the endpoint.")
        for arn in (first, second):
            if self._registry.find_bus(World(arn.account, arn.region), arn.resource.removeprefix("event-bus/")) is None:
                raise ValidationException(f"Event bus {arn} does not exist.")
        if settings["ReplicationConfig"]["State"] == "ENABLED" and "RoleArn" not in settings:
            raise ValidationException("RoleArn is required when event replication is enabled.")

    def _letters(self, count: int) -> str:
        number, letters = self._registry.entropy.bits(count * 6), ""
        for _ in range(count):
            number, at = divmod(number, len(_LETTERS))
            letters += _LETTERS[at]
        return letters


def _settings(given: Mapping[str, Any]) -> Document:
    settings = {
        name: given[name]
        for name in ("Description", "RoutingConfig", "ReplicationConfig", "EventBuses", "RoleArn")
        if name in given
    }
    if settings.get("ReplicationConfig") == {}:
        del settings["ReplicationConfig"]
    return settings


def _in_order(world: World, document: Document) -> list[str]:
    arns = [bus["EventBusArn"] for bus in document["EventBuses"]]
    return sorted(arns, key=lambda arn: f":events:{world.region}:" not in arn)
