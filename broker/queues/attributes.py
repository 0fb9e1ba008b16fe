"""A queue's attributes: names, defaults, what AWS refuses, and the values the engine works with.

Attributes are kept as the strings that clients sent (JSON ones normalised as AWS does); `Settings` holds them read.
Follows the API reference of CreateQueue and SetQueueAttributes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from broker.errors import InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue, OverLimit
from broker.limits import (
    MAX_DELAY_S,
    MAX_MESSAGE_BYTES,
    MAX_RECEIVE_COUNT,
    MAX_REDRIVE_SOURCES,
    MAX_RETENTION_S,
    MAX_VISIBILITY_TIMEOUT_S,
    MAX_WAIT_TIME_S,
    MIN_MAXIMUM_MESSAGE_BYTES,
    MIN_RETENTION_S,
)
from broker.names import parse_arn
from broker.policy import statements

INTEGERS = {
    "DelaySeconds": (0, MAX_DELAY_S),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
    "MaximumMessageSize": (MIN_MAXIMUM_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
    "MessageRetentionPeriod": (MIN_RETENTION_S, MAX_RETENTION_S),
    "ReceiveMessageWaitTimeSeconds": (0, MAX_WAIT_TIME_S),
    "VisibilityTimeout": (0, MAX_VISIBILITY_TIMEOUT_S),
}
FIFO_CHOICES = {
    "ContentBasedDeduplication": ("true", "false"),
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
POLICY_QUOTAS = {"Bytes": 8_192, "Statements": 20, "Principals": 50, "Actions": 7}  # guide, "Amazon SQS policy quotas"
CLEARABLE = {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId"}  # an empty value takes it away
SETTABLE = {*INTEGERS, *FIFO_CHOICES, *CLEARABLE, "FifoQueue", "SqsManagedSseEnabled"}

DEFAULTS = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": str(MAX_MESSAGE_BYTES),
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}
FIFO_DEFAULTS = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
READABLE = {*SETTABLE, *COUNTS, "All", "QueueArn", "CreatedTimestamp", "LastModifiedTimestamp"}


class RedrivePolicy(NamedTuple):
    dead_letter_target_arn: str
    max_receive_count: int


class Settings(NamedTuple):
    """What the attributes mean. Times in milliseconds."""

    visibility_timeout_ms: int
    maximum_message_bytes: int
    retention_ms: int
    delay_ms: int
    wait_time_ms: int
    content_based_deduplication: bool
    deduplicate_by_group: bool
    throughput_by_group: bool
    redrive: RedrivePolicy | None


def read_settings(attributes: Mapping[str, str]) -> Settings:
    """The settings of validated attributes."""

    def ms(name: str) -> int:
        return int(attributes.get(name, DEFAULTS[name])) * 1000

    redrive = json.loads(attributes["RedrivePolicy"]) if "RedrivePolicy" in attributes else None
    return Settings(
        visibility_timeout_ms=ms("VisibilityTimeout"),
        maximum_message_bytes=int(attributes.get("MaximumMessageSize", DEFAULTS["MaximumMessageSize"])),
        retention_ms=ms("MessageRetentionPeriod"),
        delay_ms=ms("DelaySeconds"),
        wait_time_ms=ms("ReceiveMessageWaitTimeSeconds"),
        content_based_deduplication=attributes.get("ContentBasedDeduplication") == "true",
        deduplicate_by_group=attributes.get("DeduplicationScope") == "messageGroup",
        throughput_by_group=attributes.get("FifoThroughputLimit") == "perMessageGroupId",
        redrive=RedrivePolicy(redrive["deadLetterTargetArn"], redrive["maxReceiveCount"]) if redrive else None,
    )


def with_defaults(attributes: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """The attributes as GetQueueAttributes shows them: defaults filled in, in AWS's order."""
    shown = {name: attributes.get(name, default) for name, default in DEFAULTS.items()}
    if "KmsMasterKeyId" in attributes:
        shown["SqsManagedSseEnabled"] = "false"
        shown["KmsMasterKeyId"] = attributes["KmsMasterKeyId"]
        shown["KmsDataKeyReusePeriodSeconds"] = attributes.get("KmsDataKeyReusePeriodSeconds", "300")
    elif "KmsDataKeyReusePeriodSeconds" in attributes:
        shown["KmsDataKeyReusePeriodSeconds"] = attributes["KmsDataKeyReusePeriodSeconds"]
    for name in ("Policy", "RedrivePolicy", "RedriveAllowPolicy"):
        if name in attributes:
            shown[name] = attributes[name]
    if fifo:
        shown |= {name: attributes.get(name, default) for name, default in FIFO_DEFAULTS.items()}
    return shown


