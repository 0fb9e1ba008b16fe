"""Whom a request of Kinesis is about, and whether its sender may: streams, consumers, and whatever has tags.

The rule: a name is of the caller's own account and region; an ARN may be of another account, never of another region.
With verified signatures another account needs the resource's policy.
https://docs.aws.amazon.com/streams/latest/dev/controlling-access.html
"""

from __future__ import annotations

from broker import policy
from broker.errors import AccessDeniedException, ResourceNotFoundException
from broker.names import World
from broker.streams import Consumer, Stream
from broker.streams.registry import Resource, not_found
from protocols.aws.call import Call, user_arn

_FAR_S = 1e12  # further than any calendar goes


def moment_ms(seconds: float) -> int:
    """A moment of an input, which may be any number, for the engine."""
    return round(min(max(seconds, -_FAR_S), _FAR_S) * 1000)


def find_stream(call: Call) -> Stream:
    """The stream that the request names in any of three ways."""
    given = call.parameters
    arn = given.get("StreamARN")
    stream = call.broker.streams.find(call.world, given.get("StreamName"), arn, given.get("StreamId"))
    if arn is not None:
        if not _is_here(call, stream.world):
            raise not_found(stream.name, stream.world.account)
        check_access(call, stream, stream.world)
    return stream


def find_consumer(call: Call) -> Consumer:
    """The consumer that the request names by its ARN, by its stream and name, or by all that."""
    given = call.parameters
    arn, stream_arn = given.get("ConsumerARN"), given.get("StreamARN")
    streams = call.broker.streams
    stream = None if stream_arn is None else streams.find(call.world, arn=stream_arn, id=given.get("StreamId"))
    consumer = streams.consumers.find(call.world, arn=arn, stream=stream, name=given.get("ConsumerName"))
    world = consumer.stream.world
    if not _is_here(call, world):
        raise ResourceNotFoundException(f"Consumer {consumer.arn}, account {world.account} not found.")
    check_access(call, consumer, world)
    return consumer


def find_resource(call: Call) -> Resource:
    """What ResourceARN names. Only its own account's callers may see or change its tags and its policy."""
    resource = call.broker.streams.definitions.find_resource(call.parameters["ResourceARN"])
    world = owner_of(resource)
    if not _is_here(call, world):
        raise ResourceNotFoundException(f"Resource {resource.arn} not found.")
    if call.enforce_policies and world.account != call.world.account:
        raise _denied(call, resource)
    return resource


def owner_of(resource: Resource) -> World:
    _, _, _, region, account, _ = resource.arn.split(":", 5)
    return World(account, region)


def check_access(call: Call, resource: Resource, owner: World) -> None:
    """Raises AccessDeniedException."""
    if (
        call.enforce_policies
        and owner.account != call.world.account
        and not policy.allows(resource.policy, call.world.account, f"kinesis:{call.route.operation}", resource.arn)
    ):
        raise _denied(call, resource)


def _is_here(call: Call, world: World) -> bool:
    """Whether that is the region that was asked. Who does not sign asks none."""
    return call.route.access_key is None or world.region == call.world.region


def _denied(call: Call, resource: Resource) -> AccessDeniedException:
    action = f"kinesis:{call.route.operation}"
    return AccessDeniedException(
        f"User: {user_arn(call.world)} is not authorized to perform: {action} on resource: {resource.arn} "
        f"because no resource-based policy allows the {action} action"
    )
