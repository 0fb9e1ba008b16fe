"""Kinesis Data Streams: each operation's input becomes a call on the engine, what that returns becomes the output.

Here are tags, policies and the account; streams, records, consumers, queues and channels have files of their own.
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

from broker.streams import Commitment
from protocols.aws import kinesis_channels, kinesis_consumers, kinesis_queues, kinesis_records, kinesis_streams
from protocols.aws.call import Call, Operation, Result
from protocols.aws.kinesis_access import find_resource, find_stream, owner_of

# tags ---------------------------------------------------------------------------------------------


def add_tags_to_stream(call: Call) -> Result:
    call.broker.streams.definitions.add_tags(find_stream(call), call.parameters["Tags"], "AddTagsToStream")
    return {}


def remove_tags_from_stream(call: Call) -> Result:
    call.broker.streams.definitions.remove_tags(find_stream(call), call.parameters["TagKeys"], "RemoveTagsFromStream")
    return {}


def list_tags_for_stream(call: Call) -> Result:
    given = call.parameters
    tags, more = call.broker.streams.definitions.list_tags(
        find_stream(call), given.get("ExclusiveStartTagKey"), given.get("Limit")
    )
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags], "HasMoreTags": more}


def tag_resource(call: Call) -> Result:
    call.broker.streams.definitions.add_tags(find_resource(call), call.parameters["Tags"])
    return {}


def untag_resource(call: Call) -> Result:
    call.broker.streams.definitions.remove_tags(find_resource(call), call.parameters["TagKeys"])
    return {}


def list_tags_for_resource(call: Call) -> Result:
    resource = find_resource(call)
    call.broker.streams.count_call("ListTagsForResource", owner_of(resource))
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(resource.tags.items())]}


# policies -----------------------------------------------------------------------------------------


def put_resource_policy(call: Call) -> Result:
    call.broker.streams.definitions.put_policy(find_resource(call), call.parameters["Policy"])
    return {}


def get_resource_policy(call: Call) -> Result:
    return {"Policy": call.broker.streams.definitions.get_policy(find_resource(call))}


def delete_resource_policy(call: Call) -> Result:
    call.broker.streams.definitions.delete_policy(find_resource(call))
    return {}


# the account --------------------------------------------------------------------------------------


def describe_limits(call: Call) -> Result:
    streams = call.broker.streams
    return {**streams.definitions.limits(call.world), **streams.channels.limits(call.world)}


def describe_account_settings(call: Call) -> Result:
    return _commitment(*call.broker.streams.accounts.describe(call.world))


def update_account_settings(call: Call) -> Result:
    asked = call.parameters["MinimumThroughputBillingCommitment"]["Status"]
    return _commitment(*call.broker.streams.accounts.update(call.world, asked))


def _commitment(commitment: Commitment, status: str) -> Result:
    shown: Result = {"Status": status}
    for name, moment_ms in (
        ("StartedAt", commitment.started_ms),
        ("EndedAt", commitment.ended_ms),
        ("EarliestAllowedEndAt", commitment.earliest_end_ms),
    ):
        if moment_ms is not None:
            shown[name] = moment_ms / 1000
    return {"MinimumThroughputBillingCommitment": shown}


OPERATIONS: dict[str, Operation] = {
    "AddTagsToStream": add_tags_to_stream,
    "DeleteResourcePolicy": delete_resource_policy,
    "DescribeAccountSettings": describe_account_settings,
    "DescribeLimits": describe_limits,
    "GetResourcePolicy": get_resource_policy,
    "ListTagsForResource": list_tags_for_resource,
    "ListTagsForStream": list_tags_for_stream,
    "PutResourcePolicy": put_resource_policy,
    "RemoveTagsFromStream": remove_tags_from_stream,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateAccountSettings": update_account_settings,
    **kinesis_channels.OPERATIONS,
    **kinesis_consumers.OPERATIONS,
    **kinesis_queues.OPERATIONS,
    **kinesis_records.OPERATIONS,
    **kinesis_streams.OPERATIONS,
}
