"""Lambda's event source mappings without Lambda: a handler is given the batches that Lambda would give it.

Pure: the records and events as Lambda writes them, `reported` and `deletable` (what an answer of the function means),
`KinesisSourcePolicy.after` (retry, bisect, discard), `Progress` (how far a checkpoint may go), `Window`. The drivers:
`SqsEventSource` over batch_consumer's `SqsClient`, `KinesisEventSource` as work for lease's `LeaseKeeper`. The rule: a
message is deleted, and a checkpoint passes a record, only after the function has succeeded with it, or after its
destination has the metadata of what was discarded. Cancelling is a crash: what was in hand comes again.
Where AWS's guide is silent, a comment says what was decided. Ugly: a sync handler that times out goes on in its thread.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import logging
import math
import random as chance_source
import time
import uuid
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import anyio
import anyio.abc
import anyio.to_thread

from patterns.batch_consumer import BATCH, MAX_VISIBILITY_S, MAX_WAIT_S, Message, SqsClient
from patterns.event_filter import queue_filter, stream_filter
from patterns.lease import HeldLease, Lease, LeaseKeeper, LeasePolicy, LeaseStore
from patterns.lease_readers import Shards
from patterns.lease_stores import MemoryLeases
from patterns.outbox import wall_ms
from patterns.retry import Backoff, FullJitter, RetryPolicy, retry

log = logging.getLogger("patterns.event_source")

Event = dict[str, Any]
Handler = Callable[[Any, Any], Any]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
MAX_STATE_BYTES = 1024 * 1024
MAX_CONCURRENCY = 1000
FIRST_CONCURRENCY = 5  # what Lambda begins with: .../services-sqs-scaling.html

CLOCK_MARGIN_MS = 1_000  # by which Kinesis's clock may be behind ours when a tumbling window ends

_CALL_BACKOFF = FullJitter(0.2, 5.0)


# The function -------------------------------------------------------------------------------------


class FunctionError(Exception):
    """The function raised (see `__cause__`), timed out, or answered what Lambda takes for a failure of the batch."""


@dataclass(frozen=True, slots=True)
class Context:
    """Lambda's context object: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    aws_request_id: str
    function_name: str
    invoked_function_arn: str
    end_s: float  # by time.monotonic
    function_version: str = "$LATEST"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, math.ceil((self.end_s - time.monotonic()) * 1000))


