"""EventBridge's operations on buses: their life, their permissions, their tags and those of rules."""

from __future__ import annotations

from broker import policy
from broker.buses.bus import DEFAULT_BUS
from broker.buses.definitions import Buses
from broker.errors import AccessDeniedException
from broker.names import parse_arn
from protocols.aws.call import Call, Operation, Result, user_arn
from protocols.aws.events_answers import after, answer, most, page


def _buses(call: Call) -> Buses:
    return call.broker.events.buses


def bus_name(call: Call, parameter: str = "EventBusName") -> str | None:
    """The bus that a request names, by name or ARN.

    A region's service knows its own buses: of an ARN it takes the account and the name, as seen at
    https://github.com/aws/aws-cdk/issues/26032.
    """
    name: str | None = call.parameters.get(parameter)
    arn = None if name is None else parse_arn(name)
    return name if arn is None else str(arn._replace(region=call.world.region))


def with_bus_name(call: Call) -> Result:
    name = bus_name(call)
    return call.parameters if name is None else {**call.parameters, "EventBusName": name}


def create_event_bus(call: Call) -> Result:
    return answer(call, _buses(call).create(call.world, call.parameters))


def update_event_bus(call: Call) -> Result:
    return answer(call, _buses(call).update(call.world, {"Name": DEFAULT_BUS, **call.parameters}))


def delete_event_bus(call: Call) -> Result:
    _buses(call).delete(call.world, call.parameters["Name"])
    return {}


def describe_event_bus(call: Call) -> Result:
    shown = _buses(call).describe(call.world, bus_name(call, "Name"))
    if call.enforce_policies:
        _authorize(call, shown)
    return answer(call, shown)


def _authorize(call: Call, shown: Result) -> None:
    arn, caller, action = shown["Arn"], call.world.account, "events:DescribeEventBus"
    if arn.split(":")[4] != caller and not policy.allows(shown.get("Policy"), caller, action, arn):
        raise AccessDeniedException(
            f"User: {user_arn(call.world)} is not authorized to perform: {action} on resource: {arn} because no "
            f"resource-based policy allows the {action} action"
        )


def list_event_buses(call: Call) -> Result:
    prefix = call.parameters.get("NamePrefix", "")
    return page(call, "EventBuses", _buses(call).list_buses(call.world, prefix, after(call), most(call)))


def put_permission(call: Call) -> Result:
    _buses(call).put_permission(call.world, call.parameters)
    return {}


def remove_permission(call: Call) -> Result:
    _buses(call).remove_permission(call.world, call.parameters)
    return {}


def tag_resource(call: Call) -> Result:
    _buses(call).tag(call.world, call.parameters["ResourceARN"], call.parameters["Tags"])
    return {}


def untag_resource(call: Call) -> Result:
    _buses(call).untag(call.world, call.parameters["ResourceARN"], call.parameters["TagKeys"])
    return {}


def list_tags_for_resource(call: Call) -> Result:
    return {"Tags": _buses(call).tags(call.world, call.parameters["ResourceARN"])}


OPERATIONS: dict[str, Operation] = {
    "CreateEventBus": create_event_bus,
    "DeleteEventBus": delete_event_bus,
    "DescribeEventBus": describe_event_bus,
    "ListEventBuses": list_event_buses,
    "ListTagsForResource": list_tags_for_resource,
    "PutPermission": put_permission,
    "RemovePermission": remove_permission,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateEventBus": update_event_bus,
}
