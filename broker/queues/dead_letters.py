"""Dead letters: a message that was received too often moves, in the transaction of the receive that found it.

Follows "Using dead-letter queues" in the developer guide: a standard queue's message keeps its id and its age (its
retention goes on counting from the first send), a FIFO queue's begins its retention anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.queues.queue import Queue
from broker.store.port import StoredMessage

if TYPE_CHECKING:
    from broker.queues.flow import Flow


def move(flow: Flow, source: Queue, target: Queue, messages: list[StoredMessage], now_ms: int) -> None:
    """Moves messages that a receive has just counted once too often."""
    moved = [
        flow.copied(message, target, now_ms, keeps_age=not target.fifo)._replace(
            dead_letter_source=source.arn,
            earlier_receives=message.earlier_receives + message.receive_count - 1,
            first_received_ms=message.first_received_ms,
        )
        for message in messages
    ]
    flow.delete(source, [message.id for message in messages])
    flow.insert(target, moved)
    if flow.ledger.is_on:
        max_receives = source.settings.redrive.max_receive_count if source.settings.redrive else 0
        flow.ledger.dead_lettered(source.arn, target.arn, messages, moved, max_receives)
