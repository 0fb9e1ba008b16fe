"""Claim checks: AWS's format byte by byte, nothing lost by a crash, order held where a body is missing, no way out."""

from __future__ import annotations

import io
import itertools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    AioSqs,
    BatchConsumer,
    BatchProducer,
    Boto3Sqs,
    ClaimCheck,
    ClaimCheckPolicy,
    ClaimCheckSqs,
    ConsumerPolicy,
    Entry,
    Fixed,
    FolderBlobs,
    ForeignBucket,
    InThreads,
    Message,
    PayloadMissing,
    Pointer,
    Refusal,
    S3Blobs,
    SqsTarget,
)
from patterns.claim_check import decode, encode, with_pointer, without_pointer

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
POLICY = ClaimCheckPolicy(bucket="b", threshold_bytes=10)
BODIES = ["a0 " + "x" * 20, "a1", "a2 " + "y" * 20, "b0 " + "z" * 20]


class Blobs:
    """A store that can be looked into."""

    def __init__(self) -> None:
        self.there: dict[Pointer, bytes] = {}

    async def put(self, pointer: Pointer, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.there[pointer] = data

    async def get(self, pointer: Pointer) -> bytes:
        await anyio.lowlevel.checkpoint()
        if pointer not in self.there:
            raise PayloadMissing
        return self.there[pointer]

    async def delete(self, pointer: Pointer) -> None:
        await anyio.lowlevel.checkpoint()
        self.there.pop(pointer, None)


def entry(body: str, **more: Any) -> Entry:
    return {"MessageBody": body, **more}


def fifo(body: str) -> Entry:
    return entry(body, MessageGroupId=body[0], MessageDeduplicationId=body[:2])


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


@BACKENDS
def test_what_is_sent_is_what_awss_clients_read(backend: str) -> None:
    async def program() -> None:
        blobs = Blobs()
        check = ClaimCheck(blobs, POLICY, new_key=lambda: "b6d8ab8e-1b1c-4f6b-9c57-6f3c0f4f52d7")
        sent = await check.leave(entry("ü" * 6, MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}}))
        assert sent == {
            "MessageBody": '["software.amazon.payloadoffloading.PayloadS3Pointer",'
            '{"s3BucketName":"b","s3Key":"b6d8ab8e-1b1c-4f6b-9c57-6f3c0f4f52d7"}]',
            "MessageAttributes": {
                "n": {"DataType": "Number", "StringValue": "1"},
                "ExtendedPayloadSize": {"DataType": "Number", "StringValue": "12"},
            },
        }
        assert list(blobs.there.values()) == ["üüüüüü".encode()]
        small = entry("ü" * 5)
        assert await check.leave(small) is small

    anyio.run(program, backend=backend)


@pytest.mark.parametrize("size", ["ExtendedPayloadSize", "SQSLargePayloadSize"])
@pytest.mark.parametrize(
    "body",
    [
        '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]',
        '["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3Key": "k", "s3BucketName": "b"}]',
    ],
)
def test_what_awss_clients_send_is_read(size: str, body: str) -> None:
    message = Message("id", "handle", body, {}, {size: {"StringValue": "4", "DataType": "Number"}, "n": {}})
    pointer = POLICY.pointer(message)
    assert pointer == ("b", "k")
    assert POLICY.fetched(message, Pointer("b", "k"), "body") == Message(
        "id", "-..s3BucketName..-b-..s3BucketName..--..s3Key..-k-..s3Key..-handle", "body", {}, {"n": {}}
    )