class Function:
    """A handler as Lambda runs it: `handler(event, context)`, async, or sync in a thread. An event is its own copy.

    After `timeout_s` an async handler is cancelled; a sync one is left alone in its thread, and counts as failed.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        timeout_s: float = 30.0,
        arn: str = "arn:aws:lambda:us-east-1:000000000000:function:handler",
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        if timeout_s <= 0:
            raise ValueError("timeout_s is more than 0")
        self.timeout_s = timeout_s
        self.arn = arn
        self.new_id = new_id
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 of an object, it is what says whether calling it is async
        )
        # Not the threads of all: who waits for one of them would be running into its timeout.
        self._threads = anyio.CapacityLimiter(math.inf)

    async def invoke(self, event: str, request_id: str) -> Any:
        """The answer to an event (both JSON). Raises FunctionError."""
        name = self.arn.rpartition(":")[2]
        context = Context(request_id, name, self.arn, time.monotonic() + self.timeout_s)
        with anyio.move_on_after(self.timeout_s):
            try:
                return await self._call(json.loads(event), context)
            except Exception as error:
                raise FunctionError(f"{type(error).__name__}: {error}") from error
        raise FunctionError(f"Task timed out after {self.timeout_s:.2f} seconds")

    async def _call(self, event: Event, context: Context) -> Any:
        if self._is_async:
            answer = await self._handler(event, context)
        else:
            call = partial(self._handler, event, context)
            answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        return json.loads(json.dumps(answer))  # what cannot be written is a Runtime.MarshalError


def reported(answer: Any, identifiers: Collection[str]) -> frozenset[str]:
    """The items that a function reports as failed (FunctionResponseTypes: ReportBatchItemFailures).

    Nothing, `{}`, no `batchItemFailures`, null and an empty list are a success. Raises FunctionError where AWS takes
    the whole batch for failed: an identifier that is empty, null, unknown or under another key, and any other shape.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
    """
    if answer is not None and not isinstance(answer, dict):
        raise FunctionError(f"the answer is not an object: {answer!r}")
    failures = (answer or {}).get("batchItemFailures") or []
    if not isinstance(failures, list):
        raise FunctionError(f"batchItemFailures is not a list: {failures!r}")
    found = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        # Of a stream, AWS does not say what an unknown number means; of a queue it does.
        if not isinstance(identifier, str) or not identifier or identifier not in identifiers:
            raise FunctionError(f"not an item of this batch: {failure!r}")
        found.add(identifier)
    return frozenset(found)


def record_by_record(function: Callable[[Any], Any]) -> Handler:
    """A handler for ReportBatchItemFailures that calls `function(record)`, async or sync, for one after the other.

    Of a standard queue all are tried. Of a FIFO queue or a stream it stops at the first that raises, and reports that
    one and those behind it, as AWS's guide demands.
    """

    async def handler(event: Event, context: Context) -> Event:
        failures: list[dict[str, str]] = []
        for record in event["Records"]:
            is_message = record["eventSource"] == "aws:sqs"
            identifier = record["messageId"] if is_message else record["kinesis"]["sequenceNumber"]
            in_order = not is_message or record["eventSourceARN"].endswith(".fifo")
            if not (failures and in_order):
                try:
                    outcome = function(record)
                    if inspect.isawaitable(outcome):
                        await outcome
                    continue
                except Exception as error:
                    log.warning("%s failed: %r", identifier, error)
            failures.append({"itemIdentifier": identifier})
        return {"batchItemFailures": failures}

    return handler


class SourceHappening(Enum):
    """What `on_event` is told of records, by messageId or sequenceNumber."""

    FILTERED = "filtered"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DISCARDED = "discarded"
    NOT_DELETED = "not deleted"  # done, but will come again


OnSource = Callable[[SourceHappening, Sequence[str], Exception | None], None]


def log_source(happening: SourceHappening, identifiers: Sequence[str], error: Exception | None) -> None:
    level = logging.DEBUG if error is None else logging.WARNING
    log.log(level, "%d %s%s", len(identifiers), happening.value, "" if error is None else f": {error!r}")


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _event(records: Iterable[str], more: Mapping[str, Any] | None = None) -> str:
    end = "," + _text(more)[1:] if more else "}"
    return '{"Records":[' + ",".join(records) + "]" + end


def _members(mapping: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Members of CreateEventSourceMapping as a policy's fields."""
    wanted = {name: value for name, value in mapping.items() if name not in ("EventSourceArn", "FunctionName")}
    types = wanted.pop("FunctionResponseTypes", [])
    unknown = (set(wanted) - set(names)) | (set(types) - {"ReportBatchItemFailures"})
    if unknown:
        raise ValueError(f"not of this event source: {', '.join(sorted(unknown))}")
    fields = {names[name]: value for name, value in wanted.items() if value is not None}
    return {**fields, "report_batch_item_failures": "ReportBatchItemFailures" in types}


