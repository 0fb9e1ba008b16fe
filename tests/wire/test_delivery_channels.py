"""Channels into a folder: what the files hold and are called, under virtual time; a disk that fails, a crash."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from broker.clock import ManualClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.names import World
from broker.store.sqlite import SqliteStore
from broker.streams import Channel, Putting, Stream
from protocols.delivery import channels
from protocols.delivery.channels import ChannelDriver

WORLD = World("000000000000", "us-east-1")
ROLE = "arn:aws:iam::000000000000:role/channels"
BUCKET = {"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000"}
TABLE = {"Namespace": "shop", "TableName": "orders", "CompressionType": "ZSTD"}
TABLE_BUCKET = "arn:aws:s3tables:us-east-1:000000000000:bucket/tables"
START_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
SHARD = "shardId-000000000000"


class Lake:
    """A broker whose channels deliver, and the folder they deliver to."""

    def __init__(self, broker: Broker, clock: ManualClock, folder: Path) -> None:
        self.broker = broker
        self.clock = clock
        self.folder = folder

    def stream(self) -> Stream:
        return self.broker.streams.definitions.create(WORLD, "s", mode="ON_DEMAND")

    def channel(self, stream: Stream, format_type: str = "JSON", compression: str = "NONE", **storage: Any) -> Channel:
        s3 = {"StorageConfiguration": {**BUCKET, "CompressionType": compression, **storage}}
        record = {"RecordFormatType": format_type}
        return self.broker.streams.channels.create(WORLD, "c", stream, role_arn=ROLE, record=record, s3=s3)

    def put(self, stream: Stream, *data: bytes, key: str = "0") -> list[str]:
        put = self.broker.streams.records.put_record
        return [put(stream, Putting(one, "k", explicit_hash_key=key)).sequence_number for one in data]

    async def advance(self, by_s: float = 300) -> None:
        until_ms = self.clock.now_ms() + round(by_s * 1000)
        await self.settle()
        while (due_ms := self.clock.next_ms()) is not None and due_ms <= until_ms:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await self.settle()
        self.clock.set(until_ms)

    async def settle(self) -> None:
        """Until nothing more happens by itself: files are written on a thread, which trio cannot see."""
        await trio.testing.wait_all_tasks_blocked()
        while anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await trio.sleep(0.001)
            await trio.testing.wait_all_tasks_blocked()

    @property
    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    @property
    def only_file(self) -> tuple[str, bytes]:
        [file] = self.files.items()
        return file


@asynccontextmanager
async def delivering(directory: Path, now_ms: int = START_MS) -> AsyncIterator[Lake]:
    clock = ManualClock(now_ms, soon=trio.lowlevel.current_trio_token().run_sync_soon)
    broker = Broker(SqliteStore(directory), clock, Entropy(1))
    folder = directory / "channels"
    driver = ChannelDriver(broker, folder)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(driver.run)
            await anyio.lowlevel.checkpoint()
            yield Lake(broker, clock, folder)
            tasks.cancel_scope.cancel()
    finally:
        broker.close()


@pytest.fixture
async def lake(tmp_path: Path) -> AsyncIterator[Lake]:
    async with delivering(tmp_path) as lake:
        yield lake


@pytest.mark.trio
async def test_json_lines_in_the_buckets_folder(lake: Lake) -> None:
    stream = lake.stream()
    channel = lake.channel(stream)
    first, *_ = lake.put(stream, b'{"a": 1}', b'\n{\n "b":\r\n "x\\ny"}\n', b"[2]")
    await lake.advance(299)
    assert lake.files == {}
    await lake.advance(1)
    name = f"c-{channel.channel_id[:8]}-{SHARD}-{first}.jsonl"
    assert lake.only_file == (
        f"lake/2023/11/14/22/{name}",
        b'{"a": 1}\n{  "b":   "x\\ny"}\n[2]\n',
    )
    assert [json.loads(line) for line in lake.only_file[1].splitlines()] == [{"a": 1}, {"b": "x\ny"}, [2]]


@pytest.mark.trio
async def test_each_shard_has_its_objects(lake: Lake) -> None:
    stream = lake.stream()
    lake.channel(stream, OutputKeyTemplate="{shardId}")
    lake.put(stream, b"1", key="0")
    lake.put(stream, b"2", key=str(2**128 - 1))
    await lake.advance()
    lake.put(stream, b"3", key="0")
    await lake.advance()
    assert [(path.split("/")[1], body) for path, body in lake.files.items()] == [
        (SHARD, b"1\n"),
        (SHARD, b"3\n"),
        ("shardId-000000000003", b"2\n"),
    ]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("format_type", "given", "line"),
    [("STRING", "grün\n".encode(), '"grün\\n"\n'.encode()), ("BYTE_ARRAY", b"\xff\x00", b'"/wA="\n')],
)
async def test_other_formats(lake: Lake, format_type: str, given: bytes, line: bytes) -> None:
    stream = lake.stream()
    lake.channel(stream, format_type)
    lake.put(stream, given)
    await lake.advance()
    assert lake.only_file[1] == line


@pytest.mark.trio
async def test_compression(lake: Lake) -> None:
    stream = lake.stream()
    lake.channel(stream, compression="GZIP")
    lake.put(stream, b"1", b"2")
    await lake.advance()
    path, body = lake.only_file
    assert path.endswith(".jsonl.gz")
    assert gzip.decompress(body) == b"1\n2\n"


@pytest.mark.trio
async def test_a_codec_that_is_not_here_is_left_out(lake: Lake) -> None:
    stream = lake.stream()
    lake.channel(stream, compression="ZSTD")
    lake.put(stream, b"1")
    await lake.advance()
    path, body = lake.only_file
    assert path.endswith(".jsonl")
    assert body == b"1\n"


@pytest.mark.trio
async def test_what_is_not_of_the_format_goes_to_the_errors(lake: Lake) -> None:
    stream = lake.stream()
    lake.channel(stream)
    _, bad, _ = lake.put(stream, b"1", b"{", b"3")
    lake.put(stream, b"\xff", key=str(2**128 - 1))
    await lake.advance()
    files = {path: body for path, body in lake.files.items() if not path.startswith("lake/errors/")}
    assert list(files.values()) == [b"1\n3\n"]
    errors = [json.loads(body) for path, body in lake.files.items() if path.startswith("lake/errors/2023/11/14/22/")]
    assert [b64decode(error["data"]) for error in errors] == [b"{", b"\xff"]
    assert errors[0]["sequenceNumber"] == bad
    assert errors[0]["streamArn"] == stream.arn
    assert errors[0]["errorMessage"].startswith("not JSON: ")
    assert errors[0]["approximateArrivalTimestamp"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.trio
async def test_a_bucket_of_its_own_for_errors(lake: Lake) -> None:
    stream = lake.stream()
    s3 = {
        "StorageConfiguration": {**BUCKET, "CompressionType": "GZIP"},
        "DeadLetterQueueS3Configuration": {**BUCKET, "BucketARN": "arn:aws:s3:::broken", "ErrorOutputPrefix": "of/c"},
    }
    record = {"RecordFormatType": "STRING"}
    lake.broker.streams.channels.create(WORLD, "c", stream, role_arn=ROLE, record=record, s3=s3)
    lake.put(stream, b"\xff")
    await lake.advance()
    assert lake.only_file[0].startswith("broken/of/c/2023/11/14/22/c-")
    assert lake.only_file[0].endswith(".jsonl")


@pytest.mark.trio
async def test_a_tables_rows(lake: Lake) -> None:
    stream = lake.stream()
    schema = "arn:aws:glue:us-east-1:000000000000:schema/r/s"
    tables = {
        "DeadLetterQueueS3Configuration": BUCKET,
        "S3TablesConfigurationList": [{**TABLE, "TableBucketARN": TABLE_BUCKET}],
    }
    lake.broker.streams.channels.create(
        WORLD,
        "c",
        stream,
        role_arn=ROLE,
        record={"RecordFormatType": "GSR_JSON", "GSRSchemaARN": schema},
        s3_tables=tables,
    )
    plain, packed = b"\x03\x00" + b"u" * 16, b"\x03\x05" + b"u" * 16
    lake.put(stream, plain + b'{"a":1}', packed + zlib.compress(b'{"a":2}'), b'{"a":3}', packed + b"x")
    await lake.advance()
    (errors, bad), (path, body) = lake.files.items()
    assert path.startswith("tables/shop/orders/2023/11/14/22/c-")
    assert body == b'{"a":1}\n{"a":2}\n'
    assert errors.startswith("lake/2023/")
    assert len(bad.splitlines()) == 2


@pytest.mark.trio
@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("raw/!{timestamp:yyyy-MM-dd}/HH={HH}", "lake/raw/2023-11-14/HH=22"),
        ("{streamName}/{channelName}/", "lake/s/c"),
        ("/a//b/", "lake/a/b"),
        ("../../../etc/./x", "lake/%2E%2E/%2E%2E/%2E%2E/etc/%2E/x"),
        ("{unknown}/" + "x" * 300, "lake/{unknown}/" + "x" * 200),
    ],
)
async def test_key_templates(lake: Lake, template: str, folder: str) -> None:
    stream = lake.stream()
    lake.channel(stream, OutputKeyTemplate=template)
    lake.put(stream, b"1")
    await lake.advance()
    assert lake.only_file[0].rpartition("/")[0] == folder


@pytest.mark.trio
async def test_a_disk_that_fails_is_tried_again(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    stream = lake.stream()
    lake.channel(stream)
    lake.put(stream, b"1")
    lake.folder.write_text("where the folder should be")
    await lake.advance(310)
    lake.put(stream, b"2")
    lake.folder.unlink()
    await lake.advance(5)
    assert lake.only_file[1] == b"1\n"
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    await lake.advance()
    assert [body for _, body in lake.files.items()] == [b"1\n", b"2\n"]


@pytest.mark.trio
async def test_what_was_written_but_not_reported_is_written_over(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    before = Lake(Broker(SqliteStore(tmp_path), clock, Entropy(1)), clock, tmp_path / "channels")
    stream = before.stream()
    before.channel(stream)
    before.put(stream, b"1", b"2")
    clock.advance(300_000)
    batch = before.broker.streams.channels.next_batch()
    assert batch is not None
    clock.settle()
    channels.write(before.folder, batch)
    before.broker.close()
    [(path, _)] = before.files.items()
    async with delivering(tmp_path, START_MS + 301_000) as lake:
        lake.put(lake.broker.streams.find(WORLD, "s"), b"3")
        await lake.advance(1)
        assert lake.only_file == (path, b"1\n2\n3\n")


@pytest.mark.trio
async def test_nothing_is_written_of_a_group_that_was_lost(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    stream = lake.stream()
    lake.channel(stream)
    lake.put(stream, b"1")
    await lake.settle()
    lake.clock.set(START_MS + 299_999)
    lake.put(stream, b"2")
    lake.clock.set(START_MS + 300_000)
    lake.broker.failed(RuntimeError("on purpose"))
    await lake.advance(2)
    assert lake.only_file[1] == b"1\n"


@pytest.mark.trio
async def test_in_memory_there_is_nowhere_to_deliver_to() -> None:
    clock = ManualClock(soon=trio.lowlevel.current_trio_token().run_sync_soon)
    broker = Broker(SqliteStore(), clock, Entropy(1))
    await ChannelDriver(broker, None).run()
    lake = Lake(broker, clock, Path("nowhere"))
    channel = lake.channel(lake.stream())
    assert (channel.status, channel.status_reason) == ("FAILED", channels.NO_FOLDER)
    broker.close()
