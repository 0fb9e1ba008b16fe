"""Short forms for tests of topics on an `Engine`."""

from __future__ import annotations

import json
from typing import Any

from broker.names import World
from broker.queues import Queue
from broker.store.port import StoredMessage
from broker.topics import Published, Publishing, Subscriber, Subscription, Topic
from engine.support import WORLD, Engine

ME = Subscriber(WORLD.account, f"arn:aws:iam::{WORLD.account}:user/me", "http://here")


def attribute(value: str | bytes, kind: str | None = None) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"DataType": kind or "Binary", "BinaryValue": value}
    return {"DataType": kind or "String", "StringValue": value}


class Sns:
    """Topics of an engine. After a restart they must be found anew."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def service(self) -> Any:
        return self.engine.broker.notifications

    def create(self, name: str = "t", world: World = WORLD, **attributes: Any) -> Topic:
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        if name.endswith(".fifo"):
            given["FifoTopic"] = "true"
        return self.service.topics.create(world, name, given)  # type: ignore[no-any-return]

    def find(self, name: str) -> Topic:
        return self.service.topics.find(f"arn:aws:sns:{WORLD.region}:{WORLD.account}:{name}")  # type: ignore[no-any-return]

    def set(self, topic: Topic, name: str, value: Any) -> None:
        self.service.topics.set_attribute(topic, name, value if isinstance(value, str) else json.dumps(value))

    def subscribe(
        self, topic: Topic, endpoint: Queue | str, protocol: str = "sqs", caller: Subscriber = ME, **attributes: Any
    ) -> Subscription:
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        address = endpoint if isinstance(endpoint, str) else endpoint.arn
        return self.service.subscriptions.subscribe(topic, protocol, address, given, caller)  # type: ignore[no-any-return]

    def set_subscription(self, subscription: Subscription, name: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.service.subscriptions.set_attribute(subscription, name, text)

    def publish(self, topic: Topic, message: str = "x", **given: Any) -> Published:
        """A FIFO topic's message gets the group `g` and its text as deduplication id unless told otherwise."""
        if topic.fifo:
            given = {"group_id": "g", "deduplication_id": message, **given}
        return self.service.publisher.publish(topic, Publishing(message, **given))  # type: ignore[no-any-return]

    def outbox(self, channel: str) -> list[dict[str, Any]]:
        return [json.loads(record.document) for record in self.engine.broker.outbox.read(channel, None, None, 0, 1000)]


def text(message: StoredMessage) -> str:
    """What was published, out of the envelope."""
    return str(json.loads(message.body)["Message"])