# Queues -------------------------------------------------------------------------------------------


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
        if not 1 <= self.batch_size <= 10_000 or not 0 <= self.maximum_batching_window_s <= 300:
            raise ValueError("batch_size is from 1 to 10000, maximum_batching_window_s from 0 to 300")
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
        names = {
            "BatchSize": "batch_size",
            "MaximumBatchingWindowInSeconds": "maximum_batching_window_s",
            "FilterCriteria": "filter_criteria",
        }
        return cls(maximum_concurrency=concurrency, **_members(mapping, names))

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
            with anyio.move_on_after(_CALL_BACKOFF.delay_s(failures, 0.0, self._random())):
                await self._stopping.wait()
            if self._stopping.is_set():
                return []

    async def _work(self, messages: Sequence[Message], places: anyio.Semaphore) -> None:
        """One after the other, if they are too much for one event: of a group the next only after success."""
        try:
            texts = [_text(sqs_record(message, self._queue_arn)) for message in messages]
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
            answer = await self._function.invoke(_event(texts), self._function.new_id())
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
                await anyio.sleep(_CALL_BACKOFF.delay_s(failures, 0.0, self._random()))

    async def _give_back(self, messages: Sequence[Message]) -> None:
        """One try: if SQS does not hear it, their visibility timeout does the same later."""
        for start in range(0, len(messages), BATCH):
            try:
                await self._client.change_visibility(
                    {message.receipt_handle: 0 for message in messages[start : start + BATCH]}
                )
            except Exception as error:
                log.warning("not given back: %r", error)


# Streams: what to do ------------------------------------------------------------------------------


class StartingPosition(Enum):
    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """`text` is the record as Lambda gives it, as JSON."""

    sequence_number: str
    partition_key: str
    arrival_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """`failures` is how often its first record has failed since it was first, as far as that counts for the quota.

    `is_error`: its last invocation failed, it did not only report items.
    """

    records: tuple[StreamRecord, ...]
    failures: int = 0
    invokes: int = 0
    is_error: bool = False


