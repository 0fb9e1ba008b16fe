"""FIFO queues: in order within a group, and a group rests while any of its messages is in flight.

The store keeps one row a group: when it will next have something to give, and its first message. All messages of a
group in flight stem from one receive of at most ten, and are the first of their group: looking at ten is enough.
See "FIFO queue delivery logic" in the developer guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.limits import MAX_BATCH_ENTRIES
from broker.queues.queue import Queue
from broker.queues.standard import MAX_ROUNDS
from broker.store.port import StoredMessage, sequence_of

if TYPE_CHECKING:
    from broker.queues.flow import Flow

_FIRST_SEQUENCE_NUMBER = 18_849_496_460_467_696_128


def sequence_number(id: int) -> str:
    """What clients see: 20 digits that grow within a queue."""
    return str(_FIRST_SEQUENCE_NUMBER + sequence_of(id) * 256)


def receive(flow: Flow, queue: Queue, limit: int, now_ms: int, visible_ms: int) -> list[StoredMessage]:
    good: list[StoredMessage] = []
    for _ in range(MAX_ROUNDS):
        all_good = True
        for group_id in flow.store.ready_groups(queue.shelf_no, now_ms, limit - len(good)):
            if len(good) == limit:
                break
            received = _take_group(flow, queue, group_id, limit - len(good), now_ms, visible_ms)
            sifted = flow.sift(queue, received, now_ms)
            all_good = all_good and len(sifted) == len(received)
            good += sifted
            if sifted:
                flow.store.set_group(queue.shelf_no, group_id, max(visible_ms, now_ms), sifted[0].id)
            else:
                regroup(flow, queue, group_id)
        if all_good or len(good) == limit or (good and visible_ms <= now_ms):
            break
    else:
        flow.look_again(queue)
    return good


def look(flow: Flow, queue: Queue, limit: int, now_ms: int) -> list[StoredMessage]:
    """What a receive would take now, in the order of sending, untouched."""
    ids: list[int] = []
    for group_id in flow.store.ready_groups(queue.shelf_no, now_ms, limit):
        ids += _visible_front(flow, queue, group_id, limit - len(ids), now_ms)
        if len(ids) == limit:
            break
    return sorted(flow.store.get(ids)) if ids else []


def _take_group(
    flow: Flow, queue: Queue, group_id: str, limit: int, now_ms: int, visible_ms: int
) -> list[StoredMessage]:
    ids = _visible_front(flow, queue, group_id, limit, now_ms)
    received = flow.store.take_ids(ids, now_ms, visible_ms) if ids else []
    received.sort()  # by id: the order of sending
    return received


def _visible_front(flow: Flow, queue: Queue, group_id: str, limit: int, now_ms: int) -> list[int]:
    ids = []
    for id, state in flow.store.group_front(queue.shelf_no, group_id, limit):
        if state.visible_ms > now_ms:  # delayed: what comes after it waits too
            break
        ids.append(id)
    return ids


def regroup(flow: Flow, queue: Queue, group_id: str) -> None:
    """Works out anew when a group has something to give."""
    front = flow.store.group_front(queue.shelf_no, group_id, MAX_BATCH_ENTRIES)
    if not front:
        flow.store.drop_group(queue.shelf_no, group_id)
        return
    now_ms = flow.clock.now_ms()
    head_id, head = front[0]
    in_flight = [state.visible_ms for _, state in front if state.receive_count and state.visible_ms > now_ms]
    available_ms = max([head.visible_ms, *in_flight])
    flow.store.set_group(queue.shelf_no, group_id, available_ms, head_id)
    if available_ms <= now_ms:
        flow.touch(queue)
    else:
        flow.appoint_wake(queue)
