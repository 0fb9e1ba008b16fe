"""Collects what many tasks send into few requests, sends again what failed of them, and keeps each group in order.

Three parts. A target knows a service: its limits, how much an entry counts, how to ask and what the answer says of
each entry. `Collector` says what goes together and when (pure: it is told the time); `BatchProducer` drives the two.
The rule: of a lane (a FIFO group, a partition key) no entry is sent while one before it has no answer for good.
Ugly: a request whose answer was lost is sent again, so everything but a FIFO queue may get an entry twice.
"""

from __future__ import annotations

import logging
import math
import random as chance_source
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import anyio
import anyio.abc
import anyio.lowlevel

from patterns.retry import FullJitter, RetryBudget, RetryPolicy, any_error, retry

log = logging.getLogger("patterns.batch_producer")

MIB = 1_048_576
Entry = Mapping[str, Any]  # the members of the service's own entry, without the Id that SQS wants


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service's own words of an entry: MessageId, ShardId and SequenceNumber, EventId."""

    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """`sender_fault`: it will not succeed by sending it again."""

    code: str
    message: str
    sender_fault: bool


class NotSent(Exception):
    """The service refused the entry, at last."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(f"{rejected.code}: {rejected.message}")
        self.rejected = rejected


class ProducerClosed(Exception):
    """The producer has ended. An entry that waited for its answer may have been sent or not."""


class EntryTooLarge(ValueError):
    """No request has room for it: see patterns.claim_check."""


class BatchTarget(Protocol):
    """Where entries go. `send` answers for each in the same order, and raises when it knows nothing of any."""

    limits: Limits

    def size_bytes(self, entry: Entry) -> int: ...

    def lane(self, entry: Entry) -> str | None:
        """Within which order holds; None has none."""
        ...

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerPolicy:
    """`linger_ms` is how long an entry waits for company. `entries` and `bytes` are below the target's limits if given.

    `of_a_lane` is how many entries of one lane a request may have. More than one is quicker where there are few lanes,
    and loses their order when the service takes the second and refuses the first.
    """

    linger_ms: float = 5.0
    entries: int | None = None
    bytes: int | None = None
    of_a_lane: int = 1
    requests: int = 4  # at once
    unanswered: int = 5_000  # entries that `put` takes before it lets its callers wait
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(FullJitter(0.1, 5.0), attempts=8))

    def __post_init__(self) -> None:
        if min(self.of_a_lane, self.requests, self.unanswered) < 1 or self.linger_ms < 0:
            raise ValueError("of_a_lane, requests and unanswered are at least 1, linger_ms at least 0")
        if min(self.entries or 1, self.bytes or 1) < 1:
            raise ValueError("entries and bytes are at least 1")

    def limits(self, target: Limits) -> Limits:
        return Limits(
            min(self.entries or target.entries, target.entries), min(self.bytes or target.bytes, target.bytes)
        )


@dataclass(eq=False, slots=True)
class Sent:
    """An entry on its way. `await sent.outcome()` is the service's answer to it."""

    entry: Entry
    size_bytes: int
    lane: str | None
    arrived_s: float
    is_withdrawn: bool = False
    _outcome: Mapping[str, Any] | Exception | None = None
    _answered: anyio.Event = field(default_factory=anyio.Event)

    async def outcome(self) -> Mapping[str, Any]:
        """Raises NotSent, what the last request raised, TimeoutError after the retries' deadline, or ProducerClosed."""
        await self._answered.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome or {}

    def settle(self, outcome: Mapping[str, Any] | Exception) -> None:
        self._outcome = outcome
        self._answered.set()


