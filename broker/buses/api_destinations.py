"""API destinations: HTTP endpoints that rules have as targets.

What is sent there, and how often, is settled at each attempt from what stands here then (`invocation`, `rate`), so a
change reaches what already waits. Whether one is ACTIVE is its connection's state, and nothing that is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.buses import connections
from broker.buses.bus import events_arn
from broker.buses.connections import Connections, Parameters, check_endpoint
from broker.buses.notices import Notices
from broker.buses.registry import Document, Registry
from broker.errors import LimitExceededException, ResourceAlreadyExistsException, ResourceNotFoundException
from broker.names import World, parse_arn

KIND = "api-destination"
SHOWN_RATE_PER_S = 300  # of one that was given none; limits.py says whether it is kept to

_SETTINGS = ("Description", "ConnectionArn", "InvocationEndpoint", "HttpMethod", "InvocationRateLimitPerSecond")


class Invocation(NamedTuple):
    """What an attempt needs to know of an API destination."""

    endpoint: str
    method: str
    connection_arn: str


class ApiDestinations:
    def __init__(self, registry: Registry, connections: Connections, notices: Notices) -> None:
        self._registry = registry
        self._connections = connections
        self._notices = notices
        connections.on_usable = self._connection_usable

    # operations

    def create(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """CreateApiDestination."""
        registry, name = self._registry, parameters["Name"]
        registry.commit.enter()
        items = registry.items(KIND)
        if (world, name) in items:
            raise ResourceAlreadyExistsException(f"An api-destination {name} already exists.")
        limit = registry.limits.api_destinations
        if limit is not None and sum(owner == world for owner, _ in items) >= limit:
            raise LimitExceededException("The requested resource exceeds the maximum number allowed.")
        arn = events_arn(world, f"api-destination/{name}/{registry.entropy.uuid()}")
        return self._set(world, name, {"ApiDestinationArn": arn}, parameters)

    def update(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """UpdateApiDestination: what is not given stays."""
        name = parameters["Name"]
        return self._set(world, name, dict(self._find(world, name)), parameters)

    def delete(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """DeleteApiDestination."""
        self._find(world, parameters["Name"])
        self._registry.remove_item(KIND, world, parameters["Name"])
        return {}

    def describe(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """DescribeApiDestination."""
        document = self._find(world, parameters["Name"])
        return {"Name": parameters["Name"], **self._shown(document), **_settings(document)}

    def list_api_destinations(
        self, world: World, name_prefix: str = "", connection_arn: str | None = None
    ) -> list[dict[str, Any]]:
        """Each as DescribeApiDestination tells it, in the order of their names."""
        return [
            {"Name": name, **self._shown(document), **_settings(document)}
            for (owner, name), document in sorted(self._registry.items(KIND).items())
            if owner == world and name.startswith(name_prefix) and connection_arn in (None, document["ConnectionArn"])
        ]

    # for targets and transports

    def invocation(self, arn: str) -> Invocation | None:
        """How to invoke it now, or None where there is no such API destination."""
        document = self._named(arn)
        if document is None:
            return None
        return Invocation(document["InvocationEndpoint"], document["HttpMethod"], document["ConnectionArn"])

    def rate(self, arn: str) -> int | None:
        """InvocationRateLimitPerSecond, of all rules together."""
        document = self._named(arn)
        if document is None:
            return None
        default = self._registry.limits.api_destination_rate_per_s
        limit: int | None = document.get("InvocationRateLimitPerSecond", default)
        return limit

    def _named(self, arn: str) -> Document | None:
        parsed = parse_arn(arn)
        parts = parsed.resource.split("/") if parsed else []
        if parsed is None or len(parts) != 3:
            return None
        document = self._registry.items(KIND).get((World(parsed.account, parsed.region), parts[1]))
        return document if document is not None and document["ApiDestinationArn"] == arn else None

    # keeping

    def _find(self, world: World, name: str) -> Document:
        self._registry.commit.enter()
        document = self._registry.items(KIND).get((world, name))
        if document is None:
            raise ResourceNotFoundException(f"An api-destination {name} does not exist.")
        return document

    def _set(self, world: World, name: str, document: Document, parameters: Parameters) -> dict[str, Any]:
        if "ConnectionArn" in parameters and self._connections.state(parameters["ConnectionArn"]) is None:
            raise ResourceNotFoundException(f"Connection {parameters['ConnectionArn']} does not exist.")
        if "InvocationEndpoint" in parameters:
            check_endpoint("InvocationEndpoint", parameters["InvocationEndpoint"])
        before = "ConnectionArn" in document and self._active(document)
        document |= {member: parameters[member] for member in _SETTINGS if member in parameters}
        document["LastModifiedTime"] = now_ms = self._registry.clock.now_ms()
        document.setdefault("CreationTime", now_ms)
        self._registry.put_item(KIND, world, name, document)
        if self._active(document) != before:
            self._tell(world, name, document, active=not before)
        return self._shown(document)

    def _active(self, document: Document) -> bool:
        return self._connections.state(document["ConnectionArn"]) in connections.USABLE

    def _shown(self, document: Document) -> dict[str, Any]:
        return {
            "ApiDestinationArn": document["ApiDestinationArn"],
            "ApiDestinationState": "ACTIVE" if self._active(document) else "INACTIVE",
            "CreationTime": document["CreationTime"],
            "LastModifiedTime": document["LastModifiedTime"],
        }

    # states

    def _connection_usable(self, connection_arn: str, usable: bool) -> None:
        for (world, name), document in sorted(self._registry.items(KIND).items()):
            if document["ConnectionArn"] == connection_arn:
                self._tell(world, name, document, active=usable)

    def _tell(self, world: World, name: str, document: Document, *, active: bool) -> None:
        detail_type = f"API Destination {'Activated' if active else 'Deactivated'}"
        self._notices.tell(world, detail_type, document["ApiDestinationArn"], {"ApiDestinationName": name})


def _settings(document: Document) -> dict[str, Any]:
    given = {member: document[member] for member in _SETTINGS if member in document}
    return {"InvocationRateLimitPerSecond": SHOWN_RATE_PER_S, **given}
