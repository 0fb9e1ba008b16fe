"""The outbox: what goes to remote ends is written in the transaction that caused it, and leaves after its commit.

The rule: a delivery is a row until its outcome is committed, so whoever is killed tries again: at least once, nothing
forgotten, order not promised. Each step (claim what is due, tell the outcome) is an ordinary operation of a group
commit. No I/O happens here: a driver claims, delivers and reports.

Beside it stands what nobody can deliver from here (SMS, push, e-mail, Firehose): kept for people to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from broker import delivery_policy
from broker.clock import RESUME_MS, Clock, Timer
from broker.commit import GroupCommit
from broker.delivery_policy import UNAVAILABLE, DeliveryPolicy, EventPolicy, HttpPolicy
from broker.entropy import Entropy
from broker.errors import BrokerFailure
from broker.event_dead_letters import THROTTLING, UNKNOWN, dead_letter_attributes, lets_rule_in
from broker.names import World, parse_arn
from broker.policy import allows_service
from broker.queues import messages as queue_messages
from broker.queues.messaging import Arrival, Messaging
from broker.queues.queue import Queue
from broker.store.port import DeliveryRecord, DeliveryStore, NewDeliveryRecord, ReadableRecord

HTTP, LAMBDA = "http", "lambda"
STATE_MACHINE, API_DESTINATION, AUTHORIZATION = "states", "api-destination", "authorization"

# How a delivery ends, under the names of SNS's metrics.
DELIVERED = "NumberOfNotificationsDelivered"
FAILED = "NumberOfNotificationsFailed"
REDRIVEN = "NumberOfNotificationsRedrivenToDlq"
FAILED_TO_REDRIVE = "NumberOfNotificationsFailedToRedriveToDlq"

LEASE_MS = 60_000  # beyond an attempt's own timeout: then somebody else may try
_STEP = 500

SNS_SENDER_ID = "AIDAIT2UOQQY3AUEKVGXU"  # whom queues show as the sender of SNS's messages

_NOTHING: Mapping[str, Any] = {}


class NewDelivery(NamedTuple):
    """Something to deliver. Its headers go out in the order given."""

    channel: str  # one of those above
    owner: str  # a subscription's ARN, or a rule's with a target's id: metrics, rate, what `drop` takes away
    target: str  # a URL, or an ARN
    headers: Mapping[str, Any]  # for an API destination the target's HttpParameters
    body: str
    policy: DeliveryPolicy
    dead_letter_arn: str | None = None
    dead_letter_body: str = ""
    dead_letter_attributes: queue_messages.Attributes = _NOTHING
    dead_letter_sender_id: str = SNS_SENDER_ID
    dead_letter_rule: tuple[str, str] | None = None  # EventBridge's: the rule's ARN and the target's
    message_id: str = ""  # of the message or the event that it is, for the ledger


class Attempt(NamedTuple):
    """A claimed delivery: whoever has it must report its outcome. `number` counts from 1."""

    id: int
    number: int
    channel: str
    owner: str
    target: str
    headers: Mapping[str, Any]
    body: str
    policy: DeliveryPolicy
    message_id: str = ""


class Outcome(NamedTuple):
    """What came of an attempt. `kind` is None for delivered, else a kind of failure of `delivery_policy`."""

    kind: str | None
    reason: str = ""  # for people: "HTTP 500", "no answer within 15 s"
    code: str = ""  # of broker/event_dead_letters.py
    retry_after_ms: int = 0  # what the endpoint asked for


class Ended(NamedTuple):
    """How a delivery ended: `result` is one of the four names above."""

    channel: str
    owner: str
    result: str
    attempts: int
    reason: str  # of the last failure; empty where it was delivered


class Signer(Protocol):
    """Signs what topics send. Given to the broker from outside: the engine knows no cryptography."""

    def sign(self, text: str, version: str) -> str:
        """The signature of AWS's string to sign, in base64; version "1" is SHA1withRSA, "2" SHA256withRSA."""
        ...

    def certificate_url(self, origin: str) -> str:
        """SigningCertURL. `origin` (`http://host:port`) is how the subscriber finds this broker."""
        ...


