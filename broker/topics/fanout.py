"""From a published message to its subscribers: who gets it, what each reads, and what becomes of what cannot arrive.

The way to queues is measured in microseconds a delivery: a text is rendered and digested once, and only the link to
unsubscribe is each subscription's own. Deliveries are in the order the subscriptions were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import md5

from broker.delivery import SNS_SENDER_ID, Signer, lets_topic_in
from broker.queues import messages as queue_messages
from broker.queues.messaging import Arrival, Messaging
from broker.queues.queue import Queue
from broker.topics import envelope
from broker.topics.envelope import Notification, Signed
from broker.topics.feedback import count_feedback
from broker.topics.filters import Filters
from broker.topics.registry import Registry
from broker.topics.remote import Remote
from broker.topics.topic import Subscription, Topic


class Fanout:
    """Delivers what topics publish."""

    def __init__(self, registry: Registry, messaging: Messaging, remote: Remote, signer: Signer) -> None:
        self._registry = registry
        self._messaging = messaging
        self._remote = remote
        self._signer = signer
        self.enforce_policies = False  # whether a queue's policy must let the topic in

    def deliver(self, topic: Topic, notifications: Sequence[Notification]) -> None:
        """To all that are to get it now, inside the group's transaction."""
        filters = topic.filters
        if not len(filters):
            return
        arrivals: list[Arrival] = []
        for notification in notifications:
            chosen: Iterable[Subscription] = filters.unfiltered
            if len(filters.unfiltered) < len(filters):
                chosen = found = _chosen(filters, notification)
                topic.counts["NumberOfNotificationsFilteredOut"] += len(filters) - len(found)
            self._give(topic, chosen, Rendering(notification, self._signer, topic), arrivals)
        if arrivals:
            self._messaging.deliver(arrivals)

    def deliver_to(self, subscription: Subscription, notifications: Sequence[Notification]) -> None:
        """To one subscription, by its filter policy: for replays."""
        settings = subscription.settings
        filters: Filters[Subscription] = Filters()
        filters.add(subscription, settings.filter, settings.filter_scope)
        arrivals: list[Arrival] = []
        topic = subscription.topic
        for notification in notifications:
            self._give(topic, _chosen(filters, notification), Rendering(notification, self._signer, topic), arrivals)
        if arrivals:
            self._messaging.deliver(arrivals)

    def _give(
        self, topic: Topic, subscriptions: Iterable[Subscription], rendering: Rendering, arrivals: list[Arrival]
    ) -> None:
        find_queue = self._messaging.find_queue
        notification = rendering.notification
        fresh = not notification.replayed
        group_id, deduplication_id = notification.group_id, notification.deduplication_id
        delivered = 0
        for subscription in subscriptions:
            if subscription.protocol != "sqs":
                self._remote.send(subscription, rendering)
                continue
            if subscription.settings.raw:
                text = rendering.raw(subscription.protocol)
                body, digest, size_bytes = text.body, text.digest, text.size_bytes
                attributes, attributes_md5 = rendering.raw_attributes()
                fits = text.fits
            else:
                enveloped = rendering.enveloped(subscription)
                body, digest = enveloped.around(subscription)
                size_bytes = enveloped.size_bytes + len(subscription.unsubscribe_url)
                attributes = attributes_md5 = None
                fits = True
            queue = find_queue(subscription.endpoint)
            arrival = Arrival(
                queue,  # type: ignore[arg-type]  # a missing one is refused below
                body,
                digest,
                attributes,
                attributes_md5,
                notification.trace_header,
                SNS_SENDER_ID,
                group_id,
                deduplication_id,
                fresh,
                subscription.arn,
                notification.message_id,
            )
            if fits and queue is not None and self._takes(queue, topic, size_bytes, arrival):
                arrivals.append(arrival)
                delivered += 1
                continue
            topic.counts["NumberOfNotificationsFailed"] += 1
            count_feedback(topic, "sqs", "Failure", 1)
            target = subscription.settings.dead_letter_arn
            if target is None:
                self._note_refusal(subscription, notification)
                continue
            queue = find_queue(target)
            if not fits:  # SQS holds no such message; in its envelope it is kept all the same
                enveloped = rendering.enveloped(subscription)
                body, digest = enveloped.around(subscription)
                size_bytes = enveloped.size_bytes + len(subscription.unsubscribe_url)
                arrival = arrival._replace(body=body, md5=digest, attributes=None, attributes_md5=None)
            if queue is not None and self._takes(queue, topic, size_bytes, arrival):
                topic.counts["NumberOfNotificationsRedrivenToDlq"] += 1
                self._note_refusal(subscription, notification, queue.arn)
                arrivals.append(arrival._replace(queue=queue))
            else:
                topic.counts["NumberOfNotificationsFailedToRedriveToDlq"] += 1
                self._note_refusal(subscription, notification)
        if delivered:
            topic.counts["NumberOfNotificationsDelivered"] += delivered
            if topic.settings.feedback:
                count_feedback(topic, "sqs", "Success", delivered)

    def _note_refusal(self, subscription: Subscription, notification: Notification, dead_letter_arn: str = "") -> None:
        ledger = self._messaging.ledger
        if ledger.is_on:
            why = "the queue is not there or does not take it"
            ledger.given_up(subscription.arn, notification.message_id, 1, why, dead_letter_arn)

    def _takes(self, queue: Queue, topic: Topic, size_bytes: int, arrival: Arrival) -> bool:
        """Whether a queue takes it, as the endpoint or as the dead-letter queue."""
        return (
            size_bytes <= queue.settings.maximum_message_bytes
            and not (queue.fifo and arrival.group_id is None)
            and not (self.enforce_policies and not lets_topic_in(queue, topic.arn))
        )


