"""AWS's CBOR protocol, `application/x-amz-cbor-1.1`: what the SDKs for Java speak to Kinesis instead of JSON.

It is the JSON protocol in CBOR (RFC 8949): the same documents, the same errors, blobs as byte strings, and timestamps
as tag 1 with *milliseconds* since the epoch, whatever the RFC says of that tag (`SdkCborGenerator` of either SDK;
they read the number and ignore its tag). A decoded input is what `aws_json` makes of the same document.

Own code, not a library: cbor2 holds that tag to the RFC and fails on it, and does far more than this protocol wants.
As in `aws_json`, readers are compiled from the shapes. A reader takes the body and where its value begins, and returns
the value and where it ends. None of them looks whether the body is long enough: whoever reads on behind its end meets
an IndexError or ends behind it, and both are caught once, in `decode`. What no shape knows is skipped without being
built, to a depth of `_DEEPEST`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from math import isfinite
from struct import Struct
from typing import Any

from protocols.shapes.constraints import compile_check
from protocols.shapes.model import List, Map, Operation, Scalar, Service, Shape, Structure
from protocols.wire import aws_json
from protocols.wire.errors import WireError, refusal

CONTENT_TYPE = b"application/x-amz-cbor-1.1"

Read = Callable[[bytes, int], tuple[Any, int]]
Write = Callable[[Any, Callable[[bytes], None]], None]

_DEEPEST = 1000  # Jackson's limit, and so AWS's
_ANY, _KEY, _VALUE = -1, -2, -3  # what is to come in a list or a map that a break will end
_NEXT = {_ANY: _ANY, _KEY: _VALUE, _VALUE: _KEY}
_HALF, _SINGLE, _DOUBLE = Struct(">e"), Struct(">f"), Struct(">d")


def decode(operation: Operation, body: bytes) -> dict[str, Any]:
    """The input of an operation. Raises WireError for whatever AWS would refuse before it looks at the meaning."""
    read = operation.read_cbor
    if read is None:
        read = operation.read_cbor = _compile(operation)
    result: dict[str, Any] = read(body)
    return result


def encode(operation: Operation, result: dict[str, Any]) -> bytes:
    """The body of an answer; `result` is as for `aws_json.encode`."""
    return b"" if operation.output is None else encode_shape(operation.output, result)


def encode_shape(shape: Shape, value: Any) -> bytes:
    """A value of a shape of an output."""
    parts: list[bytes] = []
    _writer(shape)(value, parts.append)
    return b"".join(parts)


def encode_document(document: dict[str, str]) -> bytes:
    """A document of nothing but text, such as an error."""
    parts = [_head(5, len(document))]
    for text in (text for pair in document.items() for text in pair):
        _write_text(text, parts.append)
    return b"".join(parts)


def encode_error(service: Service, code: str, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an error, as `aws_json.encode_error`."""
    headers, document = aws_json.error_document(service, code, message)
    return [(b"content-type", CONTENT_TYPE), *headers], encode_document(document)


# -- readers


def _compile(operation: Operation) -> Callable[[bytes], Any]:
    read = _structure({} if operation.input is None else operation.input.members)
    check = compile_check(operation)

    def run(body: bytes) -> Any:
        try:
            value, end = read(body, 0)
        except (IndexError, UnicodeDecodeError):
            raise WireError("SerializationException") from None
        if end != len(body) or value is None:
            raise WireError("SerializationException")
        if not check(value):
            raise refusal(operation, value)
        return value

    return run


def _reader(shape: Shape) -> Read:
    match shape:
        case Structure():
            return _structure(shape.members)
        case List():
            return _list(_reader(shape.member.shape))
        case Map():
            return _map(_reader(shape.value.shape))
        case Scalar(kind="string"):
            return _read_text
        case Scalar(kind="blob"):
            return _read_blob
        case Scalar(kind="timestamp"):
            return _timestamp
        case Scalar(kind="document"):  # DynamoDB's, which speaks no CBOR
            raise WireError("SerializationException")
        case Scalar():
            return _other(aws_json.SCALARS[shape.kind])


def _structure(members: Any) -> Read:
    find = {name.encode(): (name, _reader(member.shape)) for name, member in members.items()}.get

    def read(data: bytes, at: int) -> tuple[Any, int]:
        left, at = _open(data, at, 0xA0, "Expected null")
        if left is None:
            return None, at
        result: dict[str, Any] = {}
        while left:
            first = data[at]
            if 0x60 <= first < 0x78:
                end = at + first - 0x5F
                found = find(data[at + 1 : end])
            elif first == 0xFF and left < 0:
                return result, at + 1
            else:
                name, end = _read_key(data, at)
                found = find(name.encode())
            if found is None:
                at = _skip(data, end)
            else:
                name, reader = found
                value, at = reader(data, end)
                if value is not None:
                    result[name] = value
                elif name in result:
                    del result[name]
            left -= 1
        return result, at

    return read


