"""A request as a rule of a fault plan sees it: whose it is, which resource it is about, and the messages in it.

Names become ARNs without asking the broker: a rule may speak of what is not there (yet).
What is ugly about it: an ARN that nobody names (a rule's, an archive's) is left empty, and of a call that is about
several resources (PutEvents to two buses) the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.core import Broker
from broker.errors import DomainError
from broker.faults import Occasion
from broker.names import World, partition_of, queue_arn, topic_arn
from broker.queues.faults import content
from protocols.aws.call import Result
from protocols.http.message import Request
from protocols.routing import Route, parse_queue_url

Contents = list[dict[str, Any]]


def client_of(request: Request, route: Route) -> str:
    """Who asks: access key and User-Agent, with a space in between."""
    return f"{route.access_key or ''} {request.header(b'user-agent') or ''}"


def occasion(broker: Broker, world: World, given: Result, request: Request, route: Route) -> Occasion:
    service, operation = route.service or "", route.operation or ""
    read = _CONTENTS.get((service, operation))
    return Occasion(
        service,
        operation,
        _RESOURCES[service](broker, world, given) if service in _RESOURCES else "",
        world.account,
        client_of(request, route),
        None if read is None else lambda: read(given),
    )


# the resource


def _queue(_broker: Broker, world: World, given: Result) -> str:
    url = given.get("QueueUrl")
    if url is None:
        name = given.get("QueueName")
        owner = given.get("QueueOwnerAWSAccountId") or world.account
        return given.get("SourceArn", "") if name is None else queue_arn(World(owner, world.region), name)
    address = parse_queue_url(url)
    if address is None:
        return ""
    return queue_arn(World(address.account, address.region or world.region), address.name)


def _topic(_broker: Broker, world: World, given: Result) -> str:
    for name in ("TopicArn", "TargetArn", "SubscriptionArn", "ResourceArn", "PlatformApplicationArn", "EndpointArn"):
        if given.get(name):
            arn: str = given[name]
            # A subscription's ARN is its topic's and an id.
            return arn.rpartition(":")[0] if name == "SubscriptionArn" and arn.count(":") > 5 else arn
    return topic_arn(world, given["Name"]) if "Name" in given and "Platform" not in given else ""


def _stream(broker: Broker, world: World, given: Result) -> str:
    for name in ("StreamARN", "QueueARN", "ChannelARN", "ResourceARN"):
        if given.get(name):
            return str(given[name])
    if "ConsumerARN" in given:  # a stream's ARN, the consumer's name and its age
        return str(given["ConsumerARN"]).partition("/consumer/")[0]
    try:
        if "ShardIterator" in given:
            return broker.streams.records.stream_of(given["ShardIterator"]).arn
        if "StreamId" in given and "StreamName" not in given:
            return broker.streams.find(world, id=given["StreamId"]).arn
    except DomainError:
        return ""
    return _arn(world, "kinesis", f"stream/{given['StreamName']}") if "StreamName" in given else ""


def _bus(_broker: Broker, world: World, given: Result) -> str:
    for name in ("ResourceARN", "EventSourceArn"):
        if name in given:
            return str(given[name])
    entries = given.get("Entries")
    bus = (entries[0] if entries else given).get("EventBusName")
    if bus is None:
        if not entries and not ({"Rule", "EventPattern", "ScheduleExpression"} & given.keys()):
            return ""
        bus = "default"
    return bus if bus.startswith("arn:") else _arn(world, "events", f"event-bus/{bus}")


def _table(_broker: Broker, world: World, given: Result) -> str:
    name = given.get("TableName") or next(iter(given.get("RequestItems") or ()), None) or given.get("ResourceArn", "")
    return name if not name or name.startswith("arn:") else _arn(world, "dynamodb", f"table/{name}")


def _arn(world: World, service: str, resource: str) -> str:
    return f"arn:{partition_of(world.region)}:{service}:{world.region}:{world.account}:{resource}"


_RESOURCES: Mapping[str, Callable[[Broker, World, Result], str]] = {
    "sqs": _queue,
    "sns": _topic,
    "kinesis": _stream,
    "events": _bus,
    "dynamodb": _table,
}


# the messages


def _sent(given: Mapping[str, Any]) -> dict[str, Any]:
    return content(given.get("MessageBody", ""), given.get("MessageAttributes") or {})


def _published(given: Mapping[str, Any]) -> dict[str, Any]:
    return content(given.get("Message", ""), given.get("MessageAttributes") or {})


def _event(given: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {name: given[name] for name in ("Source", "DetailType", "EventBusName") if name in given}
    return {"body": content(given.get("Detail", ""), {})["body"], "attributes": attributes}


def _record(given: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {name: given[name] for name in ("PartitionKey", "ExplicitHashKey") if name in given}
    return {"body": content(given["Data"].decode("utf-8", "replace"), {})["body"], "attributes": attributes}


_CONTENTS: Mapping[tuple[str, str], Callable[[Result], Contents]] = {
    ("sqs", "SendMessage"): lambda given: [_sent(given)],
    ("sqs", "SendMessageBatch"): lambda given: [_sent(entry) for entry in given.get("Entries", ())],
    ("sns", "Publish"): lambda given: [_published(given)],
    ("sns", "PublishBatch"): lambda given: [_published(entry) for entry in given["PublishBatchRequestEntries"]],
    ("events", "PutEvents"): lambda given: [_event(entry) for entry in given["Entries"]],
    ("kinesis", "PutRecord"): lambda given: [_record(given)],
    ("kinesis", "PutRecords"): lambda given: [_record(entry) for entry in given["Records"]],
}
"""Each entry's content, in the order of the entries."""