def http_headers(
    kind: str,
    message_id: str,
    topic_arn: str,
    subscription_arn: str | None,
    policy: HttpPolicy,
    *,
    raw: bool = False,
) -> dict[str, str]:
    """What SNS sends before a Notification, a SubscriptionConfirmation or an UnsubscribeConfirmation.

    Guide, "Parsing Amazon SNS message formats": a SubscriptionConfirmation names no subscription yet. The content
    type is the policy's for notifications only.
    """
    headers = {
        "x-amz-sns-message-type": kind,
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-topic-arn": topic_arn,
    }
    if subscription_arn is not None and kind != "SubscriptionConfirmation":
        headers["x-amz-sns-subscription-arn"] = subscription_arn
    if raw:
        headers["x-amz-sns-rawdelivery"] = "true"
    headers["Content-Type"] = policy.content_type if kind == "Notification" else delivery_policy.DEFAULT_CONTENT_TYPE
    headers["User-Agent"] = "Amazon Simple Notification Service Agent"
    return headers


def lets_topic_in(queue: Queue, topic_arn: str) -> bool:
    """Whether a queue's policy lets SNS send to it for this topic."""
    policy, account = queue.attributes.get("Policy"), topic_arn.split(":")[4]
    return allows_service(policy, "sns.amazonaws.com", "sqs:SendMessage", queue.arn, topic_arn, account)


