"""Lambda's poller for queues: `SqsEventSource` over batch_consumer's `SqsClient`.

Pure: a message as Lambda writes it, which messages are `deletable` after an answer, and how many make an event
(`payloads`). The rule: a message is deleted only after the function has succeeded with it; of a FIFO group, after it
has succeeded with all before it. The rest is event_source.py's.
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

import base64
import hashlib
import math
import random as chance_source
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from patterns.batch_consumer import BATCH, MAX_VISIBILITY_S, MAX_WAIT_S, Message, SqsClient
from patterns.event_filter import queue_filter
from patterns.event_source import (
    CALL_BACKOFF,
    MAX_PAYLOAD_BYTES,
    Function,
    FunctionError,
    OnSource,
    SourceHappening,
    check_batches,
    event_of,
    log,
    log_source,
    policy_fields,
    reported,
    text_of,
)

# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
MAX_CONCURRENCY = 1000
FIRST_CONCURRENCY = 5  # what Lambda begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsSourcePolicy:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html

    `maximum_concurrency` is fixed: nothing is scaled up or down. `visibility_s` None is what AWS advises the queue's to
    be: six times the function's timeout, and the window. `filter_criteria` is AWS's FilterCriteria.
    """

    batch_size: int = 10
    maximum_batching_window_s: int = 0
    maximum_concurrency: int = FIRST_CONCURRENCY
    report_batch_item_failures: bool = False
    filter_criteria: Mapping[str, Any] | None = None
    visibility_s: int | None = None
    wait_s: int = MAX_WAIT_S
    call_attempts: int = 8

    def __post_init__(self) -> None:
        check_batches(self.batch_size, self.maximum_batching_window_s)
        if self.batch_size > BATCH and not self.maximum_batching_window_s:
            raise ValueError("a batch_size of more than 10 needs maximum_batching_window_s")
        if not 1 <= self.maximum_concurrency <= MAX_CONCURRENCY or self.call_attempts < 1:
            raise ValueError("maximum_concurrency is from 1 to 1000, call_attempts at least 1")
        if self.visibility_s is not None and not 1 <= self.visibility_s <= MAX_VISIBILITY_S:
            raise ValueError("visibility_s is from 1 to 43200")
        if not 0 <= self.wait_s <= MAX_WAIT_S:
            raise ValueError("wait_s is from 0 to 20")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> SqsSourcePolicy:
        """From the parameters of CreateEventSourceMapping. Raises ValueError for what is none of a queue's."""
        mapping = dict(mapping)
        scaling = mapping.pop("ScalingConfig", None) or {}
        concurrency = scaling.get("MaximumConcurrency", FIRST_CONCURRENCY)
        if concurrency < 2:
            raise ValueError("AWS's MaximumConcurrency is at least 2")
        return cls(maximum_concurrency=concurrency, **policy_fields(mapping, {}))

    def lease_s(self, timeout_s: float) -> int:
        """The visibility timeout in use."""
        advised = math.ceil(6 * timeout_s) + self.maximum_batching_window_s
        return self.visibility_s or min(MAX_VISIBILITY_S, advised)


