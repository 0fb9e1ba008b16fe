"""EventBridge's operations on connections and API destinations, whose engine answers in the API's own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.buses.api_destinations import ApiDestinations
from broker.buses.connections import Connections
from broker.names import World
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import after, token


def _connections(call: Call) -> Connections:
    return call.broker.events.connections


def _destinations(call: Call) -> ApiDestinations:
    return call.broker.events.api_destinations


def _page(call: Call, listing: Callable[[World, Mapping[str, Any]], Result]) -> Result:
    """The engine's tokens are names as they are."""
    result = listing(call.world, {**call.parameters, "NextToken": after(call)})
    return {**result, "NextToken": token(result["NextToken"])} if "NextToken" in result else result


def create_connection(call: Call) -> Result:
    return _connections(call).create(call.world, call.parameters)


def update_connection(call: Call) -> Result:
    return _connections(call).update(call.world, call.parameters)


def deauthorize_connection(call: Call) -> Result:
    return _connections(call).deauthorize(call.world, call.parameters)


def delete_connection(call: Call) -> Result:
    return _connections(call).delete(call.world, call.parameters)


def describe_connection(call: Call) -> Result:
    return _connections(call).describe(call.world, call.parameters)


def list_connections(call: Call) -> Result:
    return _page(call, _connections(call).list)


def create_api_destination(call: Call) -> Result:
    return _destinations(call).create(call.world, call.parameters)


def update_api_destination(call: Call) -> Result:
    return _destinations(call).update(call.world, call.parameters)


def delete_api_destination(call: Call) -> Result:
    return _destinations(call).delete(call.world, call.parameters)


def describe_api_destination(call: Call) -> Result:
    return _destinations(call).describe(call.world, call.parameters)


def list_api_destinations(call: Call) -> Result:
    return _page(call, _destinations(call).list)


OPERATIONS: dict[str, Operation] = {
    "CreateApiDestination": create_api_destination,
    "CreateConnection": create_connection,
    "DeauthorizeConnection": deauthorize_connection,
    "DeleteApiDestination": delete_api_destination,
    "DeleteConnection": delete_connection,
    "DescribeApiDestination": describe_api_destination,
    "DescribeConnection": describe_connection,
    "ListApiDestinations": list_api_destinations,
    "ListConnections": list_connections,
    "UpdateApiDestination": update_api_destination,
    "UpdateConnection": update_connection,
}
