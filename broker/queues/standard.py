"""Standard queues: the message that has been visible longest comes first; fair ones take turns among groups.

A queue becomes fair with the first MessageGroupId it sees. Then each receive goes round the groups that have
something visible, beginning after the one served last, so that a busy group costs the others one turn and no more.
AWS weighs groups by what they have in flight; the turn is the same promise without the measurement.
See "Amazon SQS fair queues" in the developer guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.queues.queue import Queue
from broker.store.port import StoredMessage

if TYPE_CHECKING:
    from broker.queues.flow import Flow

MAX_ROUNDS = 5  # a round that finds only dead letters or expired messages is followed by another, but not for long
MAX_GROUPS_LOOKED_AT = 100


def receive(flow: Flow, queue: Queue, limit: int, now_ms: int, visible_ms: int) -> list[StoredMessage]:
    good: list[StoredMessage] = []
    for _ in range(MAX_ROUNDS):
        wanted = limit - len(good)
        if queue.fair:
            ids = _fair_choice(flow, queue, wanted, now_ms)
            received = flow.store.take_ids(ids, now_ms, visible_ms) if ids else []
            received.sort(key=lambda message: ids.index(message.id))
        else:
            received = flow.store.take(queue.shelf_no, now_ms, visible_ms, wanted)
        sifted = flow.sift(queue, received, now_ms)
        good += sifted
        # With a visibility timeout of zero another round would take the same messages again.
        if len(sifted) == len(received) or (good and visible_ms <= now_ms):
            break
    return good


def _fair_choice(flow: Flow, queue: Queue, wanted: int, now_ms: int) -> list[int]:
    store, shelf_no = flow.store, queue.shelf_no
    # Messages without a group that were here before the first with one: nothing can starve them or be starved.
    ids = store.visible_ungrouped_head(shelf_no, now_ms, wanted)
    if len(ids) == wanted:
        return ids
    groups: list[str] = []
    cursor, wrapped = queue.fair_cursor, False
    for _ in range(MAX_GROUPS_LOOKED_AT):
        found = store.next_visible_group(shelf_no, cursor, now_ms)
        if found is None:
            if wrapped:
                break
            cursor, wrapped = "", True
            continue
        cursor, has_visible = found
        if wrapped and cursor > queue.fair_cursor:
            break
        if has_visible:
            groups.append(cursor)
            if len(groups) + len(ids) == wanted:
                break
    if not groups:
        return ids
    queue.fair_cursor = cursor if len(groups) + len(ids) == wanted else groups[-1]
    share = -(-(wanted - len(ids)) // len(groups))
    turns = [store.visible_in_group(shelf_no, group, now_ms, share) for group in groups]
    ids += [turn[place] for place in range(share) for turn in turns if place < len(turn)]
    if len(ids) < wanted:  # some had less than their share
        ids = _fill(flow, queue, groups, ids, wanted, now_ms)
    return ids[:wanted]


def _fill(flow: Flow, queue: Queue, groups: list[str], ids: list[int], wanted: int, now_ms: int) -> list[int]:
    taken = set(ids)
    for group in groups:
        for id in flow.store.visible_in_group(queue.shelf_no, group, now_ms, wanted):
            if id not in taken:
                taken.add(id)
                ids.append(id)
        if len(ids) >= wanted:
            break
    return ids
