"""Lambda's event source mappings without Lambda: a handler is given the batches that Lambda would give it.

Here is what queues and streams have in common: the function, what its answers mean, and how an event is written.
queue_event_source.py is the poller of SQS, stream_event_source.py the one of Kinesis. The rule of both: a message is
deleted, and a checkpoint passes a record, only after the function has succeeded with it, or after its destination has
the metadata of what was discarded. Cancelling is a crash: what was in hand comes again.
Where AWS's guide is silent, a comment says what was decided. Ugly: a sync handler that times out goes on in its thread.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from patterns.retry import FullJitter

log = logging.getLogger("patterns.event_source")

Event = dict[str, Any]
Handler = Callable[[Any, Any], Any]

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
CALL_BACKOFF = FullJitter(0.2, 5.0)


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
        self._call = _Call(handler)

    async def invoke(self, event: str, request_id: str) -> Any:
        """The answer to an event (both JSON). Raises FunctionError."""
        name = self.arn.rpartition(":")[2]
        context = Context(request_id, name, self.arn, time.monotonic() + self.timeout_s)
        with anyio.move_on_after(self.timeout_s):
            try:
                answer = await self._call(json.loads(event), context)
                return json.loads(json.dumps(answer))  # what cannot be written is a Runtime.MarshalError
            except Exception as error:
                raise FunctionError(f"{type(error).__name__}: {error}") from error
        raise FunctionError(f"Task timed out after {self.timeout_s:.2f} seconds")


class _Call:
    """A function that may be async, or sync: that one has a thread, or leases would end and timeouts be missed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 of an object, it is what says whether calling it is async
        )
        # Not the threads of all: who waits for one of them would be running into its timeout.
        self._threads = anyio.CapacityLimiter(math.inf)

    async def __call__(self, *arguments: Any) -> Any:
        call = partial(self._function, *arguments)
        if self._is_async:
            return await call()
        answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        return await answer if inspect.isawaitable(answer) else answer


def reported(answer: Any, identifiers: Iterable[str]) -> frozenset[str]:
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
    known, found = frozenset(identifiers), set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        # Of a stream, AWS does not say what an unknown number means; of a queue it does.
        if not isinstance(identifier, str) or not identifier or identifier not in known:
            raise FunctionError(f"not an item of this batch: {failure!r}")
        found.add(identifier)
    return frozenset(found)


def record_by_record(function: Callable[[Any], Any]) -> Handler:
    """A handler for ReportBatchItemFailures that calls `function(record)`, async or sync in a thread, one by one.

    Of a standard queue all are tried. Of a FIFO queue or a stream it stops at the first that raises, and reports that
    one and those behind it, as AWS's guide demands.
    """
    call = _Call(function)

    async def handler(event: Event, context: Context) -> Event:
        failures: list[dict[str, str]] = []
        for record in event["Records"]:
            is_message = record["eventSource"] == "aws:sqs"
            identifier = record["messageId"] if is_message else record["kinesis"]["sequenceNumber"]
            in_order = not is_message or record["eventSourceARN"].endswith(".fifo")
            if not (failures and in_order):
                try:
                    await call(record)
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


# Events and mappings ------------------------------------------------------------------------------


def text_of(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def event_of(records: Iterable[str], more: Mapping[str, Any] | None = None) -> str:
    """An event of records that are written already."""
    end = "," + text_of(more)[1:] if more else "}"
    return '{"Records":[' + ",".join(records) + "]" + end


def policy_fields(mapping: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Members of CreateEventSourceMapping as a policy's fields: `names` has those of this kind of source only."""
    names = {**_NAMES, **names}
    wanted = {name: value for name, value in mapping.items() if name not in ("EventSourceArn", "FunctionName")}
    types = wanted.pop("FunctionResponseTypes", [])
    unknown = (set(wanted) - set(names)) | (set(types) - {"ReportBatchItemFailures"})
    if unknown:
        raise ValueError(f"not of this event source: {', '.join(sorted(unknown))}")
    fields = {names[name]: value for name, value in wanted.items() if value is not None}
    return {**fields, "report_batch_item_failures": "ReportBatchItemFailures" in types}


_NAMES = {
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "maximum_batching_window_s",
    "FilterCriteria": "filter_criteria",
}


def check_batches(batch_size: int, maximum_batching_window_s: int) -> None:
    if not 1 <= batch_size <= 10_000 or not 0 <= maximum_batching_window_s <= 300:
        raise ValueError("batch_size is from 1 to 10000, maximum_batching_window_s from 0 to 300")
