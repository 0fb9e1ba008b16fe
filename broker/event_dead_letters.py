"""What EventBridge writes on an event that it could not deliver, and which queues take it.

EventBridge guide, "Using dead-letter queues to process undelivered events": the message is the event itself, whatever
the target was to be given, and says why in its attributes. Ugly: AWS lists the error codes and says of none when it
is used; the nearest by name is taken. It stands outside of `buses` because the outbox writes dead letters too.
"""

from __future__ import annotations

from typing import Any

from broker.policy import allows_service
from broker.queues.queue import Queue

# Of AWS's "sample of the error codes a DLQ can return", those that are used here.
CONNECTION_FAILURE = "CONNECTION_FAILURE"  # no connection, or it broke
ERROR_FROM_TARGET = "ERROR_FROM_TARGET"  # the target answered with an error
INVALID_JSON = "INVALID_JSON"
INVALID_PARAMETER = "INVALID_PARAMETER"
NO_PERMISSIONS = "NO_PERMISSIONS"
NO_RESOURCE = "NO_RESOURCE"  # there is no such target
RESOURCE_LIMIT_EXCEEDED = "RESOURCE_LIMIT_EXCEEDED"
THROTTLING = "THROTTLING"
TIMEOUT = "TIMEOUT"
UNKNOWN = "UNKNOWN"

# Which condition of its RetryPolicy ended a delivery.
MAXIMUM_RETRY_ATTEMPTS = "MaximumRetryAttempts"
MAXIMUM_EVENT_AGE = "MaximumEventAgeInSeconds"

EVENTS_SENDER_ID = "AIDAJXNJGGKNS7OSV23OI"  # whom queues show as the sender of EventBridge's messages

_MAX_MESSAGE_CHARS = 1_024


def dead_letter_attributes(
    rule_arn: str,
    target_arn: str,
    error_code: str,
    error_message: str,
    exhausted: str | None = None,
    retry_attempts: int = 0,
) -> dict[str, dict[str, Any]]:
    """The message attributes of a dead letter. `exhausted` is None where no retry would have been of use."""
    texts = {
        "RULE_ARN": rule_arn,
        "TARGET_ARN": target_arn,
        "ERROR_CODE": error_code or UNKNOWN,
        "ERROR_MESSAGE": _sendable(error_message)[:_MAX_MESSAGE_CHARS] or error_code or UNKNOWN,
    }
    if exhausted is not None:
        texts["EXHAUSTED_RETRY_CONDITION"] = exhausted
    attributes = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
    attributes["RETRY_ATTEMPTS"] = {"DataType": "Number", "StringValue": str(retry_attempts)}
    return attributes


def _sendable(text: str) -> str:
    """A message of somebody else's, without what an attribute cannot have."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def lets_rule_in(queue: Queue, rule_arn: str) -> bool:
    """Whether a queue's policy lets EventBridge send to it for this rule."""
    policy, account = queue.attributes.get("Policy"), rule_arn.split(":")[4]
    return allows_service(policy, "events.amazonaws.com", "sqs:SendMessage", queue.arn, rule_arn, account)