def _list(reader: Read) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        left, at = _open(data, at, 0x80, "Expected list or null")
        if left is None:
            return None, at
        result: list[Any] = []
        while left:
            if data[at] == 0xFF and left < 0:
                return result, at + 1
            value, at = reader(data, at)
            result.append(value)
            left -= 1
        return result, at

    return read


def _map(reader: Read) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        left, at = _open(data, at, 0xA0, "Unexpected field type")
        if left is None:
            return None, at
        result: dict[str, Any] = {}
        while left:
            if data[at] == 0xFF and left < 0:
                return result, at + 1
            name, at = _read_key(data, at)
            value, at = reader(data, at)
            if value is not None:
                result[name] = value
            elif name in result:
                del result[name]
            left -= 1
        return result, at

    return read


def _open(data: bytes, at: int, of: int, otherwise: str) -> tuple[int | None, int]:
    """How many entries the list (0x80) or map (0xA0) has that begins here: -1 if a break will tell, None for null."""
    while True:
        first = data[at]
        if first == of + 31:
            return -1, at + 1
        if of <= first < of + 28:
            return _argument(data, at)
        if not 0xC0 <= first < 0xDC:
            break
        at = _argument(data, at)[1]  # a tag says nothing here
    value, at = _scalar(data, at)
    if value is None:
        return None, at
    raise aws_json.unexpected(value, otherwise)


def _argument(data: bytes, at: int) -> tuple[int, int]:
    """The number in the head that begins here, and where the head ends."""
    low = data[at] & 31
    if low < 24:
        return low, at + 1
    if low > 27:
        raise WireError("SerializationException")
    end = at + 1 + (1 << low - 24)
    return int.from_bytes(data[at + 1 : end], "big"), end


def _read_key(data: bytes, at: int) -> tuple[str, int]:
    value, at = _scalar(data, at)
    if type(value) is not str:
        raise WireError("SerializationException")
    return value, at


def _read_text(data: bytes, at: int) -> tuple[str | None, int]:
    first = data[at]
    if 0x60 <= first < 0x78:
        end = at + first - 0x5F
        return data[at + 1 : end].decode(), end
    if first == 0x78:
        end = at + 2 + data[at + 1]
        return data[at + 2 : end].decode(), end
    value, end = _scalar(data, at)
    return None if value is None else aws_json.SCALARS["string"](value), end


def _read_blob(data: bytes, at: int) -> tuple[bytes | None, int]:
    first = data[at]
    if first == 0x59:
        end = at + 3 + (data[at + 1] << 8 | data[at + 2])
        return data[at + 3 : end], end
    if first == 0x58:
        end = at + 2 + data[at + 1]
        return data[at + 2 : end], end
    value, end = _scalar(data, at)
    return value if value is None or type(value) is bytes else aws_json.SCALARS["blob"](value), end


def _timestamp(data: bytes, at: int) -> tuple[float | None, int]:
    value, end = _scalar(data, at)
    return None if value is None else aws_json.SCALARS["timestamp"](value) / 1000, end


