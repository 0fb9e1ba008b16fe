"""EventBridge's operations on connections and API destinations."""

from __future__ import annotations

from broker.buses.api_destinations import ApiDestinations
from broker.buses.connections import Connections
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import answer, page


def _connections(call: Call) -> Connections:
    return call.broker.events.connections


def _destinations(call: Call) -> ApiDestinations:
    return call.broker.events.api_destinations


def create_connection(call: Call) -> Result:
    return answer(call, _connections(call).create(call.world, call.parameters))


def update_connection(call: Call) -> Result:
    return answer(call, _connections(call).update(call.world, call.parameters))


def deauthorize_connection(call: Call) -> Result:
    return answer(call, _connections(call).deauthorize(call.world, call.parameters))


def delete_connection(call: Call) -> Result:
    return answer(call, _connections(call).delete(call.world, call.parameters))


def describe_connection(call: Call) -> Result:
    return answer(call, _connections(call).describe(call.world, call.parameters))


def list_connections(call: Call) -> Result:
    given = call.parameters
    connections = _connections(call).list_connections(
        call.world, given.get("NamePrefix", ""), given.get("ConnectionState")
    )
    return page(call, "Connections", connections)


def create_api_destination(call: Call) -> Result:
    return answer(call, _destinations(call).create(call.world, call.parameters))


def update_api_destination(call: Call) -> Result:
    return answer(call, _destinations(call).update(call.world, call.parameters))


def delete_api_destination(call: Call) -> Result:
    return answer(call, _destinations(call).delete(call.world, call.parameters))


def describe_api_destination(call: Call) -> Result:
    return answer(call, _destinations(call).describe(call.world, call.parameters))


def list_api_destinations(call: Call) -> Result:
    given = call.parameters
    destinations = _destinations(call).list_api_destinations(
        call.world, given.get("NamePrefix", ""), given.get("ConnectionArn")
    )
    return page(call, "ApiDestinations", destinations)


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
