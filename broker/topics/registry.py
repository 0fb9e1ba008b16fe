"""The topics and subscriptions in RAM, in step with the store. Everything else of SNS works on these.

Everything is read anew after a transaction that did not happen; what metrics counted is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.limits import Limits
from broker.store.port import QueueStore, TopicStore
from broker.topics.topic import Subscription, Topic


class Registry:
    """`topics` and `subscriptions` are by ARN."""

    def __init__(
        self,
        store: TopicStore,
        queue_store: QueueStore,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
    ) -> None:
        self.store = store
        self.next_no = queue_store.next_no
        self.clock = clock
        self.commit = commit
        self.entropy = entropy
        self.limits = limits
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.on_load: list[Callable[[Subscription | Topic], None]] = []  # makes its appointments again
        self.on_unsubscribe: list[Callable[[Subscription], None]] = []
        self._sequenced: set[Topic] = set()
        commit.after_rollback.append(self.load)
        commit.before_commit.append(self._before_commit)

    def load(self) -> None:
        before = self.topics
        for topic in before.values():
            _cancel_archive(topic)
            for subscription in (*topic.subscriptions.values(), *topic.parted.values()):
                _cancel(subscription)
        self._sequenced.clear()
        self.topics, self.subscriptions = {}, {}
        by_no = {}
        for record in self.store.load_topics():
            topic = Topic.from_record(record)
            if topic.arn in before:
                topic.counts, topic.feedback = before[topic.arn].counts, before[topic.arn].feedback
            by_no[topic.topic_no] = self.topics[topic.arn] = topic
        for row in self.store.load_subscriptions():
            topic = by_no[row.topic_no]
            subscription = Subscription(row.subscription_no, topic, row.arn, json.loads(row.document))
            if subscription.parted_ms is None:
                self._keep(subscription)
            else:
                topic.parted[subscription.token] = subscription
        for resume in self.on_load:
            for topic in self.topics.values():
                resume(topic)
            for subscription in self.subscriptions.values():
                resume(subscription)
            for topic in self.topics.values():
                for subscription in topic.parted.values():
                    resume(subscription)

    def add_topic(self, topic: Topic) -> None:
        self.topics[topic.arn] = topic
        self.put_topic(topic)

    def put_topic(self, topic: Topic) -> None:
        self.store.put_topic(topic.record())

    def remove_topic(self, topic: Topic) -> None:
        del self.topics[topic.arn]
        self._sequenced.discard(topic)
        _cancel_archive(topic)
        for subscription in topic.subscriptions.values():
            del self.subscriptions[subscription.arn]
            self._gone(subscription)
        for subscription in topic.parted.values():
            _cancel(subscription)
        if topic.archive_no is not None:
            self.store.discard_archive(topic.archive_no)
        self.store.delete_topic(topic.topic_no)

    def add_subscription(self, topic: Topic, arn: str, document: dict[str, Any]) -> Subscription:
        subscription = Subscription(self.next_no(), topic, arn, document)
        self._keep(subscription)
        self.store.put_subscription(subscription.record())
        return subscription

    def put_subscription(self, subscription: Subscription) -> None:
        """Takes a changed definition into account and keeps it."""
        self.refilter(subscription)
        self.store.put_subscription(subscription.record())

    def remove_subscription(self, subscription: Subscription, parted_ms: int | None = None) -> None:
        """With `parted_ms` it can be restored by its token, until it is forgotten."""
        topic = subscription.topic
        del topic.subscriptions[subscription.arn], self.subscriptions[subscription.arn]
        topic.filters.remove(subscription)
        topic.deleted_count += 1
        self._gone(subscription)
        if parted_ms is None:
            self.store.delete_subscription(subscription.subscription_no)
        else:
            subscription.parted_ms = parted_ms
            topic.parted[subscription.token] = subscription
            self.store.put_subscription(subscription.record())
        self.put_topic(topic)

    def forget_subscription(self, subscription: Subscription) -> None:
        """A parted one is gone for good."""
        del subscription.topic.parted[subscription.token]
        self.store.delete_subscription(subscription.subscription_no)

    def restore_subscription(self, subscription: Subscription) -> None:
        del subscription.topic.parted[subscription.token]
        _cancel(subscription)
        subscription.parted_ms = None
        self._keep(subscription)
        self.store.put_subscription(subscription.record())

    def reset(self, account: str | None) -> None:
        """Forgets everything, or the topics of one account and its subscriptions to others'."""
        self.commit.enter()
        for topic in list(self.topics.values()):
            if account in (None, topic.world.account):
                self.remove_topic(topic)
        for subscription in list(self.subscriptions.values()):
            if subscription.owner == account:
                self.remove_subscription(subscription)

    def refilter(self, subscription: Subscription) -> None:
        settings = subscription.settings
        if subscription.live:
            subscription.topic.filters.add(subscription, settings.filter, settings.filter_scope)
        else:
            subscription.topic.filters.remove(subscription)

    def sequenced(self, topic: Topic) -> None:
        """Its last sequence number has changed."""
        self._sequenced.add(topic)

    def _before_commit(self) -> None:
        if self._sequenced:
            self.store.save_sequences([(topic.last_sequence, topic.topic_no) for topic in self._sequenced])
            self._sequenced.clear()

    def _keep(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.arn] = subscription
        subscription.topic.subscriptions[subscription.arn] = subscription
        self.refilter(subscription)

    def _gone(self, subscription: Subscription) -> None:
        _cancel(subscription)
        for tell in self.on_unsubscribe:
            tell(subscription)


def _cancel(subscription: Subscription) -> None:
    if subscription.expiry is not None:
        subscription.expiry.cancel()


def _cancel_archive(topic: Topic) -> None:
    if topic.archive_expiry is not None:
        topic.archive_expiry.cancel()
