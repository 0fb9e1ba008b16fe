"""Questions whose answers come twice, late, elsewhere or never; requesters that crash; queues merged in order."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    AioSqs,
    BatchConsumer,
    Boto3Sqs,
    ConsumerPolicy,
    Fixed,
    InThreads,
    Message,
    OrderedFanIn,
    Poison,
    Requester,
    RequesterClosed,
    RequestFailed,
    Responder,
    RetryPolicy,
    sweep,
)
from patterns.request_reply import Answer, Merge, Pending

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Refusal(Exception):
    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer)
        self.response = {"Error": {"Code": answer["__type"].rpartition("#")[2]}}


class Client:
    """All operations as an aiobotocore client has them, on the broker in this process."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        name = "".join(word.capitalize() for word in operation.split("_"))

        async def call(**parameters: Any) -> Any:
            try:
                return await self._sqs.call(name, parameters)
            except RuntimeError as error:
                raise Refusal(error.args[0]) from None

        return call


def played(backend: str, play: Callable[[Client], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(Client(sqs))

    run_virtually(backend, program)


async def queue(client: Client, name: str) -> str:
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url: str = (await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
    return url


async def queues(client: Client) -> list[str]:
    return [url.rpartition("/")[2] for url in (await client.list_queues()).get("QueueUrls", [])]


def responder(client: Client, url: str, function: Callable[[Message], Awaitable[str]], name: str = "") -> BatchConsumer:
    handler = Responder(client, function, name=name, now_s=anyio.current_time)
    return BatchConsumer(AioSqs(client, url), handler, ConsumerPolicy(wait_s=1, backoff=Fixed(1)))


def requester(client: Client) -> Requester:
    return Requester(client, wait_s=1, now_s=anyio.current_time)


async def shout(message: Message) -> str:
    if message.body == "bad":
        raise RequestFailed("bad indeed")
    if message.body == "hiccup" and message.receive_count == 1:
        raise RuntimeError("not at the first time")
    return message.body.upper()


@BACKENDS
def test_many_requests_at_once_get_each_its_own_answer(backend: str) -> None:
    async def play(client: Client) -> None:
        url = await queue(client, "questions")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(responder(client, url, shout).run)
            async with requester(client) as asking:
                answers = dict[str, str]()

                async def ask(body: str) -> None:
                    answers[body] = await asking.request(url, body, timeout_s=10)

                async with anyio.create_task_group() as requests:
                    for body in ("one", "two", "three", "hiccup"):
                        requests.start_soon(ask, body)
                assert answers == {"one": "ONE", "two": "TWO", "three": "THREE", "hiccup": "HICCUP"}
                with pytest.raises(RequestFailed, match="bad indeed"):
                    await asking.request(url, "bad")
                assert len(await queues(client)) == 2
            assert await queues(client) == ["questions"]
            tasks.cancel_scope.cancel()

    played(backend, play)


@BACKENDS
def test_nobody_answers_and_nobody_works_on_what_has_expired(backend: str) -> None:
    worked: list[str] = []

    async def play(client: Client) -> None:
        url = await queue(client, "questions")

        async def work(message: Message) -> str:
            worked.append(message.body)
            return "done"

        async with requester(client) as asking:
            with pytest.raises(TimeoutError, match="within 3 s"):
                await asking.request(url, "too late", timeout_s=3)
            assert asking._pending.open == 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(responder(client, url, work).run)
                assert await asking.request(url, "in time", timeout_s=5) == "done"
                tasks.cancel_scope.cancel()

    played(backend, play)
    assert worked == ["in time"]


@BACKENDS
def test_an_answer_to_somebody_who_has_gone_is_dropped(backend: str) -> None:
    async def play(client: Client) -> None:
        url = await queue(client, "questions")
        async with requester(client) as asking:
            with anyio.move_on_after(0.5):
                await asking.request(url, "late", timeout_s=1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(responder(client, url, shout).run)
            await anyio.sleep(120)
            tasks.cancel_scope.cancel()
        assert not (await client.receive_message(QueueUrl=url)).get("Messages")

    played(backend, play)


@BACKENDS
def test_scatter_and_gather_as_many_as_wanted_in_time(backend: str) -> None:
    async def play(client: Client) -> None:
        names = ["quick", "slow", "sour", "dead"]
        urls = [await queue(client, name) for name in names]

        async def slow(message: Message) -> str:
            await anyio.sleep(4)
            return "slow"

        async def sour(message: Message) -> str:
            raise RequestFailed("sour")

        async with anyio.create_task_group() as tasks, requester(client) as asking:
            for url, name, function in zip(urls, names, (shout, slow, sour), strict=False):
                tasks.start_soon(responder(client, url, function, name).run)
            start_s = anyio.current_time()
            all_of_them = await asking.gather(urls, "price", timeout_s=8)
            assert anyio.current_time() - start_s == pytest.approx(8, abs=0.5)
            assert not all_of_them.is_complete
            assert {name: one.body for name, one in all_of_them.answers.items()} == {"quick": "PRICE", "slow": "slow"}
            assert list(all_of_them.failures) == ["sour"]
            start_s = anyio.current_time()
            some = await asking.gather(urls, "price", wanted=2, timeout_s=8)
            assert some.is_complete
            assert anyio.current_time() - start_s < 2
            tasks.cancel_scope.cancel()

    played(backend, play)


@BACKENDS
def test_who_waits_is_told_that_the_block_is_left_and_its_error_is_its_own(backend: str) -> None:
    async def play(client: Client) -> None:
        url = await queue(client, "questions")
        told: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def ask(asking: Requester) -> None:
                try:
                    await asking.request(url, "anybody?")
                except RequesterClosed:
                    told.append("closed")

            async def leave() -> None:
                async with requester(client) as asking:
                    tasks.start_soon(ask, asking)
                    await anyio.sleep(1)
                    raise ValueError("mine")

            with pytest.raises(ValueError, match="mine"):
                await leave()
        assert told == ["closed"]
        async with requester(client) as asking:
            pass
        with pytest.raises(RequesterClosed):
            await asking.request(url, "again?")

    played(backend, play)


@BACKENDS
def test_a_crash_at_any_await_leaves_nothing_that_sweep_does_not_find(backend: str) -> None:
    crashes = 0

    async def play(client: Client) -> None:
        nonlocal crashes
        url = await queue(client, "questions")
        await client.create_queue(QueueName="reply-of-somebody-else")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(responder(client, url, shout).run)
            for after in itertools.count(1):
                answers = list[str]()

                async def whole(answers: list[str] = answers) -> None:
                    async with requester(client) as asking:
                        answers.append(await asking.request(url, "hiccup", timeout_s=5))

                if not await crash(after, whole):
                    assert answers == ["HICCUP"]
                    break
                crashes += 1
            tasks.cancel_scope.cancel()
        await anyio.sleep(700)
        async with requester(client) as alive:
            await anyio.sleep(1500)
            await sweep(client, anyio.current_time)
            left = await queues(client)
            assert sorted(left) == sorted(["questions", "reply-of-somebody-else", alive._name])

    played(backend, play)
    assert crashes > 8


@BACKENDS
def test_what_does_not_come_from_a_requester_is_poison(backend: str) -> None:
    async def play(client: Client) -> None:
        answering = Responder(client, shout)
        attribute = {"DataType": "String", "StringValue": "http://bus/1/orders"}
        for attributes in ({}, {"reply_to": attribute, "correlation_id": attribute}):
            with pytest.raises(Poison):
                await answering(Message("1", "1", "hello", {}, attributes))

    played(backend, play)


def test_boto3_in_threads(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="questions")["QueueUrl"]

    async def program() -> None:
        client = InThreads(sqs)
        consumer = BatchConsumer(Boto3Sqs(sqs, url), Responder(client, shout), ConsumerPolicy(wait_s=1))
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.run)
                async with Requester(client, wait_s=1) as asking:
                    assert await asking.request(url, "hello") == "HELLO"
                    assert await sweep(client) == []
                consumer.stop()

    anyio.run(program, backend="trio")
    assert sqs.list_queues()["QueueUrls"] == [url]


# Fan-in


async def merged(client: Client, bodies: Sequence[Sequence[int]], slow_s: float = 0.0, **options: Any) -> list[int]:
    """Each list goes into a FIFO queue, one group."""
    sources, done = {}, list[int]()
    for number, those in enumerate(bodies):
        url = await queue(client, f"source{number}.fifo")
        sources[f"source{number}"] = AioSqs(client, url)
        for body in those:
            await client.send_message(
                QueueUrl=url, MessageBody=str(body), MessageGroupId="one", MessageDeduplicationId=str(body)
            )

    async def handle(message: Message) -> None:
        await anyio.sleep(slow_s)
        done.append(int(message.body))
        if len(done) == sum(map(len, bodies)):
            fan_in.stop()

    fan_in = OrderedFanIn(sources, lambda message: int(message.body), handle, **options)
    await fan_in.run()
    assert fan_in.merge.late == 0
    return done


@BACKENDS
@pytest.mark.parametrize("slow_s", [0.0, 3.0])
def test_several_fifo_queues_are_one_sequence(backend: str, slow_s: float) -> None:
    async def play(client: Client) -> None:
        bodies = [list(range(0, 45, 3)), list(range(1, 45, 3)), [], list(range(2, 45, 3))]
        assert await merged(client, bodies, slow_s, idle_s=2, window=4) == list(range(45))

    played(backend, play)


@BACKENDS
def test_a_handler_that_fails_is_tried_again_before_anything_else_and_ends_it_at_last(backend: str) -> None:
    async def play(client: Client) -> None:
        url = await queue(client, "q.fifo")
        for body in "012":
            await client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="one", MessageDeduplicationId=body)
        tried: list[str] = []

        async def handle(message: Message) -> None:
            tried.append(message.body)
            if message.body == "1" or len(tried) == 1:
                raise ConnectionError(message.body)

        fan_in = OrderedFanIn(
            {"q": AioSqs(client, url)}, lambda one: one.body, handle, policy=RetryPolicy(Fixed(1), attempts=3)
        )
        with pytest.raises(ConnectionError, match="1"):
            await fan_in.run()
        assert tried == ["0", "0", "1", "1", "1"]

    played(backend, play)


# The pure parts


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("xyz"), st.booleans()), max_size=30), st.integers(1, 3))
def test_an_answer_counts_once_a_responder_and_while_it_is_waited_for(
    answers: list[tuple[int, str, bool]], wanted: int
) -> None:
    pending = Pending()
    questions = [pending.ask(wanted) for _ in range(2)]
    heard: list[dict[str, bool]] = [{}, {}]
    for number, name, is_failure in answers:
        to = questions[number].correlation_id if number < 2 else "nobody"
        counts = number < 2 and len(heard[number]) < wanted and name not in heard[number]
        changed = pending.answer(to, Answer(name, ""), is_failure=is_failure)
        assert (changed is not None) == counts
        if counts:
            heard[number][name] = is_failure
    for question, those in zip(questions, heard, strict=True):
        assert set(question.failures) == {name for name, is_failure in those.items() if is_failure}
        assert set(question.answers) == set(those) - set(question.failures)
        assert question.is_settled == (len(those) >= wanted)
        pending.forget(question)
    assert pending.open == 0