def sqs_record(message: Message, queue_arn: str) -> dict[str, Any]:
    """A message as Lambda gives it: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    attributes = {name: _attribute(value) for name, value in message.message_attributes.items()}
    record: dict[str, Any] = {
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": dict(message.attributes),
        "messageAttributes": attributes,
        "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if message.message_attributes:
        record["md5OfMessageAttributes"] = _md5_of_attributes(message.message_attributes)
    return record


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    content = {"stringValue": value["StringValue"]} if "StringValue" in value else {}
    if "BinaryValue" in value:
        content["binaryValue"] = base64.b64encode(_bytes(value["BinaryValue"])).decode()
    return {**content, "stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else base64.b64decode(value)


def _md5_of_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """SQS developer guide, "Calculating the MD5 message digest for message attributes"."""
    digest = hashlib.md5(usedforsecurity=False)
    for name, value in sorted(attributes.items()):
        is_binary = "BinaryValue" in value
        content = _bytes(value["BinaryValue"]) if is_binary else value["StringValue"].encode()
        for piece in (name.encode(), value["DataType"].encode()):
            digest.update(len(piece).to_bytes(4, "big") + piece)
        digest.update((b"\2" if is_binary else b"\1") + len(content).to_bytes(4, "big") + content)
    return digest.hexdigest()


def deletable(messages: Sequence[Message], failed: Collection[str]) -> list[Message]:
    """Those that have succeeded. In a FIFO group nothing behind the first that failed has.

    The guide leaves it to the function to report those behind, too. One that does not would have them deleted by
    Lambda and lose their order; here they come again.
    """
    stopped: set[str] = set()
    succeeded = []
    for message in messages:
        group = message.ordered_group
        if message.message_id in failed:
            stopped |= {group} if group is not None else set()
        elif group not in stopped:
            succeeded.append(message)
    return succeeded


def payloads(sizes: Sequence[int], most_bytes: int = MAX_PAYLOAD_BYTES) -> list[int]:
    """How many of the first make an event, how many of the next, …: each has one at least, and room for all it has."""
    counts: list[int] = []
    left = -1
    for size in sizes:
        left -= size + 1
        if left < 0:
            counts.append(0)
            left = most_bytes - size - len('{"Records":[]}')
        counts[-1] += 1
    return counts


class SqsEventSource:
    """Polls a queue and invokes the function with batches, `maximum_concurrency` at once. At least once.

    What fails stays hidden until its visibility timeout ends, as with Lambda; the queue's redrive policy counts. What
    the filter drops is deleted. `on_event` must not raise. One `run` an object. Raises ValueError for what AWS refuses
    of FIFO queues (more than ten, a window).
    """

    def __init__(
        self,
        client: SqsClient,
        queue_arn: str,
        function: Function,
        policy: SqsSourcePolicy | None = None,
        *,
        on_event: OnSource = log_source,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy or SqsSourcePolicy()
        is_fifo = queue_arn.endswith(".fifo")
        if is_fifo and (self.policy.batch_size > BATCH or self.policy.maximum_batching_window_s):
            raise ValueError("of a FIFO queue a batch has at most 10, and no window")
        self._client = client
        self._queue_arn = queue_arn
        self._function = function
        self._keep = queue_filter(self.policy.filter_criteria)
        self._tell = on_event
        self._random = random
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Begins a graceful end: what was invoked comes to its end, what was only received is given back."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises the client's error after `call_attempts` receives in a row have failed."""
        places = anyio.Semaphore(self.policy.maximum_concurrency)
        failure = None
        async with anyio.create_task_group() as tasks:
            while not self._stopping.is_set():
                await places.acquire()
                try:
                    messages = await self._gather()
                except Exception as error:
                    failure = error
                    break
                if self._stopping.is_set():
                    await self._give_back(messages)
                elif messages:
                    tasks.start_soon(self._work, messages, places)
                    continue
                places.release()
        if failure is not None:
            raise failure

    async def _gather(self) -> list[Message]:
        """A batch. Its window begins with its first message."""
        gathered: list[Message] = []
        size, end_s = 0, 0.0
        while not self._stopping.is_set():
            wait_s = int(end_s - anyio.current_time()) if gathered else self.policy.wait_s
            if gathered and (wait_s < 1 or size > MAX_PAYLOAD_BYTES):
                break
            most = min(BATCH, self.policy.batch_size - len(gathered))
            received = await self._receive(most, min(wait_s, self.policy.wait_s))
            kept, dropped = self._filtered(received)
            if dropped:
                self._tell(SourceHappening.FILTERED, [message.message_id for message in dropped], None)
                await self._delete(dropped)
            if kept and not gathered:
                end_s = anyio.current_time() + self.policy.maximum_batching_window_s
            gathered += kept
            size += sum(len(message.body) for message in kept)
            if not received and not gathered:
                return []
            if len(gathered) >= self.policy.batch_size:
                break
        return gathered

    def _filtered(self, received: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        kept: list[Message] = []
        dropped: list[Message] = []
        for message in received:
            (kept if self._keep(sqs_record(message, self._queue_arn)) else dropped).append(message)
        return kept, dropped

    async def _receive(self, most: int, wait_s: int) -> Sequence[Message]:
        failures = 0
        visibility_s = self.policy.lease_s(self._function.timeout_s)
        while True:
            try:
                return await self._client.receive(max_messages=most, wait_s=wait_s, visibility_s=visibility_s)
            except Exception as error:
                failures += 1
                log.warning("receive failed: %r", error)
                if failures >= self.policy.call_attempts:
                    raise
            with anyio.move_on_after(CALL_BACKOFF.delay_s(failures, 0.0, self._random())):
                await self._stopping.wait()
            if self._stopping.is_set():
                return []

    async def _work(self, messages: Sequence[Message], places: anyio.Semaphore) -> None:
        """One after the other, if they are too much for one event: of a group the next only after success."""
        try:
            texts = [text_of(sqs_record(message, self._queue_arn)) for message in messages]
            failed: set[str] = set()
            start = 0
            for count in payloads([len(text.encode()) for text in texts]):
                groups = {message.ordered_group for message in messages if message.message_id in failed} - {None}
                part = [at for at in range(start, start + count) if messages[at].ordered_group not in groups]
                start += count
                if part:
                    failed |= await self._invoke([messages[at] for at in part], [texts[at] for at in part])
        finally:
            places.release()

    async def _invoke(self, messages: list[Message], texts: list[str]) -> set[str]:
        """Those that have failed."""
        identifiers = [message.message_id for message in messages]
        try:
            answer = await self._function.invoke(event_of(texts), self._function.new_id())
            failed = reported(answer, identifiers) if self.policy.report_batch_item_failures else frozenset()
        except FunctionError as error:
            self._tell(SourceHappening.FAILED, identifiers, error)
            return set(identifiers)
        succeeded = deletable(messages, failed)
        handles = {message.receipt_handle for message in succeeded}
        kept = [message.message_id for message in messages if message.receipt_handle not in handles]
        if kept:
            self._tell(SourceHappening.FAILED, kept, FunctionError("batchItemFailures"))
        if succeeded:
            self._tell(SourceHappening.SUCCEEDED, [message.message_id for message in succeeded], None)
            await self._delete(succeeded)
        return set(kept)

    async def _delete(self, messages: Sequence[Message]) -> None:
        """In order, and again what SQS may still take."""
        ids = {message.receipt_handle: message.message_id for message in messages}
        waiting, failures = list(ids), 0
        while waiting:
            error: Exception
            tens = [waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH)]
            waiting, error = [], RuntimeError("DeleteMessageBatch failed")
            for handles in tens:
                try:
                    refused = await self._client.delete_batch(handles)
                except Exception as raised:
                    waiting, error = waiting + handles, raised
                    continue
                final = [handle for handle, refusal in refused.items() if refusal.sender_fault]
                if final:
                    why = RuntimeError(f"DeleteMessageBatch: {refused[final[0]].code}")
                    self._tell(SourceHappening.NOT_DELETED, [ids[handle] for handle in final], why)
                waiting += [handle for handle in refused if handle not in final]
            if waiting:
                failures += 1
                if failures >= self.policy.call_attempts:
                    self._tell(SourceHappening.NOT_DELETED, [ids[handle] for handle in waiting], error)
                    return
                await anyio.sleep(CALL_BACKOFF.delay_s(failures, 0.0, self._random()))

    async def _give_back(self, messages: Sequence[Message]) -> None:
        """One try: if SQS does not hear it, their visibility timeout does the same later."""
        for start in range(0, len(messages), BATCH):
            try:
                await self._client.change_visibility(
                    {message.receipt_handle: 0 for message in messages[start : start + BATCH]}
                )
            except Exception as error:
                log.warning("not given back: %r", error)