def _chosen(filters: Filters[Subscription], notification: Notification) -> list[Subscription]:
    """Where protocols have texts of their own, a policy on the body is on the text that the subscriber would get."""
    found = set(filters.unfiltered)
    texts = notification.texts
    default = texts["default"]
    for text in dict.fromkeys([default, *texts.values()]):
        matched = filters.match(notification.attributes, text)
        found.update(s for s in matched if len(texts) == 1 or texts.get(s.protocol, default) == text)
    return sorted(found, key=lambda subscription: subscription.subscription_no)


class RawText:
    """A text as raw subscribers get it. Not all fit into SQS: it takes fewer attributes, and fewer characters."""

    __slots__ = ("body", "digest", "fits", "size_bytes")

    def __init__(self, body: str, attributes: queue_messages.Attributes) -> None:
        encoded = body.encode()
        attributes_bytes = queue_messages.size_bytes("", attributes) if attributes else 0
        self.fits = queue_messages.fits(body, attributes)
        self.body = body
        self.digest = md5(encoded, usedforsecurity=False).hexdigest()
        self.size_bytes = len(encoded) + attributes_bytes


class EnvelopedText:
    """A text in its envelope, open where the link to unsubscribe goes."""

    __slots__ = ("_digest", "_head", "_tail", "_tail_bytes", "size_bytes")

    def __init__(self, head: str, tail: str) -> None:
        encoded = head.encode()
        self._head, self._tail = head, tail
        self._tail_bytes = tail.encode()
        self._digest = md5(encoded, usedforsecurity=False)
        self.size_bytes = len(encoded) + len(self._tail_bytes)

    def around(self, subscription: Subscription) -> tuple[str, str]:
        """The envelope for one subscription, and its MD5."""
        url = subscription.unsubscribe_url
        digest = self._digest.copy()
        digest.update(url.encode() + self._tail_bytes)
        return self._head + url + self._tail, digest.hexdigest()


class Rendering:
    """A notification in the forms its subscribers read, each made when it is first asked for."""

    __slots__ = ("_attributes", "_enveloped", "_raw", "_signatures", "_signer", "notification", "topic")

    def __init__(self, notification: Notification, signer: Signer, topic: Topic) -> None:
        self.notification = notification
        self.topic = topic
        self._signer = signer
        self._signatures: dict[str, str] = {}
        self._raw: dict[str, RawText] = {}
        self._enveloped: dict[tuple[str, str], EnvelopedText] = {}
        self._attributes: tuple[str | None, str | None] | None = None

    def text(self, protocol: str) -> str:
        texts = self.notification.texts
        return texts.get(protocol, texts["default"])

    def raw(self, protocol: str) -> RawText:
        text = self.text(protocol)
        found = self._raw.get(text)
        if found is None:
            found = self._raw[text] = RawText(text, self.notification.attributes)
        return found

    def raw_attributes(self) -> tuple[str | None, str | None]:
        """As the store of queues keeps them, and their MD5."""
        if self._attributes is None:
            attributes = self.notification.attributes
            self._attributes = (
                (queue_messages.dump_attributes(attributes), queue_messages.md5_of_attributes(attributes))
                if attributes
                else (None, None)
            )
        return self._attributes

    def signed(self, text: str, origin: str) -> Signed:
        """One signature a text, whoever gets it; where the certificate is found depends on the way to the broker."""
        version = self.topic.settings.signature_version
        signature = self._signatures.get(text)
        if signature is None:
            to_sign = envelope.notification_to_sign(self.notification, text)
            signature = self._signatures[text] = self._signer.sign(to_sign, version)
        return Signed(version, signature, self._signer.certificate_url(origin))

    def enveloped(self, subscription: Subscription) -> EnvelopedText:
        text, origin = self.text(subscription.protocol), subscription.origin
        found = self._enveloped.get((text, origin))
        if found is None:
            signed = None if self.topic.fifo else self.signed(text, origin)
            found = EnvelopedText(*envelope.around(self.notification, text, signed))
            self._enveloped[text, origin] = found
        return found