@given(
    st.lists(st.lists(st.integers(0, 50)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 4.0])), max_size=40),
)
def test_sources_that_are_in_order_are_merged_in_order_however_they_arrive(
    drawn: list[list[int]], polls: list[tuple[int, float]]
) -> None:
    left = [sorted(those) for those in drawn]
    merge, taken, now_s = Merge(map(str, range(len(left))), 5.0), list[int](), 0.0
    for number, later_s in itertools.chain(polls, itertools.cycle((number, 1.0) for number in range(4))):
        if len(taken) == sum(map(len, drawn)):
            break
        now_s += later_s
        if number >= len(left):
            continue
        if left[number]:
            body = left[number].pop(0)
            merge.add(str(number), body, Message("", "", str(body)))
        elif not merge.count(str(number)):
            merge.nothing(str(number), now_s)
        while (one := merge.take(now_s)) is not None:
            taken.append(int(one[1].body))
    assert taken == sorted(body for those in drawn for body in those)
    assert merge.late == 0


def test_a_silent_source_holds_the_others_up_for_a_while_and_is_late_then() -> None:
    merge, one, two = Merge(["a", "b"], 5.0), Message("1", "", ""), Message("2", "", "")
    merge.add("a", 7, one)
    assert merge.take(100) is None
    assert merge.wait_s(100) == float("inf")  # b was not even asked
    merge.nothing("b", 100)
    merge.nothing("b", 103)
    assert merge.take(104.9) is None
    assert merge.wait_s(104) == 1
    assert merge.take(105) == ("a", one)
    merge.add("b", 3, two)
    merge.nothing("a", 105)
    assert merge.take(110) == ("b", two)
    assert merge.late == 1
