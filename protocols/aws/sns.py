"""SNS: each operation's input becomes a call on the engine, what that returns becomes the output.

Telephones are in sns_mobile.py.
https://docs.aws.amazon.com/sns/latest/api/API_Operations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker import policy
from broker.errors import AuthorizationErrorException, DomainError, InvalidParameterException
from broker.limits import MAX_TOPIC_PAGE
from broker.names import parse_arn
from broker.topics import Published, Publishing, Subscriber, Subscription, Topic, listed
from protocols.aws import sns_mobile
from protocols.aws.call import Call, Operation, Result, user_arn
from protocols.aws.page_tokens import page_token, read_page_token
from protocols.shapes.model import load
from protocols.wire.errors import find_error


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


def is_open(operation: str | None) -> bool:
    """Whether the operation may come without a signature: the links in SNS's messages have none."""
    return operation in ("ConfirmSubscription", "Unsubscribe")


def _signed(call: Call) -> bool:
    return call.route.access_key is not None


def _topic(call: Call, action: str, parameter: str = "TopicArn") -> Topic:
    """The topic a request names. It must be of the region that was asked, as on AWS."""
    arn = call.parameters[parameter]
    _check_region(call, arn, parameter)
    topic = call.broker.notifications.topics.find(arn, parameter)
    _authorize(call, topic, action)
    return topic


def _resource(call: Call, action: str) -> Topic:
    arn = call.parameters["ResourceArn"]
    _check_region(call, arn, "ResourceArn")
    topic = call.broker.notifications.topics.find_resource(arn)
    _authorize(call, topic, action)
    return topic


def _check_region(call: Call, arn: str, parameter: str) -> None:
    parsed = parse_arn(arn)
    if parsed is not None and _signed(call) and parsed.region != call.world.region:
        raise _invalid(parameter)


def _authorize(call: Call, topic: Topic, action: str) -> None:
    if (
        call.enforce_policies
        and _signed(call)
        and topic.world.account != call.world.account
        and not policy.allows(topic.attributes.get("Policy"), call.world.account, f"SNS:{action}", topic.arn)
    ):
        raise AuthorizationErrorException(
            f"User: {user_arn(call.world)} is not authorized to perform: SNS:{action} on resource: {topic.arn} "
            f"because no resource-based policy allows the SNS:{action} action"
        )


def _origin(call: Call) -> str:
    return f"{call.request.scheme}://{call.request.header(b'host') or 'localhost'}"


def _read_token(token: str | None) -> str:
    if not token:
        return ""
    try:
        return read_page_token(token)
    except ValueError:
        raise _invalid("NextToken") from None


# topics -------------------------------------------------------------------------------------------


def create_topic(call: Call) -> Result:
    given = call.parameters
    tags = [(tag["Key"], tag["Value"]) for tag in given.get("Tags", ())]
    topic = call.broker.notifications.topics.create(
        call.world, given["Name"], given.get("Attributes", {}), tags, given.get("DataProtectionPolicy", "")
    )
    return {"TopicArn": topic.arn}


def delete_topic(call: Call) -> Result:
    arn = call.parameters["TopicArn"]
    _check_region(call, arn, "TopicArn")
    topics = call.broker.notifications.topics
    topic = topics.get(arn)
    if topic is not None:
        _authorize(call, topic, "DeleteTopic")
    topics.delete(arn)
    return {}


def list_topics(call: Call) -> Result:
    after = _read_token(call.parameters.get("NextToken"))
    topics, more = call.broker.notifications.topics.list_topics(call.world, after, MAX_TOPIC_PAGE)
    result: Result = {"Topics": [{"TopicArn": topic.arn} for topic in topics]}
    if more:
        result["NextToken"] = page_token(topics[-1].arn)
    return result


def get_topic_attributes(call: Call) -> Result:
    topic = _topic(call, "GetTopicAttributes")
    return {"Attributes": call.broker.notifications.topics.get_attributes(topic)}


