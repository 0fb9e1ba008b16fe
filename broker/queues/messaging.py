"""What producers and consumers do: send, receive, delete, change visibility, alone and in batches.

Each operation is one transaction, and refuses before it changes anything. Names and errors are the API reference's.
What is checked here is what depends on a queue or on AWS's rules of content; that a parameter is there and of its
type was checked by whoever decoded the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from broker.entropy import Entropy
from broker.errors import (
    BatchEntryIdsNotDistinct,
    BatchRequestTooLong,
    DomainError,
    EmptyBatchRequest,
    InvalidBatchEntryId,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    OverLimit,
    ReceiptHandleIsInvalid,
    Throttled,
    TooManyEntriesInBatchRequest,
)
from broker.limits import (
    DEDUPLICATION_MS,
    MAX_BATCH_ENTRIES,
    MAX_DELAY_S,
    MAX_MESSAGE_BYTES,
    MAX_VISIBILITY_TIMEOUT_S,
    MAX_WAIT_TIME_S,
    RECEIVE_ATTEMPT_MS,
    Limits,
)
from broker.names import is_queue_name
from broker.queues import faults, fifo, messages, receipts
from broker.queues.flow import Flow
from broker.queues.queue import Queue
from broker.store.port import MessageState, NewMessage, StoredMessage, row_id, shelf_of
from broker.waiters import Waiter

_EMPTY: Mapping[str, Any] = {}
_MAX_UTF8_BYTES = 4


class Sending(NamedTuple):
    """One message as a producer gives it."""

    body: str
    delay_s: int | None = None
    attributes: messages.Attributes = _EMPTY
    trace_header: str | None = None
    trace_attributes: messages.Attributes = _EMPTY  # the system attributes, for their digest
    group_id: str | None = None
    deduplication_id: str | None = None


class Sent(NamedTuple):
    """What the producer is told."""

    message_id: str
    md5: str
    attributes_md5: str | None
    trace_attributes_md5: str | None
    sequence_number: str | None


class Arrival(NamedTuple):
    """A message that another service of this broker delivers: checked, digested and addressed already."""

    queue: Queue
    body: str
    md5: str
    attributes: str | None  # as the store keeps them
    attributes_md5: str | None
    trace_header: str | None
    sender_id: str
    group_id: str | None  # not None where the queue is FIFO
    deduplication_id: str | None
    deduplicate: bool = True  # not where a message is meant to come again
    via: str = ""  # for the ledger: the subscription or the rule that brings it,
    origin: str = ""  # and the message or event that it is a copy of


class Messaging:
    """Messages of all queues."""

    def __init__(self, flow: Flow, entropy: Entropy, limits: Limits) -> None:
        self._flow = flow
        self._store = flow.store
        self._clock = flow.clock
        self._commit = flow.commit
        self._faults = flow.faults
        self.ledger = flow.ledger
        self._entropy = entropy
        self._limits = limits

    # sending

    def send(self, queue: Queue, sending: Sending, sender_id: str) -> Sent:
        """Raises what SendMessage raises."""
        if queue.fifo:
            self._throttle(queue, "send", [sending.group_id])
        self._check_sending(queue, sending)
        return self._accept(queue, [sending], sender_id, "SendMessage")[0]

    def send_batch(
        self, queue: Queue, entries: Sequence[tuple[str, Sending]], sender_id: str
    ) -> list[Sent | DomainError]:
        """Each entry's own outcome, in order. Raises what is wrong with the batch as a whole."""
        self._check_batch("SendMessageBatchRequestEntry", [id for id, _ in entries])
        total = sum(messages.size_bytes(s.body, _sized(s)) for _, s in entries)
        if total > MAX_MESSAGE_BYTES:
            raise BatchRequestTooLong(
                f"Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have sent {total} bytes."
            )
        self._throttle(queue, "send", {sending.group_id for _, sending in entries})
        outcomes: list[Sent | DomainError] = []
        good: list[Sending] = []
        refused: dict[int, DomainError] = {}
        for place, (_, sending) in enumerate(entries):
            try:
                self._check_sending(queue, sending)
                good.append(sending)
            except DomainError as error:
                refused[place] = error
        accepted = iter(self._accept(queue, good, sender_id, "SendMessageBatch") if good else [])
        for place in range(len(entries)):
            outcomes.append(refused[place] if place in refused else next(accepted))
        return outcomes

    def _check_sending(self, queue: Queue, sending: Sending) -> None:
        if not sending.body:
            raise MissingParameter("The request must contain the parameter MessageBody.")
        messages.check_body(sending.body)
        if sending.attributes:
            messages.check_attributes(sending.attributes)
        settings = queue.settings
        # No character takes more than four bytes: most messages need not be measured.
        if sending.attributes or len(sending.body) * _MAX_UTF8_BYTES > settings.maximum_message_bytes:
            size = messages.size_bytes(sending.body, sending.attributes)
            if size > settings.maximum_message_bytes:
                raise InvalidParameterValue(
                    "One or more parameters are invalid. "
                    f"Reason: Message must be shorter than {settings.maximum_message_bytes} bytes."
                )
        if sending.delay_s is not None:
            if not 0 <= sending.delay_s <= MAX_DELAY_S:
                raise InvalidParameterValue(
                    f"Value {sending.delay_s} for parameter DelaySeconds is invalid. "
                    f"Reason: DelaySeconds must be >= 0 and <= {MAX_DELAY_S}."
                )
            if queue.fifo and sending.delay_s:
                raise InvalidParameterValue(
                    f"Value {sending.delay_s} for parameter DelaySeconds is invalid. "
                    "Reason: The request include parameter that is not valid for this queue type."
                )
        if sending.group_id is not None:
            _check_id("MessageGroupId", sending.group_id)
        if sending.deduplication_id is not None:
            _check_id("MessageDeduplicationId", sending.deduplication_id)
        if not queue.fifo:
            if sending.deduplication_id is not None:
                raise InvalidParameterValue(
                    f"Value {sending.deduplication_id} for parameter MessageDeduplicationId is invalid. "
                    "Reason: The request include parameter that is not valid for this queue type."
                )
        elif sending.group_id is None:
            raise MissingParameter("The request must contain the parameter MessageGroupId.")
        elif sending.deduplication_id is None and not settings.content_based_deduplication:
            raise InvalidParameterValue(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
                "explicitly"
            )

    def _accept(self, queue: Queue, sendings: Sequence[Sending], sender_id: str, operation: str) -> list[Sent]:
        self._commit.enter()
        now_ms = self._clock.now_ms()
        settings = queue.settings
        new: list[NewMessage] = []
        sent: list[Sent] = []
        for sending in sendings:
            digest = messages.md5_of_text(sending.body)
            attributes_md5 = messages.md5_of_attributes(sending.attributes) if sending.attributes else None
            trace_md5 = messages.md5_of_attributes(sending.trace_attributes) if sending.trace_attributes else None
            deduplication_id = number = None
            if queue.fifo:
                deduplication_id = sending.deduplication_id or sha256(sending.body.encode()).hexdigest()
                scope = (sending.group_id or "") if settings.deduplicate_by_group else ""
                first = self._store.find_duplicate(queue.queue_no, scope, deduplication_id, now_ms)
                if first is not None:
                    if self.ledger.is_on:
                        self.ledger.deduplicated(queue.arn, first[0], digest)
                    sent.append(Sent(first[0], digest, attributes_md5, trace_md5, fifo.sequence_number(first[1])))
                    continue
                number = fifo.sequence_number(queue.last_sequence + 1)
            queue.last_sequence += 1
            message_id = self._entropy.uuid()
            delay_ms = settings.delay_ms if sending.delay_s is None or queue.fifo else sending.delay_s * 1000
            new.append(
                NewMessage(
                    row_id(queue.shelf_no, queue.last_sequence),
                    queue.shelf_no,
                    now_ms + delay_ms,
                    now_ms,
                    message_id,
                    sending.body,
                    digest,
                    messages.dump_attributes(sending.attributes) if sending.attributes else None,
                    attributes_md5,
                    sending.trace_header,
                    sender_id,
                    sending.group_id,
                    deduplication_id,
                    None,
                )
            )
            if deduplication_id is not None:
                self._store.remember_duplicate(
                    queue.queue_no, scope, deduplication_id, now_ms + DEDUPLICATION_MS, message_id, queue.last_sequence
                )
            sent.append(Sent(message_id, digest, attributes_md5, trace_md5, number))
        if new:
            if self.ledger.is_on:
                self.ledger.sent(queue.arn, new)
            if "send" in self._faults.points:
                new = faults.on_send(self._flow, queue, new, operation)
            self._flow.insert(queue, new)
            if queue.fifo:
                self._flow.forget_later()
        return sent

    # from another service

    def find_queue(self, arn: str) -> Queue | None:
        return self._flow.by_arn.get(arn)

    def deliver(self, arrivals: Iterable[Arrival]) -> None:
        """Puts messages into queues, in order. Nothing is checked again and nothing throttled."""
        self._commit.enter()
        now_ms = self._clock.now_ms()
        store, uuid = self._store, self._entropy.uuid
        new: dict[Queue, list[NewMessage]] = {}
        noted: dict[str, Arrival] | None = {} if self.ledger.is_on else None
        for arrival in arrivals:
            queue = arrival.queue
            fifo = queue.fifo
            if fifo and arrival.deduplicate and self._is_repeated(arrival, now_ms):
                continue
            queue.last_sequence = sequence = queue.last_sequence + 1
            shelf_no, group_id = queue.shelf_no, arrival.group_id
            message_id = uuid()
            if fifo:
                store.remember_duplicate(
                    queue.queue_no,
                    (group_id or "") if queue.settings.deduplicate_by_group else "",
                    arrival.deduplication_id or "",
                    now_ms + DEDUPLICATION_MS,
                    message_id,
                    sequence,
                )
            message = NewMessage(
                row_id(shelf_no, sequence),
                shelf_no,
                now_ms + queue.settings.delay_ms,
                now_ms,
                message_id,
                arrival.body,
                arrival.md5,
                arrival.attributes,
                arrival.attributes_md5,
                arrival.trace_header,
                arrival.sender_id,
                group_id,
                arrival.deduplication_id if fifo else None,
                None,
            )
            if noted is not None:
                noted[message_id] = arrival
            if queue in new:
                new[queue].append(message)
            else:
                new[queue] = [message]
        if noted:
            for queue, messages in new.items():
                for message in messages:
                    arrival = noted[message.message_id]
                    self.ledger.arrived(queue.arn, message, arrival.origin, via=arrival.via)
        if "send" in self._faults.points:
            new = {queue: faults.on_send(self._flow, queue, sent, "Deliver") for queue, sent in new.items()}
        self._flow.insert_all(new)

    def _is_repeated(self, arrival: Arrival, now_ms: int) -> bool:
        queue = arrival.queue
        scope = (arrival.group_id or "") if queue.settings.deduplicate_by_group else ""
        return self._store.find_duplicate(queue.queue_no, scope, arrival.deduplication_id or "", now_ms) is not None

    # receiving

    def receive(
        self,
        queue: Queue,
        limit: int | None = None,
        visibility_timeout_s: int | None = None,
        wait_time_s: int | None = None,
        attempt_id: str | None = None,
    ) -> list[StoredMessage] | Waiter[StoredMessage]:
        """Messages, or who waits for them: set its `done`. Raises what ReceiveMessage raises."""
        limit = 1 if limit is None else limit
        if not 1 <= limit <= MAX_BATCH_ENTRIES:
            raise InvalidParameterValue(
                f"Value {limit} for parameter MaxNumberOfMessages is invalid. "
                f"Reason: Must be between 1 and {MAX_BATCH_ENTRIES}, if provided."
            )
        if wait_time_s is not None and not 0 <= wait_time_s <= MAX_WAIT_TIME_S:
            raise InvalidParameterValue(
                f"Value {wait_time_s} for parameter WaitTimeSeconds is invalid. "
                f"Reason: Must be >= 0 and <= {MAX_WAIT_TIME_S}, if provided."
            )
        if visibility_timeout_s is not None and not 0 <= visibility_timeout_s <= MAX_VISIBILITY_TIMEOUT_S:
            raise InvalidParameterValue(
                f"Value {visibility_timeout_s} for parameter VisibilityTimeout is invalid. "
                f"Reason: Must be >= 0 and <= {MAX_VISIBILITY_TIMEOUT_S}, if provided."
            )
        if attempt_id is not None:
            if not queue.fifo:
                raise InvalidParameterValue(
                    f"Value {attempt_id} for parameter ReceiveRequestAttemptId is invalid. "
                    "Reason: The request include parameter that is not valid for this queue type."
                )
            if not messages.GROUP_OR_DEDUPLICATION_ID.fullmatch(attempt_id):
                raise InvalidParameterValue(
                    f"Value {attempt_id} for parameter ReceiveRequestAttemptId is invalid. Reason: "
                    "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. "
                    "1 to 128 in length."
                )
        if queue.fifo:
            self._throttle(queue, "receive", [None])
        self._commit.enter()
        wait_ms = queue.settings.wait_time_ms if wait_time_s is None else wait_time_s * 1000
        if "receive" in self._faults.points and not wait_ms and faults.comes_back_empty(self._flow, queue):
            return []
        found = self._receive_now(queue, limit, visibility_timeout_s, attempt_id)
        if found or not wait_ms or self._flow.ending:
            return found

        ledger = self._flow.ledger
        by = ledger.by

        def take() -> list[StoredMessage]:
            sender, ledger.by = ledger.by, by
            try:
                return self._receive_now(queue, limit, visibility_timeout_s, attempt_id)
            except OverLimit:  # who waits already waits on
                return []
            finally:
                ledger.by = sender

        waiter = Waiter(queue, take, self._clock, self._clock.now_ms() + wait_ms)
        self._flow.appoint_wake(queue)
        return waiter

    def _receive_now(
        self, queue: Queue, limit: int, visibility_timeout_s: int | None, attempt_id: str | None
    ) -> list[StoredMessage]:
        now_ms = self._clock.now_ms()
        timeout_ms = (
            queue.settings.visibility_timeout_ms if visibility_timeout_s is None else visibility_timeout_s * 1000
        )
        if attempt_id is not None:
            repeated = self._repeat_attempt(queue, attempt_id, now_ms, now_ms + timeout_ms)
            if repeated:
                return repeated
        if self._limits.in_flight is not None and queue.in_flight_bound + limit > self._limits.in_flight:
            limit = min(limit, self._room_in_flight(queue, now_ms))
            if limit <= 0:
                return []
        found = self._flow.receive(queue, limit, now_ms, now_ms + timeout_ms)
        if attempt_id is not None and found:
            document = json.dumps({"visible_ms": now_ms + timeout_ms, "ids": [[m.id, m.receive_count] for m in found]})
            self._store.remember_attempt(queue.queue_no, attempt_id, now_ms + RECEIVE_ATTEMPT_MS, document)
            self._flow.forget_later()
        return found

    def _room_in_flight(self, queue: Queue, now_ms: int) -> int:
        assert self._limits.in_flight is not None
        in_flight, _ = self._store.unavailable_counts(queue.shelf_no, now_ms)
        queue.in_flight_bound = in_flight
        room = self._limits.in_flight - in_flight
        if room <= 0 and not queue.fifo:  # "If you reach this limit, Amazon SQS returns no error messages" for FIFO
            raise OverLimit(
                f"Too many messages in flight: the limit for queue {queue.name} is {self._limits.in_flight}."
            )
        return room

    def _repeat_attempt(self, queue: Queue, attempt_id: str, now_ms: int, visible_ms: int) -> list[StoredMessage]:
        """The same messages under the same receipt handles, as long as nobody has touched them since."""
        text = self._store.find_attempt(queue.queue_no, attempt_id, now_ms)
        if text is None:
            return []
        attempt = json.loads(text)
        counts = dict(attempt["ids"])
        found = sorted(m for m in self._store.get(list(counts)) if shelf_of(m.id) == queue.shelf_no)
        untouched = len(found) == len(counts) and all(
            m.visible_ms == attempt["visible_ms"] and m.receive_count == counts[m.id] for m in found
        )
        if not untouched or attempt["visible_ms"] <= now_ms:
            return []
        self._store.set_visible(list(counts), visible_ms)
        for group_id in {m.group_id or "" for m in found}:
            fifo.regroup(self._flow, queue, group_id)
        if self.ledger.is_on:
            self.ledger.delivered(queue.arn, [m._replace(visible_ms=visible_ms) for m in found], again=True)
        attempt["visible_ms"] = visible_ms
        self._store.remember_attempt(queue.queue_no, attempt_id, now_ms + RECEIVE_ATTEMPT_MS, json.dumps(attempt))
        return found

    # after the receive

    def delete_message(self, queue: Queue, handle: str) -> None:
        """Raises ReceiptHandleIsInvalid, InvalidParameterValue (FIFO: the handle has expired)."""
        if queue.fifo:
            self._throttle(queue, "delete", [None])
            self._delete_in_order(queue, handle, "DeleteMessage")
        else:
            self._delete(queue, [self._read_handle(queue, handle, "DeleteMessage")], "DeleteMessage")

    def delete_message_batch(self, queue: Queue, entries: Sequence[tuple[str, str]]) -> list[DomainError | None]:
        """Entries are (id, receipt handle); each one's own outcome."""
        operation = "DeleteMessageBatch"
        self._check_batch("DeleteMessageBatchRequestEntry", [id for id, _ in entries])
        if queue.fifo:
            self._throttle(queue, "delete", [None])
            return [_outcome(partial(self._delete_in_order, queue, handle, operation)) for _, handle in entries]
        outcomes: list[DomainError | None] = []
        receives = []
        for _, handle in entries:
            try:
                receives.append(self._read_handle(queue, handle, operation))
                outcomes.append(None)
            except DomainError as error:
                outcomes.append(error)
        self._delete(queue, receives, operation)
        return outcomes

    def _delete(self, queue: Queue, receives: Sequence[tuple[int, int]], operation: str) -> None:
        """Deletes the messages whose last receives these are; of the others AWS says that all is well, too."""
        self._commit.enter()
        here = [receive for receive in receives if shelf_of(receive[0]) == queue.shelf_no]
        if here and self.ledger.is_on:
            self.ledger.deleting(queue.arn, self._store.identify([id for id, _ in here]), here)
        if "delete" in self._faults.points:
            here = faults.not_coming_again(self._flow, queue, here, operation)
        if here:
            self._flow.delete_received(queue, here)
        self._has_room(queue)

    def _delete_in_order(self, queue: Queue, handle: str, operation: str) -> None:
        id, receive_count = self._read_handle(queue, handle, operation)
        self._commit.enter()
        state = self._state(queue, id)
        is_good = state is not None and state.receive_count == receive_count and state.visible_ms > self._clock.now_ms()
        if self.ledger.is_on and shelf_of(id) == queue.shelf_no:
            self.ledger.deleting(queue.arn, self._store.identify([id]), [(id, receive_count)], good=is_good)
        if state is None:
            return
        if not is_good:
            raise InvalidParameterValue(
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
            )
        self._flow.delete(queue, [id])
        self._has_room(queue)

    def _has_room(self, queue: Queue) -> None:
        if self._limits.in_flight is not None:
            self._flow.touch(queue)

    def change_visibility(
        self, queue: Queue, handle: str, timeout_s: int, operation: str = "ChangeMessageVisibility"
    ) -> None:
        """Raises ReceiptHandleIsInvalid, MessageNotInflight, InvalidParameterValue."""
        if not 0 <= timeout_s <= MAX_VISIBILITY_TIMEOUT_S:
            raise InvalidParameterValue(
                f"Value {timeout_s} for parameter VisibilityTimeout is invalid. "
                f"Reason: VisibilityTimeout must be an integer between 0 and {MAX_VISIBILITY_TIMEOUT_S}."
            )
        id, receive_count = self._read_handle(queue, handle, operation)
        self._commit.enter()
        now_ms = self._clock.now_ms()
        state = self._state(queue, id)
        if state is None or state.receive_count != receive_count:
            raise InvalidParameterValue(
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "
                "available for visibility timeout change."
            )
        if state.visible_ms <= now_ms:
            raise MessageNotInflight
        if now_ms + timeout_s * 1000 > state.received_ms + MAX_VISIBILITY_TIMEOUT_S * 1000:
            raise InvalidParameterValue(
                f"Value {timeout_s} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for "
                f"the message is beyond the limit [{MAX_VISIBILITY_TIMEOUT_S} seconds]"
            )
        self._store.set_visible([id], now_ms + timeout_s * 1000)
        if self.ledger.is_on:
            message_id, _ = self._store.identify([id])[id]
            self.ledger.changed(queue.arn, id, message_id, receive_count, now_ms + timeout_s * 1000)
        if queue.fifo:
            fifo.regroup(self._flow, queue, state.group_id or "")
        elif timeout_s == 0:
            self._flow.touch(queue)
        else:
            self._flow.appoint_wake(queue)

    def change_visibility_batch(
        self, queue: Queue, entries: Sequence[tuple[str, str, int]]
    ) -> list[DomainError | None]:
        """Entries are (id, receipt handle, timeout in seconds); each one's own outcome."""
        self._check_batch("ChangeMessageVisibilityBatchRequestEntry", [entry[0] for entry in entries])
        operation = "ChangeMessageVisibilityBatch"
        return [
            _outcome(partial(self.change_visibility, queue, handle, timeout_s, operation))
            for _, handle, timeout_s in entries
        ]

    def identify(self, queue: Queue, handle: str) -> tuple[str, int] | None:
        """The message id and the receive that a handle is of, as far as that is known: for the ledger."""
        read = receipts.read(handle, queue.tag)
        if read is None:
            return None
        id, receive_count = read
        message_id = self.ledger.last_delivered(id)
        if not message_id and shelf_of(id) == queue.shelf_no:
            self._commit.enter()
            message_id = self._store.identify([id]).get(id, ("", 0))[0]
        return (message_id, receive_count) if message_id else None

    def _state(self, queue: Queue, id: int) -> MessageState | None:
        # A purge takes the shelf away; the rows on it go later.
        return self._store.states([id]).get(id) if shelf_of(id) == queue.shelf_no else None

    def _read_handle(self, queue: Queue, handle: str, operation: str) -> tuple[int, int]:
        read = receipts.read(handle, queue.tag)
        if read is None:
            raise ReceiptHandleIsInvalid(f'The input receipt handle "{handle}" is not a valid receipt handle.')
        return faults.aged(self._flow, queue, read, operation) if "delete" in self._faults.points else read

    # what all batches and all FIFO calls share

    def _check_batch(self, kind: str, ids: Sequence[str]) -> None:
        if not ids:
            raise EmptyBatchRequest(f"There should be at least one {kind} in the request.")
        if len(ids) > MAX_BATCH_ENTRIES:
            raise TooManyEntriesInBatchRequest(
                f"Maximum number of entries per request are {MAX_BATCH_ENTRIES}. You have sent {len(ids)}."
            )
        for id in ids:
            if not is_queue_name(id, fifo=False):
                raise InvalidBatchEntryId
        seen: set[str] = set()
        for id in ids:
            if id in seen:
                raise BatchEntryIdsNotDistinct(f"Id {id} repeated.")
            seen.add(id)

    def _throttle(self, queue: Queue, call: str, groups: Iterable[str | None]) -> None:
        """FIFO quotas count calls in a second: a batch is one."""
        limits = self._limits
        if not queue.fifo or limits.fifo_calls_per_s is None:
            return
        by_group = queue.settings.throughput_by_group
        buckets = [("", limits.fifo_high_throughput_calls_per_s if by_group else limits.fifo_calls_per_s)]
        if by_group:
            buckets += [(group, limits.fifo_calls_per_s) for group in groups if group]
        second = self._clock.now_ms() // 1000
        counted = []
        for bucket, allowed in buckets:
            since, calls = queue.throttle.get((call, bucket), (second, 0))
            calls = calls + 1 if since == second else 1
            if allowed is not None and calls > allowed:
                raise Throttled
            counted.append(((call, bucket), (second, calls)))
        if len(queue.throttle) > 10_000:  # groups that were busy in a second long gone
            queue.throttle = {key: value for key, value in queue.throttle.items() if value[0] == second}
        queue.throttle.update(counted)


def _check_id(name: str, value: str) -> None:
    if not messages.GROUP_OR_DEDUPLICATION_ID.fullmatch(value):
        raise InvalidParameterValue(
            f"Value {value} for parameter {name} is invalid. Reason: {name} can only include alphanumeric "
            "and punctuation characters. 1 to 128 in length."
        )


def _sized(sending: Sending) -> messages.Attributes:
    """The attributes that can be measured; a malformed one is refused entry by entry later."""
    return {
        name: value
        for name, value in sending.attributes.items()
        if value.get("DataType") and (value.get("StringValue") or value.get("BinaryValue"))
    }


def _outcome(operation: Callable[[], None]) -> DomainError | None:
    try:
        operation()
    except DomainError as error:
        return error
    return None
