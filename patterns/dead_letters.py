"""What to do with dead letters: look at them, see which errors they died of, edit them and send them on, or put aside.

`group` and `rounds` are pure, and so is what decides about a message: `Send`, `Keep` or `Drop`. `DeadLetters` drives
them. The rule: a message is deleted here after its answer from there, and of a FIFO group none goes before the one in
front of it. Ugly: SQS can only show a message by receiving it, which counts, and hides it from others for a while.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patterns.batch_consumer import MAX_VISIBILITY_S, AioSqs, Message
from patterns.batch_producer import Accepted, Entry, Rejected, SqsTarget
from patterns.token_bucket import RateLimiter

BATCH = 10
MAX_ATTRIBUTES = (
    10  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
)
ERROR_TEXT = 1_000  # characters of an error that are kept

# What SNS and Lambda, and EventBridge, write on a dead letter:
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
_CODES = ("ErrorCode", "ERROR_CODE")
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text_attribute(message: Message, name: str) -> str | None:
    value: str | None = message.message_attributes.get(name, {}).get("StringValue")
    return value


def error_of(message: Message) -> str:
    """The code that its sender, or `Quarantine`, has written on it. SQS itself only tells where it comes from."""
    for name in _CODES:
        if code := text_attribute(message, name):
            return code
    source = message.attributes.get("DeadLetterQueueSourceArn", "")
    return f"received too often from {source.rpartition(':')[2]}" if source else "unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters that are alike. Times are when they were first sent, in milliseconds of 1970."""

    count: int
    oldest_ms: int
    newest_ms: int
    example: Message


