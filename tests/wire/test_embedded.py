"""The broker inside another program: the same application under trio and under asyncio, by ASGI, without a socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from broker.errors import BrokerFailure
from protocols.embedded import running
from protocols.http.asgi import asgi_app


async def _call(app: Any, operation: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    body = orjson.dumps(parameters)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"bus.test"),
            (b"x-amz-target", b"AmazonSQS." + operation.encode()),
            (b"content-type", b"application/x-amz-json-1.0"),
        ],
    }
    received = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        forever = trio.Event() if _under_trio() else asyncio.Event()
        await forever.wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], orjson.loads(answer) if answer else {}


def _under_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _use(data: Path) -> None:
    async with running(data) as application:
        app = asgi_app(application)
        status, created = await _call(app, "CreateQueue", {"QueueName": "q"})
        assert (status, created) == (200, {"QueueUrl": "http://bus.test/000000000000/q"})
        await _call(app, "SendMessage", {"QueueUrl": created["QueueUrl"], "MessageBody": "hello"})
        _, received = await _call(app, "ReceiveMessage", {"QueueUrl": created["QueueUrl"], "WaitTimeSeconds": 1})
        assert [message["Body"] for message in received["Messages"]] == ["hello"]
        # The timekeeper keeps a long poll's appointment.
        status, received = await _call(app, "ReceiveMessage", {"QueueUrl": created["QueueUrl"], "WaitTimeSeconds": 1})
        assert (status, received) == (200, {})


@pytest.mark.trio
async def test_under_trio(tmp_path: Path) -> None:
    await _use(tmp_path)


def test_under_asyncio(tmp_path: Path) -> None:
    asyncio.run(_use(tmp_path))


def test_what_goes_wrong_at_the_start_is_told_as_it_is(tmp_path: Path) -> None:
    async def twice() -> None:
        async with running(tmp_path), running(tmp_path):
            raise AssertionError

    with pytest.raises(BrokerFailure, match="in use by another sidebus"):
        asyncio.run(twice())
