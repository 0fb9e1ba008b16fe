"""Questions and answers through queues: ask one, or ask many and gather; and many queues read as one, in order.

`Pending` knows which answers are waited for and `Merge` which of several queues' messages is next (both pure: told the
time). A `Requester` has one temporary queue for all its answers, `Responder` is the handler of whoever answers, and
`OrderedFanIn` reads queues into one sequence. The rule: an answer counts once, and only while somebody waits for it.
Ugly: a requester that crashes leaves its queue behind. It says in a tag until when it lives; `sweep` deletes the rest.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import anyio.abc

from patterns.aws_errors import error_code
from patterns.batch_consumer import AioSqs, Message, Poison, SqsClient
from patterns.dead_letters import text_attribute
from patterns.retry import FullJitter, RetryPolicy, retry

log = logging.getLogger("patterns.request_reply")

PREFIX = "reply-"
RETENTION_S = 300  # of an answer that nobody has taken
TAG = "alive-until-s"

_BACKOFF = FullJitter(0.2, 5.0)


class RequestFailed(Exception):
    """Raise it from a responder's function: the requester has it raised there, with the same text."""


class RequesterClosed(Exception):
    """Its block was left while somebody waited for an answer."""


def wall_s() -> float:
    return time.time()


# Waiting for answers


@dataclass(frozen=True, slots=True)
class Answer:
    """`responder` is the name of who gave it."""

    responder: str
    body: str


@dataclass(eq=False, slots=True)
class Question:
    """Settled when so many responders have answered or failed."""

    correlation_id: str
    wanted: int
    answers: dict[str, Answer] = field(default_factory=dict)
    failures: dict[str, RequestFailed] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        return len(self.answers) + len(self.failures) >= self.wanted


