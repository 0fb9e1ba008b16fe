"""`application/vnd.amazon.eventstream`: messages of headers and a payload, framed, with checksums.

A message is: its length and that of its headers (4 bytes each, big-endian), the CRC-32 of those eight bytes, headers,
payload, and the CRC-32 of all before it. A header is its name's length (1 byte), name, type (1 byte) and value.
https://smithy.io/2.0/aws/amazon-eventstream.html

What AWS's services send has string headers only, and the SDK for Java reads none but those in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
MAX_HEADERS_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024


class Byte(int):
    """A header of 8 bits, signed as are all."""


class Short(int):
    """A header of 16 bits."""


class Long(int):
    """A header of 64 bits. A plain int has 32."""


class Timestamp(int):
    """A header of milliseconds since the epoch."""


Value = bool | int | bytes | str | UUID


class Message(NamedTuple):
    headers: dict[str, Value]
    payload: bytes


class MalformedMessage(ValueError):
    """Bytes that are no message: too long, torn, or a checksum that does not match."""


_PRELUDE = Struct(">III")
_LENGTHS = Struct(">II")
_CRC = Struct(">I")
_SHORT = Struct(">H")
_INTEGERS = {Byte: (2, Struct(">b")), Short: (3, Struct(">h")), int: (4, Struct(">i")), Long: (5, Struct(">q"))}
_NUMBERS = {code: (kind, form) for kind, (code, form) in _INTEGERS.items()} | {8: (Timestamp, Struct(">q"))}


def encode(headers: Mapping[str, Value], payload: bytes) -> bytes:
    """One message. Raises ValueError for a header or a payload that is too long or out of range."""
    return _frame(_encode_headers(headers), payload)


def event(event_type: str, content_type: str, payload: bytes) -> bytes:
    """The message of an event, or `initial-response`."""
    return _frame(_event_headers(":event-type", event_type, content_type, "event"), payload)


def exception(exception_type: str, content_type: str, payload: bytes) -> bytes:
    """The message of an error that the event stream's model names."""
    return _frame(_event_headers(":exception-type", exception_type, content_type, "exception"), payload)


def error(code: str, message: str) -> bytes:
    """The message of an error that it does not name."""
    return encode({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


@lru_cache(maxsize=256)
def _event_headers(of: str, name: str, content_type: str, message_type: str) -> bytes:
    return _encode_headers({of: name, ":content-type": content_type, ":message-type": message_type})


def _frame(headers: bytes, payload: bytes) -> bytes:
    if len(headers) > MAX_HEADERS_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError("an event stream's message is too long")
    lengths = _LENGTHS.pack(len(headers) + len(payload) + 16, len(headers))
    head = b"".join((lengths, _CRC.pack(crc32(lengths)), headers))
    return b"".join((head, payload, _CRC.pack(crc32(payload, crc32(head)))))


def _encode_headers(headers: Mapping[str, Value]) -> bytes:
    parts: list[bytes] = []
    for name, value in headers.items():
        raw_name = name.encode()
        if not 1 <= len(raw_name) <= 255:
            raise ValueError("an event stream's header has a name of 1 to 255 bytes")
        parts += (bytes((len(raw_name),)), raw_name, _encode_value(value))
    return b"".join(parts)


def _encode_value(value: Value) -> bytes:
    try:
        match value:
            case True:
                return b"\x00"
            case False:
                return b"\x01"
            case Timestamp():
                return b"\x08" + _NUMBERS[8][1].pack(value)
            case int():
                code, form = _INTEGERS[type(value)]
                return bytes((code,)) + form.pack(value)
            case bytes():
                return b"\x06" + _SHORT.pack(len(value)) + value
            case str():
                raw = value.encode()
                return b"\x07" + _SHORT.pack(len(raw)) + raw
            case UUID():
                return b"\x09" + value.bytes
    except StructError as reason:
        raise ValueError(f"an event stream's header cannot hold this: {reason}") from None


def decode(data: bytes) -> Iterator[Message]:
    """The messages in `data`, all of them whole. Raises MalformedMessage."""
    at = 0
    while at < len(data):
        message, at = decode_one(data, at)
        yield message


def decode_one(data: bytes, at: int = 0) -> tuple[Message, int]:
    """The message that begins at `at`, and where it ends. Raises MalformedMessage."""
    try:
        length, headers_length, prelude_crc = _PRELUDE.unpack_from(data, at)
        if crc32(data[at : at + 8]) != prelude_crc:
            raise MalformedMessage("the checksum of the prelude does not match")
        if headers_length > MAX_HEADERS_BYTES or not 0 <= length - headers_length - 16 <= MAX_PAYLOAD_BYTES:
            raise MalformedMessage("the lengths are impossible")
        end = at + length
        if _CRC.unpack_from(data, end - 4)[0] != crc32(data[at : end - 4]):
            raise MalformedMessage("the checksum of the message does not match")
    except StructError:
        raise MalformedMessage("the message is torn") from None
    payload_at = at + 12 + headers_length
    return Message(_decode_headers(data[at + 12 : payload_at]), data[payload_at : end - 4]), end


def _decode_headers(data: bytes) -> dict[str, Value]:
    headers: dict[str, Value] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name = data[at + 1 : name_end].decode()
            if name in headers or not name:
                raise MalformedMessage(f"a header is called {name!r}, which is twice or nothing")
            headers[name], at = _decode_value(data, name_end + 1, data[name_end])
    except (IndexError, StructError, UnicodeDecodeError):
        raise MalformedMessage("the headers are malformed") from None
    if at != len(data):
        raise MalformedMessage("the last header is torn")
    return headers


def _decode_value(data: bytes, at: int, code: int) -> tuple[Value, int]:
    if code in (0, 1):
        return code == 0, at
    if code in _NUMBERS:
        kind, form = _NUMBERS[code]
        return kind(form.unpack_from(data, at)[0]), at + form.size
    if code == 9:
        if at + 16 > len(data):
            raise MalformedMessage("the last header is torn")
        return UUID(bytes=data[at : at + 16]), at + 16
    end = at + 2 + _SHORT.unpack_from(data, at)[0]
    if code == 6:
        return data[at + 2 : end], end
    if code == 7:
        return data[at + 2 : end].decode(), end
    raise MalformedMessage(f"a header is of type {code}, which there is not")
