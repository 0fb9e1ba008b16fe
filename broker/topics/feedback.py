"""The delivery-status attributes: what they would have logged is counted."""

from __future__ import annotations

from broker.topics.attributes import FEEDBACK_PROTOCOLS
from broker.topics.topic import Topic


def count_feedback(topic: Topic, protocol: str, outcome: str, count: int) -> None:
    """`outcome` is Success or Failure. Of all failures, and of successes as many as the sample rate asks for."""
    kind = FEEDBACK_PROTOCOLS.get(protocol, "") + outcome
    percent = topic.settings.feedback.get(kind)
    if percent is None:
        return
    seen = topic.feedback_rest.get(kind, 0) + count * percent
    topic.feedback[kind] += seen // 100
    topic.feedback_rest[kind] = seen % 100