class Verdict(NamedTuple):
    """What follows from an invocation: what is done, what is to be invoked next, in order, and what is given up."""

    done: tuple[StreamRecord, ...] = ()
    again: tuple[Batch, ...] = ()
    discarded: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisSourcePolicy:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html

    -1 is for ever. `starting_position_timestamp_s` is the time of day. `backoff` is what comes between invocations when
    one has failed.
    """

    starting_position: StartingPosition
    starting_position_timestamp_s: float | None = None
    batch_size: int = 100
    maximum_batching_window_s: int = 0
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_s: int = -1
    parallelization_factor: int = 1
    report_batch_item_failures: bool = False
    tumbling_window_s: int = 0
    filter_criteria: Mapping[str, Any] | None = None
    poll_s: float = 1.0
    call_attempts: int = 5
    backoff: Backoff = field(default_factory=lambda: FullJitter(0.2, 60.0))

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 10_000 or not 0 <= self.maximum_batching_window_s <= 300:
            raise ValueError("batch_size is from 1 to 10000, maximum_batching_window_s from 0 to 300")
        if not -1 <= self.maximum_retry_attempts <= 10_000:
            raise ValueError("maximum_retry_attempts is from -1 to 10000")
        if self.maximum_record_age_s != -1 and not 60 <= self.maximum_record_age_s <= 604_800:
            raise ValueError("maximum_record_age_s is -1, or from 60 to 604800")
        if not 1 <= self.parallelization_factor <= 10 or not 0 <= self.tumbling_window_s <= 900:
            raise ValueError("parallelization_factor is from 1 to 10, tumbling_window_s from 0 to 900")
        if self.tumbling_window_s and self.parallelization_factor > 1:
            raise ValueError("a tumbling window has one state a shard: its parallelization_factor is 1")
        is_timed = self.starting_position is StartingPosition.AT_TIMESTAMP
        if is_timed != (self.starting_position_timestamp_s is not None):
            raise ValueError("AT_TIMESTAMP has a starting_position_timestamp_s, and nothing else has")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> KinesisSourcePolicy:
        """From the parameters of CreateEventSourceMapping. Raises ValueError for what is none of a stream's.

        A DestinationConfig is one: the destination is given to KinesisEventSource, with a client that can reach it.
        """
        names = {
            "StartingPosition": "starting_position",
            "StartingPositionTimestamp": "starting_position_timestamp_s",
            "BatchSize": "batch_size",
            "MaximumBatchingWindowInSeconds": "maximum_batching_window_s",
            "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
            "MaximumRetryAttempts": "maximum_retry_attempts",
            "MaximumRecordAgeInSeconds": "maximum_record_age_s",
            "ParallelizationFactor": "parallelization_factor",
            "TumblingWindowInSeconds": "tumbling_window_s",
            "FilterCriteria": "filter_criteria",
        }
        fields = _members(mapping, names)
        if "starting_position" not in fields:
            raise ValueError("StartingPosition is required")
        fields["starting_position"] = StartingPosition(fields["starting_position"])
        moment = fields.get("starting_position_timestamp_s")
        if isinstance(moment, datetime):
            fields["starting_position_timestamp_s"] = moment.timestamp()
        return cls(**fields)

    def after(self, batch: Batch, failed_at: int | None, *, is_error: bool = False) -> Verdict:
        """`failed_at` is the first record that failed, 0 if the invocation did, None for a success.

        Splitting does not count as a retry. Where the guide is silent: a batch that fails at its first record is split
        in the middle, also when that was reported, or one bad record would take the good ones behind it along; and a
        record that fails as the first one for the first time has all its retries before it.
        """
        if failed_at is None:
            return Verdict(batch.records)
        done, rest = batch.records[:failed_at], batch.records[failed_at:]
        bisects = self.bisect_batch_on_function_error
        left = Batch(rest, 0, batch.invokes + 1, is_error)
        if bisects and done:
            return Verdict(done, (left,))
        if bisects and len(rest) > 1:
            middle = (len(rest) + 1) // 2
            return Verdict((), (replace(left, records=rest[:middle]), replace(left, records=rest[middle:])))
        left = replace(left, failures=1 if done else batch.failures + 1)
        if 0 <= self.maximum_retry_attempts < left.failures:
            return Verdict(done, (), left)
        return Verdict(done, (left,))

    def aged(self, batch: Batch, now_ms: int) -> tuple[Batch, Batch]:
        """The records that are too old to be given to the function, and the rest."""
        count = 0
        if self.maximum_record_age_s >= 0:
            oldest_ms = now_ms - self.maximum_record_age_s * 1000
            while count < len(batch.records) and batch.records[count].arrival_ms < oldest_ms:
                count += 1
        rest = replace(batch, records=batch.records[count:], failures=batch.failures if count == 0 else 0)
        return replace(batch, records=batch.records[:count]), rest

    def cut(self, records: Collection[StreamRecord]) -> tuple[int, bool]:
        """How many of the first make a batch, and whether no more would fit into it."""
        count = size = 0
        window = None
        for record in records:
            size += len(record.text.encode()) + 1
            if self.tumbling_window_s:
                window = window or Window.of(record.arrival_ms, self.tumbling_window_s)
                if not window.has(record.arrival_ms):
                    return count, True
            if count and size > MAX_PAYLOAD_BYTES - MAX_STATE_BYTES * bool(window):  # the event has the state, too
                return count, True
            count += 1
            if count == self.batch_size:
                return count, True
        return count, False

    def lane(self, partition_key: str) -> int:
        return zlib.crc32(partition_key.encode()) % self.parallelization_factor

    def begin(self, parents: Sequence[Lease], now_ms: int) -> str | None:
        """The checkpoint that a new shard's lease begins with; None is TRIM_HORIZON.

        A moment is written down as @ and milliseconds, so that a shard without records begins where it would have
        begun. Children of a shard that has been read begin with their first record.
        """
        if self.starting_position is StartingPosition.TRIM_HORIZON:
            return None
        if self.starting_position_timestamp_s is not None:
            return f"@{round(self.starting_position_timestamp_s * 1000)}"
        begun = [lease.checkpoint or "" for lease in parents]
        if not all(checkpoint.startswith("@") for checkpoint in begun):
            return None
        return min(begun, key=lambda checkpoint: int(checkpoint[1:]), default=f"@{now_ms}")


@dataclass(frozen=True, slots=True)
class Window:
    """A tumbling window, with the state that the last invocation answered."""

    start_ms: int
    end_ms: int
    state: Any = field(default_factory=dict)

    @staticmethod
    def of(arrival_ms: int, length_s: int) -> Window:
        start_ms = arrival_ms - arrival_ms % (length_s * 1000)
        return Window(start_ms, start_ms + length_s * 1000)

    def has(self, arrival_ms: int) -> bool:
        return self.start_ms <= arrival_ms < self.end_ms

    @property
    def is_too_big(self) -> bool:
        return len(json.dumps(self.state).encode()) > MAX_STATE_BYTES

    def members(self, shard_id: str, stream_arn: str, *, is_final: bool, is_early: bool) -> dict[str, Any]:
        """What an event has besides its records."""
        return {
            "window": {"start": _moment(self.start_ms, "seconds"), "end": _moment(self.end_ms, "seconds")},
            "state": self.state,
            "shardId": shard_id,
            "eventSourceARN": stream_arn,
            "isFinalInvokeForWindow": is_final,
            "isWindowTerminatedEarly": is_early,
        }


class Progress:
    """Records are taken in order and done in any: how far all of them are done."""

    def __init__(self) -> None:
        self.position: str | None = None
        self._taken: deque[str] = deque()
        self._done: set[str] = set()

    def take(self, sequence_number: str) -> None:
        self._taken.append(sequence_number)

    def done(self, sequence_numbers: Iterable[str]) -> None:
        self._done.update(sequence_numbers)
        while self._taken and self._taken[0] in self._done:
            self.position = self._taken.popleft()
            self._done.remove(self.position)

    @property
    def is_complete(self) -> bool:
        return not self._taken


def _moment(at_ms: int, precision: str = "milliseconds") -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec=precision)
    return moment.replace("+00:00", "Z")


def kinesis_event_record(
    record: Mapping[str, Any], stream_arn: str, shard_id: str, role_arn: str | None = None
) -> dict[str, Any]:
    """A record of GetRecords as Lambda gives it: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""
    _, partition, _, region, account, _ = stream_arn.split(":", 5)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": _arrival_ms(record) / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role_arn or f"arn:{partition}:iam::{account}:role/lambda-role",
        "awsRegion": region,
        "eventSourceARN": stream_arn,
    }