class Collector:
    """What goes together. One batch is open; what has no place in it by order waits in its lane."""

    def __init__(self, limits: Limits, linger_s: float, of_a_lane: int = 1) -> None:
        self._limits, self._linger_s, self._of_a_lane = limits, linger_s, of_a_lane
        self._open: list[Sent] = []
        self._open_bytes = 0
        self._open_s = math.inf  # when the first of the open batch arrived
        self._open_lanes: dict[str, int] = {}
        self._full: deque[list[Sent]] = deque()
        self._busy: set[str] = set()  # lanes with entries in a batch that is full or on its way
        self._waiting: dict[str, deque[Sent]] = {}

    def add(self, sent: Sent) -> None:
        if sent.lane is not None and (sent.lane in self._waiting or not self._may_join(sent.lane)):
            self._waiting.setdefault(sent.lane, deque()).append(sent)
        else:
            self._join(sent)

    def due_s(self) -> float:
        """When `take` has a batch though nothing more arrives; infinity if never."""
        return -math.inf if self._full else self._open_s + self._linger_s

    def take(self, now_s: float, *, flush: bool = False) -> list[Sent]:
        """A batch to send now, or nothing. Its lanes rest until `finish`."""
        if not self._full and self._open and (flush or now_s >= self.due_s()):
            self._close()
        return self._full.popleft() if self._full else []

    def finish(self, batch: Sequence[Sent]) -> None:
        """All of it has an end, good or bad."""
        for lane in dict.fromkeys(sent.lane for sent in batch if sent.lane is not None):
            self._busy.discard(lane)
            waiting = self._waiting.get(lane)
            while waiting and self._may_join(lane):
                self._join(waiting.popleft())
            if not waiting:
                self._waiting.pop(lane, None)

    @property
    def is_empty(self) -> bool:
        return not (self._open or self._full or self._waiting)

    def _may_join(self, lane: str) -> bool:
        return lane not in self._busy and self._open_lanes.get(lane, 0) < self._of_a_lane

    def _join(self, sent: Sent) -> None:
        if self._open_bytes + sent.size_bytes > self._limits.bytes:
            self._close()
            if sent.lane in self._busy:  # those before it are in the batch that was closed just now
                self._waiting.setdefault(sent.lane, deque()).appendleft(sent)
                return
        self._open.append(sent)
        self._open_bytes += sent.size_bytes
        self._open_s = min(self._open_s, sent.arrived_s)
        if sent.lane is not None:
            self._open_lanes[sent.lane] = self._open_lanes.get(sent.lane, 0) + 1
        if len(self._open) >= self._limits.entries or self._open_bytes >= self._limits.bytes:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._full.append(self._open)
        self._busy.update(self._open_lanes)
        self._open, self._open_bytes, self._open_s, self._open_lanes = [], 0, math.inf, {}


class _Unfinished(Exception):
    """Of a request, some entries failed that may succeed in the next one."""


class BatchProducer:
    """`async with BatchProducer(SqsTarget(client, url)) as producer: await producer.send({"MessageBody": "…"})`.

    Leaving the block sends what is left and waits for its answers; an exception or a cancellation drops it.
    `is_transient` says which errors of a whole request are worth another. For one event loop.
    """

    def __init__(
        self,
        target: BatchTarget,
        policy: ProducerPolicy | None = None,
        *,
        is_transient: Callable[[Exception], bool] = any_error,
        budget: RetryBudget | None = None,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy or ProducerPolicy()
        self._target = target
        self._is_transient = is_transient
        self._budget = budget
        self._random = random
        self._limits = self.policy.limits(target.limits)
        self._collector = Collector(self._limits, self.policy.linger_ms / 1000, self.policy.of_a_lane)
        self._room = anyio.Semaphore(self.policy.unanswered)
        self._unanswered: set[Sent] = set()
        self._requests = 0
        self._is_open = self._is_flushing = False
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup

    async def put(self, entry: Entry) -> Sent:
        """Waits for room, not for the answer. Raises EntryTooLarge and ProducerClosed.

        Of a lane, entries go in the order of these calls by one task; of several tasks, as long as there is room.
        """
        size_bytes = self._target.size_bytes(entry)
        if size_bytes > self._limits.bytes:
            raise EntryTooLarge(f"{size_bytes} bytes are more than {self._limits.bytes}")
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            self._room.acquire_nowait()  # before anybody else has a turn, for the order's sake
        except anyio.WouldBlock:
            await self._room.acquire()
        if not self._is_open:
            self._room.release()
            raise ProducerClosed
        sent = Sent(entry, size_bytes, self._target.lane(entry), anyio.current_time())
        self._unanswered.add(sent)
        self._collector.add(sent)
        self._wake()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        return sent

    async def send(self, entry: Entry) -> Mapping[str, Any]:
        """The service's answer to the entry, which is sent by then. Raises as `put` and `Sent.outcome`.

        Cancelled before its request has begun, the entry is not sent.
        """
        sent = await self.put(entry)
        try:
            return await sent.outcome()
        except anyio.get_cancelled_exc_class():
            sent.is_withdrawn = True
            raise

    async def __aenter__(self) -> BatchProducer:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._is_open = True
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._is_open = False
        if error is None:
            self._is_flushing = True
            self._wake()
        else:
            self._tasks.cancel_scope.cancel()
        try:
            if isinstance(error, Exception):  # the caller's own, which the task group would wrap
                await self._tasks.__aexit__(None, None, None)
                return False
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            for sent in list(self._unanswered):
                self._settle(sent, ProducerClosed())

    async def _run(self) -> None:
        collector = self._collector
        while not (self._is_flushing and collector.is_empty and not self._requests):
            due_s = math.inf
            if self._requests < self.policy.requests:
                if batch := collector.take(anyio.current_time(), flush=self._is_flushing):
                    self._requests += 1
                    self._tasks.start_soon(self._deliver, batch)
                    continue
                due_s = collector.due_s()
            with anyio.CancelScope(deadline=due_s):
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _deliver(self, batch: list[Sent]) -> None:
        left = [sent for sent in batch if not sent.is_withdrawn]
        for sent in batch:
            if sent.is_withdrawn:
                self._settle(sent, {})
        last: dict[Sent, Rejected] = {}

        async def attempt() -> None:
            nonlocal left
            last.clear()
            outcomes = await self._target.send([sent.entry for sent in left])
            again = []
            for sent, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Accepted):
                    self._settle(sent, outcome.answer)
                elif outcome.sender_fault:
                    self._settle(sent, NotSent(outcome))
                else:
                    last[sent] = outcome
                    again.append(sent)
            left = again
            if left:
                raise _Unfinished

        try:
            if left:
                await retry(
                    attempt,
                    self.policy.retry,
                    is_transient=lambda error: isinstance(error, _Unfinished) or self._is_transient(error),
                    budget=self._budget,
                    random=self._random,
                )
        except Exception as error:
            log.warning("%d entries not sent: %r", len(left), error)
            for sent in left:
                self._settle(sent, NotSent(last[sent]) if sent in last else error)
        finally:
            self._collector.finish(batch)
            self._requests -= 1
            self._wake()

    def _settle(self, sent: Sent, outcome: Mapping[str, Any] | Exception) -> None:
        if sent in self._unanswered:
            self._unanswered.remove(sent)
            self._room.release()
            sent.settle(outcome)


