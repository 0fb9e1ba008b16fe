"""Dead letters: a message that was received too often moves, in the transaction of the receive that found it.

Follows "Using dead-letter queues" in the developer guide: a standard queue's message keeps its id and its age (its
retention goes on counting from the first send), a FIFO queue's begins its retention anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.queues.queue import Queue
from broker.store.port import NewMessage, StoredMessage, row_id

if TYPE_CHECKING:
    from broker.queues.flow import Flow


def move(flow: Flow, source: Queue, target: Queue, messages: list[StoredMessage], now_ms: int) -> None:
    """Moves messages that a receive has just counted once too often."""
    moved = []
    for message in messages:
        target.last_sequence += 1
        moved.append(
            NewMessage(
                id=row_id(target.shelf_no, target.last_sequence, moved=not target.fifo),
                shelf_no=target.shelf_no,
                visible_ms=now_ms,
                sent_ms=now_ms if target.fifo else message.sent_ms,
                message_id=message.message_id,
                body=message.body,
                md5=message.md5,
                attributes=message.attributes,
                attributes_md5=message.attributes_md5,
                trace_header=message.trace_header,
                sender_id=message.sender_id,
                group_id=message.group_id,
                deduplication_id=message.deduplication_id,
                dead_letter_source=source.arn,
                earlier_receives=message.earlier_receives + message.receive_count - 1,
                first_received_ms=message.first_received_ms,
            )
        )
    flow.delete(source, [message.id for message in messages])
    flow.insert(target, moved)