def test_what_is_no_claim_check_of_ours() -> None:
    size: dict[str, Any] = {"ExtendedPayloadSize": {}}
    assert POLICY.pointer(Message("id", "h", encode(Pointer("b", "k")))) is None
    with pytest.raises(ForeignBucket):
        POLICY.pointer(Message("id", "h", encode(Pointer("secrets", "k")), {}, size))
    for body in ("", "[]", '{"s3Key": "k"}', '["x", {"s3BucketName": "b", "s3Key": "k"}]'):
        with pytest.raises(ValueError, match=r"claim check|Expecting"):
            POLICY.pointer(Message("id", "h", body, {}, size))
    with pytest.raises(ValueError, match="room for 9"):
        POLICY.is_outside(entry("x", MessageAttributes={str(n): {"DataType": "String"} for n in range(10)}))
    with pytest.raises(ValueError, match="own attribute"):
        POLICY.is_outside(entry("x", MessageAttributes=size))


@given(st.text(min_size=1), st.text(min_size=1), st.from_regex(r"[A-Za-z0-9+/=]{1,40}", fullmatch=True))
def test_pointers_come_back(bucket: str, key: str, handle: str) -> None:
    pointer = Pointer(bucket, key)
    assert decode(encode(pointer)) == pointer
    assert without_pointer(handle) == (None, handle)
    if not any(mark in bucket + key for mark in ("-", ".")):
        assert without_pointer(with_pointer(pointer, handle)) == (pointer, handle)


@BACKENDS
@pytest.mark.parametrize("kind", ["", ".fifo"])
def test_a_crash_at_any_await_loses_no_body(backend: str, kind: str) -> None:
    policy = ConsumerPolicy(concurrency=2, handler_timeout_s=2, wait_s=1)
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(1, 2):
            url, blobs = await sqs.create(f"q{after}{kind}"), Blobs()
            check = ClaimCheck(blobs, POLICY)
            done: list[str] = []
            answered: list[str] = []

            async def handle(message: Message, done: list[str] = done) -> None:
                done.append(message.body)
                await anyio.lowlevel.checkpoint()

            async def produce(url: str = url, check: ClaimCheck = check, answered: list[str] = answered) -> None:
                async with BatchProducer(SqsTarget(sqs, url)) as producer:
                    for body in BODIES:
                        await producer.send(await check.leave(fifo(body) if kind else entry(body)))
                        answered.append(body)

            async def consume(url: str = url, check: ClaimCheck = check, handle: Any = handle) -> None:
                consumer = BatchConsumer(ClaimCheckSqs(AioSqs(sqs, url), check), handle, policy)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(consumer.run)
                    await sqs.until_empty(url)
                    consumer.stop()

            async def program(produce: Any = produce, consume: Any = consume) -> None:
                await produce()
                await consume()

            crashed = await crash(after, program)
            await consume()
            assert set(answered) <= set(done) <= set(BODIES), after
            if not crashed:
                assert not blobs.there
                break
            crashes += 1
            await sqs.call("DeleteQueue", {"QueueUrl": url})

    played(backend, play)
    assert crashes > 15


