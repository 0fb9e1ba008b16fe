"""What goes wrong with single messages when the plan says so: late, out of order, twice, too early, stale.

The rule: no message is lost, and a FIFO queue keeps its order. Each fault is a row's `visible_ms` at another moment,
or something that happens anyway a little early; receive counts, handles and counters follow as they always do. Whoever
calls has looked into `faults.points` first, so that all of this costs nothing without a plan.

A message is delivered twice by its first receive or by the delete after it, never again by a later one: whoever drains
a queue comes to an end, whatever the probability.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from broker.faults import Hit, Occasion
from broker.queues import dead_letters, fifo, messages
from broker.queues.queue import Queue
from broker.store.port import NewMessage, StoredMessage, shelf_of

if TYPE_CHECKING:
    from broker.queues.flow import Flow

_FIRST = 0  # `visible_ms` of what the next receive must take: it takes first what has been visible longest
_NEVER = 0  # no receive has this count, so no handle that names it is good


def content(body: str, attributes: messages.Attributes) -> dict[str, Any]:
    """As a rule's pattern sees a message: {"body": an object, an array or the text, "attributes": values by name}."""
    return {"body": _parsed(body), "attributes": {name: _value(given) for name, given in attributes.items()}}


def _parsed(body: str) -> object:
    if body.lstrip()[:1] not in ("{", "["):
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body


