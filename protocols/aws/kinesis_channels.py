"""Kinesis's channels: made, described, changed, deleted. What they deliver is `protocols/delivery/channels.py`'s.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateChannel.html
"""

from __future__ import annotations

from broker.errors import ResourceNotFoundException
from broker.streams import Channel
from protocols.aws.call import Call, Operation, Result
from protocols.aws.kinesis_access import check_access
from protocols.aws.kinesis_queues import find_only_stream, shown_stream, stream_filter


def find_channel(call: Call) -> Channel:
    channel = call.broker.streams.channels.find(call.parameters["ChannelARN"])
    if call.route.access_key is not None and channel.world.region != call.world.region:
        raise ResourceNotFoundException(f"Channel {channel.arn} not found.")
    check_access(call, channel, channel.world)
    return channel


def create_channel(call: Call) -> Result:
    given = call.parameters
    configurations = given["StreamConfigurationList"]
    channel = call.broker.streams.channels.create(
        call.world,
        given["ChannelName"],
        find_only_stream(call, configurations),
        role_arn=given["ServiceExecutionRoleARN"],
        record=configurations[0]["RecordConfiguration"],
        s3=given.get("S3DestinationConfiguration"),
        s3_tables=given.get("S3TablesDestinationConfiguration"),
        encryption=given.get("EncryptionConfiguration"),
        logging=given.get("LoggingConfiguration"),
        tags=given.get("Tags"),
    )
    return {"ChannelDescription": _described(channel)}


def update_channel(call: Call) -> Result:
    given = call.parameters
    channel = find_channel(call)
    call.broker.streams.channels.update(
        channel,
        s3=given.get("S3DestinationConfiguration"),
        s3_tables=given.get("S3TablesDestinationConfiguration"),
        logging=given.get("LoggingConfiguration"),
    )
    return {"ChannelDescription": _described(channel)}


def delete_channel(call: Call) -> Result:
    call.broker.streams.channels.delete(find_channel(call))
    return {}


def describe_channel(call: Call) -> Result:
    return {"ChannelDescription": _described(call.broker.streams.channels.describe(find_channel(call)))}


def list_channels(call: Call) -> Result:
    given = call.parameters
    channels, token = call.broker.streams.channels.list_channels(
        call.world, streams=stream_filter(given), token=given.get("NextToken"), limit=given.get("MaxResults")
    )
    result: Result = {"ChannelSummaries": [_summary(channel) for channel in channels]}
    if token is not None:
        result["NextToken"] = token
    return result


def _described(channel: Channel) -> Result:
    stream = {**shown_stream(channel.stream), "RecordConfiguration": channel.record}
    destination, logging = channel.configuration
    described = {
        **_named(channel),
        "ServiceExecutionRoleARN": channel.role_arn,
        "StreamConfigurationList": [stream],
        "S3DestinationConfiguration" if channel.destination_type == "S3" else "S3TablesDestinationConfiguration": (
            destination
        ),
        "LoggingConfiguration": logging,
    }
    if channel.encryption is not None:
        described["EncryptionConfiguration"] = channel.encryption
    return described


def _summary(channel: Channel) -> Result:
    return {
        **_named(channel),
        "ChannelDestinationType": channel.destination_type,
        "Streams": [shown_stream(channel.stream)],
    }


def _named(channel: Channel) -> Result:
    named = {
        "ChannelName": channel.name,
        "ChannelARN": channel.arn,
        "ChannelId": channel.channel_id,
        "ChannelStatus": channel.status,
        "ChannelCreationTimestamp": channel.created_ms // 1000,
    }
    if channel.status_reason is not None:
        named["ChannelStatusReason"] = channel.status_reason
    return named


OPERATIONS: dict[str, Operation] = {
    "CreateChannel": create_channel,
    "DeleteChannel": delete_channel,
    "DescribeChannel": describe_channel,
    "ListChannels": list_channels,
    "UpdateChannel": update_channel,
}
