"""Subscribers that are not queues: HTTP endpoints and functions through the outbox, the others into what people read.

When what is sent and sent again is broker/delivery.py's; here is what each protocol's subscriber is given, and what
becomes of a delivery's end. Owners of queues in other accounts are asked through the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5
from typing import TYPE_CHECKING, Any

import orjson

from broker import delivery_policy
from broker.clock import iso_8601_ms
from broker.delivery import (
    DELIVERED,
    HTTP,
    LAMBDA,
    SNS_SENDER_ID,
    Ended,
    NewDelivery,
    Outbox,
    Signer,
    http_headers,
)
from broker.delivery_policy import LAMBDA_POLICY
from broker.errors import DomainError
from broker.queues.messaging import Arrival, Messaging
from broker.topics import envelope
from broker.topics.envelope import Question, shown_attributes
from broker.topics.feedback import count_feedback
from broker.topics.mobile import Mobile, platform_of
from broker.topics.registry import Registry
from broker.topics.sms import Sms
from broker.topics.topic import Subscription

if TYPE_CHECKING:
    from broker.topics.fanout import Rendering


class Remote:
    """Sends by every protocol but SQS; and asks owners of endpoints, of queues too."""

    def __init__(
        self, registry: Registry, messaging: Messaging, outbox: Outbox, signer: Signer, mobile: Mobile, sms: Sms
    ) -> None:
        self._registry = registry
        self._messaging = messaging
        self._outbox = outbox
        self._signer = signer
        self._mobile = mobile
        self._sms = sms
        self._send: dict[str, Callable[[Subscription, Rendering], None]] = {
            "http": self._post,
            "https": self._post,
            "lambda": self._invoke,
            "email": self._write,
            "email-json": self._write,
            "firehose": self._write,
            "sms": self._text,
            "application": self._push,
        }
        outbox.ended.append(self._ended)

    def send(self, subscription: Subscription, rendering: Rendering) -> None:
        self._send[subscription.protocol](subscription, rendering)

    # through the outbox

    def _post(self, subscription: Subscription, rendering: Rendering) -> None:
        raw = subscription.settings.raw
        notification = rendering.notification
        body = (
            rendering.text(subscription.protocol) if raw else rendering.enveloped(subscription).around(subscription)[0]
        )
        policy = delivery_policy.http_policy(
            subscription.topic.attributes.get("DeliveryPolicy"), subscription.attributes.get("DeliveryPolicy")
        )
        self._outbox.put(
            [
                NewDelivery(
                    HTTP,
                    subscription.arn,
                    subscription.endpoint,
                    http_headers(
                        "Notification",
                        notification.message_id,
                        notification.topic_arn,
                        subscription.arn,
                        policy,
                        raw=raw,
                    ),
                    body,
                    policy,
                    subscription.settings.dead_letter_arn,
                    body,
                    notification.attributes if raw else {},
                    message_id=notification.message_id,
                )
            ]
        )

    def _invoke(self, subscription: Subscription, rendering: Rendering) -> None:
        text = rendering.text(subscription.protocol)
        signed = rendering.signed(text, subscription.origin)
        body = envelope.lambda_event(
            rendering.notification, text, subscription.arn, subscription.unsubscribe_url, signed
        )
        letter = rendering.enveloped(subscription).around(subscription)[0]
        self._outbox.put(
            [
                NewDelivery(
                    LAMBDA,
                    subscription.arn,
                    subscription.endpoint,
                    {"Content-Type": "application/json"},
                    body,
                    LAMBDA_POLICY,
                    subscription.settings.dead_letter_arn,
                    letter,
                    message_id=rendering.notification.message_id,
                )
            ]
        )

    def _ended(self, ended: Ended) -> None:
        subscription = self._registry.subscriptions.get(ended.owner)
        if subscription is not None:
            outcome = "Success" if ended.result == DELIVERED else "Failure"
            subscription.topic.counts[ended.result] += 1
            count_feedback(subscription.topic, subscription.protocol, outcome, 1)

    # for people to read

    def _delivered(self, subscription: Subscription, rendering: Rendering) -> None:
        ledger = self._messaging.ledger
        if ledger.is_on:
            ledger.attempted(
                subscription.arn, rendering.notification.message_id, 1, 0, outcome="kept for people to read"
            )
        subscription.topic.counts[DELIVERED] += 1
        count_feedback(subscription.topic, subscription.protocol, "Success", 1)

    def _write(self, subscription: Subscription, rendering: Rendering) -> None:
        """An e-mail is the text alone, as AWS sends it; e-mail in JSON and Firehose get the envelope, unless raw."""
        text = rendering.text(subscription.protocol)
        whole = subscription.protocol != "email" and not subscription.settings.raw
        body = rendering.enveloped(subscription).around(subscription)[0] if whole else text
        document = {
            **self._about(subscription, rendering),
            "endpoint": subscription.endpoint,
            "body": body,
        }
        if subscription.protocol == "email":
            document["sender_name"] = subscription.topic.attributes.get("DisplayName", "")
            document["unsubscribe_url"] = subscription.unsubscribe_url
        self._outbox.record(subscription.protocol, subscription.topic.world, document)
        self._delivered(subscription, rendering)

    def _text(self, subscription: Subscription, rendering: Rendering) -> None:
        text = rendering.text("sms")
        document = {**self._about(subscription, rendering), "message": text}
        try:
            attributes = rendering.notification.attributes
            self._sms.send(subscription.topic.world, subscription.endpoint, document, attributes)
        except DomainError:  # too long for a telephone
            self._failed(subscription, rendering)
        else:
            self._delivered(subscription, rendering)

    def _push(self, subscription: Subscription, rendering: Rendering) -> None:
        texts = rendering.notification.texts
        own = texts.get(platform_of(subscription.endpoint))
        document = {
            **self._about(subscription, rendering),
            "message": own if own is not None else rendering.text("application"),
        }
        try:
            self._mobile.push(subscription.endpoint, document, rendering.notification.attributes)
        except DomainError:  # it is gone or disabled
            self._failed(subscription, rendering)
        else:
            self._delivered(subscription, rendering)

    def _failed(self, subscription: Subscription, rendering: Rendering) -> None:
        ledger = self._messaging.ledger
        if ledger.is_on:
            ledger.given_up(subscription.arn, rendering.notification.message_id, 1, "the endpoint does not take it")
        subscription.topic.counts["NumberOfNotificationsFailed"] += 1
        count_feedback(subscription.topic, subscription.protocol, "Failure", 1)

    def _about(self, subscription: Subscription, rendering: Rendering) -> dict[str, Any]:
        notification = rendering.notification
        return {
            "message_id": notification.message_id,
            "topic_arn": notification.topic_arn,
            "subscription_arn": subscription.arn,
            "subject": notification.subject,
            "message_attributes": shown_attributes(notification.attributes),
        }

    # asking

    def ask(self, subscription: Subscription) -> None:
        """Asks the endpoint's owner to confirm."""
        self._question(subscription, "SubscriptionConfirmation")

    def farewell(self, subscription: Subscription) -> None:
        """Tells the endpoint's owner that somebody unsubscribed it without a signature."""
        self._question(subscription, "UnsubscribeConfirmation")

    def _question(self, subscription: Subscription, kind: str) -> None:
        registry, topic = self._registry, subscription.topic
        question = Question(
            kind,
            registry.entropy.uuid(),
            topic.arn,
            subscription.arn,
            subscription.token,
            iso_8601_ms(registry.clock.now_ms()),
        )
        body = envelope.question(question, subscription.origin, self._signer, topic.settings.signature_version)
        if subscription.protocol in ("http", "https"):
            policy = delivery_policy.http_policy(
                topic.attributes.get("DeliveryPolicy"), subscription.attributes.get("DeliveryPolicy")
            )
            headers = http_headers(kind, question.message_id, topic.arn, subscription.arn, policy)
            delivery = NewDelivery(
                HTTP, subscription.arn, subscription.endpoint, headers, body, policy, message_id=question.message_id
            )
            self._outbox.put([delivery])
        elif subscription.protocol == "sqs":
            queue = self._messaging.find_queue(subscription.endpoint)
            if queue is not None:
                digest = md5(body.encode(), usedforsecurity=False).hexdigest()
                group_id = topic.name if queue.fifo else None
                arrival = Arrival(
                    queue,
                    body,
                    digest,
                    None,
                    None,
                    None,
                    SNS_SENDER_ID,
                    group_id,
                    question.message_id if queue.fifo else None,
                    via=subscription.arn,
                    origin=question.message_id,
                )
                self._messaging.deliver([arrival])
        else:
            document = {
                "message_id": question.message_id,
                "topic_arn": topic.arn,
                "subscription_arn": subscription.arn,
                "endpoint": subscription.endpoint,
                "token": subscription.token,
                **{name.lower(): value for name, value in orjson.loads(body).items() if name in ("Type", "Message")},
                "subscribe_url": orjson.loads(body)["SubscribeURL"],
            }
            self._outbox.record(subscription.protocol, topic.world, document)
