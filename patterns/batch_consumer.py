"""A consumer of an SQS queue: many messages at once, each FIFO group in order, none lost, and it knows how to stop.

Three parts. `ConsumerPolicy` has the numbers and what follows from them; `GroupLanes` says which of the messages in
hand may start (both pure: no clock, no chance, no I/O); `BatchConsumer` drives them, or other `Lanes`, over an
`SqsClient`. The rule: a message is in hand, with its lease kept alive, until its deletion is answered; the next of its
group starts only after that.
Cancelling the consumer is a crash: nothing is given back, what was in hand comes again after its visibility timeout.
Ugly: SQS has no "mine is still the lease?", so a lease counts as lost a little before it ends by our own clock.
"""

from __future__ import annotations

import logging
import math
import random as chance_source
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from patterns.retry import Backoff, FullJitter

log = logging.getLogger("patterns.batch_consumer")
T = TypeVar("T")

BATCH = 10  # entries in a request: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
MAX_VISIBILITY_S = 43_200
MAX_WAIT_S = 20

_CALL_BACKOFF = FullJitter(0.2, 5.0)  # of our own requests to SQS, on top of what the client itself retries


@dataclass(frozen=True, slots=True)
class Message:
    """What was received, in SQS's words. `attributes` are the system's, `message_attributes` the sender's."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def receive_count(self) -> int:
        return int(self.attributes.get("ApproximateReceiveCount", "1"))

    @property
    def ordered_group(self) -> str | None:
        """The group within which order holds. Fair queues have groups too, but only FIFO ones a SequenceNumber."""
        return self.attributes.get("MessageGroupId") if "SequenceNumber" in self.attributes else None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One entry of a batch that failed. `sender_fault`: it will not succeed by trying again."""

    code: str
    sender_fault: bool


class SqsClient(Protocol):
    """One queue. At most ten entries a call; a call answers with the entries that failed, by receipt handle."""

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]: ...

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]: ...

    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]: ...


class Poison(Exception):
    """Raise it from a handler: this message will never succeed. It is quarantined at once."""


class TooManyReceives(Exception):
    """A message that came more than `max_receives` times and never reached an end: it may kill its consumers."""


class LeaseLost(Exception):
    """The message is no longer ours: its visibility could not be extended. Its handler is cancelled."""


class Lease(Enum):
    KEEP = "keep"
    EXTEND = "extend"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerPolicy:
    """`visibility_s` None is six times the handler's timeout, as AWS advises for Lambda's queues:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html

    `max_receives` must be lower than the queue's maxReceiveCount, or the dead-letter queue is quicker.
    """

    concurrency: int = 10
    prefetch: int = 10
    handler_timeout_s: float = 30.0
    visibility_s: int | None = None
    wait_s: int = MAX_WAIT_S
    backoff: Backoff = field(default_factory=lambda: FullJitter(2.0, 900.0))
    max_receives: int = 5
    call_attempts: int = 8

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.prefetch < 0 or self.max_receives < 1 or self.call_attempts < 1:
            raise ValueError("concurrency, max_receives and call_attempts are at least 1, prefetch at least 0")
        if self.handler_timeout_s <= 0 or not 0 <= self.wait_s <= MAX_WAIT_S:
            raise ValueError("handler_timeout_s is more than 0, wait_s from 0 to 20")
        if self.visibility_s is not None and not 1 <= self.visibility_s <= MAX_VISIBILITY_S:
            raise ValueError("visibility_s is from 1 to 43200")

    @property
    def lease_s(self) -> int:
        """The visibility timeout in use."""
        return self.visibility_s or min(MAX_VISIBILITY_S, math.ceil(6 * self.handler_timeout_s))

    @property
    def heartbeat_s(self) -> float:
        """How often leases are looked at: an extension has three chances before its lease counts as lost."""
        return self.lease_s / 6

    def wanted(self, in_hand: int) -> int:
        """How many messages to ask for; 0 when there is work enough."""
        return max(0, min(BATCH, self.concurrency + self.prefetch - in_hand))

    def lease(self, left_s: float) -> Lease:
        if left_s <= self.lease_s / 6:
            return Lease.LOST
        return Lease.EXTEND if left_s <= self.lease_s * 2 / 3 else Lease.KEEP

    def retry_visibility_s(self, receive_count: int, chance: float) -> int:
        """When a message that failed shall come again."""
        delay_s = self.backoff.delay_s(receive_count, 0.0, chance)
        return min(MAX_VISIBILITY_S, max(0, math.ceil(delay_s)))

    def is_poison(self, receive_count: int, error: Exception) -> bool:
        return isinstance(error, Poison) or receive_count >= self.max_receives


