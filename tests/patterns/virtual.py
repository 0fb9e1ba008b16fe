"""Time that jumps to the next appointment, for asyncio and trio; a broker in it; and a crash at any suspension point.

`Sqs` has the methods of an aiobotocore client and hands requests to the real application, without a socket. A request
that is cancelled is a client that has gone: what it asked for may have happened, and its answer is lost.
"""

from __future__ import annotations

import asyncio
import base64
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import orjson
import trio
import trio.testing

from broker.clock import SystemClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.store.sqlite import SqliteStore
from protocols.application import Application
from protocols.embedded import soon
from protocols.http.message import Answer, Request, Response

_crash: ContextVar[Crash | None] = ContextVar("crash", default=None)


class Crash:
    """Cancels when the tasks of a program have been suspended so many times, all together."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.scope = anyio.CancelScope()

    def suspended(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def crash(after: int, program: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Runs a program until it is suspended for the n-th time; whether that happened before its end."""
    this = Crash(after)
    with this.scope:
        token = _crash.set(this)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(program)
        finally:
            _crash.reset(token)
    return this.scope.cancelled_caught


class _Selector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.skipped_s += timeout
        return ready


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells the crash each time it is suspended."""

    def __init__(self, inner: Any, crash: Crash) -> None:
        self._inner, self._crash = inner, crash

    def send(self, value: Any) -> Any:
        result = self._inner.send(value)
        self._crash.suspended()
        return result

    def throw(self, *error: Any) -> Any:
        result = self._inner.throw(*error)
        self._crash.suspended()
        return result

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:  # cr_frame and the like, which anyio looks at
        return getattr(self._inner, name)


def _counted_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    crash = _crash.get()
    return asyncio.Task(coroutine if crash is None else _Counted(coroutine, crash), loop=loop, **options)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)
        self.set_task_factory(_counted_task)

    def time(self) -> float:
        return self._jumping.skipped_s


class _Suspensions(trio.abc.Instrument):
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        crash = task.context.get(_crash)
        if crash is not None:
            crash.suspended()


def run_virtually(backend: str, program: Callable[[], Awaitable[None]]) -> None:
    if backend == "asyncio":
        anyio.run(program, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
    else:
        clock = trio.testing.MockClock(autojump_threshold=0)
        anyio.run(program, backend="trio", backend_options={"clock": clock, "instruments": [_Suspensions()]})


class _CountedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.set_task_factory(_counted_task)


def run_counted(backend: str, program: Callable[[], Awaitable[None]]) -> None:
    """In real time, for programs that wait for threads; `crash` works there too."""
    if backend == "asyncio":
        anyio.run(program, backend="asyncio", backend_options={"loop_factory": _CountedLoop})
    else:
        anyio.run(program, backend="trio", backend_options={"instruments": [_Suspensions()]})


class _LoopClock(SystemClock):
    def now_ms(self) -> int:
        return 1_700_000_000_000 + round(anyio.current_time() * 1000)


class Sqs:
    def __init__(self, application: Application) -> None:
        self._application = application

    async def call(self, operation: str, parameters: dict[str, Any], target: str = "AmazonSQS") -> dict[str, Any]:
        headers = [
            (b"host", b"bus.test"),
            (b"x-amz-target", f"{target}.{operation}".encode()),
            (b"content-type", b"application/x-amz-json-" + (b"1.0" if target == "AmazonSQS" else b"1.1")),
        ]
        answered, answers = anyio.Event(), list[Response]()

        def reply(response: Answer) -> None:
            assert isinstance(response, Response)
            answers.append(response)
            answered.set()

        cancel = self._application(Request("POST", b"/", headers, orjson.dumps(parameters)), reply)
        try:
            await answered.wait()
        except BaseException:
            if cancel is not None:
                cancel()
            raise
        answer: dict[str, Any] = orjson.loads(answers[0].body or b"{}")
        if answers[0].status != 200:
            raise RuntimeError(answer)
        return answer

    async def receive_message(self, **parameters: Any) -> dict[str, Any]:
        return await self.call("ReceiveMessage", parameters)

    async def send_message_batch(self, **parameters: Any) -> dict[str, Any]:
        return await self.call("SendMessageBatch", parameters)

    async def put_records(self, **parameters: Any) -> dict[str, Any]:
        records = [{**one, "Data": base64.b64encode(one["Data"]).decode()} for one in parameters["Records"]]
        return await self.call("PutRecords", {**parameters, "Records": records}, "Kinesis_20131202")

    async def put_events(self, **parameters: Any) -> dict[str, Any]:
        return await self.call("PutEvents", parameters, "AWSEvents")

    async def delete_message_batch(self, **parameters: Any) -> dict[str, Any]:
        return await self.call("DeleteMessageBatch", parameters)

    async def change_message_visibility_batch(self, **parameters: Any) -> dict[str, Any]:
        return await self.call("ChangeMessageVisibilityBatch", parameters)

    async def create(self, name: str) -> str:
        attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        url: str = (await self.call("CreateQueue", {"QueueName": name, "Attributes": attributes}))["QueueUrl"]
        return url

    async def send(self, url: str, *bodies: str) -> None:
        """In a FIFO queue a body's first letter is its group."""
        for body in bodies:
            fifo = {"MessageGroupId": body[0], "MessageDeduplicationId": body} if url.endswith(".fifo") else {}
            await self.call("SendMessage", {"QueueUrl": url, "MessageBody": body, **fifo})

    async def counts(self, url: str) -> tuple[int, int]:
        """How many are visible, and how many in flight."""
        parameters = {"QueueUrl": url, "AttributeNames": ["All"]}
        attributes = (await self.call("GetQueueAttributes", parameters))["Attributes"]
        visible, in_flight = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return int(attributes[visible]), int(attributes[in_flight])

    async def take_all(self, url: str) -> list[str]:
        """Receives and deletes until the queue is empty: the bodies in order."""
        bodies: list[str] = []
        while messages := (await self.receive_message(QueueUrl=url, MaxNumberOfMessages=10)).get("Messages"):
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
            await self.delete_message_batch(QueueUrl=url, Entries=entries)
            bodies.extend(message["Body"] for message in messages)
        return bodies

    async def until_empty(self, url: str) -> None:
        while await self.counts(url) != (0, 0):  # noqa: ASYNC110 the time is virtual
            await anyio.sleep(0.5)


@asynccontextmanager
async def broker() -> AsyncIterator[Sqs]:
    clock = _LoopClock(soon())
    served = Broker(SqliteStore(None), clock, Entropy(1))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.run)
            yield Sqs(Application(served))
            tasks.cancel_scope.cancel()
    finally:
        served.close()
