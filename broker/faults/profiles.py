"""Plans to start from, by name. AWS says what may happen but publishes no rates: the rates are ours, chosen so that a
few thousand messages show each of it.

`aws-like` has only what AWS's guides permit:
  duplicates    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
  order         https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html
  short polls   https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
  records twice https://docs.aws.amazon.com/streams/latest/dev/kinesis-record-processor-duplicates.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DATA = {
    "sqs": ["SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"],
    "sns": ["Publish", "PublishBatch"],
    "events": ["PutEvents"],
    "kinesis": ["PutRecord", "PutRecords", "GetRecords"],
}
_OPERATIONS = [name for names in _DATA.values() for name in names]
_DATA_PLANE = {"service": list(_DATA), "operation": _OPERATIONS}

_POISONED = {"attributes": {"poison": [{"exists": True}]}}

PROFILES: Mapping[str, tuple[str, list[dict[str, Any]]]] = {
    "aws-like": (
        "What AWS's standard queues and streams permit on a quiet day: duplicates, some disorder, empty short polls.",
        [
            {
                "name": "copy-not-deleted",
                "fault": "duplicate",
                "when": "after-delete",
                "delay": "2s",
                "probability": 0.001,
            },
            {"name": "delivered-twice", "fault": "duplicate", "when": "at-once", "probability": 0.001},
            {"name": "out-of-order", "fault": "reorder", "window": "200ms", "probability": 0.02},
            {"name": "sampled-servers", "fault": "empty-receive", "probability": 0.05},
            {"name": "producer-retried", "fault": "repeat-record", "probability": 0.001},
        ],
    ),
    "bad-day": (
        "Everything at once and often: errors, throttling, slow answers, lost acknowledgements, duplicates, disorder.",
        [
            {"name": "lost-acknowledgement", "fault": "done-not-answered", **_DATA_PLANE, "probability": 0.01},
            {"name": "connection-lost", "fault": "reset", **_DATA_PLANE, "probability": 0.01},
            {
                "name": "internal-failure",
                "fault": "error",
                "code": "InternalFailure",
                "status": 500,
                **_DATA_PLANE,
                "probability": 0.02,
            },
            {"name": "throttled", "fault": "throttle", **_DATA_PLANE, "probability": 0.005, "burst": 5},
            {"name": "half-a-batch", "fault": "partial-batch", "fraction": 0.5, "probability": 0.05},
            {
                "name": "slow",
                "fault": "latency",
                "percentiles": {"p50": "2ms", "p90": "20ms", "p99": "500ms", "p100": "2s"},
                **_DATA_PLANE,
                "probability": 0.2,
            },
            {"name": "came-late", "fault": "late", "delay": "3s", "probability": 0.02},
            {"name": "out-of-order", "fault": "reorder", "window": "1s", "probability": 0.1},
            {"name": "delivered-twice", "fault": "duplicate", "when": "at-once", "probability": 0.02},
            {"name": "came-back", "fault": "duplicate", "when": "after-delete", "delay": "2s", "probability": 0.02},
            {"name": "visible-early", "fault": "early-visibility", "fraction": 0.2, "probability": 0.02},
            {"name": "stale", "fault": "stale-handle", "probability": 0.01},
            {"name": "sampled-servers", "fault": "empty-receive", "probability": 0.2},
            {"name": "hot-shard", "fault": "shard-throttle", "probability": 0.02, "burst": 5},
            {"name": "iterator-gone", "fault": "expired-iterator", "probability": 0.005},
            {"name": "record-repeated", "fault": "repeat-record", "probability": 0.02},
            {"name": "subscription-cut", "fault": "cut-subscription", "after": "20s", "probability": 0.5},
            {"name": "endpoint-away", "fault": "unreachable", "probability": 0.05, "burst": 3},
            {"name": "endpoint-broken", "fault": "endpoint-status", "status": 503, "probability": 0.05},
            {"name": "endpoint-slow", "fault": "slow-endpoint", "delay": "2s", "probability": 0.05},
        ],
    ),
    "thundering-herd": (
        "Ten seconds after loading nothing answers for ten seconds; then all come back at once, to throttling and slow "
        "answers for half a minute.",
        [
            {
                "name": "outage",
                "fault": "error",
                "code": "ServiceUnavailable",
                "status": 503,
                **_DATA_PLANE,
                "from": "10s",
                "until": "20s",
            },
            {
                "name": "herd-throttled",
                "fault": "throttle",
                **_DATA_PLANE,
                "from": "20s",
                "until": "50s",
                "probability": 0.5,
            },
            {
                "name": "herd-slow",
                "fault": "latency",
                "distribution": "pareto",
                "median": "50ms",
                "p99": "3s",
                **_DATA_PLANE,
                "from": "20s",
                "until": "50s",
            },
            {"name": "endpoints-down", "fault": "unreachable", "from": "10s", "until": "20s"},
            {
                "name": "endpoints-busy",
                "fault": "endpoint-status",
                "status": 429,
                "from": "20s",
                "until": "50s",
                "probability": 0.5,
            },
        ],
    ),
    "poison": (
        "A message with an attribute `poison` can never be deleted and no endpoint takes it, so it ends as a dead "
        "letter; one in a hundred of the others goes wrong a few times in a row.",
        [
            {
                "name": "never-deleted",
                "fault": "stale-handle",
                "operation": ["DeleteMessage", "DeleteMessageBatch"],
                "message": _POISONED,
            },
            {"name": "never-taken", "fault": "endpoint-status", "status": 500, "message": _POISONED},
            {
                "name": "hard-to-delete",
                "fault": "stale-handle",
                "operation": ["DeleteMessage", "DeleteMessageBatch"],
                "probability": 0.01,
                "burst": 3,
            },
            {"name": "given-up-early", "fault": "early-dead-letter", "probability": 0.01},
            {"name": "endpoint-chokes", "fault": "endpoint-status", "status": 500, "probability": 0.01, "burst": 3},
            {"name": "shard-stuck", "fault": "expired-iterator", "probability": 0.01, "burst": 3},
        ],
    ),
}


def describe() -> dict[str, dict[str, Any]]:
    """Each profile as a plan that can be loaded, with its text."""
    return {name: {"text": text, "plan": {"rule": rules}} for name, (text, rules) in PROFILES.items()}