def _other(convert: Callable[[Any], Any]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        value, end = _scalar(data, at)
        return None if value is None else convert(value), end

    return read


def _scalar(data: bytes, at: int) -> tuple[Any, int]:
    """Any value but lists and maps: of those it makes an empty one, to be refused."""
    while 0xC0 <= (first := data[at]) < 0xDC:
        at = _argument(data, at)[1]
    kind = first >> 5
    if kind < 2:
        number, end = _argument(data, at)
        return -1 - number if kind else number, end
    if kind < 4:
        raw, end = _string(data, at)
        return raw if kind == 2 else raw.decode(), end
    if kind < 6:
        return [] if kind == 4 else {}, at
    match first:
        case 0xF4 | 0xF5:
            return first == 0xF5, at + 1
        case 0xF6 | 0xF7:
            return None, at + 1
        case 0xF9 | 0xFA | 0xFB:
            form = (_HALF, _SINGLE, _DOUBLE)[first - 0xF9]
            end = at + 1 + form.size
            if end <= len(data) and isfinite(number := form.unpack_from(data, at + 1)[0]):
                return number, end
    raise WireError("SerializationException")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    first = data[at]
    if first & 31 != 31:
        size, at = _argument(data, at)
        return data[at : at + size], at + size
    pieces = []  # Jackson writes long texts so
    at += 1
    while data[at] != 0xFF:
        if data[at] >> 5 != first >> 5 or data[at] & 31 == 31:
            raise WireError("SerializationException")
        size, at = _argument(data, at)
        pieces.append(data[at : at + size])
        at += size
    return b"".join(pieces), at + 1


def _skip(data: bytes, at: int) -> int:
    """Where the value ends that begins here."""
    stack: list[int] = []  # how many items are still to come in what is open; below zero where a break will tell
    while True:
        first = data[at]
        kind = first >> 5
        if kind == 6:
            at = _argument(data, at)[1]
            if data[at] == 0xFF:
                raise WireError("SerializationException")
            continue
        if first == 0xFF:
            if not stack or stack.pop() not in (_ANY, _KEY):
                raise WireError("SerializationException")
            at += 1
        elif kind in (4, 5):
            if first & 31 == 31:
                count, at = (_ANY if kind == 4 else _KEY), at + 1
            else:
                count, at = _argument(data, at)
                count *= kind - 3
            if count:
                if len(stack) == _DEEPEST:
                    raise WireError("SerializationException")
                stack.append(count)
                continue
        else:
            at = _scalar(data, at)[1]
        while stack:  # an item is complete, and with it perhaps what it stands in
            left = stack[-1]
            if left != 1:
                stack[-1] = _NEXT.get(left, left - 1)
                break
            stack.pop()
        else:
            return at


# -- writers


@cache
def _writer(shape: Shape) -> Write:
    match shape:
        case Structure():
            return _write_structure(shape)
        case List():
            return _write_list(_writer(shape.member.shape))
        case Map():
            return _write_map(_writer(shape.value.shape))
        case Scalar():
            return _WRITERS[shape.kind]


def _write_structure(shape: Structure) -> Write:
    members = {}
    for name, member in shape.members.items():
        members[name] = (_head(3, len(name)) + name.encode(), _writer(member.shape))

    def write(value: dict[str, Any], out: Callable[[bytes], None]) -> None:
        out(_head(5, len(value)))
        for name, item in value.items():
            key, write_item = members[name]
            out(key)
            write_item(item, out)

    return write


def _write_list(write_item: Write) -> Write:
    def write(value: list[Any], out: Callable[[bytes], None]) -> None:
        out(_head(4, len(value)))
        for item in value:
            write_item(item, out)

    return write


def _write_map(write_item: Write) -> Write:
    def write(value: dict[str, Any], out: Callable[[bytes], None]) -> None:
        out(_head(5, len(value)))
        for key, item in value.items():
            _write_text(key, out)
            write_item(item, out)

    return write


def _make_head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes((kind << 5 | number,))
    for low, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes((kind << 5 | low,)) + number.to_bytes(size, "big")
    raise OverflowError(f"{number} has more than 64 bits")


_head = lru_cache(maxsize=4096)(_make_head)  # few sizes recur often


def _write_text(value: str, out: Callable[[bytes], None]) -> None:
    raw = value.encode()
    out(_head(3, len(raw)))
    out(raw)


def _write_blob(value: bytes, out: Callable[[bytes], None]) -> None:
    out(_head(2, len(value)))
    out(value)


def _write_integer(value: int, out: Callable[[bytes], None]) -> None:
    out(_make_head(0, value) if value >= 0 else _make_head(1, -1 - value))


def _write_number(value: float, out: Callable[[bytes], None]) -> None:
    out(b"\xfb" + _DOUBLE.pack(value))


def _write_boolean(value: bool, out: Callable[[bytes], None]) -> None:
    out(b"\xf5" if value else b"\xf4")


def _write_timestamp(value: float, out: Callable[[bytes], None]) -> None:
    ms = round(value * 1000)
    if 0xFFFFFFFF < ms <= 0x7FFFFFFFFFFFFFFF:  # since a February of 1970, and until long after us
        out(b"\xc1\x1b" + ms.to_bytes(8, "big"))
    else:
        out(b"\xc1")
        _write_integer(ms, out)


_WRITERS: dict[str, Write] = {
    "string": _write_text,
    "boolean": _write_boolean,
    "integer": _write_integer,
    "long": _write_integer,
    "float": _write_number,
    "double": _write_number,
    "timestamp": _write_timestamp,
    "blob": _write_blob,
}
