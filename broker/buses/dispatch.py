"""From an event on a bus to the targets of the rules it matches: all that are in this broker in one transaction.

The way to queues is measured in microseconds: an event is digested once, whoever gets it. What a target refuses goes to
its dead-letter queue at once, because nothing in this broker is ever only unavailable; what is outside goes to the
outbox (remote.py). Rules are served in the order of their names, so that a seed replays a run. Ugly: a stream that is
throttled, as with AWS's quotas one is, counts as a target that refuses; AWS would try again.

Between buses an event travels once: "EventBridge can't route events received from a sender event bus to a third event
bus" (guide, "Sending events between event buses"), and not back either, so no loop of rules gets round.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from broker import event_dead_letters as dead_letters
from broker.buses import permissions
from broker.buses.bus import Bus, Rule, Target
from broker.buses.definitions import locate
from broker.buses.envelope import Event, digest
from broker.buses.registry import Registry
from broker.buses.remote import RemoteTargets
from broker.clock import iso_8601_ms
from broker.errors import DomainError
from broker.event_dead_letters import EVENTS_SENDER_ID
from broker.matching.json_path import MISSING, compile_path
from broker.matching.transformer import RuleContext, compact
from broker.policy import allows_service
from broker.queues import messages as queue_messages
from broker.queues.messaging import Arrival, Messaging
from broker.queues.queue import Queue
from broker.topics import Notifications, Publishing

# More of AWS's "sample of the error codes a DLQ can return": of events that have travelled once.
THIRD_ACCOUNT_HOP_DETECTED = "THIRD_ACCOUNT_HOP_DETECTED"
THIRD_REGION_HOP_DETECTED = "THIRD_REGION_HOP_DETECTED"

MAX_PARTITION_KEY_CHARS = 256  # Kinesis, PutRecord
_STREAM_ERRORS = {
    "ResourceNotFoundException": dead_letters.NO_RESOURCE,
    "InvalidArgumentException": dead_letters.INVALID_PARAMETER,
    "ProvisionedThroughputExceededException": dead_letters.THROTTLING,
}


class Streams(Protocol):
    def put_event(self, arn: str, partition_key: str, data: bytes) -> str | None:
        """Puts a record into a stream, in the current transaction; or an error code, where the stream refuses."""
        ...


class Refused(Exception):
    """A target does not take an event: one of a dead letter's error codes, and what to say."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Dispatch:
    """Delivers what comes to buses."""

    def __init__(
        self,
        registry: Registry,
        messaging: Messaging,
        notifications: Notifications,
        remote: RemoteTargets,
        streams: Streams | None = None,
    ) -> None:
        self._registry = registry
        self._messaging = messaging
        self.ledger = messaging.ledger
        self._notifications = notifications
        self._remote = remote
        self._streams = streams
        self.on_archive: Callable[[Rule, Event], None] = lambda rule, event: None

    def deliver(self, bus: Bus, event: Event) -> None:
        """To the targets of all rules of the bus that match it, inside the group's transaction."""
        self.deliver_all([(bus, event)])

    def deliver_all(self, events: Iterable[tuple[Bus, Event]]) -> None:
        """The same for several, in order."""
        arrivals: list[Arrival] = []
        for bus, event in events:
            self._match(bus, event, arrivals)
        if arrivals:
            self._messaging.deliver(arrivals)

    def give(self, rule: Rule, event: Event) -> None:
        """To the targets of one rule, whatever its pattern."""
        arrivals: list[Arrival] = []
        self._give(rule, event, arrivals)
        if arrivals:
            self._messaging.deliver(arrivals)

    def _match(self, bus: Bus, event: Event, arrivals: list[Arrival]) -> None:
        matched = bus.index.match(event.subject)
        if not matched:
            return
        bus.counts["MatchedEvents"] += 1
        for rule in sorted(matched, key=_name) if len(matched) > 1 else matched:
            self._give(rule, event, arrivals)

    def _give(self, rule: Rule, event: Event, arrivals: list[Arrival]) -> None:
        rule.counts["TriggeredRules"] += 1
        context = None
        for target in rule.targets:
            if context is None:
                context = RuleContext(rule.arn, rule.name, iso_8601_ms(event.ingested_ms))
            text = target.input.render(event.document, event.text, context)
            try:
                if (queue := self._messaging.find_queue(target.arn)) is not None:
                    arrivals.append(self._arrival(rule, target, queue, event, text))
                else:
                    self._send(rule, target, event, text, arrivals)
            except Refused as refusal:
                rule.counts["Invocations"] += 1
                rule.counts["FailedInvocations"] += 1
                self._bury(rule, target, event, refusal, arrivals)

    def _send(self, rule: Rule, target: Target, event: Event, text: str, arrivals: list[Arrival]) -> None:
        """To what is not a queue. Raises Refused."""
        service, _, rest = target.arn[4:].partition(":")[2].partition(":")
        if service == "sqs":
            raise Refused(dead_letters.NO_RESOURCE, "The specified queue does not exist.")
        if service == "sns":
            self._publish(rule, target, event, text)
        elif service == "kinesis":
            self._put_record(target, event, text)
        elif service == "events" and ":event-bus/" in rest:
            self._send_on(rule, target, event, arrivals)
            return
        elif service == "events" and rest.endswith(":::"):
            self.on_archive(rule, event)
            return
        else:
            code = self._remote.send(rule.arn, target.document, text, event.text, event.id)
            if code is not None:
                raise Refused(code, f"The target {target.arn} does not exist.")
            return
        rule.counts["Invocations"] += 1

    # queues

    def _arrival(self, rule: Rule, target: Target, queue: Queue, event: Event, text: str) -> Arrival:
        """Raises Refused."""
        md5, size_bytes = event.digest if text is event.text else digest(text)
        group_id = deduplication_id = None
        parameters = target.document.get("SqsParameters")
        if parameters is not None:
            group_id = parameters.get("MessageGroupId")
        if queue.fifo:
            if group_id is None:
                raise Refused(dead_letters.INVALID_PARAMETER, "The request must contain the parameter MessageGroupId.")
            if not queue.settings.content_based_deduplication:
                raise Refused(
                    dead_letters.INVALID_PARAMETER,
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
                    "explicitly",
                )
            deduplication_id = sha256(text.encode()).hexdigest()
        self._check_queue(rule, target, queue, size_bytes, text)
        rule.counts["Invocations"] += 1
        return Arrival(
            queue,
            text,
            md5,
            None,
            None,
            event.trace_header,
            EVENTS_SENDER_ID,
            group_id,
            deduplication_id,
            True,
            rule.arn,
            event.id,
        )

    def _check_queue(self, rule: Rule, target: Target, queue: Queue, size_bytes: int, text: str) -> None:
        limit_bytes = queue.settings.maximum_message_bytes
        if size_bytes > limit_bytes:
            raise Refused(
                dead_letters.INVALID_PARAMETER,
                f"One or more parameters are invalid. Reason: Message must be shorter than {limit_bytes} bytes.",
            )
        if not queue_messages.fits(text, {}):
            raise Refused(dead_letters.INVALID_PARAMETER, "The message contains characters outside the allowed set.")
        asked = self._registry.enforce_policies and "RoleArn" not in target.document
        if asked and not dead_letters.lets_rule_in(queue, rule.arn):
            raise _not_authorized("sqs:SendMessage", "queue")

    def _bury(self, rule: Rule, target: Target, event: Event, refusal: Refused, arrivals: list[Arrival]) -> None:
        """The event goes to the target's dead-letter queue, if it has one that takes it."""
        arn = (target.document.get("DeadLetterConfig") or {}).get("Arn")
        owner = f"{rule.arn}#{target.id}"
        if arn is None:
            if self.ledger.is_on:
                self.ledger.given_up(owner, event.id, 1, refusal.message)
            return
        queue = self._messaging.find_queue(arn)
        attributes = dead_letters.dead_letter_attributes(rule.arn, target.arn, refusal.code, refusal.message)
        size_bytes = event.digest[1] + queue_messages.size_bytes("", attributes)
        if (
            queue is None
            or queue.fifo
            or size_bytes > queue.settings.maximum_message_bytes
            or not queue_messages.fits(event.text, attributes)
            or (self._registry.enforce_policies and not dead_letters.lets_rule_in(queue, rule.arn))
        ):
            rule.counts["InvocationsFailedToBeSentToDlq"] += 1
            if self.ledger.is_on:
                self.ledger.given_up(owner, event.id, 1, refusal.message)
            return
        rule.counts["InvocationsSentToDlq"] += 1
        if self.ledger.is_on:
            self.ledger.given_up(owner, event.id, 1, refusal.message, arn)
        arrivals.append(
            Arrival(
                queue,
                event.text,
                event.digest[0],
                queue_messages.dump_attributes(attributes),
                queue_messages.md5_of_attributes(attributes),
                event.trace_header,
                EVENTS_SENDER_ID,
                None,
                None,
                via=owner,
                origin=event.id,
            )
        )

    # topics, streams

    def _publish(self, rule: Rule, target: Target, event: Event, text: str) -> None:
        topic = self._notifications.topics.get(target.arn)
        if topic is None:
            raise Refused(dead_letters.NO_RESOURCE, "Topic does not exist")
        if self._registry.enforce_policies and "RoleArn" not in target.document:
            account, policy = rule.bus.world.account, topic.attributes.get("Policy")
            if not allows_service(policy, "events.amazonaws.com", "sns:Publish", topic.arn, rule.arn, account):
                raise _not_authorized("SNS:Publish", "topic")
        try:
            self._notifications.publisher.publish(topic, Publishing(text, trace_header=event.trace_header))
        except DomainError as error:
            raise Refused(dead_letters.INVALID_PARAMETER, error.message) from None

    def _put_record(self, target: Target, event: Event, text: str) -> None:
        path = (target.document.get("KinesisParameters") or {}).get("PartitionKeyPath")
        key = event.id
        if path is not None:
            value = _compiled(path).find(event.document)
            if value is not MISSING:
                key = value if isinstance(value, str) else compact(value)
        if not 0 < len(key) <= MAX_PARTITION_KEY_CHARS:
            raise Refused(dead_letters.INVALID_PARAMETER, f"The partition key has {len(key)} characters.")
        error = "ResourceNotFoundException"
        if self._streams is not None:
            refusal = self._streams.put_event(target.arn, key, text.encode())
            if refusal is None:
                return
            error = refusal
        raise Refused(_STREAM_ERRORS.get(error, dead_letters.ERROR_FROM_TARGET), f"{error}: {target.arn}")

    # other buses

    def _send_on(self, rule: Rule, target: Target, event: Event, arrivals: list[Arrival]) -> None:
        here = rule.bus
        world, name = locate(here.world, target.arn)
        there = self._registry.find_bus(world, name)
        if there is not None and (there is here or there in event.hops):
            rule.counts["DeadLetterInvocations"] += 1  # "would result in running the same rule again"
            return
        if event.hops:
            if world.account != here.world.account:
                raise Refused(THIRD_ACCOUNT_HOP_DETECTED, "The event has come from another account's event bus.")
            if world.region != here.world.region:
                raise Refused(THIRD_REGION_HOP_DETECTED, "The event has come from another Region's event bus.")
            rule.counts["DeadLetterInvocations"] += 1
            return
        if there is None:
            raise Refused(dead_letters.NO_RESOURCE, f"Event bus {name} does not exist.")
        if self._registry.enforce_policies and not permissions.lets_in(
            there, here.world.account, event.document["source"], event.document["detail-type"], rule.arn
        ):
            raise _not_authorized("events:PutEvents", "event bus")
        rule.counts["Invocations"] += 1
        self._match(there, event.sent_on(here), arrivals)


_compiled = lru_cache(maxsize=1_024)(compile_path)


def _not_authorized(action: str, resource: str) -> Refused:
    return Refused(
        dead_letters.NO_PERMISSIONS, f"The rule is not authorized to perform: {action} on the {resource} by its policy."
    )


def _name(rule: Rule) -> str:
    return rule.name