def set_topic_attributes(call: Call) -> Result:
    given = call.parameters
    topic = _topic(call, "SetTopicAttributes")
    call.broker.notifications.topics.set_attribute(topic, given["AttributeName"], given.get("AttributeValue", ""))
    return {}


def tag_resource(call: Call) -> Result:
    topic = _resource(call, "TagResource")
    tags = [(tag["Key"], tag["Value"]) for tag in call.parameters["Tags"]]
    call.broker.notifications.topics.tag(topic, tags)
    return {}


def untag_resource(call: Call) -> Result:
    call.broker.notifications.topics.untag(_resource(call, "UntagResource"), call.parameters["TagKeys"])
    return {}


def list_tags_for_resource(call: Call) -> Result:
    tags = _resource(call, "ListTagsForResource").tags
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def add_permission(call: Call) -> Result:
    given = call.parameters
    topic = _topic(call, "AddPermission")
    call.broker.notifications.topics.add_permission(topic, given["Label"], given["AWSAccountId"], given["ActionName"])
    return {}


def remove_permission(call: Call) -> Result:
    topic = _topic(call, "RemovePermission")
    call.broker.notifications.topics.remove_permission(topic, call.parameters["Label"])
    return {}


def put_data_protection_policy(call: Call) -> Result:
    topic = _topic(call, "PutDataProtectionPolicy", "ResourceArn")
    call.broker.notifications.topics.put_data_protection_policy(topic, call.parameters["DataProtectionPolicy"])
    return {}


def get_data_protection_policy(call: Call) -> Result:
    return {"DataProtectionPolicy": _topic(call, "GetDataProtectionPolicy", "ResourceArn").data_protection_policy}


# subscriptions ------------------------------------------------------------------------------------


def subscribe(call: Call) -> Result:
    given = call.parameters
    topic = _topic(call, "Subscribe")
    caller = Subscriber(call.world.account, user_arn(call.world), _origin(call))
    subscription = call.broker.notifications.subscriptions.subscribe(
        topic, given["Protocol"], given.get("Endpoint", ""), given.get("Attributes", {}), caller
    )
    hidden = subscription.pending and not given.get("ReturnSubscriptionArn")
    return {"SubscriptionArn": "pending confirmation" if hidden else subscription.arn}


def confirm_subscription(call: Call) -> Result:
    given = call.parameters
    arn = given["TopicArn"]
    _check_region(call, arn, "TopicArn")
    subscription = call.broker.notifications.subscriptions.confirm(
        call.broker.notifications.topics.find(arn),
        given["Token"],
        authenticated=_signed(call),
        authenticate_on_unsubscribe=given.get("AuthenticateOnUnsubscribe", ""),
    )
    return {"SubscriptionArn": subscription.arn}


def unsubscribe(call: Call) -> Result:
    caller = call.world.account if _signed(call) else None
    call.broker.notifications.subscriptions.unsubscribe(
        call.parameters["SubscriptionArn"], caller, only_owners=call.enforce_policies
    )
    return {}


def _subscription(call: Call) -> Subscription:
    subscription = call.broker.notifications.subscriptions.find(call.parameters["SubscriptionArn"])
    owners = (subscription.owner, subscription.topic.world.account)
    if call.enforce_policies and call.world.account not in owners:
        raise AuthorizationErrorException(
            f"User: {user_arn(call.world)} is not authorized to access the subscription {subscription.arn}"
        )
    return subscription


def get_subscription_attributes(call: Call) -> Result:
    return {"Attributes": call.broker.notifications.subscriptions.get_attributes(_subscription(call))}


def set_subscription_attributes(call: Call) -> Result:
    given = call.parameters
    call.broker.notifications.subscriptions.set_attribute(
        _subscription(call), given["AttributeName"], given.get("AttributeValue", "")
    )
    return {}


def list_subscriptions(call: Call) -> Result:
    return _subscriptions(call, None)


def list_subscriptions_by_topic(call: Call) -> Result:
    return _subscriptions(call, _topic(call, "ListSubscriptionsByTopic"))


