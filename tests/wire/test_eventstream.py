"""Event stream messages against the vectors that AWS's SDKs share, against botocore's reader, and torn ones."""

from __future__ import annotations

import contextlib
from struct import pack
from uuid import UUID
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from protocols.wire.eventstream import (
    Byte,
    Long,
    MalformedMessage,
    Message,
    Short,
    Timestamp,
    Value,
    decode,
    encode,
    error,
    event,
    exception,
)

# The vectors of aws-c-event-stream, as botocore's and the other SDKs' tests have them.
VECTORS: list[tuple[str, dict[str, Value], bytes, bytes]] = [
    ("empty", {}, b"", b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2H\xeb}\x98\xc8\xff"),
    ("payload", {}, b"{'foo':'bar'}", b"\x00\x00\x00\x1d\x00\x00\x00\x00\xfdR\x8cZ{'foo':'bar'}\xc3e96"),
    (
        "string",
        {"content-type": "application/json"},
        b"{'foo':'bar'}",
        b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}"
        b"\x8d\x9c\x08\xb1",
    ),
    (
        "int32",
        {"event-id": 40972},
        b"{'foo':'bar'}",
        b"\x00\x00\x00+\x00\x00\x00\x0e4\x8b\xec{\x08event-id\x04\x00\x00\xa0\x0c{'foo':'bar'}\xd3\x89\x02\x85",
    ),
    (
        "all types",
        {
            "0": True,
            "1": False,
            "2": Byte(2),
            "3": Short(3),
            "4": 4,
            "5": Long(5),
            "6": b"bytes",
            "7": "utf8",
            "8": Timestamp(8),
            "9": UUID(bytes=b"0123456789abcdef"),
        },
        b"",
        b"\x00\x00\x00b\x00\x00\x00R\x03\xb5\xcb\x9c\x010\x00\x011\x01\x012\x02\x02\x013\x03\x00\x03\x014\x04\x00\x00"
        b"\x00\x04\x015\x05\x00\x00\x00\x00\x00\x00\x00\x05\x016\x06\x00\x05bytes\x017\x07\x00\x04utf8\x018\x08\x00\x00"
        b"\x00\x00\x00\x00\x00\x08\x019\x090123456789abcdefc56q",
    ),
    (
        "error",
        {":message-type": "error", ":error-code": "code", ":error-message": "message"},
        b"",
        b"\x00\x00\x00R\x00\x00\x00B\xbf#c~\x0d:message-type\x07\x00\x05error\x0b:error-code\x07\x00\x04code"
        b"\x0e:error-message\x07\x00\x07messagekl\xea=",
    ),
]


def types(headers: dict[str, Value]) -> list[type]:
    return [type(value) for value in headers.values()]


@pytest.mark.parametrize(("headers", "payload", "golden"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_vectors(headers: dict[str, Value], payload: bytes, golden: bytes) -> None:
    assert encode(headers, payload) == golden
    (message,) = decode(golden)
    assert message == (headers, payload)
    assert types(message.headers) == types(headers)


def test_an_event_and_an_exception() -> None:
    assert event("SubscribeToShardEvent", "application/x-amz-json-1.1", b"{}") == (
        b"\x00\x00\x00\x77\x00\x00\x00\x65\x13\x08\x76\x61"
        b"\x0b:event-type\x07\x00\x15SubscribeToShardEvent"
        b"\x0d:content-type\x07\x00\x1aapplication/x-amz-json-1.1"
        b"\x0d:message-type\x07\x00\x05event"
        b"{}\x15\x4e\x21\x89"
    )
    stream = event("initial-response", "a/b", b"{}") + exception("Gone", "a/b", b'{"message":"x"}') + error("E", "why")
    assert list(decode(stream)) == [
        Message({":event-type": "initial-response", ":content-type": "a/b", ":message-type": "event"}, b"{}"),
        Message({":exception-type": "Gone", ":content-type": "a/b", ":message-type": "exception"}, b'{"message":"x"}'),
        Message({":message-type": "error", ":error-code": "E", ":error-message": "why"}, b""),
    ]


HEADERS: st.SearchStrategy[dict[str, Value]] = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.one_of(
        st.booleans(),
        st.integers(-(2**7), 2**7 - 1).map(Byte),
        st.integers(-(2**15), 2**15 - 1).map(Short),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**63), 2**63 - 1).map(Long),
        st.binary(max_size=50),
        st.text(max_size=50),
        st.integers(-(2**63), 2**63 - 1).map(Timestamp),
        st.uuids(),
    ),
    max_size=5,
)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=100)), max_size=4))
def test_botocore_and_we_read_what_we_write(messages: list[tuple[dict[str, Value], bytes]]) -> None:
    stream = b"".join(encode(*message) for message in messages)
    read = list(decode(stream))
    assert read == messages
    assert [types(message.headers) for message in read] == [types(headers) for headers, _ in messages]
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    theirs = [(message.headers, message.payload) for message in buffer]
    ours = [({n: v.bytes if isinstance(v, UUID) else v for n, v in h.items()}, p) for h, p in messages]
    assert theirs == ours


@given(HEADERS, st.binary(max_size=30), st.data())
def test_what_is_torn_or_changed_is_refused(headers: dict[str, Value], payload: bytes, data: st.DataObject) -> None:
    message = encode(headers, payload)
    cut = data.draw(st.integers(1, len(message) - 1))
    with pytest.raises(MalformedMessage):
        list(decode(message[:cut]))
    at, bit = data.draw(st.integers(0, len(message) - 1)), 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MalformedMessage):
        list(decode(message[:at] + bytes([message[at] ^ bit]) + message[at + 1 :]))


@given(st.binary(max_size=60))
def test_headers_of_anything_are_read_or_refused(headers: bytes) -> None:
    prelude = pack(">II", 16 + len(headers), len(headers))
    message = prelude + pack(">I", crc32(prelude)) + headers
    with contextlib.suppress(MalformedMessage):
        list(decode(message + pack(">I", crc32(message))))


def test_what_no_message_can_hold() -> None:
    for headers in ({"": "x"}, {"x" * 256: "x"}, {"x": "x" * 65536}, {"x": Byte(128)}, {"x": 2**31}):
        with pytest.raises(ValueError, match="header"):
            encode(headers, b"")
    for headers, payload in (({str(n): b"x" * 65535 for n in range(3)}, b""), ({}, bytes(24 * 1024 * 1024 + 1))):
        with pytest.raises(ValueError, match="too long"):
            encode(headers, payload)