def validated(given: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """The given attributes normalised; an empty string means: take it away.

    Raises InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue. Whether a dead-letter queue exists and
    allows this source is the caller's to check.
    """
    return {name: _validated(name, value, fifo) for name, value in given.items()}


def _validated(name: str, value: str, fifo: bool) -> str:
    if name not in SETTABLE or (name in FIFO_CHOICES and not fifo):
        raise InvalidAttributeName(f"Unknown Attribute {name}.")
    if name in CLEARABLE and not value:
        return ""
    if name in INTEGERS:
        low, high = INTEGERS[name]
        # int() takes signs, underscores and other scripts' digits; AWS does not.
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and low <= int(value) <= high):
            raise InvalidAttributeValue(f"Invalid value for the parameter {name}.")
        return str(int(value))
    if name == "FifoQueue":
        if value.lower() != ("true" if fifo else "false"):
            raise InvalidAttributeValue(
                "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."
            )
        if not fifo:
            raise InvalidAttributeName("Unknown Attribute FifoQueue.")
        return "true"
    if name in FIFO_CHOICES or name == "SqsManagedSseEnabled":
        choices = FIFO_CHOICES.get(name, ("true", "false"))
        choice = value.lower() if "true" in choices else value
        if choice not in choices:
            raise InvalidAttributeValue(f"Invalid value for the parameter {name}.")
        return choice
    if name == "RedrivePolicy":
        return _redrive_policy(value)
    if name == "RedriveAllowPolicy":
        return _redrive_allow_policy(value)
    if name == "Policy":
        return _policy(value)
    return value  # KmsMasterKeyId: a key's id, ARN or alias