@dataclass(eq=False, slots=True)
class Held:
    """A message in hand. Times by the event loop's clock."""

    message: Message
    arrived_s: float
    lease_end_s: float
    is_lost: bool = False
    scope: anyio.CancelScope | None = None  # of its handler, while that runs

    @property
    def lane(self) -> str:
        group = self.message.ordered_group
        return f"alone {self.message.receipt_handle}" if group is None else f"group {group}"


class Lanes(Protocol):
    """Work in hand, and what of it may start. A FIFO group is a lane, any other message has its own (`held.lane`).

    Each message is added, started, at rest when its handler is done, and finished when its deletion is answered; one at
    a time in a lane. What is drained or let go is forgotten.
    """

    def add(self, held: Held) -> None: ...

    def start(self) -> Held | None:
        """The next that may start, or None. Its lane waits until `finish`."""
        ...

    def rest(self, held: Held) -> None:
        """Its handler has come to its end: another lane may start."""
        ...

    def finish(self, held: Held, *, ok: bool) -> list[Held]:
        """It has come to an end. If not a good one, those behind it are let go: they must not overtake it."""
        ...

    def close(self) -> None:
        """Nothing starts any more."""
        ...

    def drain(self) -> list[Held]:
        """Lets go of all that have not started."""
        ...


class GroupLanes:
    """Lanes in the order in which they became ready, `concurrency` at once."""

    def __init__(self, concurrency: int) -> None:
        self._room = concurrency
        self._waiting: dict[str, deque[Held]] = {}  # every lane that has work, also when that has started
        self._ready: deque[str] = deque()
        self._is_closed = False

    def add(self, held: Held) -> None:
        if held.lane in self._waiting:
            self._waiting[held.lane].append(held)
        else:
            self._waiting[held.lane] = deque([held])
            self._ready.append(held.lane)

    def start(self) -> Held | None:
        if self._is_closed or not self._room or not self._ready:
            return None
        self._room -= 1
        return self._waiting[self._ready.popleft()].popleft()

    def rest(self, held: Held) -> None:
        self._room += 1

    def finish(self, held: Held, *, ok: bool) -> list[Held]:
        waiting = self._waiting[held.lane]
        let_go = [] if ok else list(waiting)
        if ok and waiting:
            self._ready.append(held.lane)
        else:
            del self._waiting[held.lane]
        return let_go

    def close(self) -> None:
        self._is_closed = True

    def drain(self) -> list[Held]:
        let_go = [held for waiting in self._waiting.values() for held in waiting]
        for lane in self._ready:
            del self._waiting[lane]
        self._ready.clear()
        for waiting in self._waiting.values():
            waiting.clear()
        return let_go


class Happening(Enum):
    """What `on_event` is told of a message; the error is that of the handler or of the request to SQS."""

    RECEIVED = "received"
    STARTED = "started"
    DELETED = "deleted"
    FAILED = "failed"  # comes again by its backoff
    QUARANTINED = "quarantined"
    LEASE_LOST = "lease lost"
    LET_GO = "let go"  # not started: given back to the queue
    NOT_DELETED = "not deleted"  # done, but will come again


Handler = Callable[[Message], Awaitable[None]]
Quarantine = Callable[[Message, Exception], Awaitable[None]]
OnEvent = Callable[[Happening, Message, Exception | None], None]


def log_event(happening: Happening, message: Message, error: Exception | None) -> None:
    level = logging.DEBUG if error is None else logging.WARNING
    log.log(level, "%s %s%s", message.message_id, happening.value, "" if error is None else f": {error!r}")


@dataclass(eq=False, slots=True)
class _Deletion:
    held: Held
    attempts: int = 0
    error: Exception | None = None
    done: anyio.Event = field(default_factory=anyio.Event)


