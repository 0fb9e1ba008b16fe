"""AWS's JSON protocols, 1.0 (SQS) and 1.1 (EventBridge, Kinesis): bytes to an operation's input, its output to bytes.

In a decoded input blobs are bytes, timestamps are seconds since the epoch; unknown and null members are gone; a null
in a list stays until the check refuses it. A twice given key counts once, the last time, as in AWS's own parser.

Each operation's reader is compiled from its shapes into closures when it is first used. It works in place on what
orjson made and touches only what is not already right, which on the hot path is nearly nothing. Outputs go to orjson
as they are: it calls back for blobs alone, and straight to what is written in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import orjson
from pybase64 import b64decode, b64encode_as_string

from protocols.shapes.constraints import compile_check
from protocols.shapes.model import List, Map, Operation, Scalar, Service, Shape, Structure
from protocols.wire.errors import COMMON_ERRORS, WireError, find_error, refusal

Read = Callable[[Any], Any]


def decode(operation: Operation, body: bytes) -> dict[str, Any]:
    """The input of an operation. Raises WireError for whatever AWS would refuse before it looks at the meaning."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise WireError("SerializationException") from None
    read = operation.read_json
    if read is None:
        read = operation.read_json = _compile(operation)
    result: dict[str, Any] = read(value)
    return result


def encode(operation: Operation, result: dict[str, Any]) -> bytes:
    """The body of an answer. `result` has the members of the output shape, none of them None; blobs are bytes,
    timestamps seconds. An operation without an output has an empty body, as at AWS."""
    if operation.output is None:
        return b""
    return encode_document(result)


def encode_document(document: dict[str, Any]) -> bytes:
    """A document that no operation's output is: an event, an error."""
    return orjson.dumps(document, default=b64encode_as_string)


@cache
def content_type(service: Service) -> bytes:
    return f"application/x-amz-json-{service.json_version}".encode()