def _subscriptions(call: Call, topic: Topic | None) -> Result:
    token = _read_token(call.parameters.get("NextToken"))
    if token and not (token.isascii() and token.isdigit() and len(token) < 19):
        raise _invalid("NextToken")
    owner = call.world if topic is None else None
    found, more = call.broker.notifications.subscriptions.list_subscriptions(
        owner, topic, int(token or 0), MAX_TOPIC_PAGE
    )
    result: Result = {"Subscriptions": [listed(subscription) for subscription in found]}
    if more:
        result["NextToken"] = page_token(found[-1].subscription_no)
    return result


# publishing ---------------------------------------------------------------------------------------


def publish(call: Call) -> Result:
    given = call.parameters
    targets = [name for name in ("TopicArn", "TargetArn", "PhoneNumber") if given.get(name)]
    if not targets:
        raise _invalid("TopicArn or TargetArn Reason: no value for required parameter")
    if len(targets) > 1:
        raise _invalid(f"{targets[0]} Reason: only one of TopicArn, TargetArn and PhoneNumber can be given")
    publishing = _publishing(call, given)
    if targets == ["PhoneNumber"]:
        return {"MessageId": sns_mobile.publish_text_message(call, publishing)}
    if targets == ["TargetArn"] and ":endpoint/" in given["TargetArn"]:
        return {"MessageId": sns_mobile.publish_push(call, publishing)}
    topic = _topic(call, "Publish", targets[0])
    return _published(call.broker.notifications.publisher.publish(topic, publishing))


def publish_batch(call: Call) -> Result:
    topic = _topic(call, "Publish")
    entries = call.parameters["PublishBatchRequestEntries"]
    outcomes = call.broker.notifications.publisher.publish_batch(
        topic, [(entry["Id"], _publishing(call, entry)) for entry in entries]
    )
    successful, failed = [], []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, DomainError):
            error = find_error(load("sns"), type(outcome).__name__)
            failed.append(
                {
                    "Id": entry["Id"],
                    "Code": error.query_code,
                    "Message": outcome.message,
                    "SenderFault": error.sender_fault,
                }
            )
        else:
            successful.append({"Id": entry["Id"], **_published(outcome)})
    return {"Successful": successful, "Failed": failed}


def _publishing(call: Call, given: Mapping[str, Any]) -> Publishing:
    return Publishing(
        given["Message"],
        given.get("Subject"),
        given.get("MessageAttributes") or {},
        given.get("MessageStructure"),
        given.get("MessageGroupId"),
        given.get("MessageDeduplicationId"),
        call.request.header(b"x-amzn-trace-id"),
    )


def _published(published: Published) -> Result:
    result: Result = {"MessageId": published.message_id}
    if published.sequence_number is not None:
        result["SequenceNumber"] = published.sequence_number
    return result


OPERATIONS: dict[str, Operation] = {
    "AddPermission": add_permission,
    "ConfirmSubscription": confirm_subscription,
    "CreateTopic": create_topic,
    "DeleteTopic": delete_topic,
    "GetDataProtectionPolicy": get_data_protection_policy,
    "GetSubscriptionAttributes": get_subscription_attributes,
    "GetTopicAttributes": get_topic_attributes,
    "ListSubscriptions": list_subscriptions,
    "ListSubscriptionsByTopic": list_subscriptions_by_topic,
    "ListTagsForResource": list_tags_for_resource,
    "ListTopics": list_topics,
    "Publish": publish,
    "PublishBatch": publish_batch,
    "PutDataProtectionPolicy": put_data_protection_policy,
    "RemovePermission": remove_permission,
    "SetSubscriptionAttributes": set_subscription_attributes,
    "SetTopicAttributes": set_topic_attributes,
    "Subscribe": subscribe,
    "TagResource": tag_resource,
    "Unsubscribe": unsubscribe,
    "UntagResource": untag_resource,
    **sns_mobile.OPERATIONS,
}
