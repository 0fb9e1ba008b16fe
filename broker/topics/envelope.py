"""What subscribers read: the JSON around a message, in the very form AWS gives it, and what is signed of it.

Everything but the link to unsubscribe is the same for all subscribers of a text, so it is written once. FIFO topics'
notifications are not signed: only queues get them. See "Parsing Amazon SNS message formats" in the developer guide.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from broker.delivery import Signer
from broker.topics.messages import Attributes


class Unsigned:
    """The signer of a broker that was given none: its signatures are empty."""

    def sign(self, text: str, version: str) -> str:
        return ""

    def certificate_url(self, origin: str) -> str:
        return f"{origin}/SimpleNotificationService.pem"


class Signed(NamedTuple):
    """What stands in an envelope for whoever checks it."""

    version: str
    signature: str
    certificate_url: str


class Notification(NamedTuple):
    """A published message on its way out. `texts` is by protocol, as `messages.texts` gives it."""

    message_id: str
    topic_arn: str
    timestamp: str
    subject: str | None
    texts: Mapping[str, str]
    attributes: Attributes
    sequence_number: str | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    trace_header: str | None = None
    replayed: bool = False


def quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def shown_attributes(attributes: Attributes) -> dict[str, dict[str, str]]:
    """Attributes as envelopes have them: Type and Value, binary ones in base64."""
    return {
        name: {
            "Type": attribute["DataType"],
            "Value": b64encode(attribute["BinaryValue"]).decode()
            if attribute.get("BinaryValue")
            else attribute["StringValue"],
        }
        for name, attribute in attributes.items()
    }


def string_to_sign(fields: Mapping[str, str | None]) -> str:
    """Names and values on lines of their own, by name; what is not there is left out."""
    return "".join(f"{name}\n{fields[name]}\n" for name in sorted(fields) if fields[name] is not None)


def notification_to_sign(notification: Notification, text: str) -> str:
    fields = {
        "Message": text,
        "MessageId": notification.message_id,
        "Subject": notification.subject,
        "Timestamp": notification.timestamp,
        "TopicArn": notification.topic_arn,
        "Type": "Notification",
    }
    return string_to_sign(fields)


def around(notification: Notification, text: str, signed: Signed | None) -> tuple[str, str]:
    """The envelope of a text before the link to unsubscribe, and after it."""
    lines = ['"Type" : "Notification"', f'"MessageId" : "{notification.message_id}"']
    if notification.sequence_number is not None:
        lines.append(f'"SequenceNumber" : "{notification.sequence_number}"')
    lines.append(f'"TopicArn" : "{notification.topic_arn}"')
    if notification.subject is not None:
        lines.append(f'"Subject" : {quoted(notification.subject)}')
    lines += [f'"Message" : {quoted(text)}', f'"Timestamp" : "{notification.timestamp}"']
    if signed is not None:
        lines += [
            f'"SignatureVersion" : "{signed.version}"',
            f'"Signature" : "{signed.signature}"',
            f'"SigningCertURL" : "{signed.certificate_url}"',
        ]
    head = "{\n  " + ",\n  ".join(lines) + ',\n  "UnsubscribeURL" : "'
    if not notification.attributes:
        return head, '"\n}'
    shown = ",\n".join(
        f"    {quoted(name)} : {orjson.dumps(value).decode()}"
        for name, value in shown_attributes(notification.attributes).items()
    )
    return head, f'",\n  "MessageAttributes" : {{\n{shown}\n  }}\n}}'


class Question(NamedTuple):
    """A SubscriptionConfirmation or, once it is gone, an UnsubscribeConfirmation."""

    kind: str
    message_id: str
    topic_arn: str
    subscription_arn: str
    token: str
    timestamp: str


def question(asked: Question, origin: str, signer: Signer, version: str) -> str:
    """The JSON of a question to an endpoint's owner. `origin` is where the links lead."""
    kind, message_id, topic_arn, subscription_arn, token, timestamp = asked
    if kind == "SubscriptionConfirmation":
        message = (
            f"You have chosen to subscribe to the topic {topic_arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
    else:
        message = (
            f"You have chosen to deactivate subscription {subscription_arn}.\n"
            "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
        )
    url = f"{origin}/?Action=ConfirmSubscription&TopicArn={topic_arn}&Token={token}"
    fields: dict[str, str | None] = {
        "Message": message,
        "MessageId": message_id,
        "SubscribeURL": url,
        "Timestamp": timestamp,
        "Token": token,
        "TopicArn": topic_arn,
        "Type": kind,
    }
    shown = {
        "Type": kind,
        "MessageId": message_id,
        "Token": token,
        "TopicArn": topic_arn,
        "Message": message,
        "SubscribeURL": url,
        "Timestamp": timestamp,
        "SignatureVersion": version,
        "Signature": signer.sign(string_to_sign(fields), version),
        "SigningCertURL": signer.certificate_url(origin),
    }
    return "{\n  " + ",\n  ".join(f'"{name}" : {quoted(value)}' for name, value in shown.items()) + "\n}"


def lambda_event(
    notification: Notification, text: str, subscription_arn: str, unsubscribe_url: str, signed: Signed
) -> str:
    """What a function is invoked with."""
    event: dict[str, Any] = {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": subscription_arn,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": notification.message_id,
                    "TopicArn": notification.topic_arn,
                    "Subject": notification.subject,
                    "Message": text,
                    "Timestamp": notification.timestamp,
                    "SignatureVersion": signed.version,
                    "Signature": signed.signature,
                    "SigningCertUrl": signed.certificate_url,
                    "UnsubscribeUrl": unsubscribe_url,
                    "MessageAttributes": shown_attributes(notification.attributes),
                },
            }
        ]
    }
    return orjson.dumps(event).decode()