# Targets


def _utf8(*texts: str | None) -> int:
    return sum(len(text.encode()) for text in texts if text)


class SqsTarget:
    """SendMessageBatch of a client of aiobotocore or aioboto3, or of boto3 through patterns.threads.InThreads.

    A FIFO queue's lanes are its groups. An entry is that of SendMessageBatch without Id:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatchRequestEntry.html
    """

    limits = Limits(10, MIB)

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._is_fifo = queue_url.endswith(".fifo")

    def size_bytes(self, entry: Entry) -> int:
        attributes: Mapping[str, Mapping[str, Any]] = entry.get("MessageAttributes", {})
        return _utf8(entry["MessageBody"]) + sum(
            _utf8(name, value["DataType"], value.get("StringValue")) + len(value.get("BinaryValue", b""))
            for name, value in attributes.items()
        )

    def lane(self, entry: Entry) -> str | None:
        return entry.get("MessageGroupId") if self._is_fifo else None

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        answer = await self._client.send_message_batch(
            QueueUrl=self._queue_url,
            Entries=[{**entry, "Id": str(number)} for number, entry in enumerate(entries)],
        )
        outcomes: dict[str, Accepted | Rejected] = {one["Id"]: Accepted(one) for one in answer.get("Successful", ())}
        for one in answer.get("Failed", ()):
            outcomes[one["Id"]] = Rejected(one["Code"], one.get("Message", ""), bool(one["SenderFault"]))
        return [outcomes[str(number)] for number in range(len(entries))]


class KinesisTarget:
    """PutRecords to a stream (its name or ARN). With `in_order` a partition key is a lane, otherwise nothing is:
    PutRecords itself keeps no order. https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
    """

    limits = Limits(500, 10 * MIB)

    def __init__(self, client: Any, stream: str, *, in_order: bool = False) -> None:
        self._client = client
        self._stream = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        self._in_order = in_order

    def size_bytes(self, entry: Entry) -> int:
        data = entry["Data"]
        return _utf8(entry["PartitionKey"]) + (_utf8(data) if isinstance(data, str) else len(data))

    def lane(self, entry: Entry) -> str | None:
        key: str = entry["PartitionKey"]
        return key if self._in_order else None

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        answer = await self._client.put_records(**self._stream, Records=[dict(entry) for entry in entries])
        return [
            Rejected(one["ErrorCode"], one.get("ErrorMessage", ""), sender_fault=False)  # throttled, or their failure
            if one.get("ErrorCode")
            else Accepted(one)
            for one in answer["Records"]
        ]


class EventsTarget:
    """PutEvents; EventBridge keeps no order.
    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
    """

    limits = Limits(10, MIB - 1)  # "the total entry size must be less than 1MB"

    _TRANSIENT = frozenset({"InternalFailure", "InternalException", "ThrottlingException"})

    def __init__(self, client: Any, *, endpoint_id: str | None = None) -> None:
        self._client = client
        self._endpoint = {} if endpoint_id is None else {"EndpointId": endpoint_id}

    def size_bytes(self, entry: Entry) -> int:
        """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html"""
        texts = _utf8(entry.get("Source"), entry.get("DetailType"), entry.get("Detail"), *entry.get("Resources", ()))
        return texts + (14 if entry.get("Time") is not None else 0)

    def lane(self, entry: Entry) -> str | None:
        return None

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        answer = await self._client.put_events(**self._endpoint, Entries=[dict(entry) for entry in entries])
        return [
            Rejected(one["ErrorCode"], one.get("ErrorMessage", ""), one["ErrorCode"] not in self._TRANSIENT)
            if one.get("ErrorCode")
            else Accepted(one)
            for one in answer["Entries"]
        ]
