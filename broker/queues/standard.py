"""Standard queues: the message that has been visible longest comes first; fair ones take turns among groups.

A queue becomes fair with the first MessageGroupId it sees. Then each receive goes round the groups that have
something visible, beginning after the one served last, so that a busy group costs the others one turn and no more.
AWS weighs groups by what they have in flight; the turn is the same promise without the measurement.
See "Amazon SQS fair queues" in the developer guide.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from broker.queues.queue import Queue
from broker.store.port import UNGROUPED, StoredMessage

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
            if ungrouped := [message.id for message in received if message.group_id is None]:
                flow.store.give_group(ungrouped, UNGROUPED)  # when they come back, they take turns with the others
        else:
            received = flow.store.take(queue.shelf_no, now_ms, visible_ms, wanted)
        sifted = flow.sift(queue, received, now_ms)
        good += sifted
        # With a visibility timeout of zero another round would take the same messages again.
        if len(sifted) == len(received) or (good and visible_ms <= now_ms):
            break
    else:
        flow.look_again(queue)
    return good


def _fair_choice(flow: Flow, queue: Queue, wanted: int, now_ms: int) -> list[int]:
    oldest = flow.store.visible_head(queue.shelf_no, now_ms, wanted)
    # Messages without a group that were here before the first with one: nothing can starve them or be starved.
    ids = [id for id, _ in takewhile(lambda head: head[1] is None, oldest)]
    if len(ids) == len(oldest):
        return ids
    left = wanted - len(ids)
    groups = _groups_in_turn(flow, queue, left, now_ms)
    waiting: list[list[int]] = []
    for share in (-(-left // max(1, len(groups))), left):  # the same for all, and more where some have less than that
        waiting = [flow.store.visible_in_group(queue.shelf_no, group, now_ms, share) for group in groups]
        if sum(map(len, waiting)) >= left:
            break
    ids += [group[turn] for turn in range(left) for group in waiting if turn < len(group)][:left]
    # Where all groups looked at are busy, the oldest: a receive never misses what is there.
    ids += [id for id, _ in oldest if id not in ids]
    return ids[:wanted]


def _groups_in_turn(flow: Flow, queue: Queue, wanted: int, now_ms: int) -> list[str]:
    """Groups with something visible, beginning after the one that was served last."""
    groups: list[str] = []
    group, wrapped = queue.fair_cursor, False
    for _ in range(MAX_GROUPS_LOOKED_AT):
        found = flow.store.next_visible_group(queue.shelf_no, group, now_ms)
        if found is None and not wrapped:
            group, wrapped = "", True
            continue
        if found is None or (wrapped and found[0] > queue.fair_cursor):  # once round: another begins next time
            group = groups[0] if groups else queue.fair_cursor
            break
        group, has_visible = found
        if has_visible:
            groups.append(group)
            if len(groups) == wanted:
                break
    queue.fair_cursor = group
    return groups