def encode_error(
    service: Service,
    code: str,
    message: str,
    *,
    namespace: str | None = None,
    query_code: str | None = None,
    sender_fault: bool | None = None,
    members: Mapping[str, object] | None = None,
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an error. `code` is an error of the service's model or a common one (`COMMON_ERRORS`);
    the rest follows from it unless given. An empty message is left out. Its status is `find_error(...).status`.
    `members` are what the model's error has beside its message.
    """
    headers, document = error_document(
        service, code, message, namespace=namespace, query_code=query_code, sender_fault=sender_fault
    )
    return [(b"content-type", content_type(service)), *headers], encode_document({**document, **(members or {})})


def error_document(
    service: Service,
    code: str,
    message: str,
    *,
    namespace: str | None = None,
    query_code: str | None = None,
    sender_fault: bool | None = None,
) -> tuple[list[tuple[bytes, bytes]], dict[str, str]]:
    """What `encode_error` says, before it is written down; the headers without the type of the content.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-api-responses.html
    """
    error = find_error(service, code)
    if namespace is None and service.query_compatible:
        namespace = f"com.amazonaws.{service.name}" if code in service.errors else "com.amazon.coral.service"
    document = {"__type": f"{namespace}#{error.name}" if namespace else error.name}
    if message:
        # The front end's own errors have a capital (seen at SQS, Kinesis and DynamoDB), the services' have none.
        document["Message" if error.name in _CAPITAL_MESSAGE else "message"] = message
    headers = []
    if service.query_compatible:
        fault = error.sender_fault if sender_fault is None else sender_fault
        value = f"{query_code or error.query_code};{'Sender' if fault else 'Receiver'}"
        headers.append((b"x-amzn-query-error", value.encode()))
    return headers, document


_CAPITAL_MESSAGE = frozenset({"SerializationException", COMMON_ERRORS["AccessDenied"][0]})


# -- readers


def _compile(operation: Operation) -> Read:
    if operation.input is None:
        return lambda value: {}
    read = _structure(operation.input)
    check = compile_check(operation)

    def run(value: Any) -> Any:
        if type(value) is not dict and type(value) is not list:
            raise WireError("SerializationException")
        value = read(value)
        if not check(value):
            raise refusal(operation, value)
        return value

    return run


def _reader(shape: Shape) -> Read:
    match shape:
        case Structure():
            return _structure(shape)
        case List():
            return _list(shape)
        case Map():
            return _map(shape)
        case Scalar():
            return SCALARS[shape.kind]


_UNCHANGED: dict[str, type] = {"string": str, "boolean": bool}


def _unchanged(shape: Shape) -> type | None:
    """The type that needs no reading, if there is one."""
    return _UNCHANGED.get(shape.kind) if isinstance(shape, Scalar) else None


def _structure(shape: Structure) -> Read:
    right = {name: kind for name, member in shape.members.items() if (kind := _unchanged(member.shape))}.get
    readers = {name: _reader(member.shape) for name, member in shape.members.items()}.get

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise unexpected(value, "Expected null")
        ignored = []
        for name, item in value.items():
            if type(item) is right(name):
                continue
            reader = readers(name)
            if reader is None or item is None:
                ignored.append(name)
            else:
                value[name] = reader(item)
        for name in ignored:
            del value[name]
        return value

    return read


def _list(shape: List) -> Read:
    right = _unchanged(shape.member.shape)
    reader = _reader(shape.member.shape)

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise unexpected(value, "Expected list or null")
        for i, item in enumerate(value):
            if type(item) is not right and item is not None:
                value[i] = reader(item)
        return value

    return read


def _map(shape: Map) -> Read:
    right = _unchanged(shape.value.shape)
    reader = _reader(shape.value.shape)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise unexpected(value, "Unexpected field type")
        ignored = []
        for name, item in value.items():
            if item is None:
                ignored.append(name)
            elif type(item) is not right:
                value[name] = reader(item)
        for name in ignored:
            del value[name]
        return value

    return read


def unexpected(value: Any, otherwise: str) -> WireError:
    """AWS's sentence for a value that stands where it may not; `otherwise` is the one for scalars."""
    if type(value) is list:
        otherwise = "Start of list found where not expected"
    elif type(value) is dict:
        otherwise = "Start of structure or map found where not expected."
    return WireError("SerializationException", otherwise)


_TOKENS: dict[type, str] = {str: "STRING_VALUE", bytes: "EMBEDDED_OBJECT_VALUE"}  # the latter in CBOR alone


def _not_convertible(value: Any, to: str) -> WireError:
    if type(value) is bool:
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        token = _TOKENS.get(type(value), "NUMBER_VALUE")
    return unexpected(value, f"{token} can not be converted to {to}")


def _string(value: Any) -> Any:
    if type(value) is not str:
        raise _not_convertible(value, "a String")
    return value


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise _not_convertible(value, "a Boolean")
    return value


def _integer(bits: int, kind: str, article: str) -> Read:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def read(value: Any) -> Any:
        if type(value) is float:  # 1.5 is 1, as Jackson has it; orjson makes floats of integers beyond 64 bits, too
            value = int(value)
        if type(value) is not int:
            raise _not_convertible(value, f"{article} {kind}")
        if not low <= value <= high:
            name = "int" if bits == 32 else "long"
            range_ = f"Numeric value ({value}) out of range of {name} ({low} - {high})"
            raise WireError("SerializationException", range_)
        return value

    return read


def _number(to: str) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not int and type(value) is not float:
            raise _not_convertible(value, to)
        return value

    return read


def _blob(value: Any) -> Any:
    if type(value) is not str:
        raise _not_convertible(value, "a Blob")
    return decode_blob(value, "SerializationException")


def decode_blob(text: str, code: str) -> bytes:
    """Base64 of either protocol. Raises WireError with this code."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        reason = "Invalid Base64 content"
        if len(text) % 4:
            reason = f"Base64 encoded length is expected a multiple of 4 bytes but found: {len(text)}"
        raise WireError(code, f"'{text}' can not be converted to a Blob: {reason}") from None


SCALARS: dict[str, Read] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer(32, "Integer", "an"),
    "long": _integer(64, "Long", "a"),
    "float": _number("a Float"),
    "double": _number("a Double"),
    "timestamp": _number("milliseconds since epoch"),
    "blob": _blob,
    "document": lambda value: value,
}