class Pending:
    """Questions by correlation. What comes twice, late or for nobody is told apart and changes nothing."""

    def __init__(self) -> None:
        self._questions: dict[str, Question] = {}

    def ask(self, wanted: int) -> Question:
        if wanted < 1:
            raise ValueError("at least one answer is wanted")
        question = Question(str(uuid.uuid4()), wanted)
        self._questions[question.correlation_id] = question
        return question

    def answer(self, correlation_id: str, answer: Answer, *, is_failure: bool = False) -> Question | None:
        """The question it was for and that it has changed; None for anything else."""
        question = self._questions.get(correlation_id)
        if question is None or question.is_settled:
            return None
        if answer.responder in question.answers or answer.responder in question.failures:
            return None
        if is_failure:
            question.failures[answer.responder] = RequestFailed(answer.body)
        else:
            question.answers[answer.responder] = answer
        return question

    def forget(self, question: Question) -> None:
        self._questions.pop(question.correlation_id, None)

    @property
    def open(self) -> int:
        return len(self._questions)


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came in time: answers and failures by responder."""

    answers: Mapping[str, Answer]
    failures: Mapping[str, RequestFailed]
    is_complete: bool


class Requester:
    """`async with Requester(client) as requester: await requester.request(url, "how much?")`

    `client` is one of aiobotocore or aioboto3, or of boto3 in patterns.threads.InThreads. Leaving the block deletes its
    queue; with threads that waits for the poll under way.
    """

    def __init__(
        self,
        client: Any,
        *,
        name: str = "",
        wait_s: int = 5,
        alive_s: float = 600.0,
        now_s: Callable[[], float] = wall_s,
    ) -> None:
        if not 0 <= wait_s <= 20 or alive_s <= 0:
            raise ValueError("wait_s is from 0 to 20, alive_s more than 0")
        self._client = client
        self._name = f"{PREFIX}{name}{uuid.uuid4()}"
        self._wait_s, self._alive_s, self._now_s = wait_s, alive_s, now_s
        self._pending = Pending()
        self._changed: dict[Question, anyio.Event] = {}
        self._open = AsyncExitStack()
        self._closed = anyio.Event()
        self.queue_url = ""

    async def __aenter__(self) -> Requester:
        answer = await self._client.create_queue(
            QueueName=self._name,
            Attributes={"MessageRetentionPeriod": str(RETENTION_S)},
            tags={TAG: self._alive_until()},
        )
        self.queue_url = answer["QueueUrl"]
        try:
            tasks = await self._open.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._read)
            tasks.start_soon(self._stay_alive)
            self._open.callback(tasks.cancel_scope.cancel)
        except BaseException:
            await self._delete_queue()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for event in self._changed.values():
            event.set()
        try:
            await self._open.__aexit__(None, None, None)  # the block's own error is no error of the tasks
        finally:
            await self._delete_queue()

    async def request(self, queue_url: str, body: str, *, timeout_s: float = 30.0, **members: Any) -> str:
        """The answer's body. `members` are SendMessage's, such as MessageGroupId.

        Raises TimeoutError, RequestFailed as the responder did, and what SendMessage raises. In doubt it may have been
        done.
        """
        gathered = await self.gather([queue_url], body, wanted=1, timeout_s=timeout_s, **members)
        for failure in gathered.failures.values():
            raise failure
        if not gathered.answers:
            raise TimeoutError(f"no answer within {timeout_s} s")
        return next(iter(gathered.answers.values())).body

    async def gather(
        self,
        queue_urls: Sequence[str],
        body: str,
        *,
        wanted: int | None = None,
        timeout_s: float = 30.0,
        **members: Any,
    ) -> Gathered:
        """Asks each queue, and waits for so many answers (of each one, if None) or till the time is over.

        A responder counts once, by its name: those that compete for one queue may share one.
        """
        if self._closed.is_set():
            raise RequesterClosed
        question = self._pending.ask(len(queue_urls) if wanted is None else wanted)
        self._changed[question] = anyio.Event()
        end_ms = round((self._now_s() + timeout_s) * 1000)
        attributes = {
            **members.pop("MessageAttributes", {}),
            "correlation_id": _text(question.correlation_id),
            "reply_to": _text(self.queue_url),
            "expires_ms": _text(str(end_ms)),
        }
        try:
            with anyio.move_on_after(timeout_s):
                for url in queue_urls:
                    await self._client.send_message(
                        QueueUrl=url, MessageBody=body, MessageAttributes=attributes, **members
                    )
                while not (question.is_settled or self._closed.is_set()):
                    self._changed[question] = anyio.Event()
                    await self._changed[question].wait()
        finally:
            self._pending.forget(question)
            del self._changed[question]
        if self._closed.is_set() and not question.is_settled:
            raise RequesterClosed
        return Gathered(question.answers, question.failures, question.is_settled)

    async def _read(self) -> None:
        queue, failures = AioSqs(self._client, self.queue_url), 0
        while True:
            try:
                messages = await queue.receive(max_messages=10, wait_s=self._wait_s, visibility_s=30)
                self._settle(messages)
                if messages:
                    await queue.delete_batch([message.receipt_handle for message in messages])
                failures = 0
            except Exception as error:
                failures += 1
                log.warning("answers not read: %r", error)
                await anyio.sleep(_BACKOFF.delay_s(failures, 0.0, 1.0))

    def _settle(self, messages: Iterable[Message]) -> None:
        for message in messages:
            answer = Answer(text_attribute(message, "responder") or "", message.body)
            is_failure = text_attribute(message, "failed") is not None
            correlation_id = text_attribute(message, "correlation_id") or ""
            question = self._pending.answer(correlation_id, answer, is_failure=is_failure)
            if question is not None:
                self._changed[question].set()

    def _alive_until(self) -> str:
        return str(round(self._now_s() + self._alive_s))

    async def _stay_alive(self) -> None:
        while True:
            await anyio.sleep(self._alive_s / 3)
            try:
                await self._client.tag_queue(QueueUrl=self.queue_url, Tags={TAG: self._alive_until()})
            except Exception as error:
                log.warning("%s could not be kept: %r", self.queue_url, error)

    async def _delete_queue(self) -> None:
        with anyio.move_on_after(5, shield=True):
            try:
                await self._client.delete_queue(QueueUrl=self.queue_url)
            except Exception as error:
                log.warning("%s is left to `sweep`: %r", self.queue_url, error)


async def sweep(client: Any, now_s: Callable[[], float] = wall_s) -> list[str]:
    """Deletes the temporary queues of requesters that have crashed: those whose time has passed. Their URLs."""
    deleted, page = list[str](), dict[str, str]()
    while True:
        answer = await client.list_queues(QueueNamePrefix=PREFIX, MaxResults=1000, **page)
        for url in answer.get("QueueUrls", ()):
            try:
                tags = (await client.list_queue_tags(QueueUrl=url)).get("Tags", {})
                if TAG in tags and float(tags[TAG]) < now_s():
                    await client.delete_queue(QueueUrl=url)
                    deleted.append(url)
            except Exception as error:
                if not _is_gone(error):
                    raise
        if "NextToken" not in answer:
            return deleted
        page = {"NextToken": answer["NextToken"]}


# Answering


def _is_gone(error: Exception) -> bool:
    return error_code(error) in ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class Responder:
    """The handler of a BatchConsumer: sends what `function` returns (not empty) to whoever asked.

    What `function` raises lets the message come again, but RequestFailed is an answer. A question whose time is over is
    not worked on, and an answer that nobody waits for is dropped. It answers only to queues named as a Requester's.
    """

    def __init__(
        self,
        client: Any,
        function: Callable[[Message], Awaitable[str]],
        *,
        name: str = "",
        now_s: Callable[[], float] = wall_s,
    ) -> None:
        self._client = client
        self._function = function
        self._name = name
        self._now_s = now_s

    async def __call__(self, message: Message) -> None:
        reply_to = text_attribute(message, "reply_to")
        correlation_id = text_attribute(message, "correlation_id")
        expires_ms = text_attribute(message, "expires_ms")
        if reply_to is None or correlation_id is None or not reply_to.rpartition("/")[2].startswith(PREFIX):
            raise Poison("not from a Requester")
        if expires_ms is not None and self._now_s() * 1000 >= int(expires_ms):
            log.info("nobody waits for the answer to %s any more", message.message_id)
            return
        attributes = {"correlation_id": _text(correlation_id)}
        if self._name:
            attributes["responder"] = _text(self._name)
        try:
            body = await self._function(message)
        except RequestFailed as error:
            body = str(error) or "failed"
            attributes["failed"] = _text("true")
        try:
            await self._client.send_message(QueueUrl=reply_to, MessageBody=body, MessageAttributes=attributes)
        except Exception as error:
            if not _is_gone(error):
                raise
            log.info("who asked %s has gone", message.message_id)


# Many queues as one


class Merge:
    """The messages of several sources in one order. One is next when no source can have an earlier one: each has
    something here, or has said for `idle_s` that it has nothing.
    """

    def __init__(self, sources: Iterable[str], idle_s: float) -> None:
        self._idle_s = idle_s
        self._waiting: list[tuple[Any, int, str, Message]] = []
        self._number = itertools.count()
        self._counts = dict.fromkeys(sources, 0)
        self._empty_s: dict[str, float] = {}  # since when a source has nothing
        self._last: Any = None
        self.late = 0  # of those that were taken, how many should have been taken before another

    def count(self, source: str) -> int:
        return self._counts[source]

    def add(self, source: str, order: Any, message: Message) -> None:
        heapq.heappush(self._waiting, (order, next(self._number), source, message))
        self._counts[source] += 1
        self._empty_s.pop(source, None)

    def nothing(self, source: str, now_s: float) -> None:
        self._empty_s.setdefault(source, now_s)

    def wait_s(self, now_s: float) -> float:
        """How long till the first may be taken, if nothing comes; infinity if that is not known."""
        if not self._waiting:
            return float("inf")
        silent = [source for source, count in self._counts.items() if not count]
        return max((self._empty_s.get(source, float("inf")) + self._idle_s - now_s for source in silent), default=0.0)

    def take(self, now_s: float) -> tuple[str, Message] | None:
        if not self._waiting or self.wait_s(now_s) > 0:
            return None
        order, _, source, message = heapq.heappop(self._waiting)
        self._counts[source] -= 1
        if self._last is not None and order < self._last:
            self.late += 1
        else:
            self._last = order
        return source, message


class OrderedFanIn:
    """Reads several queues, FIFO ones best, and handles their messages one after the other in the order of `order`.

    A source with nothing holds the others up for `idle_s`; what comes later than that is handled at once, and counted
    in `merge.late`. A handler that fails is tried again as `policy` says, then `run` raises its error. `order` does not
    raise; `visibility_s` is longer than a message waits here. For competing consumers run a BatchConsumer a queue.
    """

    def __init__(
        self,
        sources: Mapping[str, SqsClient],
        order: Callable[[Message], Any],
        handler: Callable[[Message], Awaitable[None]],
        *,
        idle_s: float = 5.0,
        wait_s: int = 1,
        visibility_s: int = 300,
        window: int = 100,
        policy: RetryPolicy | None = None,
    ) -> None:
        if not 1 <= wait_s <= 20 or window < 1:
            raise ValueError("wait_s is from 1 to 20, window at least 1")
        self.merge = Merge(sources, idle_s)
        self._sources = sources
        self._order, self._handler = order, handler
        self._wait_s, self._visibility_s, self._window = wait_s, visibility_s, window
        self._policy = policy or RetryPolicy(FullJitter(0.5, 30.0), attempts=8)
        self._handles: dict[tuple[str, str], str] = {}  # of what is in hand; the newest, should it come again
        self._deletions = dict.fromkeys(sources, 0)
        self._handling = ""
        self._changed = anyio.Event()
        self._is_stopping = False

    def stop(self) -> None:
        """Ends `run` after the message in hand. What waits comes again after its visibility timeout."""
        self._is_stopping = True
        self._wake()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(self._read, source)
            failure = await self._handle()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _handle(self) -> Exception | None:
        while not self._is_stopping:
            taken = self.merge.take(anyio.current_time())
            if taken is None:
                changed = self._changed
                with anyio.move_on_after(self.merge.wait_s(anyio.current_time())):
                    await changed.wait()
                continue
            source, message = taken
            self._handling = source
            try:
                await retry(partial(self._handler, message), self._policy)
                handle = self._handles.pop((source, message.message_id))
                await retry(partial(self._delete, source, handle), self._policy)
            except Exception as error:
                return error
            self._deletions[source] += 1
            self._handling = ""
            self._wake()
        return None

    async def _delete(self, source: str, handle: str) -> None:
        refused = await self._sources[source].delete_batch([handle])
        if handle in refused and not refused[handle].sender_fault:
            raise RuntimeError(f"DeleteMessageBatch: {refused[handle].code}")

    async def _read(self, source: str) -> None:
        failures = 0
        while True:
            room = min(10, self._window - self.merge.count(source))
            if room <= 0:
                await self._changed.wait()
                continue
            deletions = self._deletions[source]
            try:
                messages = await self._sources[source].receive(
                    max_messages=room, wait_s=self._wait_s, visibility_s=self._visibility_s
                )
            except Exception as error:
                failures += 1
                log.warning("%s could not be read: %r", source, error)
                await anyio.sleep(_BACKOFF.delay_s(failures, 0.0, 1.0))
                continue
            failures = 0
            for message in messages:
                is_new = (source, message.message_id) not in self._handles
                self._handles[source, message.message_id] = message.receipt_handle
                if is_new:
                    self.merge.add(source, self._order(message), message)
            # A FIFO group shows its next message when the one in hand is deleted: only then is nothing nothing.
            is_free = deletions == self._deletions[source] and self._handling != source
            if not messages and is_free and not self.merge.count(source):
                self.merge.nothing(source, anyio.current_time())
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
