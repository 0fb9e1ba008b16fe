"""Publish and PublishBatch to topics: validation, deduplication, sequence numbers, and then the fan-out.

A publish and all its deliveries to queues here are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from broker.clock import iso_8601_ms
from broker.errors import (
    BatchEntryIdsNotDistinctException,
    BatchRequestTooLongException,
    DomainError,
    EmptyBatchRequestException,
    InvalidBatchEntryIdException,
    InvalidParameterException,
    TooManyEntriesInBatchRequestException,
)
from broker.ledger import events
from broker.limits import DEDUPLICATION_MS, MAX_BATCH_ENTRIES
from broker.names import is_queue_name
from broker.queues.flow import Flow
from broker.topics import messages
from broker.topics.archive import Archives
from broker.topics.envelope import Notification
from broker.topics.fanout import Fanout
from broker.topics.messages import Publishing
from broker.topics.registry import Registry
from broker.topics.topic import Topic

_FIRST_SEQUENCE_NUMBER = 10_000_000_000_000_000_000
_SEQUENCE_STEP = 1_000


class Published(NamedTuple):
    """What the publisher is told."""

    message_id: str
    sequence_number: str | None = None


def sequence_number(sequence: int) -> str:
    """What clients see: 20 digits that grow within a topic."""
    return str(_FIRST_SEQUENCE_NUMBER + sequence * _SEQUENCE_STEP)


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


class Publisher:
    """Takes messages for topics. What is remembered of duplicates is kept beside the queues' own."""

    def __init__(self, registry: Registry, flow: Flow, archives: Archives, fanout: Fanout) -> None:
        self._registry = registry
        self._flow = flow
        self._archives = archives
        self._fanout = fanout

    def publish(self, topic: Topic, publishing: Publishing) -> Published:
        """Raises InvalidParameterException, InvalidParameterValueException."""
        text_by_protocol = self._check(topic, publishing)
        return self._accept(topic, [(publishing, text_by_protocol)])[0]

    def publish_batch(self, topic: Topic, entries: Sequence[tuple[str, Publishing]]) -> list[Published | DomainError]:
        """Each entry's own outcome, in order. Raises what is wrong with the batch as a whole."""
        ids = [id for id, _ in entries]
        if not ids:
            raise EmptyBatchRequestException
        if len(ids) > MAX_BATCH_ENTRIES:
            raise TooManyEntriesInBatchRequestException
        if not all(is_queue_name(id, fifo=False) for id in ids):  # the same rule as for queues' names
            raise InvalidBatchEntryIdException
        if len(set(ids)) < len(ids):
            raise BatchEntryIdsNotDistinctException
        if sum(messages.size_bytes(publishing) for _, publishing in entries) > topic.settings.maximum_message_bytes:
            raise BatchRequestTooLongException
        outcomes: list[Published | DomainError | None] = []
        good = []
        for _, publishing in entries:
            try:
                good.append((publishing, self._check(topic, publishing)))
                outcomes.append(None)
            except DomainError as error:
                outcomes.append(error)
        accepted = iter(self._accept(topic, good) if good else [])
        return [next(accepted) if outcome is None else outcome for outcome in outcomes]

    def _check(self, topic: Topic, publishing: Publishing) -> dict[str, str]:
        messages.check(publishing, topic.settings.maximum_message_bytes)
        if publishing.group_id is not None:
            messages.check_group("MessageGroupId", publishing.group_id)
        if publishing.deduplication_id is not None:
            if not topic.fifo:
                raise _invalid(
                    "MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not "
                    "valid for this topic type"
                )
            messages.check_group("MessageDeduplicationId", publishing.deduplication_id)
        if topic.fifo:
            if publishing.group_id is None:
                raise _invalid("The MessageGroupId parameter is required for FIFO topics")
            if publishing.deduplication_id is None and not topic.settings.content_based_deduplication:
                raise _invalid(
                    "The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
                    "provided explicitly"
                )
        return dict(messages.texts(publishing))

    def _accept(self, topic: Topic, good: Sequence[tuple[Publishing, dict[str, str]]]) -> list[Published]:
        registry = self._registry
        registry.commit.enter()
        now_ms = registry.clock.now_ms()
        timestamp = iso_8601_ms(now_ms)
        new: list[Notification] = []
        archived: list[tuple[int, Notification]] = []
        published: list[Published] = []
        for publishing, text_by_protocol in good:
            message_id = registry.entropy.uuid()
            deduplication_id = number = None
            if topic.fifo:
                deduplication_id = publishing.deduplication_id or sha256(publishing.message.encode()).hexdigest()
                scope = (publishing.group_id or "") if topic.settings.deduplicate_by_group else ""
                first = self._flow.store.find_duplicate(topic.topic_no, scope, deduplication_id, now_ms)
                if first is not None:
                    if self._flow.ledger.is_on:
                        self._flow.ledger.note(events.DEDUPLICATED, topic.arn, first[0])
                    published.append(Published(first[0], sequence_number(first[1])))
                    continue
                topic.last_sequence += 1
                number = sequence_number(topic.last_sequence)
                self._flow.store.remember_duplicate(
                    topic.topic_no, scope, deduplication_id, now_ms + DEDUPLICATION_MS, message_id, topic.last_sequence
                )
            notification = Notification(
                message_id,
                topic.arn,
                timestamp,
                publishing.subject,
                text_by_protocol,
                publishing.attributes,
                number,
                publishing.group_id,
                deduplication_id,
                publishing.trace_header,
            )
            new.append(notification)
            archived.append((topic.last_sequence, notification))
            published.append(Published(message_id, number))
            if self._flow.ledger.is_on:
                self._flow.ledger.published(topic.arn, message_id, group=publishing.group_id, sequence_number=number)
        topic.counts["NumberOfMessagesPublished"] += len(good)
        if new:
            if topic.fifo:
                registry.sequenced(topic)
                self._flow.forget_later()
                self._archives.keep(topic, archived, now_ms)
                self._archives.wake(topic)
            self._fanout.deliver(topic, new)
        return published
