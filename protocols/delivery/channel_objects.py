"""What a channel's batch becomes: objects of JSON lines, under the keys they would have in their bucket.

JSON stands on its line as it came, STRING as a JSON string, BYTE_ARRAY as one in base64. What is not of the channel's
format goes to an object of errors, where the model's dead-letter queue has its bucket. The same first record gives the
same key, so a batch that is delivered again replaces what it had written.

Local are: that tables get JSON lines too, where AWS writes Parquet; that codecs which the standard library lacks are
left out (the name tells: only what ends in .gz is compressed); and the words of an OutputKeyTemplate, of which the
model says nothing: {channelName}, {channelId}, {streamName}, {shardId}, and of the first record's arrival {yyyy},
{MM}, {dd}, {HH}, {mm}, {ss} or several of them together, as in !{timestamp:yyyy-MM-dd}.
"""

from __future__ import annotations

import gzip
import re
import zlib
from base64 import b64encode
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from broker.clock import iso_8601_ms
from broker.streams import Batch, Channel, Record

DEFAULT_TEMPLATE = "{yyyy}/{MM}/{dd}/{HH}/"
_WORD = re.compile(r"!?\{([^{}]*)\}")
_DATE_PART = re.compile(r"yyyy|MM|dd|HH|mm|ss")
_DATE_FORMATS = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_GLUE_HEADER_BYTES, _GLUE_VERSION, _GLUE_ZLIB = 18, 3, 5  # version, compression, the schema's UUID
_MAX_PART_CHARS = 200  # of a key, between slashes: file systems take 255 bytes


class Object(NamedTuple):
    path: str  # the bucket, then the key
    body: bytes


def objects(batch: Batch) -> list[Object]:
    """One of records, one of errors, or both."""
    channel = batch.channel
    format_type = channel.record["RecordFormatType"]
    lines, errors = [], []
    for record in batch.records:
        try:
            lines.append(_line(record.data, format_type))
        except (ValueError, zlib.error) as error:
            errors.append(_error_line(batch, record, f"not {format_type}: {error}"))
    found = []
    dead_letters = channel.destination["DeadLetterQueueS3Configuration"]
    if lines:
        folder, codec = _place(channel)
        found.append(_object(batch, folder, lines, codec))
    if errors:
        folder = f"{_bucket(dead_letters['BucketARN'])}/{dead_letters.get('ErrorOutputPrefix', '')}"
        found.append(_object(batch, f"{folder}/{DEFAULT_TEMPLATE}", errors, "NONE"))
    return found


def _line(data: bytes, format_type: str) -> bytes:
    if format_type == "BYTE_ARRAY":
        return orjson.dumps(b64encode(data).decode())
    if format_type == "STRING":
        return orjson.dumps(data.decode())
    if format_type == "GSR_JSON":
        data = _without_glue_header(data)
    orjson.loads(data)
    # Line ends are white space in JSON: inside its strings they are escaped.
    return data.strip().replace(b"\r", b" ").replace(b"\n", b" ")


def _without_glue_header(data: bytes) -> bytes:
    """Of the Glue Schema Registry's serializers."""
    if len(data) < _GLUE_HEADER_BYTES or data[0] != _GLUE_VERSION or data[1] not in (0, _GLUE_ZLIB):
        raise ValueError("there is no header of the Glue Schema Registry")
    return zlib.decompress(data[_GLUE_HEADER_BYTES:]) if data[1] == _GLUE_ZLIB else data[_GLUE_HEADER_BYTES:]


def _error_line(batch: Batch, record: Record, message: str) -> bytes:
    return orjson.dumps(
        {
            "errorMessage": message,
            "streamArn": batch.channel.stream.arn,
            "shardId": batch.shard.shard_id,
            "sequenceNumber": record.sequence_number,
            "partitionKey": record.partition_key,
            "approximateArrivalTimestamp": iso_8601_ms(record.arrival_ms),
            "data": b64encode(record.data).decode(),
        }
    )


def _place(channel: Channel) -> tuple[str, str]:
    """The folder, with its template's words, and the compression."""
    if channel.destination_type == "S3":
        storage = channel.destination["StorageConfiguration"]
        template = storage.get("OutputKeyTemplate", DEFAULT_TEMPLATE)
        return f"{_bucket(storage['BucketARN'])}/{template}", storage["CompressionType"]
    table = channel.destination["S3TablesConfigurationList"][0]
    return f"{_bucket(table['TableBucketARN'])}/{table['Namespace']}/{table['TableName']}/{DEFAULT_TEMPLATE}", "NONE"


def _bucket(arn: str) -> str:
    return arn.rpartition(":")[2].removeprefix("bucket/")


def _object(batch: Batch, template: str, lines: list[bytes], codec: str) -> Object:
    first = batch.records[0]
    channel, shard_id = batch.channel, batch.shard.shard_id
    moment = datetime.fromtimestamp(first.arrival_ms / 1000, UTC)
    words = {
        "channelName": channel.name,
        "channelId": channel.channel_id,
        "streamName": channel.stream.name,
        "shardId": shard_id,
    }

    def said(match: re.Match[str]) -> str:
        word = match[1].removeprefix("timestamp:")
        if word in words:
            return words[word]
        dated, count = _DATE_PART.subn(lambda part: moment.strftime(_DATE_FORMATS[part[0]]), word)
        return dated if count else match[0]

    # Sequence numbers are a stream's own, and buckets may be shared.
    name = f"{channel.name}-{channel.channel_id[:8]}-{shard_id}-{first.sequence_number}.jsonl"
    folder = [_safe(part) for part in _WORD.sub(said, template).split("/") if part]
    body = b"\n".join([*lines, b""])
    if codec == "GZIP":
        name, body = f"{name}.gz", gzip.compress(body, mtime=0)
    return Object("/".join([*folder, name]), body)


def _safe(part: str) -> str:
    """A key may have .. in it; a path must not."""
    return part.replace(".", "%2E")[:_MAX_PART_CHARS] if part in (".", "..") else part[:_MAX_PART_CHARS]
