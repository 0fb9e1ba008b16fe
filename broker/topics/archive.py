"""A FIFO topic's archive, and its replay to one subscription.

What is published while a subscription's replay runs comes to it through the archive as well, in its turn: the replay
ends where the archive does, and only then is the subscription given what is published at once. So nothing overtakes.
A replay goes in steps, each a transaction of its own, and after a restart from where it was.
Follows "Message archiving and replay for FIFO topics" in the developer guide. It says that a replayed message has an
attribute Replayed and not where; here it is a message attribute, which raw subscribers see too.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any

from broker.clock import iso_8601_ms
from broker.errors import InvalidParameterException, ReplayLimitExceededException
from broker.store.port import ArchivedMessage
from broker.sweeper import Sweeper
from broker.topics.envelope import Notification
from broker.topics.registry import Registry
from broker.topics.subscription_attributes import ReplayWindow
from broker.topics.topic import COMPLETED, FAILED, IN_PROGRESS, PENDING, Replay, Subscription, Topic

REPLAY_STEP = 100
SWEEP_ROWS = 500
_REPLAYED = {"Replayed": {"DataType": "String", "StringValue": "true"}}

Deliver = Callable[[Subscription, Sequence[Notification]], None]
"""Gives a subscription messages in order, by its filter policy."""


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


class Archives:
    """The archives of all topics."""

    def __init__(self, registry: Registry, deliver: Deliver) -> None:
        self._registry = registry
        self._store = registry.store
        self._clock = registry.clock
        self._deliver = deliver
        sweeper = Sweeper(registry.clock, registry.commit, lambda: registry.store.sweep_archives(SWEEP_ROWS))
        self.sweep_soon = sweeper.soon
        registry.commit.after_rollback.append(sweeper.resume)
        registry.on_load.append(self._resume)

    # the archive

    def follow_policy(self, topic: Topic) -> None:
        """Begins or ends the archive as the topic's ArchivePolicy has it."""
        retention_ms = topic.settings.archive_retention_ms
        if retention_ms is not None and topic.archive_no is None:
            topic.archive_no = self._registry.next_no()
            topic.archive_began_ms = self._clock.now_ms()
        elif retention_ms is None and topic.archive_no is not None:
            for subscription in topic.subscriptions.values():
                if subscription.replay is not None and subscription.replay.running:
                    self._give_up(subscription, subscription.replay)
            self._store.discard_archive(topic.archive_no)
            topic.archive_no = None
            self.sweep_soon()
        self._appoint_expiry(topic)

    def beginning_ms(self, topic: Topic) -> int:
        """The earliest moment that a replay can begin at."""
        retention_ms = topic.settings.archive_retention_ms or 0
        return max(topic.archive_began_ms, self._clock.now_ms() - retention_ms)

    def keep(self, topic: Topic, messages: Sequence[tuple[int, Notification]], now_ms: int) -> None:
        """Archives what was just published: sequence and message. Its subscribers in replay are served from here."""
        if topic.archive_no is None:
            return
        self._store.archive([ArchivedMessage(topic.archive_no, n, now_ms, _dumped(m)) for n, m in messages])
        if topic.archive_expiry is None:
            self._appoint_expiry(topic)

    def _appoint_expiry(self, topic: Topic) -> None:
        if topic.archive_expiry is not None:
            topic.archive_expiry.cancel()
            topic.archive_expiry = None
        retention_ms = topic.settings.archive_retention_ms
        if retention_ms is None or topic.archive_no is None:
            return
        oldest_ms = self._store.oldest_archived_ms(topic.archive_no)
        if oldest_ms is not None:
            topic.archive_expiry = self._clock.call_at(
                oldest_ms + retention_ms, lambda: self._registry.commit.run(self._expire, topic)
            )

    def _expire(self, topic: Topic) -> None:
        topic.archive_expiry = None
        retention_ms = topic.settings.archive_retention_ms
        if self._registry.topics.get(topic.arn) is not topic or retention_ms is None or topic.archive_no is None:
            return
        before_ms = self._clock.now_ms() - retention_ms + 1
        if self._store.delete_archived(topic.archive_no, before_ms, SWEEP_ROWS) == SWEEP_ROWS:
            self._clock.soon(lambda: self._registry.commit.run(self._expire, topic))
        else:
            self._appoint_expiry(topic)

    # replay

    def check_window(self, topic: Topic, window: ReplayWindow, subscription: Subscription | None = None) -> None:
        """Raises InvalidParameterException, ReplayLimitExceededException."""
        if topic.archive_no is None:
            raise _invalid("ReplayPolicy: the topic does not have an active ArchivePolicy")
        beginning_ms = self.beginning_ms(topic)
        if window.start_ms < beginning_ms:
            raise _invalid(
                f"ReplayPolicy: StartingPoint must not be before the archive's beginning at {iso_8601_ms(beginning_ms)}"
            )
        if window.start_ms > self._clock.now_ms():
            raise _invalid("ReplayPolicy: StartingPoint must not be in the future")
        limit = self._registry.limits.topic_replays
        running = sum(
            other.replay is not None and other.replay.running and other is not subscription
            for other in topic.subscriptions.values()
        )
        if limit is not None and running >= limit:
            raise ReplayLimitExceededException(f"Replay limit exceeded: {limit} at once")

    def start_replay(self, subscription: Subscription, window: ReplayWindow) -> None:
        """Begins a replay; one that runs already is given up for it."""
        topic = subscription.topic
        if topic.archive_no is None:  # it ended while the subscription waited to be confirmed
            subscription.replay = Replay(topic.last_sequence, window.end_ms, 0, FAILED)
        else:
            first = self._store.first_archived_since(topic.archive_no, window.start_ms)
            position = topic.last_sequence if first is None else first - 1
            subscription.replay = Replay(topic.last_sequence, window.end_ms, position, PENDING)
            self._step_soon(subscription, subscription.replay)
        self._registry.put_subscription(subscription)

    def stop_replay(self, subscription: Subscription) -> None:
        """Ends it; what was held behind it is delivered first."""
        replay = subscription.replay
        if replay is None:
            return
        if replay.running:
            self._release_held(subscription, replay)
        subscription.replay = None
        self._registry.put_subscription(subscription)

    def _give_up(self, subscription: Subscription, replay: Replay) -> None:
        self._release_held(subscription, replay)
        replay.status = FAILED
        self._registry.put_subscription(subscription)

    def _release_held(self, subscription: Subscription, replay: Replay) -> None:
        """Delivers what was published since the replay began, in order: nothing published meanwhile is lost."""
        archive_no = subscription.topic.archive_no
        if archive_no is None or replay.end_ms is not None:
            return
        position = max(replay.position, replay.began_sequence)
        while found := self._store.archived(archive_no, position, SWEEP_ROWS):
            position = found[-1].sequence
            self._deliver(subscription, [_loaded(m, replay) for m in found])

    def _step_soon(self, subscription: Subscription, replay: Replay) -> None:
        self._clock.soon(lambda: self._registry.commit.run(self._step, subscription, replay))

    def _step(self, subscription: Subscription, replay: Replay) -> None:
        topic = subscription.topic
        here = self._registry.subscriptions.get(subscription.arn) is subscription
        if not here or subscription.replay is not replay or not replay.running or topic.archive_no is None:
            return
        replay.status = IN_PROGRESS
        found = self._store.archived(topic.archive_no, replay.position, REPLAY_STEP)
        good = [m for m in found if replay.end_ms is None or m.published_ms <= replay.end_ms]
        self._deliver(subscription, [_loaded(m, replay) for m in good])
        if good:
            replay.position = good[-1].sequence
        past_end = replay.end_ms is not None and (len(good) < len(found) or self._clock.now_ms() > replay.end_ms)
        if len(found) == REPLAY_STEP and len(good) == len(found):
            self._step_soon(subscription, replay)
        elif replay.end_ms is None or past_end:
            replay.status = COMPLETED
        else:  # its end lies ahead: until then it goes on with what is published
            due_ms = replay.end_ms + 1
            self._clock.call_at(due_ms, lambda: self._registry.commit.run(self._step, subscription, replay))
        self._registry.put_subscription(subscription)

    def wake(self, topic: Topic) -> None:
        """Something was archived: replays whose end lies ahead have more to do."""
        for subscription in topic.subscriptions.values():
            replay = subscription.replay
            if replay is not None and replay.running and replay.end_ms is not None:
                self._step_soon(subscription, replay)

    def _resume(self, subscription: Subscription | Topic) -> None:
        if isinstance(subscription, Topic):
            self._appoint_expiry(subscription)
        elif subscription.replay is not None and subscription.replay.running:
            self._step_soon(subscription, subscription.replay)


def _dumped(message: Notification) -> str:
    document = message._asdict()
    document["attributes"] = {
        name: {**attribute, "BinaryValue": b64encode(attribute["BinaryValue"]).decode()}
        if attribute.get("BinaryValue")
        else attribute
        for name, attribute in message.attributes.items()
    }
    return json.dumps(document, separators=(",", ":"))


def _loaded(archived: ArchivedMessage, replay: Replay) -> Notification:
    document: dict[str, Any] = json.loads(archived.document)
    for attribute in document["attributes"].values():
        if "BinaryValue" in attribute:
            attribute["BinaryValue"] = b64decode(attribute["BinaryValue"])
    if archived.sequence <= replay.began_sequence:
        document["replayed"] = True
        document["attributes"] |= _REPLAYED
    return Notification(**document)