class BatchConsumer:
    """Runs `handler` for each message of a queue. Returning means done: the message is deleted. At least once.

    An error or a timeout of the handler lets the message come again by the policy's backoff. After `max_receives`, or
    at `Poison`, it goes to `quarantine` with its error and is deleted when that returns; without `quarantine` it stays
    with the queue and its redrive policy. `on_event` is told what happens and must not raise. One `run` an object.

    `lanes` and `on_ready` are for who lets many consumers share something (see fair_scheduling): `on_ready` is called
    when something may start, instead of `start_ready`, which is then the caller's to call.
    """

    def __init__(
        self,
        client: SqsClient,
        handler: Handler,
        policy: ConsumerPolicy | None = None,
        *,
        quarantine: Quarantine | None = None,
        on_event: OnEvent = log_event,
        random: Callable[[], float] = chance_source.random,
        lanes: Lanes | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.policy = policy or ConsumerPolicy()
        self._client = client
        self._handler = handler
        self._quarantine = quarantine
        self._tell = on_event
        self._random = random
        self._tasks: anyio.abc.TaskGroup
        self._lanes = lanes or GroupLanes(self.policy.concurrency)
        self._on_ready = on_ready or self.start_ready
        self._held: set[Held] = set()
        self._stopping = anyio.Event()
        self._changed = anyio.Event()
        self._deletions: deque[_Deletion] = deque()
        self._deletion_wanted = anyio.Event()
        self._visibility = anyio.Lock()  # a heartbeat must not undo a backoff

    @property
    def in_hand(self) -> int:
        """How many messages: waiting, with their handlers, or about to be deleted."""
        return len(self._held)

    def stop(self) -> None:
        """Begins a graceful end. What has started is finished, what has not goes back to the queue, and `run` returns.

        It takes at most the longer of the poll under way (`wait_s`) and the handlers' timeout, and SQS's answers.
        """
        self._stopping.set()
        self._lanes.close()
        self._wake()

    async def run(self) -> None:
        """Until `stop`. Raises the client's error after `call_attempts` receives in a row have failed, once drained."""
        async with anyio.create_task_group() as around:
            around.start_soon(self._keep_leases)
            around.start_soon(self._delete)
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._drain)
                failure = await self._poll()
            around.cancel_scope.cancel()
        if failure is not None:
            raise failure

    # Receiving

    async def _poll(self) -> Exception | None:
        policy, failures = self.policy, 0
        while not self._stopping.is_set():
            wanted = policy.wanted(self.in_hand)
            if not wanted:
                await self._changed.wait()
                continue
            try:
                messages = await self._client.receive(
                    max_messages=wanted, wait_s=policy.wait_s, visibility_s=policy.lease_s
                )
            except Exception as error:
                failures += 1
                log.warning("receive failed: %r", error)
                if failures >= policy.call_attempts:
                    self.stop()
                    return error
                await self._pause(_CALL_BACKOFF.delay_s(failures, 0.0, self._random()))
                continue
            failures = 0
            now_s = anyio.current_time()
            arrived = [Held(message, now_s, now_s + policy.lease_s) for message in messages]
            self._held.update(arrived)
            for held in arrived:
                self._tell(Happening.RECEIVED, held.message, None)
                self._lanes.add(held)
            if self._stopping.is_set():
                await self.give_back(dict.fromkeys(self._lanes.drain(), 0))
            self._on_ready()
        return None

    async def _pause(self, delay_s: float) -> None:
        with anyio.move_on_after(delay_s):
            await self._stopping.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _drain(self) -> None:
        await self._stopping.wait()
        await self.give_back(dict.fromkeys(self._lanes.drain(), 0))

    # Working

    def start_ready(self) -> None:
        """Starts what its lanes let start."""
        while (held := self._lanes.start()) is not None:
            self._tasks.start_soon(self._work, held)

    async def _work(self, held: Held) -> None:
        policy, message = self.policy, held.message
        error = await self._handle(held)
        if error is None:
            happening = Happening.DELETED
        elif self._quarantine is None or isinstance(error, LeaseLost):
            happening = Happening.FAILED
        elif policy.is_poison(message.receive_count, error):
            happening = Happening.QUARANTINED
            failed = await self._bounded(held, partial(self._quarantine, message, error))
            if failed is not None:
                error, happening = failed, Happening.FAILED
        else:
            happening = Happening.FAILED
        self._lanes.rest(held)
        self._on_ready()
        if happening is Happening.FAILED:
            ok = False
        else:
            not_deleted = await self._deleted(held)
            ok = not_deleted is None
            if not_deleted is not None:
                error, happening = not_deleted, Happening.NOT_DELETED
        if held.is_lost and not ok:
            happening = Happening.LEASE_LOST
        self._held.discard(held)
        self._tell(happening, message, error)
        let_go = dict.fromkeys(self._lanes.finish(held, ok=ok), 0)
        self._on_ready()
        if happening is Happening.FAILED:
            again_s = policy.retry_visibility_s(message.receive_count, self._random())
            await self.give_back(let_go, failed={held: again_s})
        else:
            await self.give_back(let_go)

    async def _handle(self, held: Held) -> Exception | None:
        if held.is_lost or self._is_over(held):
            held.is_lost = True
            return LeaseLost("before it started")
        count = held.message.receive_count
        if self._quarantine is not None and count > self.policy.max_receives:
            return TooManyReceives(f"received {count} times")
        self._tell(Happening.STARTED, held.message, None)
        return await self._bounded(held, partial(self._handler, held.message))

    async def _bounded(self, held: Held, function: Callable[[], Awaitable[None]]) -> Exception | None:
        """Within the handler's timeout and the lease."""
        with anyio.move_on_after(self.policy.handler_timeout_s) as held.scope:
            try:
                await function()
            except Exception as error:
                return error
            finally:
                held.scope = None
            return None
        if held.is_lost:
            return LeaseLost("while it was handled")
        return TimeoutError(f"not handled within {self.policy.handler_timeout_s} s")

    # Leases

    def _is_over(self, held: Held) -> bool:
        return self.policy.lease(held.lease_end_s - anyio.current_time()) is Lease.LOST

    async def _keep_leases(self) -> None:
        while True:
            await anyio.sleep(self.policy.heartbeat_s)
            now_s = anyio.current_time()
            due = []
            for held in self._held:
                lease = self.policy.lease(held.lease_end_s - now_s)
                if lease is Lease.LOST:
                    self._lose(held)
                elif lease is Lease.EXTEND:
                    due.append(held)
            for batch in _tens(due):
                async with self._visibility:
                    await self._extend([held for held in batch if held in self._held and not held.is_lost])

    async def _extend(self, batch: list[Held]) -> None:
        if not batch:
            return
        lease_end_s = anyio.current_time() + self.policy.lease_s
        refused = await self._change(dict.fromkeys(batch, self.policy.lease_s))
        for held in batch:
            refusal = refused.get(held.message.receipt_handle)
            if refusal is None:
                held.lease_end_s = lease_end_s
            elif refusal.sender_fault and held in self._held:  # deleted meanwhile, or gone to somebody else
                self._lose(held)

    def _lose(self, held: Held) -> None:
        held.is_lost = True
        if held.scope is not None:
            held.scope.cancel()

    async def _change(self, visibility_s: Mapping[Held, int]) -> Mapping[str, Refusal]:
        by_handle = {held.message.receipt_handle: to_s for held, to_s in visibility_s.items()}
        try:
            return await self._client.change_visibility(by_handle)
        except Exception as error:
            log.warning("visibility of %d messages not changed: %r", len(by_handle), error)
            return dict.fromkeys(by_handle, Refusal(repr(error), sender_fault=False))

    async def give_back(self, after_s: Mapping[Held, int], *, failed: Mapping[Held, int] | None = None) -> None:
        """What its lanes have let go of comes again after so long, behind what failed. In order, for a group's sake.

        It is one try: if SQS does not hear it, their visibility timeout does the same later.
        """
        for held in after_s:
            self._held.discard(held)
            self._tell(Happening.LET_GO, held.message, None)
        async with self._visibility:
            for batch in _tens([*(failed or {}).items(), *after_s.items()]):
                await self._change(dict(batch))
        self._wake()

    # Deleting

    async def _deleted(self, held: Held) -> Exception | None:
        """Waits for its turn in a batch and for the answer; what came in between."""
        deletion = _Deletion(held)
        self._deletions.append(deletion)
        self._deletion_wanted.set()
        await deletion.done.wait()
        return deletion.error

    async def _delete(self) -> None:
        """One request at a time, with all that came up meanwhile: batches grow with the load, nobody waits for one."""
        while True:
            if not self._deletions:
                self._deletion_wanted = anyio.Event()
                await self._deletion_wanted.wait()
            batch = [self._deletions.popleft() for _ in range(min(BATCH, len(self._deletions)))]
            handles = [deletion.held.message.receipt_handle for deletion in batch]
            failure: Exception | None = None
            try:
                refused = await self._client.delete_batch(handles)
            except Exception as error:
                failure = error
                refused = dict.fromkeys(handles, Refusal(repr(error), sender_fault=False))
            again = []
            for deletion, handle in zip(batch, handles, strict=True):
                refusal = refused.get(handle)
                deletion.attempts += 1
                if refusal is not None:
                    deletion.error = failure or RuntimeError(f"DeleteMessageBatch: {refusal.code}")
                    is_final = refusal.sender_fault or deletion.held.is_lost
                    if not is_final and deletion.attempts < self.policy.call_attempts:
                        again.append(deletion)
                        continue
                else:
                    deletion.error = None
                deletion.done.set()
            if again:
                self._deletions.extendleft(reversed(again))
                await anyio.sleep(_CALL_BACKOFF.delay_s(again[0].attempts, 0.0, self._random()))