@BACKENDS
def test_a_missing_body_holds_up_its_group_and_no_other(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        url, blobs = await sqs.create("q.fifo"), Blobs()
        check = ClaimCheck(blobs, POLICY)
        for body in BODIES:
            await sqs.send_message_batch(QueueUrl=url, Entries=[{**await check.leave(fifo(body)), "Id": "1"}])
        lost, data = next(iter(blobs.there.items()))
        del blobs.there[lost]
        done: list[str] = []

        async def handle(message: Message) -> None:
            done.append(message.body)

        client = ClaimCheckSqs(AioSqs(sqs, url), check)
        consumer = BatchConsumer(client, handle, ConsumerPolicy(visibility_s=5, wait_s=1, backoff=Fixed(1)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            await anyio.sleep(20)
            assert done == [BODIES[3]]
            blobs.there[lost] = data
            await sqs.until_empty(url)
            consumer.stop()
        assert done == [BODIES[3], *BODIES[:3]]
        assert not blobs.there

    played(backend, play)


@BACKENDS
def test_a_body_stays_while_its_message_does(backend: str) -> None:
    class Refusing(AioSqs):
        async def delete_batch(self, receipt_handles: Any) -> Mapping[str, Refusal]:
            assert not any("s3Key" in handle for handle in receipt_handles)
            return {receipt_handles[0]: Refusal("InternalError", False)}

    async def play(sqs: Sqs) -> None:
        url, blobs = await sqs.create("q"), Blobs()
        check = ClaimCheck(blobs, POLICY)
        for body in (BODIES[0], BODIES[2]):
            await sqs.send_message_batch(QueueUrl=url, Entries=[{**await check.leave(entry(body)), "Id": "1"}])
        client = ClaimCheckSqs(Refusing(sqs, url), check)
        received = await client.receive(max_messages=10, wait_s=0, visibility_s=30)
        handles = {message.body: message.receipt_handle for message in received}
        kept, gone = handles
        assert await client.change_visibility(dict.fromkeys(handles.values(), 60)) == {}
        refused = await client.delete_batch(list(handles.values()))
        assert list(refused) == [handles[kept]]
        assert list(blobs.there.values()) == [kept.encode()]
        assert gone.encode() not in blobs.there.values()

    played(backend, play)


@BACKENDS
def test_a_folder_gives_back_what_it_was_given_and_nothing_else(backend: str, tmp_path: Path) -> None:
    async def program() -> None:
        blobs = FolderBlobs(tmp_path / "blobs")
        (tmp_path / "secret").write_text("secret")
        pointer = Pointer("b", "orders/1")
        await blobs.put(pointer, b"one")
        await blobs.put(pointer, b"two")
        assert await blobs.get(pointer) == b"two"
        assert [path.name for path in (tmp_path / "blobs/b/orders").iterdir()] == ["1"]
        await blobs.delete(pointer)
        await blobs.delete(pointer)
        with pytest.raises(PayloadMissing):
            await blobs.get(pointer)
        for bad in [
            ("b", "../../secret"),
            ("..", "secret"),
            (".", "x"),
            ("b/..", "x"),
            ("b", "/etc/hostname"),
            ("", "x"),
        ]:
            with pytest.raises(ValueError, match="leads out"):
                await blobs.get(Pointer(*bad))

    anyio.run(program, backend=backend)


@BACKENDS
def test_s3_through_botocore(backend: str) -> None:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    where = {"Bucket": "b", "Key": "k"}

    async def program() -> None:
        blobs = S3Blobs(InThreads(client))
        await blobs.put(Pointer("b", "k"), b"body")
        assert await blobs.get(Pointer("b", "k")) == b"body"
        with pytest.raises(PayloadMissing):
            await blobs.get(Pointer("b", "k"))
        await blobs.delete(Pointer("b", "k"))

    with Stubber(client) as stub:
        stub.add_response("put_object", {}, {**where, "Body": b"body"})
        stub.add_response("get_object", {"Body": StreamingBody(io.BytesIO(b"body"), 4)}, where)
        stub.add_client_error("get_object", "NoSuchKey", expected_params=where)
        stub.add_response("delete_object", {}, where)
        anyio.run(program, backend=backend)
        stub.assert_no_pending_responses()


@BACKENDS
def test_two_mebibytes_through_the_sidecar(backend: str, sqs: Any, tmp_path: Path) -> None:
    url = sqs.create_queue(QueueName="claims")["QueueUrl"]
    check = ClaimCheck(FolderBlobs(tmp_path), ClaimCheckPolicy(bucket="bodies"))
    body = "ü" * 1_048_576
    done: list[Message] = []

    async def program() -> None:
        async def handle(message: Message) -> None:
            done.append(message)
            consumer.stop()

        async with BatchProducer(SqsTarget(InThreads(sqs), url)) as producer:
            await producer.send(await check.leave(entry(body)))
        consumer = BatchConsumer(ClaimCheckSqs(Boto3Sqs(sqs, url), check), handle, ConsumerPolicy(wait_s=1))
        with anyio.fail_after(10):
            await consumer.run()

    anyio.run(program, backend=backend)
    assert [message.body == body for message in done] == [True]
    assert done[0].message_attributes == {}
    assert list((tmp_path / "bodies").iterdir()) == []