class Outbox:
    """All remote deliveries of a broker.

    `wake` is called when there may be something to claim; `ended` are told what came of each delivery. What is given
    up goes to its dead-letter queue in the transaction that takes it out of here.
    """

    def __init__(
        self,
        store: DeliveryStore,
        clock: Clock,
        commit: GroupCommit,
        messaging: Messaging,
        entropy: Entropy | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._commit = commit
        self._messaging = messaging
        self._entropy = entropy or Entropy()
        self.enforce_policies = False  # whether a dead-letter queue's policy must let the topic or the rule in
        self.wake: Callable[[], None] = lambda: None
        self.ended: list[Callable[[Ended], None]] = []
        self.rates: dict[str, Callable[[str], int | None]] = {}  # by channel: how many a second a target takes
        self._due: Timer | None = None
        self._waking = False
        self._slots_us: dict[str, int] = {}  # by owner, or target: when its rate allows the next attempt
        self._slotted: set[int] = set()  # deliveries that wait for their turn with a target
        self._forgot_ms: int | None = None  # when it was last unknown what targets had been given
        commit.after_rollback.append(self._reload)

    def load(self) -> None:
        """Takes over what the store knows. What a process that is gone had claimed is due again."""
        self._commit.enter()
        self._store.release_claims()
        if self._store.next_delivery_ms() is not None:
            self._forget_slots()
        self._appoint()

    def clock_set_back(self) -> None:
        """What the rates had allowed was for another time."""
        self._forget_slots()
        self._appoint()

    def _reload(self) -> None:
        # The claims of attempts that are under way stand, or are made again when their lease ends.
        self._waking = False
        self._forget_slots()
        self._appoint_at(self._clock.now_ms() + RESUME_MS)

    # putting in and taking away

    def put(self, deliveries: Iterable[NewDelivery]) -> None:
        """They leave when the transaction of this moment is committed."""
        self._commit.enter()
        now_ms = self._clock.now_ms()
        self._store.insert_deliveries([_record(delivery, now_ms) for delivery in deliveries])
        self._wake_after_commit()

    def drop(self, owner: str) -> None:
        """The owner is gone, and so is what waited for it; what is under way is on its way."""
        self._commit.enter()
        self._store.delete_deliveries_of(owner)
        self._slots_us.pop(owner, None)

    def reset(self, account: str | None) -> None:
        self._commit.enter()
        self._store.clear_deliveries(account)
        self._store.delete_readable(None, account, None)
        self._forget_slots()

    # delivering

    def due(self, limit: int) -> list[Attempt]:
        """Claims what is due, the longest due first. Nothing may leave before this is committed."""
        self._commit.enter()
        now_ms = self._clock.now_ms()
        claimed: list[Attempt] = []
        looked = 0
        while len(claimed) < limit and looked < _STEP:
            records = self._store.due_deliveries(now_ms, limit - len(claimed))
            if not records:
                break
            looked += len(records)
            for record in records:
                attempt = self._claim(record, now_ms)
                if attempt is not None:
                    claimed.append(attempt)
        if len(claimed) < limit:
            self._appoint()
        return claimed

    def _claim(self, record: DeliveryRecord, now_ms: int) -> Attempt | None:
        policy = delivery_policy.read(record.policy)
        if isinstance(policy, EventPolicy) and policy.expired(now_ms - record.created_ms):
            code = THROTTLING if record.channel in self.rates else UNKNOWN
            self._give_up(record, policy, Outcome(UNAVAILABLE, "the event waited for too long", code), 0)
            return None
        if policy.max_receives_per_s is not None and not record.has_slot:
            slot_ms = self._slot_ms(record.owner, policy.max_receives_per_s, now_ms, self._store.last_slot_ms)
            if slot_ms > now_ms:
                self._store.move_delivery(record.id, slot_ms)
                return None
        if record.channel in self.rates and not self._may_go(record, now_ms):
            return None
        self._store.claim_delivery(record.id, now_ms, now_ms + policy.timeout_ms + LEASE_MS)
        return Attempt(
            record.id,
            record.attempts + 1,
            record.channel,
            record.owner,
            record.target,
            json.loads(record.headers),
            record.body,
            policy,
            record.message_id,
        )

    def _may_go(self, record: DeliveryRecord, now_ms: int) -> bool:
        """Whether the target's own rate allows it now; else it is moved to when it will.

        These slots are remembered in RAM only. Where they are forgotten, what waits lines up anew.
        """
        if record.id in self._slotted:
            self._slotted.remove(record.id)
            return True
        per_second = self.rates[record.channel](record.target)
        if per_second is None:
            return True
        slot_ms = self._slot_ms(record.target, per_second, now_ms, lambda target: self._forgot_ms)
        if slot_ms > now_ms:
            self._slotted.add(record.id)
            self._store.move_delivery(record.id, slot_ms)
        return slot_ms <= now_ms

    def _forget_slots(self) -> None:
        self._slots_us.clear()
        self._slotted.clear()
        self._forgot_ms = self._clock.now_ms()

    def _slot_ms(self, key: str, per_second: int, now_ms: int, last_slot_ms: Callable[[str], int | None]) -> int:
        """When an owner's or a target's rate allows the next attempt; it is taken."""
        next_us = self._slots_us.get(key)
        if next_us is None:
            last_ms = last_slot_ms(key)
            next_us = 0 if last_ms is None else last_ms * 1000 + 1_000_000 // per_second
            if len(self._slots_us) > 10_000:
                self._slots_us.clear()
                self._forgot_ms = now_ms
        slot_us = max(now_ms * 1000, next_us)
        self._slots_us[key] = slot_us + 1_000_000 // per_second
        return slot_us // 1000

    def report(self, attempt: Attempt, outcome: Outcome) -> None:
        """The outcome of an attempt that `due` gave. One that somebody else has claimed since is none of ours."""
        self._commit.enter()
        record = self._store.get_delivery(attempt.id)
        if record is None or record.attempts != attempt.number:
            return
        ledger = self._messaging.ledger
        if outcome.kind is None:
            if ledger.is_on:
                ledger.attempted(record.owner, record.message_id, record.attempts, 0, outcome="delivered")
            self._end(record, DELIVERED, outcome)
            return
        now_ms = self._clock.now_ms()
        failures = json.loads(record.failures)
        failures[outcome.kind] = count = failures.get(outcome.kind, 0) + 1
        policy, age_ms = attempt.policy, now_ms - record.created_ms
        if isinstance(policy, EventPolicy):
            delay_ms = policy.delay_ms(outcome.kind, count, age_ms, outcome.retry_after_ms, self._chance)
        else:
            delay_ms = policy.delay_ms(outcome.kind, count, age_ms)
        if ledger.is_on:
            again_ms = 0 if delay_ms is None else now_ms + delay_ms
            ledger.attempted(
                record.owner,
                record.message_id,
                record.attempts,
                again_ms,
                outcome=outcome.kind,
                why=outcome.reason,
                code=outcome.code,
            )
        if delay_ms is None:
            self._give_up(record, policy, outcome, count)
            return
        self._store.retry_delivery(record.id, now_ms + delay_ms, json.dumps(failures, separators=(",", ":")))
        if delay_ms == 0:
            self._wake_after_commit()
        else:
            self._appoint_at(now_ms + delay_ms)

    def _chance(self) -> float:
        return self._entropy.bits(32) / (1 << 32)

    def _give_up(self, record: DeliveryRecord, policy: DeliveryPolicy, outcome: Outcome, count: int) -> None:
        """After the `count`-th failure of a kind."""
        if record.dead_letter is None or not policy.dead_letters(outcome.kind or ""):
            self._note_end(record, outcome)
            self._end(record, FAILED, outcome)
            return
        letter = json.loads(record.dead_letter)
        rule = letter.get("rule")
        if rule is None:
            topic_arn = record.owner.rpartition(":")[0]
            text = letter["attributes"]
            moved = self._redrive(
                letter,
                queue_messages.load_attributes(text) if text else {},
                lambda queue: lets_topic_in(queue, topic_arn),
                record,
            )
        else:
            rule_arn, target_arn = rule
            exhausted = policy.exhausted(outcome.kind or "", count) if isinstance(policy, EventPolicy) else None
            attributes = dead_letter_attributes(
                rule_arn, target_arn, outcome.code, outcome.reason, exhausted, max(record.attempts - 1, 0)
            )
            moved = self._redrive(letter, attributes, lambda queue: lets_rule_in(queue, rule_arn), record)
        self._note_end(record, outcome, letter["queue_arn"] if moved else "")
        self._end(record, REDRIVEN if moved else FAILED_TO_REDRIVE, outcome)

    def _redrive(
        self,
        letter: dict[str, Any],
        attributes: queue_messages.Attributes,
        lets_in: Callable[[Queue], bool],
        record: DeliveryRecord,
    ) -> bool:
        """Whether the dead-letter queue is there and takes it."""
        queue, body = self._messaging.find_queue(letter["queue_arn"]), letter["body"]
        if queue is None or queue.fifo:
            return False
        size_bytes = queue_messages.size_bytes(body, attributes)
        if size_bytes > queue.settings.maximum_message_bytes or not queue_messages.fits(body, attributes):
            return False
        if self.enforce_policies and not lets_in(queue):
            return False
        arrival = Arrival(
            queue,
            body,
            queue_messages.md5_of_text(body),
            queue_messages.dump_attributes(attributes) if attributes else None,
            queue_messages.md5_of_attributes(attributes) if attributes else None,
            None,
            letter["sender_id"],
            None,
            None,
            via=record.owner,
            origin=record.message_id,
        )
        self._messaging.deliver([arrival])
        return True

    def _note_end(self, record: DeliveryRecord, outcome: Outcome, queue_arn: str = "") -> None:
        """It was given up, and is in this dead-letter queue or lost."""
        if self._messaging.ledger.is_on:
            self._messaging.ledger.given_up(record.owner, record.message_id, record.attempts, outcome.reason, queue_arn)

    def _end(self, record: DeliveryRecord, result: str, outcome: Outcome) -> None:
        self._store.delete_delivery(record.id)
        for listener in self.ended:
            listener(Ended(record.channel, record.owner, result, record.attempts, outcome.reason))

    # time

    def _wake_after_commit(self) -> None:
        if not self._waking:
            self._waking = True
            self._commit.then(self._committed)

    def _committed(self, failure: BrokerFailure | None) -> None:
        self._waking = False
        if failure is None:
            self.wake()

    def _appoint(self) -> None:
        due_ms = self._store.next_delivery_ms()
        if due_ms is not None:
            self._appoint_at(due_ms)

    def _appoint_at(self, due_ms: int) -> None:
        if self._due is not None and self._due.callback is not None:
            if self._due.when_ms <= due_ms:
                return
            self._due.cancel()
        self._due = self._clock.call_at(due_ms, self._wake_now)

    def _wake_now(self) -> None:
        self.wake()

    # what people read

    def record(self, channel: str, world: World, document: Mapping[str, Any]) -> None:
        """Keeps what would have been sent. `document` is JSON with the names AWS has for its parts."""
        self._commit.enter()
        self._store.insert_readable(
            channel, *world, self._clock.now_ms(), json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        )

    def read(
        self, channel: str | None, account: str | None, region: str | None, after: int, limit: int
    ) -> list[ReadableRecord]:
        """What was kept, the oldest first, from the one after the id `after` on. None means all."""
        self._commit.enter()
        return self._store.readable(channel, account, region, after, limit)

    def clear(self, channel: str | None, account: str | None, region: str | None) -> int:
        """How many there were."""
        self._commit.enter()
        return self._store.delete_readable(channel, account, region)


def _record(delivery: NewDelivery, now_ms: int) -> NewDeliveryRecord:
    arn = parse_arn(delivery.owner)
    letter = None
    if delivery.dead_letter_arn is not None:
        attributes = delivery.dead_letter_attributes
        document = {
            "queue_arn": delivery.dead_letter_arn,
            "body": delivery.dead_letter_body,
            "attributes": queue_messages.dump_attributes(attributes) if attributes else None,
            "rule": delivery.dead_letter_rule,
            "sender_id": delivery.dead_letter_sender_id,
        }
        letter = json.dumps(document, separators=(",", ":"))
    return NewDeliveryRecord(
        due_ms=now_ms,
        created_ms=now_ms,
        account=arn.account if arn else "",
        owner=delivery.owner,
        channel=delivery.channel,
        target=delivery.target,
        headers=json.dumps(delivery.headers, separators=(",", ":")),
        body=delivery.body,
        policy=delivery_policy.write(delivery.policy),
        dead_letter=letter,
        message_id=delivery.message_id,
    )
