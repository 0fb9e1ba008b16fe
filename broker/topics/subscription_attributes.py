"""A subscription's attributes: names, what AWS refuses, and the values the engine works with.

Attributes are kept as the strings that clients sent; `Settings` holds them read. Follows Subscribe and
SetSubscriptionAttributes in the API reference; the sentences are those that users of AWS quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.clock import iso_8601_ms, parse_iso_8601
from broker.errors import InvalidParameterException
from broker.names import parse_arn
from broker.topics import filters

if TYPE_CHECKING:
    from broker.matching import Pattern

SETTABLE = frozenset(
    {
        "DeliveryPolicy",
        "FilterPolicy",
        "FilterPolicyScope",
        "RawMessageDelivery",
        "RedrivePolicy",
        "SubscriptionRoleArn",
        "ReplayPolicy",
    }
)
RAW_PROTOCOLS = ("sqs", "http", "https", "firehose")
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/.+")


class ReplayWindow(NamedTuple):
    start_ms: int
    end_ms: int | None


class Settings(NamedTuple):
    """What the attributes mean."""

    raw: bool
    filter: Pattern | None
    filter_scope: str
    dead_letter_arn: str | None
    replay: ReplayWindow | None


def read_settings(attributes: Mapping[str, str]) -> Settings:
    """The settings of validated attributes."""
    scope = attributes.get("FilterPolicyScope", filters.ATTRIBUTES)
    policy, redrive = attributes.get("FilterPolicy"), attributes.get("RedrivePolicy")
    replay = attributes.get("ReplayPolicy")
    return Settings(
        raw=attributes.get("RawMessageDelivery") == "true",
        filter=filters.compiled(policy, scope) if policy else None,
        filter_scope=scope,
        dead_letter_arn=json.loads(redrive)["deadLetterTargetArn"] if redrive else None,
        replay=_window(replay) if replay else None,
    )


def validated(given: Mapping[str, str], protocol: str, *, fifo: bool) -> dict[str, str]:
    """The given attributes normalised; an empty string means: take it away. Raises InvalidParameterException."""
    return {name: _validated(name, value, protocol, fifo) for name, value in given.items()}


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


def _validated(name: str, value: str, protocol: str, fifo: bool) -> str:
    if name not in SETTABLE:
        raise _invalid("AttributeName")
    if name == "RawMessageDelivery":
        choice = value.lower()
        if choice not in ("true", "false"):
            raise _invalid(f"Attributes Reason: RawMessageDelivery: Invalid value [{value}]. Must be true or false.")
        if choice == "true" and protocol not in RAW_PROTOCOLS:
            raise _invalid(f"Attributes Reason: Delivery protocol [{protocol}] does not support raw message delivery.")
        return choice
    if name == "FilterPolicyScope":
        if value not in (filters.ATTRIBUTES, filters.BODY):
            raise _invalid(
                f"FilterPolicyScope: Invalid value [{value}]. Please use either MessageBody or MessageAttributes"
            )
        return value
    if not value or value == "{}":
        return ""
    if name == "FilterPolicy":
        return value  # compiled once its scope is known
    if name == "RedrivePolicy":
        return _redrive_policy(value, fifo)
    if name == "ReplayPolicy":
        if not fifo:
            raise _invalid("Attributes Reason: Invalid attribute, ReplayPolicy is only supported for FIFO topics")
        _window(value)
        return value
    if name == "SubscriptionRoleArn" and not _ROLE_ARN.fullmatch(value):
        raise _invalid("SubscriptionRoleArn")
    if name == "DeliveryPolicy" and protocol not in ("http", "https"):
        raise _invalid(f"DeliveryPolicy: Delivery protocol [{protocol}] does not support delivery policies.")
    return value  # DeliveryPolicy: whoever delivers by it has checked it


def merged(before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The attributes after validated changes."""
    return {name: value for name, value in {**before, **changes}.items() if value}


def _json_map(name: str, value: str) -> dict[str, Any]:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        raise _invalid(f"{name}: failed to parse JSON.") from None
    if not isinstance(document, dict):
        raise _invalid(f"{name}: failed to parse JSON.")
    return document


def _redrive_policy(value: str, fifo: bool) -> str:
    document = _json_map("RedrivePolicy", value)
    target = document.get("deadLetterTargetArn")
    arn = parse_arn(target) if isinstance(target, str) else None
    if arn is None or arn.service != "sqs" or not arn.resource:
        raise _invalid("RedrivePolicy: deadLetterTargetArn is an invalid arn")
    if arn.resource.endswith(".fifo") and not fifo:
        raise _invalid("RedrivePolicy: must use a standard queue as DLQ for standard topic")
    return value


def _window(value: str) -> ReplayWindow:
    """{"PointType": "Timestamp", "StartingPoint": "2023-08-31T23:51:00.000Z", "EndingPoint": …}"""
    document = _json_map("ReplayPolicy", value)
    for name in document:
        if name not in ("PointType", "StartingPoint", "EndingPoint"):
            raise _invalid(f"ReplayPolicy: unknown parameter {name}")
    if document.get("PointType") != "Timestamp":
        raise _invalid("ReplayPolicy: PointType must be Timestamp")
    start_ms = _moment(document.get("StartingPoint"), "StartingPoint")
    end_ms = _moment(document["EndingPoint"], "EndingPoint") if "EndingPoint" in document else None
    if end_ms is not None and end_ms <= start_ms:
        raise _invalid("ReplayPolicy: EndingPoint must be later than StartingPoint")
    return ReplayWindow(start_ms, end_ms)


def _moment(value: Any, name: str) -> int:
    moment_ms = parse_iso_8601(value) if isinstance(value, str) else None
    if moment_ms is None:
        raise _invalid(f"ReplayPolicy: {name} must be a timestamp like {iso_8601_ms(0)}")
    return moment_ms