def merged(before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The attributes after validated changes. Raises InvalidAttributeValue where they do not go together."""
    after = {name: value for name, value in {**before, **changes}.items() if value or name not in CLEARABLE}
    if changes.get("KmsMasterKeyId"):
        if changes.get("SqsManagedSseEnabled") == "true":
            raise InvalidAttributeValue(
                "You can use one type of server-side encryption (SSE) at one time. "
                "You can either enable KMS SSE or SQS SSE."
            )
        after["SqsManagedSseEnabled"] = "false"
    elif changes.get("SqsManagedSseEnabled") == "true":
        after.pop("KmsMasterKeyId", None)
        after.pop("KmsDataKeyReusePeriodSeconds", None)
    by_group = after.get("FifoThroughputLimit") == "perMessageGroupId"
    if by_group and after.get("DeduplicationScope") != "messageGroup":
        raise InvalidAttributeValue(
            "Invalid value for the parameter FifoThroughputLimit. Reason: The perMessageGroupId value is allowed only "
            "when the value for DeduplicationScope is messageGroup."
        )
    return after


def _json_map(value: str) -> dict[str, Any] | None:
    try:
        document = orjson.loads(value)  # strict: no NaN, no half of a surrogate pair that no answer could carry
        orjson.dumps(document)  # it reads deeper than it writes, and than others read
    except (ValueError, TypeError):
        return None
    return document if isinstance(document, dict) else None


def _policy(value: str) -> str:
    document = _json_map(value)
    if document is None or not isinstance(document.get("Statement"), list | dict):
        raise InvalidAttributeValue("Invalid value for the parameter Policy.")
    entries = statements(value)
    _check_policy_quota("Bytes", len(value.encode()))
    _check_policy_quota("Statements", len(entries))
    for entry in entries:
        principal = entry.get("Principal")
        _check_policy_quota("Principals", _count(principal.get("AWS") if isinstance(principal, dict) else principal))
        _check_policy_quota("Actions", _count(entry.get("Action")))
    return value


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else 1


def _check_policy_quota(what: str, count: int) -> None:
    if count > POLICY_QUOTAS[what]:
        raise OverLimit(f"{count} {what} were found, maximum allowed is {POLICY_QUOTAS[what]}.")


def _invalid(name: str, value: str, reason: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"Value {value} for parameter {name} is invalid. Reason: {reason}")


def _redrive_policy(value: str) -> str:
    document = _json_map(value)
    if document is None:
        raise _invalid("RedrivePolicy", value, "Redrive policy is not a valid JSON map.")
    for key in document:
        if key not in ("deadLetterTargetArn", "maxReceiveCount"):
            raise _invalid("RedrivePolicy", value, f"Unknown parameter {key}.")
    for key in ("maxReceiveCount", "deadLetterTargetArn"):
        if key not in document:
            raise _invalid("RedrivePolicy", value, f"Redrive policy does not contain mandatory attribute: {key}.")
    count, target = document["maxReceiveCount"], document["deadLetterTargetArn"]
    number = str(count) if isinstance(count, int) and not isinstance(count, bool) else count
    if not (isinstance(number, str) and number.isascii() and number.isdigit() and 1 <= len(number) <= 4):
        number = "0"
    if not 1 <= int(number) <= MAX_RECEIVE_COUNT:
        shown = json.dumps(count) if not isinstance(count, str) else count
        raise _invalid(
            "RedrivePolicy",
            value,
            f"Invalid value for maxReceiveCount: {shown}, valid values are from 1 to {MAX_RECEIVE_COUNT} "
            "both inclusive.",
        )
    arn = parse_arn(target) if isinstance(target, str) else None
    if arn is None or arn.service != "sqs":
        raise _invalid("RedrivePolicy", value, "Invalid value for deadLetterTargetArn.")
    return json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": int(number)}, separators=(",", ":"))


def _redrive_allow_policy(value: str) -> str:
    document = _json_map(value)
    if document is None:
        raise _invalid("RedriveAllowPolicy", value, "Redrive allow policy is not a valid JSON map.")
    permission, sources = document.get("redrivePermission"), document.get("sourceQueueArns")
    if permission not in ("allowAll", "denyAll", "byQueue"):
        raise _invalid("RedriveAllowPolicy", value, "Invalid value for redrivePermission.")
    if (permission == "byQueue") != (sources is not None):
        raise _invalid(
            "RedriveAllowPolicy",
            value,
            "sourceQueueArns can be specified only when redrivePermission is byQueue, and must be then.",
        )
    if sources is not None and not (
        isinstance(sources, list)
        and 1 <= len(sources) <= MAX_REDRIVE_SOURCES
        and all(isinstance(source, str) and parse_arn(source) for source in sources)
    ):
        raise _invalid(
            "RedriveAllowPolicy", value, f"sourceQueueArns must be a list of 1 to {MAX_REDRIVE_SOURCES} queue ARNs."
        )
    return json.dumps(document, separators=(",", ":"))


def allows_source(redrive_allow_policy: str | None, source_arn: str) -> bool:
    """Whether a queue with this RedriveAllowPolicy may be the dead-letter queue of that source."""
    if redrive_allow_policy is None:
        return True
    document = json.loads(redrive_allow_policy)
    permission = document["redrivePermission"]
    return permission == "allowAll" or (permission == "byQueue" and source_arn in document["sourceQueueArns"])