def group(messages: Iterable[Message], by: Callable[[Message], str] = error_of) -> dict[str, Group]:
    """The largest first; an example is the oldest."""
    alike: dict[str, list[Message]] = {}
    for message in messages:
        alike.setdefault(by(message), []).append(message)
    for those in alike.values():
        those.sort(key=_sent_ms)
    return {
        name: Group(len(those), _sent_ms(those[0]), _sent_ms(those[-1]), those[0])
        for name, those in sorted(alike.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    }


def _sent_ms(message: Message) -> int:
    return int(message.attributes.get("SentTimestamp", "0"))


def entry_of(
    message: Message, queue_url: str, *, body: str | None = None, attributes: Mapping[str, Any] | None = None
) -> Entry:
    """A message as an entry for a queue, as it was or with another body or other attributes; in its group.

    A FIFO queue deduplicates by the dead letter's own identifier: a redrive that crashes and starts again within five
    minutes sends nothing twice.
    """
    entry: dict[str, Any] = {"MessageBody": message.body if body is None else body}
    if wanted := message.message_attributes if attributes is None else attributes:
        entry["MessageAttributes"] = dict(wanted)
    if trace := message.attributes.get("AWSTraceHeader"):
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    group_id = message.attributes.get("MessageGroupId")
    if queue_url.endswith(".fifo"):
        entry |= {"MessageGroupId": group_id or message.message_id, "MessageDeduplicationId": message.message_id}
    elif group_id:
        entry["MessageGroupId"] = group_id
    return entry


def with_error(message: Message, error: Exception) -> dict[str, Any]:
    """Its attributes and the error's, as Lambda calls them, as far as there is room for ten."""
    text = _NOT_IN_XML.sub("\ufffd", str(error))[:ERROR_TEXT] or type(error).__name__
    attributes = {name: value for name, value in message.message_attributes.items() if not name.startswith("Error")}
    for name, value in (("ErrorCode", type(error).__name__), ("ErrorMessage", text)):
        if len(attributes) < MAX_ATTRIBUTES:
            attributes[name] = {"DataType": "String", "StringValue": value}
    return attributes


class Quarantine:
    """The `quarantine` of a BatchConsumer: sends the message to a queue, with its error. Raises what the queue says."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._target = SqsTarget(client, queue_url)
        self._queue_url = queue_url

    async def __call__(self, message: Message, error: Exception) -> None:
        entry = entry_of(message, self._queue_url, attributes=with_error(message, error))
        (outcome,) = await self._target.send([entry])
        if isinstance(outcome, Rejected):
            raise RuntimeError(f"SendMessageBatch: {outcome.code}: {outcome.message}")


@dataclass(frozen=True, slots=True)
class Send:
    """To a queue, as `entry_of` makes it of the message, or edited."""

    queue_url: str
    entry: Entry


class Keep:
    """It stays. So do those behind it in its FIFO group."""


class Drop:
    """It is deleted."""


Decide = Callable[[Message], Send | Keep | Drop]


@dataclass(slots=True)
class Redriven:
    sent: int = 0
    dropped: int = 0
    kept: int = 0
    refused: list[tuple[Message, Rejected]] = field(default_factory=list)  # they are kept too


def rounds(
    decided: Sequence[tuple[Message, Send]], size_bytes: Callable[[Entry], int], limit_bytes: int
) -> list[list[tuple[Message, Send]]]:
    """Requests to make one after the other: each to one queue, with one message of a FIFO group, within the limit."""
    found: list[list[tuple[Message, Send]]] = []
    for message, send in decided:
        lane = message.ordered_group
        first = 0
        if lane is not None:
            behind = [number for number, those in enumerate(found) for other, _ in those if other.ordered_group == lane]
            first = max(behind, default=-1) + 1
        for those in found[first:]:
            size = sum(size_bytes(other.entry) for _, other in (*those, (message, send)))
            if those[0][1].queue_url == send.queue_url and size <= limit_bytes:
                those.append((message, send))
                break
        else:
            found.append([(message, send)])
    return found


class DeadLetters:
    """One dead-letter queue, through a client of aiobotocore or aioboto3, or of boto3 in patterns.threads.InThreads.

    `hold_s` is for how long what is looked at is hidden: longer than a call takes, or it sees messages again.
    """

    def __init__(self, client: Any, queue_url: str, *, hold_s: int = 300) -> None:
        if not 1 <= hold_s <= MAX_VISIBILITY_S:
            raise ValueError("hold_s is from 1 to 43200")
        self._client = client
        self._queue = AioSqs(client, queue_url)
        self._target = SqsTarget(client, queue_url)  # for what it knows of sizes
        self._hold_s = hold_s

    async def inspect(self, limit: int = 1_000) -> list[Message]:
        """What is there, up to a limit, given back in the end. Of a FIFO group it is what one request answers with."""
        found: dict[str, Message] = {}
        try:
            while len(found) < limit:
                messages = await self._receive(min(BATCH, limit - len(found)))
                if all(message.message_id in found for message in messages):
                    break
                found.update((message.message_id, message) for message in messages)
        finally:
            await self._give_back(found.values())
        return list(found.values())

    async def redrive(self, decide: Decide, *, rate_per_s: float = 100.0, limit: int | None = None) -> Redriven:
        """Decides about each message that is there, up to a limit. What is kept is given back in the end.

        At least once: a crash between a message's answer and its deletion leaves it here too. What `decide` raises ends
        it, after what was decided before has been given back or sent.
        """
        at_once = max(1, min(BATCH, int(rate_per_s)))
        limiter = RateLimiter(rate_per_s, at_once)
        report, kept, seen = Redriven(), dict[str, Message](), 0
        try:
            while limit is None or seen < limit:
                wanted = at_once if limit is None else min(at_once, limit - seen)
                await limiter.acquire(wanted)  # before they are hidden from others
                messages = await self._receive(wanted)
                new = [message for message in messages if message.message_id not in kept]
                kept.update((message.message_id, message) for message in messages)
                if not new:
                    break
                seen += len(new)
                await self._decided(new, decide, report, kept)
        finally:
            report.kept = len(kept)
            await self._give_back(kept.values())
        return report

    async def _decided(
        self, messages: Sequence[Message], decide: Decide, report: Redriven, kept: dict[str, Message]
    ) -> None:
        held = {message.ordered_group for message in kept.values() if message not in messages} - {None}
        to_send, to_drop = list[tuple[Message, Send]](), list[Message]()
        for message in messages:
            decision = Keep() if message.ordered_group in held else decide(message)
            if isinstance(decision, Send):
                to_send.append((message, decision))
            elif isinstance(decision, Drop):
                to_drop.append(message)
            elif message.ordered_group is not None:
                held.add(message.ordered_group)
        gone, closed = list(to_drop), set[str | None]()
        for those in rounds(to_send, self._target.size_bytes, self._target.limits.bytes):
            open_ = [(message, send) for message, send in those if message.ordered_group not in closed]
            if open_:
                target = SqsTarget(self._client, open_[0][1].queue_url)
                outcomes = await target.send([send.entry for _, send in open_])
                for (message, _), outcome in zip(open_, outcomes, strict=True):
                    if isinstance(outcome, Accepted):
                        gone.append(message)
                        report.sent += 1
                    else:
                        report.refused.append((message, outcome))
                        closed |= {message.ordered_group} - {None}
        report.dropped += len(to_drop)
        if gone:
            refused = await self._queue.delete_batch([message.receipt_handle for message in gone])
            for message in gone:
                if message.receipt_handle not in refused:
                    del kept[message.message_id]

    async def _receive(self, most: int) -> Sequence[Message]:
        # A second asks all of a queue's servers; none at all would ask some.
        return await self._queue.receive(max_messages=most, wait_s=1, visibility_s=self._hold_s)

    async def _give_back(self, messages: Iterable[Message]) -> None:
        handles = [message.receipt_handle for message in messages]
        for start in range(0, len(handles), BATCH):
            await self._queue.change_visibility(dict.fromkeys(handles[start : start + BATCH], 0))