def _tens(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


# Clients


def _receive_parameters(queue_url: str, max_messages: int, wait_s: int, visibility_s: int) -> dict[str, Any]:
    return {
        "QueueUrl": queue_url,
        "MaxNumberOfMessages": max_messages,
        "WaitTimeSeconds": wait_s,
        "VisibilityTimeout": visibility_s,
        "MessageSystemAttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
    }


def _delete_parameters(queue_url: str, receipt_handles: Sequence[str]) -> dict[str, Any]:
    entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(receipt_handles)]
    return {"QueueUrl": queue_url, "Entries": entries}


def _change_parameters(queue_url: str, visibility_s: Mapping[str, int]) -> dict[str, Any]:
    entries = [
        {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": to_s}
        for number, (handle, to_s) in enumerate(visibility_s.items())
    ]
    return {"QueueUrl": queue_url, "Entries": entries}


def _messages(answer: Mapping[str, Any]) -> list[Message]:
    return [
        Message(
            message["MessageId"],
            message["ReceiptHandle"],
            message["Body"],
            message.get("Attributes", {}),
            message.get("MessageAttributes", {}),
        )
        for message in answer.get("Messages", ())
    ]


def _refusals(answer: Mapping[str, Any], receipt_handles: Iterable[str]) -> dict[str, Refusal]:
    handles = list(receipt_handles)
    return {
        handles[int(entry["Id"])]: Refusal(entry["Code"], bool(entry["SenderFault"]))
        for entry in answer.get("Failed", ())
    }


class AioSqs:
    """An `SqsClient` of an aiobotocore or aioboto3 client of SQS (which run under asyncio)."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        parameters = _receive_parameters(self._queue_url, max_messages, wait_s, visibility_s)
        return _messages(await self._client.receive_message(**parameters))

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        parameters = _delete_parameters(self._queue_url, receipt_handles)
        return _refusals(await self._client.delete_message_batch(**parameters), receipt_handles)

    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]:
        parameters = _change_parameters(self._queue_url, visibility_s)
        return _refusals(await self._client.change_message_visibility_batch(**parameters), visibility_s)


class Boto3Sqs:
    """An `SqsClient` of a boto3 client, in threads of its own number. For asyncio and trio.

    A cancelled poll is abandoned: its thread ends with the poll, and what that receives comes again after its
    visibility timeout. Deletions and changes are waited for, so a cancellation takes as long as they do.
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._threads = anyio.CapacityLimiter(4)  # a poll, a deletion, a change, and a poll that was abandoned

    async def _call(self, operation: str, parameters: dict[str, Any], *, abandon: bool = False) -> Mapping[str, Any]:
        call = partial(getattr(self._client, operation), **parameters)
        answer: Mapping[str, Any] = await anyio.to_thread.run_sync(
            call, abandon_on_cancel=abandon, limiter=self._threads
        )
        return answer

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        parameters = _receive_parameters(self._queue_url, max_messages, wait_s, visibility_s)
        return _messages(await self._call("receive_message", parameters, abandon=True))

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        parameters = _delete_parameters(self._queue_url, receipt_handles)
        return _refusals(await self._call("delete_message_batch", parameters), receipt_handles)

    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]:
        parameters = _change_parameters(self._queue_url, visibility_s)
        return _refusals(await self._call("change_message_visibility_batch", parameters), visibility_s)
