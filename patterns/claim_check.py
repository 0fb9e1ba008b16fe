"""Bodies over SQS's limit: the body goes to S3 or a folder, and the message carries a claim check for it.

The format is that of AWS's extended clients for Java and Python, so either side may be one of them. The policy says
what is left outside and what a claim check looks like (pure); `ClaimCheck` stores and fetches; `ClaimCheckSqs` does it
around a consumer's client. The rule: a body is stored before its message is sent, and deleted after its message.
Ugly: the receipt handle carries the claim too, as AWS's clients have it, because a deletion knows nothing else.

https://github.com/awslabs/amazon-sqs-java-extended-client-lib
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread

from patterns.aws_errors import error_code
from patterns.batch_consumer import Message, Refusal, SqsClient
from patterns.batch_producer import Entry

log = logging.getLogger("patterns.claim_check")

SIZE_ATTRIBUTE = "ExtendedPayloadSize"
LEGACY_SIZE_ATTRIBUTE = "SQSLargePayloadSize"
POINTER_CLASS = "software.amazon.payloadoffloading.PayloadS3Pointer"
LEGACY_POINTER_CLASS = "com.amazon.sqs.javamessaging.MessageS3Pointer"
MAX_ATTRIBUTES = 9  # SQS's ten, without that of the size

_BUCKET_MARK, _KEY_MARK = "-..s3BucketName..-", "-..s3Key..-"  # in a receipt handle


class Pointer(NamedTuple):
    bucket: str
    key: str


class ForeignBucket(Exception):
    """A claim check for a bucket that is not among those to be read: whoever can send could have anything read."""


class PayloadMissing(Exception):
    """There is a claim check, and nothing behind it."""


class BlobStore(Protocol):
    """Where bodies are. `get` raises PayloadMissing; deleting what is not there is no error."""

    async def put(self, pointer: Pointer, data: bytes) -> None: ...

    async def get(self, pointer: Pointer) -> bytes: ...

    async def delete(self, pointer: Pointer) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCheckPolicy:
    """Bodies go to `bucket`; claim checks are honoured for it and for those in `also_read`.

    A message is left outside when its body and attributes are over `threshold_bytes` together, or `always`.
    """

    bucket: str
    prefix: str = ""
    threshold_bytes: int = 1_048_576  # SQS's limit of a message
    always: bool = False
    also_read: frozenset[str] = frozenset()

    def is_outside(self, entry: Entry) -> bool:
        """Raises ValueError for one that would have more attributes than SQS takes."""
        attributes: Mapping[str, Mapping[str, Any]] = entry.get("MessageAttributes", {})
        reserved = {SIZE_ATTRIBUTE, LEGACY_SIZE_ATTRIBUTE} & set(attributes)
        if reserved:
            raise ValueError(f"{reserved.pop()} is the claim check's own attribute")
        if not self.always and _size_bytes(entry["MessageBody"], attributes) <= self.threshold_bytes:
            return False
        if len(attributes) > MAX_ATTRIBUTES:
            raise ValueError(f"a claim check leaves room for {MAX_ATTRIBUTES} attributes, not {len(attributes)}")
        return True

    def checked(self, entry: Entry, pointer: Pointer, size_bytes: int) -> Entry:
        size = {"DataType": "Number", "StringValue": str(size_bytes)}
        attributes = {**entry.get("MessageAttributes", {}), SIZE_ATTRIBUTE: size}
        return {**entry, "MessageBody": encode(pointer), "MessageAttributes": attributes}

    def pointer(self, message: Message) -> Pointer | None:
        """Where the body is; None: in the message. Raises ForeignBucket and, for what is no claim check, ValueError."""
        if not {SIZE_ATTRIBUTE, LEGACY_SIZE_ATTRIBUTE} & set(message.message_attributes):
            return None
        pointer = decode(message.body)
        if pointer.bucket != self.bucket and pointer.bucket not in self.also_read:
            raise ForeignBucket(pointer.bucket)
        return pointer

    def fetched(self, message: Message, pointer: Pointer, body: str) -> Message:
        """With the body in place and without the size; its receipt handle carries the pointer."""
        attributes = {
            name: value
            for name, value in message.message_attributes.items()
            if name not in (SIZE_ATTRIBUTE, LEGACY_SIZE_ATTRIBUTE)
        }
        handle = with_pointer(pointer, message.receipt_handle)
        return replace(message, body=body, message_attributes=attributes, receipt_handle=handle)


def encode(pointer: Pointer) -> str:
    names = {"s3BucketName": pointer.bucket, "s3Key": pointer.key}
    return json.dumps([POINTER_CLASS, names], separators=(",", ":"), ensure_ascii=False)


def decode(body: str) -> Pointer:
    """Raises ValueError."""
    match json.loads(body):
        case [str(kind), {"s3BucketName": str(bucket), "s3Key": str(key)}] if kind in (
            POINTER_CLASS,
            LEGACY_POINTER_CLASS,
        ):
            return Pointer(bucket, key)
    raise ValueError(f"not a claim check: {body[:200]}")


def with_pointer(pointer: Pointer, receipt_handle: str) -> str:
    return f"{_BUCKET_MARK}{pointer.bucket}{_BUCKET_MARK}{_KEY_MARK}{pointer.key}{_KEY_MARK}{receipt_handle}"


def without_pointer(receipt_handle: str) -> tuple[Pointer | None, str]:
    """The pointer of a receipt handle, and the handle that SQS knows."""
    if not receipt_handle.startswith(_BUCKET_MARK):
        return None, receipt_handle
    bucket, _, rest = receipt_handle.removeprefix(_BUCKET_MARK).partition(_BUCKET_MARK + _KEY_MARK)
    key, _, handle = rest.rpartition(_KEY_MARK)
    return Pointer(bucket, key), handle


def _size_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    return len(body.encode()) + sum(
        len((name + value["DataType"] + value.get("StringValue", "")).encode()) + len(value.get("BinaryValue", b""))
        for name, value in attributes.items()
    )


class ClaimCheck:
    """`await producer.send(await check.leave(entry))` on one side, `await check.fetch(message)` on the other."""

    def __init__(
        self, store: BlobStore, policy: ClaimCheckPolicy, *, new_key: Callable[[], str] = lambda: str(uuid.uuid4())
    ) -> None:
        self.policy = policy
        self._store = store
        self._new_key = new_key

    async def leave(self, entry: Entry) -> Entry:
        """The entry as it is to be sent: itself, or with a claim check for a body that is stored by then.

        Each call stores anew. A FIFO queue with content-based deduplication sees other bodies then: such an entry
        needs a MessageDeduplicationId of its own.
        """
        if not self.policy.is_outside(entry):
            return entry
        body: bytes = entry["MessageBody"].encode()
        pointer = Pointer(self.policy.bucket, self.policy.prefix + self._new_key())
        await self._store.put(pointer, body)
        return self.policy.checked(entry, pointer, len(body))

    async def fetch(self, message: Message) -> Message:
        """The message with its body. Raises PayloadMissing, ForeignBucket, ValueError, or what the store raises."""
        pointer = self.policy.pointer(message)
        if pointer is None:
            return message
        return self.policy.fetched(message, pointer, (await self._store.get(pointer)).decode())

    async def forget(self, pointer: Pointer) -> None:
        """Deletes a body whose message is deleted."""
        if pointer.bucket == self.policy.bucket or pointer.bucket in self.policy.also_read:
            await self._store.delete(pointer)


class ClaimCheckSqs:
    """An `SqsClient` around another one, for BatchConsumer: handlers see bodies, deletions delete them too.

    A message whose body cannot be fetched is not given to the handler, and in FIFO queues neither are those behind it:
    they come again after their visibility timeout, until the queue's redrive policy has it. `keep_payloads` leaves
    the bodies to a lifecycle rule: where one body has several messages (SNS to many queues) it must.
    """

    def __init__(self, client: SqsClient, check: ClaimCheck, *, keep_payloads: bool = False) -> None:
        self._client = client
        self._check = check
        self._keep_payloads = keep_payloads

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        messages = await self._client.receive(max_messages=max_messages, wait_s=wait_s, visibility_s=visibility_s)
        fetched: list[Message | None] = [None] * len(messages)

        async def fetch(place: int, message: Message) -> None:
            try:
                fetched[place] = await self._check.fetch(message)
            except Exception as error:
                log.warning("the body of %s was not fetched: %r", message.message_id, error)

        async with anyio.create_task_group() as tasks:
            for place, message in enumerate(messages):
                tasks.start_soon(fetch, place, message)
        given: list[Message] = []
        held_up: set[str] = set()
        for message, whole in zip(messages, fetched, strict=True):
            group = message.ordered_group
            if whole is not None and group not in held_up:
                given.append(whole)
            elif group is not None:
                held_up.add(group)
        return given

    async def delete_batch(self, receipt_handles: Sequence[str]) -> Mapping[str, Refusal]:
        known = {handle: without_pointer(handle) for handle in receipt_handles}
        refused = await self._client.delete_batch([handle for _, handle in known.values()])
        async with anyio.create_task_group() as tasks:
            for pointer, handle in known.values():
                if pointer is not None and handle not in refused and not self._keep_payloads:
                    tasks.start_soon(self._forget, pointer)
        return {ours: refused[handle] for ours, (_, handle) in known.items() if handle in refused}

    async def change_visibility(self, visibility_s: Mapping[str, int]) -> Mapping[str, Refusal]:
        known = {without_pointer(handle)[1]: handle for handle in visibility_s}
        refused = await self._client.change_visibility({theirs: visibility_s[ours] for theirs, ours in known.items()})
        return {known[theirs]: refusal for theirs, refusal in refused.items()}

    async def _forget(self, pointer: Pointer) -> None:
        try:
            await self._check.forget(pointer)
        except Exception as error:
            log.warning("%s/%s is left behind: %r", *pointer, error)


# Stores


class S3Blobs:
    """A `BlobStore` of a client of S3: aiobotocore's, aioboto3's, or boto3's through patterns.threads.InThreads."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def put(self, pointer: Pointer, data: bytes) -> None:
        await self._client.put_object(Bucket=pointer.bucket, Key=pointer.key, Body=data)

    async def get(self, pointer: Pointer) -> bytes:
        try:
            answer = await self._client.get_object(Bucket=pointer.bucket, Key=pointer.key)
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404"):
                raise PayloadMissing(f"{pointer.bucket}/{pointer.key}") from error
            raise
        body = answer["Body"]
        if hasattr(body, "__aenter__"):  # aiobotocore's stream
            async with body as stream:
                data: bytes = await stream.read()
                return data
        with body:
            return bytes(await anyio.to_thread.run_sync(body.read))

    async def delete(self, pointer: Pointer) -> None:
        await self._client.delete_object(Bucket=pointer.bucket, Key=pointer.key)


class FolderBlobs:
    """A `BlobStore` in a folder whose folders are the buckets: for processes that share a disk. Written, then named."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder).resolve()

    def _path(self, pointer: Pointer) -> Path:
        """Raises ValueError for a pointer that leads out of its bucket: it came in a message."""
        bucket = self._folder / pointer.bucket
        path = (bucket / pointer.key).resolve()
        if bucket.parent != self._folder or bucket.name in ("", ".", "..") or not path.is_relative_to(bucket):
            raise ValueError(f"{pointer.bucket}/{pointer.key} leads out of the folder")
        return path

    async def put(self, pointer: Pointer, data: bytes) -> None:
        await anyio.to_thread.run_sync(self._write, self._path(pointer), data)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    async def get(self, pointer: Pointer) -> bytes:
        try:
            return await anyio.to_thread.run_sync(self._path(pointer).read_bytes)
        except FileNotFoundError as error:
            raise PayloadMissing(f"{pointer.bucket}/{pointer.key}") from error

    async def delete(self, pointer: Pointer) -> None:
        path = self._path(pointer)
        await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))