def _arrival_ms(record: Mapping[str, Any]) -> int:
    arrival = record["ApproximateArrivalTimestamp"]
    return round((arrival.timestamp() if isinstance(arrival, datetime) else arrival) * 1000)


class Discard(Enum):
    """requestContext.condition of what a destination is told."""

    RETRIES = "RetryAttemptsExhausted"
    AGE = "RecordAgeExceeded"


def invocation_record(
    batch: Batch, why: Discard, *, request_id: str, function_arn: str, stream_arn: str, shard_id: str, now_ms: int
) -> dict[str, Any]:
    """What Lambda writes to an on-failure destination: where the records are, not the records.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    first, last = batch.records[0], batch.records[-1]
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": why.value,
            "approximateInvokeCount": batch.invokes,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": _moment(now_ms),
        "KinesisBatchInfo": {
            "shardId": shard_id,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _moment(first.arrival_ms),
            "approximateArrivalOfLastRecord": _moment(last.arrival_ms),
            "batchSize": len(batch.records),
            "streamArn": stream_arn,
        },
    }
    if not batch.invokes:
        del document["responseContext"]
    elif not batch.is_error:
        del document["responseContext"]["functionError"]
    return document


OnFailure = Callable[[Mapping[str, Any]], Awaitable[None]]


class SqsDestination:
    """An `OnFailure`. `client` is one of aiobotocore or aioboto3, or boto3's through patterns.threads.InThreads."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def __call__(self, document: Mapping[str, Any]) -> None:
        await self._client.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(document))


