"""Queues as AWS's documentation tells of them, without an index or a timer: the naive model of the property tests.

The rule: the model says what may and what must be there at a moment; which of several visible messages a receive
picks is the engine's choice, and is taken over from it. Each message is known by its serial, which it carries in its
trace header wherever it goes. Times are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.store.port import StoredMessage

DEDUPLICATION_MS = ATTEMPT_MS = 300_000
LONGEST_MS = 43_200_000


@dataclass
class Message:
    serial: str
    body: str
    group: str | None
    deduplication_id: str | None
    sent_ms: int
    visible_ms: int
    id: int = -1  # the engine's, once seen
    source: str | None = None  # the queue it was moved from as a dead letter
    receives: int = 0  # in this queue
    earlier_receives: int = 0
    received_ms: int = 0

    def is_in_flight(self, now_ms: int) -> bool:
        return self.receives > 0 and self.visible_ms > now_ms


@dataclass
class Attempt:
    until_ms: int
    received: list[tuple[str, int, int]]  # serial, receives, visible_ms


@dataclass
class QueueModel:
    name: str
    born: int  # which of the queues of this name it is
    content_based: bool = False
    by_group: bool = False
    visibility_ms: int = 30_000
    delay_ms: int = 0
    retention_ms: int = 345_600_000
    redrive: tuple[str, int] | None = None  # the dead-letter queue's name, maxReceiveCount
    messages: dict[str, Message] = field(default_factory=dict)  # in order of arrival
    seen: dict[tuple[str, str], tuple[int, str, str | None]] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    last_sequence_number: int = 0

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    def is_expired(self, message: Message, now_ms: int) -> bool:
        return message.sent_ms + self.retention_ms <= now_ms

    def counts(self, now_ms: int) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        hidden = [m for m in self.messages.values() if m.visible_ms > now_ms]
        in_flight = sum(m.receives > 0 for m in hidden)
        return len(self.messages) - len(hidden), in_flight, len(hidden) - in_flight

    def locked_groups(self, now_ms: int) -> set[str | None]:
        if not self.fifo:
            return set()
        return {m.group for m in self.messages.values() if m.is_in_flight(now_ms)}

    def receivable(self, now_ms: int) -> list[Message]:
        """What receives may hand out now, in order of arrival; on a FIFO queue, what they may hand out together."""
        blocked = self.locked_groups(now_ms)
        found = []
        for message in self.messages.values():
            if self.is_expired(message, now_ms) or (self.fifo and message.group in blocked):
                continue
            if message.visible_ms <= now_ms:
                found.append(message)
            elif self.fifo:  # delayed: what comes after it in its group waits too
                blocked.add(message.group)
        return found

    def is_dead(self, message: Message, now_ms: int) -> bool:
        """Whether the next receive would move it to the dead-letter queue."""
        return (
            self.redrive is not None
            and message.receives >= self.redrive[1]
            and message.visible_ms <= now_ms
            and not self.is_expired(message, now_ms)
        )

    def find_duplicate(self, group: str, deduplication_id: str, now_ms: int) -> tuple[str, str | None] | None:
        """Message id and sequence number of the first copy."""
        until_ms, message_id, number = self.seen.get((group if self.by_group else "", deduplication_id), (0, "", None))
        return (message_id, number) if until_ms > now_ms else None

    def repeated_attempt(self, attempt_id: str | None, now_ms: int) -> list[Message]:
        """What a receive with this ReceiveRequestAttemptId must give again."""
        attempt = self.attempts.get(attempt_id or "")
        if attempt is None or attempt.until_ms <= now_ms:
            return []
        found = []
        for serial, receives, visible_ms in attempt.received:
            message = self.messages.get(serial)
            if (
                message is None
                or (message.receives, message.visible_ms) != (receives, visible_ms)
                or visible_ms <= now_ms
            ):
                return []
            found.append(message)
        return found

    def check_fields(self, stored: StoredMessage) -> None:
        """A message of the engine's is the model's in all that does not change, and in what does."""
        message = self.messages[stored.trace_header or ""]
        if message.id == -1:
            message.id = stored.id
        assert stored.id == message.id
        assert (stored.body, stored.deduplication_id) == (message.body, message.deduplication_id)
        assert (None if stored.group_id == " " else stored.group_id) == message.group
        assert stored.sent_ms == message.sent_ms
        assert stored.earlier_receives == message.earlier_receives
        assert (stored.receive_count, stored.visible_ms) == (message.receives, message.visible_ms)
        source = stored.dead_letter_source
        assert (None if source is None else source.rpartition(":")[2]) == message.source
