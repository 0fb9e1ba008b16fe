"""What clients were told, kept outside the broker: the judge of a run in which the broker is killed again and again.

The rule: only what follows from an answer is held against the broker. A request that was sent and not answered may
have happened or not. Moments are a client's: `asked_s` before it sent a request, now when it has read the answer, so
whatever an answer proves is known to be true for every request sent after it, and for no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any

MAX_RECEIVE_COUNT = 3  # of every queue with a dead-letter queue


@dataclass(slots=True, eq=False)
class Message:
    """One message, from before it is sent."""

    token: str  # its body begins so
    body: str
    queue: str
    group: str | None
    place: int  # in its group
    sent: bool = False  # acknowledged, or received; else it may not exist
    sent_s: float = 0.0
    message_id: str | None = None
    number: int | None = None  # SequenceNumber
    told: int = 0  # the highest ApproximateReceiveCount a consumer has read
    told_s: float = 0.0
    hidden_s: float = 0.0  # until when its last receive keeps it from others
    deleted_s: float | None = None  # since when that is certain
    deleting: int = 0  # deletes on their way
    unsure_s: float | None = None  # since when a delete has happened or has not, and will not any more
    dead_s: float | None = None  # since when it must be in the dead-letter queue

    @property
    def may_be_gone(self) -> bool:
        return self.deleted_s is not None or self.deleting > 0 or self.unsure_s is not None

    @property
    def lives(self) -> bool:
        return self.sent and not self.may_be_gone


class Violation(AssertionError):
    """The broker has broken a promise."""


class Ledger:
    """All messages of a run. `dead_letters` names each queue's dead-letter queue."""

    def __init__(self, dead_letters: dict[str, str]) -> None:
        self._dead_letters = dead_letters
        self._sources = {dead: source for source, dead in dead_letters.items()}
        self._messages: dict[str, Message] = {}
        self._groups: dict[tuple[str, str | None], dict[Message, None]] = {}  # what may be left, in order
        self._places: Counter[tuple[str, str | None]] = Counter()
        self._last_numbers: dict[tuple[str, str | None], tuple[int, int]] = {}  # place and sequence number
        self.seen: Counter[str] = Counter()

    # sending

    def new(self, queue: str, group: str | None, filler_chars: int) -> Message:
        self._places[queue, group] += 1
        place = self._places[queue, group]
        token = f"{queue}/{group}/{place}"
        message = Message(token, f"{token} {'x' * filler_chars}", queue, group, place)
        self._messages[token] = message
        self._groups.setdefault((queue, group), {})[message] = None
        return message

    def acknowledged(self, message: Message, answer: dict[str, Any], now_s: float) -> None:
        """A send, or the repetition of one with the same deduplication id, was answered."""
        self.seen["sends"] += 1
        self._identify(message, answer["MessageId"])
        if answer["MD5OfMessageBody"] != _digest(message.body):
            raise Violation(f"{message.token} arrived changed")
        if "SequenceNumber" in answer:
            number = int(answer["SequenceNumber"])
            if message.number not in (None, number):
                raise Violation(f"{message.token} was sent again and became {number} after {message.number}")
            place, last = self._last_numbers.get((message.queue, message.group), (0, 0))
            if message.place > place:
                if number <= last:
                    raise Violation(f"{message.token} has the sequence number {number}, one before it has {last}")
                self._last_numbers[message.queue, message.group] = (message.place, number)
            message.number = number
        if not message.sent:
            message.sent, message.sent_s = True, now_s

    def _identify(self, message: Message, message_id: str) -> None:
        if message.message_id not in (None, message_id):
            raise Violation(f"{message.token} was {message.message_id} and is {message_id}")
        message.message_id = message_id

    def waiting(self, queue: str, group: str | None = None) -> int:
        """How much has been sent to a group, or without one, and may not have been deleted."""
        return len(self._groups.get((queue, group), ()))

    # receiving

    def received(
        self, queue: str, answer: Sequence[dict[str, Any]], visibility_s: int, asked_s: float, now_s: float
    ) -> list[Message]:
        """Checks what a receive with that visibility timeout has brought. `asked_s` is from before it was sent."""
        messages = [self._received(queue, found, asked_s, now_s) for found in answer]
        for message in messages:
            message.hidden_s = asked_s + visibility_s - 0.002  # clocks tick in milliseconds
        for at, message in enumerate(messages):
            if message.group is not None:
                self._check_order(queue, message, messages[:at], now_s)
        return messages

    def _received(self, queue: str, found: dict[str, Any], asked_s: float, now_s: float) -> Message:
        self.seen["receives"] += 1
        token = found["Body"].split(" ", 1)[0]
        message = self._messages.get(token)
        if message is None or message.queue not in (queue, self._sources.get(queue)):
            raise Violation(f"{queue} gave {token}, which was never sent to it")
        if found["Body"] != message.body or found["MD5OfBody"] != _digest(message.body):
            raise Violation(f"{token} came back changed")
        self._identify(message, found["MessageId"])
        shown = found["Attributes"]
        if message.number is not None and queue == message.queue and int(shown["SequenceNumber"]) != message.number:
            raise Violation(f"{token} was acknowledged as {message.number} and received as {shown['SequenceNumber']}")
        if not message.sent:
            message.sent, message.sent_s = True, now_s

        if message.deleted_s is not None and message.deleted_s < asked_s:
            raise Violation(f"{token} was deleted, acknowledged, and has returned in {queue}")
        if message.unsure_s is not None and message.unsure_s < asked_s:
            message.unsure_s = None  # so it has not happened

        count = int(shown["ApproximateReceiveCount"])
        if message.told_s < asked_s and count <= message.told:
            raise Violation(f"{token} has the receive count {count}, and a consumer was told {message.told} before")
        if message.told_s < asked_s and now_s < message.hidden_s:
            raise Violation(f"{token} came again {message.hidden_s - now_s:.3f} s before its visibility timeout ended")
        if count > message.told:
            message.told, message.told_s = count, now_s

        if queue != message.queue:
            self.seen["dead letters"] += 1
            if count <= MAX_RECEIVE_COUNT:
                raise Violation(f"{token} is a dead letter after {count - 1} receives")
            if message.dead_s is None:
                message.dead_s = now_s
        elif queue in self._dead_letters:
            if count > MAX_RECEIVE_COUNT:
                raise Violation(f"{token} was received {count} times and is no dead letter")
            if message.dead_s is not None and message.dead_s < asked_s:
                raise Violation(f"{token} was moved to the dead letters and is in {queue} again")
        return message

    def _check_order(self, queue: str, message: Message, with_it: Sequence[Message], now_s: float) -> None:
        """Whatever is before a message in its group must be gone, or have come with it."""
        for other in with_it:
            if other.group == message.group and other.place >= message.place:
                raise Violation(f"{queue} gave {other.token} before {message.token} in one answer")
        for earlier in self._groups[message.queue, message.group]:
            if earlier.place >= message.place:
                break
            if earlier in with_it or not earlier.lives:
                continue
            if queue != message.queue:
                if earlier.dead_s is not None and earlier.told > MAX_RECEIVE_COUNT:
                    raise Violation(f"{queue} gave {message.token} while {earlier.token} is there")
            elif queue not in self._dead_letters:
                raise Violation(f"{queue} gave {message.token} while {earlier.token} is there")
            elif earlier.dead_s is None:
                earlier.dead_s = now_s  # there is no other place for it; the last look will find it there

    def given_back(self, message: Message) -> None:
        """Before its visibility timeout is set to zero."""
        message.hidden_s = 0.0

    # deleting

    def delete_asked(self, messages: Iterable[Message]) -> None:
        """Before a delete is sent. `deleted`, `kept` or `unanswered` follows."""
        for message in messages:
            message.deleting += 1

    def deleted(self, message: Message, now_s: float, *, certain: bool) -> None:
        """A delete was acknowledged. A standard queue acknowledges a handle that was overtaken, and does nothing."""
        self.seen["deletes"] += 1
        message.deleting -= 1
        if certain:
            message.deleted_s = message.deleted_s or now_s
            self._groups[message.queue, message.group].pop(message, None)
        else:
            message.unsure_s = now_s

    def kept(self, message: Message) -> None:
        """A delete was refused: the handle had expired."""
        message.deleting -= 1

    def unanswered(self, messages: Iterable[Message], now_s: float) -> None:
        """The broker that was asked to delete these is dead."""
        for message in messages:
            message.deleting -= 1
            message.unsure_s = now_s

    # the balance

    def bounds(self, queue: str) -> tuple[int, int]:
        """How many messages a queue and its dead-letter queue must and may hold together."""
        of_it = [message for message in self._messages.values() if message.queue == queue]
        least = sum(message.lives for message in of_it)
        unsure = sum(message.deleted_s is None and not message.lives for message in of_it)
        return least, least + unsure

    def missing(self) -> list[str]:
        """After everything has been received and deleted: what never came."""
        return [message.token for message in self._messages.values() if message.lives]


def _digest(body: str) -> str:
    return md5(body.encode(), usedforsecurity=False).hexdigest()