class SnsDestination:
    """An `OnFailure`, with a client as `SqsDestination` has one."""

    def __init__(self, client: Any, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    async def __call__(self, document: Mapping[str, Any]) -> None:
        await self._client.publish(TopicArn=self._topic_arn, Message=json.dumps(document))


# Streams: doing it --------------------------------------------------------------------------------


class KinesisEventSource:
    """Reads a stream and invokes the function with batches of its shards. At least once, in order per partition key.

    With a `store` that workers share, they share the shards; MemoryLeases forgets where it was. `work` and `shards` are
    for a LeaseKeeper of your own. `client` is one of aiobotocore or aioboto3, or boto3's through InThreads.
    What the policy gives up goes to `on_failure`; while that raises, the shard waits. A tumbling window is checkpointed
    when it is over: after a crash it begins anew, with an empty state. `now_ms` is the time of day.
    """

    def __init__(
        self,
        client: Any,
        stream_arn: str,
        function: Function,
        policy: KinesisSourcePolicy,
        *,
        store: LeaseStore | None = None,
        worker: str | None = None,
        leases: LeasePolicy | None = None,
        on_failure: OnFailure | None = None,
        role_arn: str | None = None,
        on_event: OnSource = log_source,
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy
        self.lag_ms: dict[str, int] = {}
        self.client = client
        self.stream_arn = stream_arn
        self.stream = stream_arn.rpartition("/")[2]
        self.function = function
        self.on_failure = on_failure
        self.role_arn = role_arn
        self.tell = on_event
        self.now_ms = now_ms
        self.random = random
        self.keep = stream_filter(policy.filter_criteria)
        self._shards = Shards(client, self.stream)
        self._store = store or MemoryLeases()
        self._keeper = LeaseKeeper(
            self._store, worker or str(uuid.uuid4()), self.shards, self.work, leases, random=random
        )

    def stop(self) -> None:
        """Begins a graceful end: what was invoked comes to its end, leases are released, and `run` returns."""
        self._keeper.stop()

    async def run(self) -> None:
        """Until `stop`."""
        await self._keeper.run()

    async def shards(self) -> Sequence[Lease]:
        listed = await self._shards()
        known = {lease.key: lease for lease in await self._store.all()}
        return [
            replace(
                lease,
                checkpoint=self.policy.begin([known[key] for key in lease.parents if key in known], self.now_ms()),
            )
            for lease in listed
        ]

    async def work(self, held: HeldLease) -> None:
        try:
            await _Shard(self, held).run()
        finally:
            self.lag_ms.pop(held.key, None)


class _Lane:
    """Records of some partition keys, in order, and one invocation at a time."""

    def __init__(self) -> None:
        self.waiting: deque[StreamRecord] = deque()
        self.since_s = 0.0  # when the first of them was read


class _Shard:
    """One shard, while its lease is ours."""

    def __init__(self, source: KinesisEventSource, held: HeldLease) -> None:
        self._source = source
        self._policy = source.policy
        self._held = held
        self._lanes = [_Lane() for _ in range(source.policy.parallelization_factor)]
        self._progress = Progress()
        self._saved: str | None = None
        self._saving = anyio.Lock()
        self._read_up_to: str | None = None
        self._seen_ms = 0  # up to when all records have been read
        self._is_over = False
        self._changed = anyio.Event()

    async def run(self) -> None:
        async with anyio.create_task_group() as around:
            around.start_soon(self._wake_to_stop)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read)
                for lane in self._lanes:
                    tasks.start_soon(self._serve, lane)
            around.cancel_scope.cancel()
        if self._is_over and self._progress.is_complete:
            await self._held.finish()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _wake_to_stop(self) -> None:
        await self._held.stopping.wait()
        self._wake()

    async def _pause(self, delay_s: float) -> None:
        with anyio.move_on_after(delay_s):
            await self._held.stopping.wait()

    # Reading

    async def _read(self) -> None:
        source, policy = self._source, self._policy
        most = policy.batch_size * policy.parallelization_factor
        iterator: str | None = None
        failures = 0
        while not self._held.is_stopping:
            if sum(len(lane.waiting) for lane in self._lanes) >= most:
                await self._changed.wait()
                continue
            asked_ms = source.now_ms()
            try:
                if iterator is None:
                    iterator = await self._iterator()
                answer = await source.client.get_records(ShardIterator=iterator, Limit=min(10_000, most))
            except Exception as error:  # throttled, or the iterator has expired
                iterator, failures = None, failures + 1
                if failures >= policy.call_attempts:
                    raise
                log.warning("%s not read: %r", self._held.key, error)
                await self._pause(_CALL_BACKOFF.delay_s(failures, 0.0, source.random()))
                continue
            failures = 0
            behind_ms = source.lag_ms[self._held.key] = answer.get("MillisBehindLatest", 0)
            await self._take(answer["Records"])
            if not behind_ms:
                self._seen_ms = asked_ms - CLOCK_MARGIN_MS
            iterator = answer.get("NextShardIterator")
            self._is_over = iterator is None
            self._wake()
            if self._is_over:
                return
            if not answer["Records"]:
                await self._pause(policy.poll_s)

    async def _iterator(self) -> str:
        after = self._read_up_to or self._held.checkpoint
        position: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None and after.startswith("@"):
            position = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": int(after[1:]) / 1000}
        elif after is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        source = self._source
        answer = await source.client.get_shard_iterator(StreamName=source.stream, ShardId=self._held.key, **position)
        return str(answer["ShardIterator"])

    async def _take(self, records: Sequence[Mapping[str, Any]]) -> None:
        source = self._source
        skipped = []
        for record in records:
            shape = kinesis_event_record(record, source.stream_arn, self._held.key, source.role_arn)
            number, key = record["SequenceNumber"], record["PartitionKey"]
            self._progress.take(number)
            self._read_up_to = number
            if not source.keep(shape):
                skipped.append(number)
                continue
            lane = self._lanes[self._policy.lane(key)]
            if not lane.waiting:
                lane.since_s = anyio.current_time()
            lane.waiting.append(StreamRecord(number, key, _arrival_ms(record), _text(shape)))
        if skipped:
            source.tell(SourceHappening.FILTERED, skipped, None)
            await self._done(skipped)

    # Invoking

    async def _serve(self, lane: _Lane) -> None:
        window: Window | None = None
        of_window: list[str] = []  # what is done but for the end of its window
        while True:
            records = await self._gather(lane, window)
            if window is not None and (not records or not window.has(records[0].arrival_ms)):
                if self._held.is_stopping or not await self._close(window, is_early=False):
                    return
                await self._done(of_window)
                window, of_window = None, []
            if not records and self._is_finished(lane):
                return
            todo = deque([Batch(tuple(records))] if records else [])
            failures = 0
            while todo and not self._held.is_stopping:
                old, batch = self._policy.aged(todo.popleft(), self._source.now_ms())
                finished = await self._discard(old, Discard.AGE) if old.records else []
                failed_at: int | None = None
                if batch.records:
                    if self._policy.tumbling_window_s:
                        window = window or Window.of(batch.records[0].arrival_ms, self._policy.tumbling_window_s)
                    failed_at, is_error, window = await self._invoke(batch, window)
                    step = self._policy.after(batch, failed_at, is_error=is_error)
                    finished += [record.sequence_number for record in step.done]
                    todo.extendleft(reversed(step.again))
                    if step.discarded is not None:
                        finished += await self._discard(step.discarded, Discard.RETRIES)
                    failures = failures + 1 if step.again and not step.done else 0
                if window is None:
                    await self._done(finished)
                else:
                    of_window += finished
                    if window.is_too_big:
                        if not await self._close(window, is_early=True):
                            return
                        window = replace(window, state={})
                if failed_at is not None and todo:
                    await self._pause(self._policy.backoff.delay_s(max(1, failures), 0.0, self._source.random()))

    def _is_finished(self, lane: _Lane) -> bool:
        return self._held.is_stopping or (self._is_over and not lane.waiting)

    async def _gather(self, lane: _Lane, window: Window | None) -> list[StreamRecord]:
        """A batch; none at the end, and where nothing more can come into the tumbling window."""
        policy = self._policy
        while not self._is_finished(lane):
            changed, left_s = self._changed, math.inf
            count, is_full = policy.cut(lane.waiting)
            if count:
                left_s = lane.since_s + policy.maximum_batching_window_s - anyio.current_time()
                if is_full or self._is_over or left_s <= 0:
                    records = [lane.waiting.popleft() for _ in range(count)]
                    lane.since_s = anyio.current_time()
                    self._wake()
                    return records
            elif window is not None and self._seen_ms >= window.end_ms:
                return []
            with anyio.move_on_after(left_s):
                await changed.wait()
        return []

    async def _invoke(self, batch: Batch, window: Window | None) -> tuple[int | None, bool, Window | None]:
        """The first record that failed, whether the invocation did, and the window with its new state."""
        source = self._source
        numbers = [record.sequence_number for record in batch.records]
        more = None
        if window is not None:
            more = window.members(self._held.key, source.stream_arn, is_final=False, is_early=False)
        try:
            answer = await source.function.invoke(
                _event((record.text for record in batch.records), more), source.function.new_id()
            )
            if window is not None:
                window = replace(window, state=_state(answer))
            failed = reported(answer, numbers) if self._policy.report_batch_item_failures else frozenset()
        except FunctionError as error:
            source.tell(SourceHappening.FAILED, numbers, error)
            return 0, True, window
        failed_at = min((numbers.index(number) for number in failed), default=None)
        if numbers[:failed_at]:
            source.tell(SourceHappening.SUCCEEDED, numbers[:failed_at], None)
        if failed_at is not None:
            source.tell(SourceHappening.FAILED, numbers[failed_at:], FunctionError("batchItemFailures"))
        return failed_at, False, window

    async def _close(self, window: Window, *, is_early: bool) -> bool:
        """The final invocation, until it succeeds: whether it has."""
        source = self._source
        more = window.members(self._held.key, source.stream_arn, is_final=True, is_early=is_early)
        failures = 0
        while not self._held.is_stopping:
            try:
                _state(await source.function.invoke(_event((), more), source.function.new_id()))
                return True
            except FunctionError as error:
                source.tell(SourceHappening.FAILED, [], error)
            failures += 1
            await self._pause(self._policy.backoff.delay_s(failures, 0.0, source.random()))
        return False

    async def _discard(self, batch: Batch, why: Discard) -> list[str]:
        source = self._source
        numbers = [record.sequence_number for record in batch.records]
        source.tell(SourceHappening.DISCARDED, numbers, FunctionError(why.value))
        if source.on_failure is not None:
            document = invocation_record(
                batch,
                why,
                request_id=source.function.new_id(),
                function_arn=source.function.arn,
                stream_arn=source.stream_arn,
                shard_id=self._held.key,
                now_ms=source.now_ms(),
            )
            await retry(
                partial(source.on_failure, document),
                RetryPolicy(_CALL_BACKOFF, attempts=self._policy.call_attempts),
                random=source.random,
            )
        return numbers

    async def _done(self, sequence_numbers: Iterable[str]) -> None:
        self._progress.done(sequence_numbers)
        async with self._saving:
            position = self._progress.position
            if position is not None and position != self._saved:
                await self._held.save(position)
                self._saved = position


def _state(answer: Any) -> Any:
    if not isinstance(answer, dict) or "state" not in answer:
        raise FunctionError("the answer has no state")
    return answer["state"]
