"""A topic's attributes: names, defaults, what AWS refuses, and the values the engine works with.

Attributes are kept as the strings that clients sent; `Settings` holds them read. Follows CreateTopic,
SetTopicAttributes and GetTopicAttributes in the API reference; the sentences are those that users of AWS quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from broker.errors import InvalidParameterException
from broker.limits import (
    DEFAULT_TOPIC_MESSAGE_BYTES,
    MAX_ARCHIVE_DAYS,
    MAX_TOPIC_MESSAGE_BYTES,
    MIN_TOPIC_MESSAGE_BYTES,
)

FEEDBACK_PROTOCOLS = {
    "application": "Application",
    "firehose": "Firehose",
    "http": "HTTP",
    "https": "HTTP",
    "lambda": "Lambda",
    "sqs": "SQS",
}
_FEEDBACK = frozenset(
    f"{protocol}{kind}"
    for protocol in FEEDBACK_PROTOCOLS.values()
    for kind in ("SuccessFeedbackRoleArn", "SuccessFeedbackSampleRate", "FailureFeedbackRoleArn")
)
FIFO_ONLY = frozenset({"ArchivePolicy", "ContentBasedDeduplication", "FifoThroughputScope"})
SETTABLE = (
    frozenset(
        {
            "DeliveryPolicy",
            "DisplayName",
            "KmsMasterKeyId",
            "MaximumMessageSize",
            "Policy",
            "SignatureVersion",
            "TracingConfig",
        }
    )
    | FIFO_ONLY
    | _FEEDBACK
)
DEFAULTS = {
    "ContentBasedDeduplication": "false",
    "FifoThroughputScope": "Topic",
    "MaximumMessageSize": str(DEFAULT_TOPIC_MESSAGE_BYTES),
    "SignatureVersion": "1",
    "TracingConfig": "PassThrough",
}
FIFO_SHOWN = ("ContentBasedDeduplication", "FifoThroughputScope")  # shown of FIFO topics, set or not
OWNER_ACTIONS = (
    "GetTopicAttributes",
    "SetTopicAttributes",
    "AddPermission",
    "RemovePermission",
    "DeleteTopic",
    "Subscribe",
    "ListSubscriptionsByTopic",
    "Publish",
)
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/.+")
_DAY_MS = 86_400_000


class Settings(NamedTuple):
    """What the attributes mean."""

    content_based_deduplication: bool
    deduplicate_by_group: bool
    maximum_message_bytes: int
    signature_version: str
    archive_retention_ms: int | None
    feedback: Mapping[str, int]  # "SQSSuccess" -> percent that is logged, "SQSFailure" -> 100


def read_settings(attributes: Mapping[str, str]) -> Settings:
    """The settings of validated attributes."""
    archive = json.loads(attributes["ArchivePolicy"]) if "ArchivePolicy" in attributes else None
    feedback = {}
    for protocol in dict.fromkeys(FEEDBACK_PROTOCOLS.values()):
        if f"{protocol}SuccessFeedbackRoleArn" in attributes:
            feedback[f"{protocol}Success"] = int(attributes.get(f"{protocol}SuccessFeedbackSampleRate", "100"))
        if f"{protocol}FailureFeedbackRoleArn" in attributes:
            feedback[f"{protocol}Failure"] = 100
    return Settings(
        content_based_deduplication=attributes.get("ContentBasedDeduplication") == "true",
        deduplicate_by_group=attributes.get("FifoThroughputScope") == "MessageGroup",
        maximum_message_bytes=int(attributes.get("MaximumMessageSize", DEFAULT_TOPIC_MESSAGE_BYTES)),
        signature_version=attributes.get("SignatureVersion", "1"),
        archive_retention_ms=int(archive["MessageRetentionPeriod"]) * _DAY_MS if archive else None,
        feedback=feedback,
    )


def default_policy(arn: str, account: str) -> dict[str, Any]:
    """The policy of a topic that was given none."""
    return {
        "Version": "2008-10-17",
        "Id": "__default_policy_ID",
        "Statement": [
            {
                "Sid": "__default_statement_ID",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": [f"SNS:{action}" for action in OWNER_ACTIONS],
                "Resource": arn,
                "Condition": {"StringEquals": {"AWS:SourceOwner": account}},
            }
        ],
    }


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


def validated(given: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """The given attributes normalised; an empty string means: take it away. Raises InvalidParameterException."""
    return {name: _validated(name, value, fifo) for name, value in given.items()}


def _validated(name: str, value: str, fifo: bool) -> str:
    if name in FIFO_ONLY and not fifo:
        if name == "ContentBasedDeduplication":
            raise _invalid("Content-based deduplication can only be set for FIFO topics")
        raise _invalid(f"Attributes Reason: {name} can only be set for FIFO topics")
    if name == "ContentBasedDeduplication":
        return _choice(name, value.lower(), ("true", "false"))
    if name == "FifoThroughputScope":
        return _choice(name, value, ("Topic", "MessageGroup"))
    if name == "SignatureVersion":
        return _choice(name, value, ("1", "2"))
    if name == "TracingConfig":
        if fifo:
            raise _invalid("TracingConfig is only supported on standard topics")
        return _choice(name, value, ("PassThrough", "Active"))
    if name == "DisplayName":
        if len(value) > 100 or not value.isprintable():
            raise _invalid("DisplayName")
        return value
    if name == "MaximumMessageSize":
        if not (
            value.isascii()
            and value.isdigit()
            and len(value) <= 10
            and MIN_TOPIC_MESSAGE_BYTES <= int(value) <= MAX_TOPIC_MESSAGE_BYTES
        ):
            raise _invalid(
                f"MaximumMessageSize must be an integer between {MIN_TOPIC_MESSAGE_BYTES} and {MAX_TOPIC_MESSAGE_BYTES}"
            )
        return str(int(value))
    if name == "Policy":
        return _policy(value)
    if name == "ArchivePolicy":
        return _archive_policy(value)
    if name.endswith("RoleArn") and value and not _ROLE_ARN.fullmatch(value):
        raise _invalid(f"{name}: {value} is not a role's ARN")
    if name.endswith("SampleRate") and not (value.isascii() and value.isdigit() and 0 <= int(value[:9]) <= 100):
        raise _invalid(f"{name} must be an integer from 0 to 100")
    return value  # KmsMasterKeyId is any name; DeliveryPolicy: whoever delivers by it has checked it


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _invalid(f"{name} Reason: Invalid value [{value}], must be one of {', '.join(choices)}")
    return value


def _json_map(name: str, value: str) -> dict[str, Any]:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        raise _invalid(f"{name}: failed to parse JSON.") from None
    if not isinstance(document, dict):
        raise _invalid(f"{name}: failed to parse JSON.")
    return document


def _policy(value: str) -> str:
    if not value:
        raise _invalid("Policy Error: null")
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("Statement"), list | dict):
        raise _invalid("Policy Error: null")
    listed = document["Statement"]
    for entry in [listed] if isinstance(listed, dict) else listed:
        if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
            raise _invalid("Policy statement effect must be Allow or Deny!")
        actions = entry.get("Action", entry.get("NotAction"))
        for action in [actions] if isinstance(actions, str) else actions or []:
            if not isinstance(action, str) or not (action == "*" or action.lower().startswith("sns:")):
                raise _invalid("Policy statement action out of service scope!")
    return value


def _archive_policy(value: str) -> str:
    """{"MessageRetentionPeriod": days}; {} or nothing ends the archive."""
    document = _json_map("ArchivePolicy", value) if value else {}
    if not document:
        return ""
    days = document.get("MessageRetentionPeriod")
    text = str(days) if isinstance(days, int) and not isinstance(days, bool) else days
    if (
        list(document) != ["MessageRetentionPeriod"]
        or not isinstance(text, str)
        or not (text.isascii() and text.isdigit() and 1 <= len(text) <= 3 and 1 <= int(text) <= MAX_ARCHIVE_DAYS)
    ):
        raise _invalid(
            f"ArchivePolicy: MessageRetentionPeriod must be an integer number of days from 1 to {MAX_ARCHIVE_DAYS}"
        )
    return value


def merged(before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The attributes after validated changes; an empty DisplayName stays away like all others."""
    return {name: value for name, value in {**before, **changes}.items() if value}