def _value(attribute: Mapping[str, Any]) -> object:
    binary = attribute.get("BinaryValue")
    if binary:
        return b64encode(binary).decode()
    text = attribute.get("StringValue", "")
    if attribute.get("DataType", "").startswith("Number"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:  # +5, 007
            return text
    return text


# sending


def on_send(flow: Flow, queue: Queue, new: Sequence[NewMessage], operation: str) -> list[NewMessage]:
    """The messages, some of them `late` or out of order."""
    kinds = ("late",) if queue.fifo else ("late", "reorder")
    sent = []
    for message in new:
        hit = flow.faults.hit("send", _occasion(flow, queue, operation, message), *kinds)
        if hit is not None:
            message = message._replace(visible_ms=message.visible_ms + _put_back_ms(hit, message))
            _note(flow, queue, hit, operation, message, visible_ms=message.visible_ms)
        sent.append(message)
    return sent


def _put_back_ms(hit: Hit, message: NewMessage) -> int:
    if hit.kind == "late":
        delay_ms: int = hit.parameters["delay_ms"]
        return delay_ms
    # Messages come in the order of `visible_ms`. One that goes ahead is not late; one with a delay must not be early.
    drawn_ms = round(hit.chance.random() * int(hit.parameters["window_ms"]))
    return drawn_ms if message.visible_ms > message.sent_ms else -drawn_ms


# receiving


def comes_back_empty(flow: Flow, queue: Queue) -> bool:
    """Whether a short poll misses what is there, as one that does not ask all of SQS's servers may."""
    look = flow.store.ready_groups if queue.fifo else flow.store.visible_head
    if queue.message_count == 0 or not look(queue.shelf_no, flow.clock.now_ms(), 1):
        return False
    hit = flow.faults.hit("receive", _occasion(flow, queue, "ReceiveMessage"), "empty-receive")
    if hit is not None:
        flow.ledger.fault(hit, queue.arn, "", {"operation": "ReceiveMessage"})
    return hit is not None


def die_early(
    flow: Flow, queue: Queue, target: Queue, received: list[StoredMessage], now_ms: int
) -> list[StoredMessage]:
    """The messages but for those that move to the dead-letter queue although they have receives left."""
    good, dead = [], []
    for message in received:
        occasion = _occasion(flow, queue, "ReceiveMessage", message)
        hit = flow.faults.hit("receive", occasion, "early-dead-letter")
        if hit is None:
            good.append(message)
        else:
            dead.append(message)
            _note(flow, queue, hit, "ReceiveMessage", message, receive=message.receive_count - 1)
    if dead:
        dead_letters.move(flow, queue, target, dead, now_ms)
    return good


def on_receive(flow: Flow, queue: Queue, received: list[StoredMessage], now_ms: int) -> list[StoredMessage]:
    """The messages that are handed out, some of which become visible before their time."""
    moved: dict[int, int] = {}
    for message in received:
        if message.id in moved or message.visible_ms <= now_ms:
            continue
        kinds = ("early-visibility",) if queue.fifo or message.receive_count > 1 else ("early-visibility", "duplicate")
        hit = flow.faults.hit("receive", _occasion(flow, queue, "ReceiveMessage", message), *kinds)
        if hit is None:
            continue
        visible_ms = _visible_again_ms(hit, message, now_ms)
        shown_ms = max(visible_ms, now_ms)
        _note(flow, queue, hit, "ReceiveMessage", message, visible_ms=shown_ms, receive=message.receive_count)
        if queue.fifo:  # a group rests as long as any of its messages is in flight: they come back together
            moved |= {other.id: visible_ms for other in received if other.group_id == message.group_id}
        else:
            moved[message.id] = visible_ms
    for visible_ms in set(moved.values()):
        _show(flow, queue, [m for m in received if moved.get(m.id) == visible_ms], visible_ms)
    return [m._replace(visible_ms=moved[m.id]) if m.id in moved else m for m in received] if moved else received


def _visible_again_ms(hit: Hit, message: StoredMessage, now_ms: int) -> int:
    given = hit.parameters
    if hit.kind == "duplicate":
        if given["when"] == "at-once":
            return _FIRST
        return min(now_ms + int(given["delay_ms"]), message.visible_ms)
    if (after_ms := given.get("after_ms")) is not None:
        return min(now_ms + int(after_ms), message.visible_ms)
    fraction = given.get("fraction")
    return now_ms + round((0.5 if fraction is None else fraction) * (message.visible_ms - now_ms))


def _show(flow: Flow, queue: Queue, shown: Sequence[StoredMessage], visible_ms: int) -> None:
    flow.store.set_visible([message.id for message in shown], visible_ms)
    if queue.fifo:
        for group_id in {message.group_id or "" for message in shown}:
            fifo.regroup(flow, queue, group_id)
    elif visible_ms <= flow.clock.now_ms():
        flow.touch(queue)
    else:
        flow.appoint_wake(queue)


# after the receive


def aged(flow: Flow, queue: Queue, read: tuple[int, int], operation: str) -> tuple[int, int]:
    """What a good receipt handle names, or what it would name if the message had been received again since."""
    message = _last_received(flow, queue, read)
    if message is None:
        return read
    hit = flow.faults.hit("delete", _occasion(flow, queue, operation, message), "stale-handle")
    if hit is None:
        return read
    _note(flow, queue, hit, operation, message, receive=message.receive_count)
    return message.id, _NEVER


def not_coming_again(
    flow: Flow, queue: Queue, receives: Sequence[tuple[int, int]], operation: str
) -> list[tuple[int, int]]:
    """Of (id, receive count) those to delete. The deletes of the others are lost on one of SQS's servers."""
    good = []
    for read in receives:
        message = _last_received(flow, queue, read)
        hit = None
        if message is not None and message.receive_count == 1:
            hit = flow.faults.hit("delete", _occasion(flow, queue, operation, message), "duplicate")
        if message is None or hit is None:
            good.append(read)
            continue
        visible_ms = flow.clock.now_ms() + int(hit.parameters["delay_ms"])
        _note(flow, queue, hit, operation, message, visible_ms=visible_ms, receive=message.receive_count)
        _show(flow, queue, [message], visible_ms)
    return good


def _last_received(flow: Flow, queue: Queue, read: tuple[int, int]) -> StoredMessage | None:
    id, receive_count = read
    flow.commit.enter()
    if shelf_of(id) != queue.shelf_no:
        return None
    return next((m for m in flow.store.get([id]) if m.receive_count == receive_count), None)


def _note(
    flow: Flow, queue: Queue, hit: Hit, operation: str, message: NewMessage | StoredMessage, **detail: int
) -> None:
    flow.ledger.fault(hit, queue.arn, message.message_id, {"operation": operation, **detail})


def _occasion(flow: Flow, queue: Queue, operation: str, message: NewMessage | StoredMessage | None = None) -> Occasion:
    def seen() -> dict[str, Any]:
        assert message is not None
        return content(message.body, messages.load_attributes(message.attributes) if message.attributes else {})

    return Occasion("sqs", operation, queue.arn, queue.world.account, flow.ledger.by, None if message is None else seen)
