"""A function as Lambda runs it, and what its answers mean, by table."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from virtual import run_virtually

from patterns.event_source import Function, FunctionError, record_by_record, reported

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ARN = "arn:aws:sqs:us-east-2:123456789012:my-queue"

# What it answers

IDS = ["m1", "m2", "m3"]


def failing(*identifiers: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}],
)
def test_answers_that_are_a_success(answer: Any) -> None:
    assert reported(answer, IDS) == frozenset()


@pytest.mark.parametrize(
    "answer",
    [
        failing(""),
        failing(None),
        failing("m2", ""),
        failing("unknown"),
        failing("m1", "unknown"),
        failing(5),
        {"batchItemFailures": [{"ItemIdentifier": "m1"}]},
        {"batchItemFailures": [{"id": "m1"}]},
        {"batchItemFailures": ["m1"]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": {"itemIdentifier": "m1"}},
        {"batchItemFailures": "m1"},
        [],
        "ok",
        True,
        5,
    ],
)
def test_answers_that_fail_the_whole_batch(answer: Any) -> None:
    with pytest.raises(FunctionError):
        reported(answer, IDS)


def test_items_that_are_reported() -> None:
    assert reported(failing("m3", "m1", "m3"), IDS) == {"m1", "m3"}


# The function


@BACKENDS
def test_an_event_is_the_functions_own(backend: str) -> None:
    async def handler(event: Any, context: Any) -> Any:
        event["Records"].clear()
        return (1, {"a": None})

    async def program() -> None:
        event = '{"Records":[1]}'
        function = Function(handler)
        assert await function.invoke(event, "1") == [1, {"a": None}], "as JSON has it"
        assert event == '{"Records":[1]}'

    anyio.run(program, backend=backend)


class CallsAsync:
    async def __call__(self, event: Any, context: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return event


class Calls:
    def __call__(self, event: Any, context: Any) -> Any:
        return event


@BACKENDS
@pytest.mark.parametrize("handler", [CallsAsync(), CallsAsync().__call__, Calls(), lambda event, context: event])
def test_async_and_sync_handlers_of_any_kind(backend: str, handler: Any) -> None:
    async def program() -> None:
        assert await Function(handler).invoke("{}", "1") == {}

    anyio.run(program, backend=backend)


@BACKENDS
def test_what_a_function_cannot_do(backend: str) -> None:
    async def slow(event: Any, context: Any) -> None:
        await anyio.sleep(31)

    async def raises(event: Any, context: Any) -> None:
        raise KeyError("x")

    async def unwritable(event: Any, context: Any) -> Any:
        return object()

    async def program() -> None:
        with pytest.raises(FunctionError, match=r"Task timed out after 30.00 seconds"):
            await Function(slow).invoke("{}", "1")
        with pytest.raises(FunctionError, match="KeyError") as caught:
            await Function(raises).invoke("{}", "1")
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(FunctionError, match="not JSON serializable"):
            await Function(unwritable).invoke("{}", "1")

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("by_record", [False, True])
def test_a_sync_handler_that_hangs_is_left_behind(backend: str, by_record: bool) -> None:
    gate = threading.Event()

    def hangs(*given: Any) -> None:
        gate.wait(10)

    event = json.dumps({"Records": [{"eventSource": "aws:sqs", "eventSourceARN": ARN, "messageId": "m1"}]})

    async def program() -> None:
        handler = record_by_record(hangs) if by_record else hangs
        with pytest.raises(FunctionError, match="timed out"):
            await Function(handler, timeout_s=0.02).invoke(event, "1")
        assert not gate.is_set()
        gate.set()

    anyio.run(program, backend=backend)


@BACKENDS
@pytest.mark.parametrize(
    ("source", "arn", "expected"),
    [
        ("aws:sqs", ARN, ["1", "3"]),
        ("aws:sqs", ARN + ".fifo", ["1", "2", "3"]),
        ("aws:kinesis", "arn:aws:kinesis:us-east-1:0:stream/s", ["1", "2", "3"]),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_one_record_after_the_other(backend: str, source: str, arn: str, expected: list[str], is_async: bool) -> None:
    def fail(record: Any) -> None:
        if record["number"] in ("1", "3"):
            raise RuntimeError(record["number"])

    async def fail_later(record: Any) -> None:
        await anyio.lowlevel.checkpoint()
        fail(record)

    async def program() -> None:
        records = [
            {
                "eventSource": source,
                "eventSourceARN": arn,
                "number": n,
                "messageId": n,
                "kinesis": {"sequenceNumber": n},
            }
            for n in "0123"
        ]
        handler = record_by_record(fail_later if is_async else fail)
        answer = await handler({"Records": records}, None)
        assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == expected

    anyio.run(program, backend=backend)
