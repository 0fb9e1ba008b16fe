"""One topic in RAM with its subscriptions: definitions, counters, and who a publish goes to.

What a restart must know is in `record()`; what was counted for metrics begins anew.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from broker.clock import Timer
from broker.names import World, topic_arn
from broker.store.port import SubscriptionRecord, TopicRecord
from broker.topics import subscription_attributes
from broker.topics.attributes import Settings, read_settings
from broker.topics.filters import Filters


class Topic:
    """A definition. `attributes` is what was set, `settings` that, read."""

    __slots__ = (
        "archive_began_ms",
        "archive_expiry",
        "archive_no",
        "arn",
        "attributes",
        "counts",
        "data_protection_policy",
        "deleted_count",
        "feedback",
        "feedback_rest",
        "fifo",
        "filters",
        "last_sequence",
        "name",
        "parted",
        "settings",
        "subscriptions",
        "tags",
        "topic_no",
        "world",
    )

    def __init__(self, topic_no: int, world: World, name: str) -> None:
        self.topic_no = topic_no
        self.world = world
        self.name = name
        self.arn = topic_arn(world, name)
        self.fifo = name.endswith(".fifo")
        self.attributes: dict[str, str] = {}
        self.settings: Settings = read_settings(self.attributes)
        self.tags: dict[str, str] = {}
        self.data_protection_policy = ""
        self.subscriptions: dict[str, Subscription] = {}  # by ARN, in the order they were made
        self.parted: dict[str, Subscription] = {}  # by token: unsubscribed, and could come back
        self.filters: Filters[Subscription] = Filters()  # of those that get what is published
        self.deleted_count = 0
        self.last_sequence = 0
        self.archive_no: int | None = None
        self.archive_began_ms = 0
        self.archive_expiry: Timer | None = None
        self.counts: Counter[str] = Counter()  # under the names of CloudWatch's metrics
        self.feedback: Counter[str] = Counter()  # what would be logged for the delivery-status attributes
        self.feedback_rest: dict[str, int] = {}  # percents short of the next one logged

    def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.settings = read_settings(attributes)

    def count_subscriptions(self) -> tuple[int, int]:
        """How many are confirmed, and how many pending."""
        pending = sum(subscription.pending for subscription in self.subscriptions.values())
        return len(self.subscriptions) - pending, pending

    def record(self) -> TopicRecord:
        document = {
            "attributes": self.attributes,
            "tags": self.tags,
            "data_protection_policy": self.data_protection_policy,
            "deleted_count": self.deleted_count,
            "archive_no": self.archive_no,
            "archive_began_ms": self.archive_began_ms,
        }
        text = json.dumps(document, separators=(",", ":"))
        return TopicRecord(self.topic_no, *self.world, self.name, text, self.last_sequence)

    @classmethod
    def from_record(cls, record: TopicRecord) -> Topic:
        topic = cls(record.topic_no, World(record.account, record.region), record.name)
        document = json.loads(record.document)
        topic.set_attributes(document["attributes"])
        topic.tags = document["tags"]
        topic.data_protection_policy = document["data_protection_policy"]
        topic.deleted_count = document["deleted_count"]
        topic.archive_no = document["archive_no"]
        topic.archive_began_ms = document["archive_began_ms"]
        topic.last_sequence = record.last_sequence
        return topic


class Subscription:
    """An endpoint that a topic delivers to. `origin` is the address at which its links find this broker."""

    __slots__ = (
        "arn",
        "attributes",
        "authenticate_on_unsubscribe",
        "authenticated",
        "endpoint",
        "expiry",
        "origin",
        "owner",
        "parted_ms",
        "pending_since_ms",
        "principal",
        "protocol",
        "replay",
        "settings",
        "subscription_no",
        "token",
        "topic",
        "unsubscribe_url",
    )

    def __init__(self, subscription_no: int, topic: Topic, arn: str, document: dict[str, Any]) -> None:
        self.subscription_no = subscription_no
        self.topic = topic
        self.arn = arn
        self.owner: str = document["owner"]  # an account
        self.principal: str = document["principal"]
        self.protocol: str = document["protocol"]
        self.endpoint: str = document["endpoint"]
        self.origin: str = document["origin"]
        self.token: str = document["token"]
        self.pending_since_ms: int | None = document["pending_since_ms"]  # None once it is confirmed
        self.parted_ms: int | None = document.get("parted_ms")  # when somebody unsubscribed it without a signature
        self.authenticated: bool = document["authenticated"]  # ConfirmationWasAuthenticated
        self.authenticate_on_unsubscribe: bool = document["authenticate_on_unsubscribe"]
        self.replay: Replay | None = Replay(**document["replay"]) if document["replay"] else None
        self.expiry: Timer | None = None
        self.set_attributes(document["attributes"])
        self.unsubscribe_url = f"{self.origin}/?Action=Unsubscribe&SubscriptionArn={arn}"

    @property
    def pending(self) -> bool:
        return self.pending_since_ms is not None

    @property
    def live(self) -> bool:
        """Whether it is given what is published now; while a replay runs that comes through the archive."""
        return not self.pending and (self.replay is None or self.replay.lets_live_through)

    def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.settings = subscription_attributes.read_settings(attributes)

    def record(self) -> SubscriptionRecord:
        document = {
            "owner": self.owner,
            "principal": self.principal,
            "protocol": self.protocol,
            "endpoint": self.endpoint,
            "origin": self.origin,
            "token": self.token,
            "pending_since_ms": self.pending_since_ms,
            "parted_ms": self.parted_ms,
            "authenticated": self.authenticated,
            "authenticate_on_unsubscribe": self.authenticate_on_unsubscribe,
            "replay": self.replay.document() if self.replay else None,
            "attributes": self.attributes,
        }
        text = json.dumps(document, separators=(",", ":"))
        return SubscriptionRecord(self.subscription_no, self.topic.topic_no, self.arn, text)


class Replay:
    """Where a subscription's replay stands: all up to `position` in the archive has been delivered."""

    __slots__ = ("began_sequence", "end_ms", "position", "status")

    def __init__(self, began_sequence: int, end_ms: int | None, position: int, status: str) -> None:
        self.began_sequence = began_sequence  # what came later was published while it ran
        self.end_ms = end_ms  # published later than this is not replayed, nor is anything after it
        self.position = position
        self.status = status

    @property
    def lets_live_through(self) -> bool:
        return self.status == FAILED or (self.status == COMPLETED and self.end_ms is None)

    @property
    def running(self) -> bool:
        return self.status in (PENDING, IN_PROGRESS)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


PENDING, IN_PROGRESS, COMPLETED, FAILED = "Pending", "In progress", "Completed", "Failed"
