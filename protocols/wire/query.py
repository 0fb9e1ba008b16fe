"""AWS's query protocol (SQS's old one, SNS, STS): form parameters to an operation's input, its output to XML.

A decoded input is the same as the JSON decoder's, under the model's member names. The parameters become a tree, cut at
their dots, and the shapes are read off it. What clients have got wrong for years, and AWS lets pass, passes here too:
`AttributeName=All` for a list of one, `Attribute.Name=` for a map of one, `AttributeName.member.1` where the list is
flattened, and the other way round.

XML has no way to write most control characters; they come out as U+FFFD. SQS refuses them in messages anyway.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from pybase64 import b64encode_as_string

from protocols.shapes.constraints import compile_check
from protocols.shapes.model import List, Map, Member, Operation, Scalar, Service, Shape, Structure
from protocols.wire.aws_json import decode_blob
from protocols.wire.errors import WireError, find_error, refusal

MAX_PARAMETERS = 10_000  # ours; a full batch of SQS with ten attributes a message has some 500
MAX_DEPTH = 16  # ours; the deepest of AWS here is 6
MAX_INDEX_DIGITS = 6  # ours

Node = dict[str, Any]  # name -> Node; "" -> the parameter's own value
Read = Callable[[Node], Any]
Write = Callable[[Any, list[str]], None]


def parse_form(form: bytes) -> dict[str, str]:
    """The parameters of a form body or a query string; of one given twice, the first. Raises WireError."""
    parameters: dict[str, str] = {}
    if form.count(b"&") >= MAX_PARAMETERS:
        raise WireError("MalformedInput", f"More than {MAX_PARAMETERS} parameters")
    try:
        for pair in form.split(b"&"):
            if pair:
                name, _, value = pair.partition(b"=")
                parameters.setdefault(_unquote(name), _unquote(value))
    except UnicodeDecodeError:
        raise WireError("MalformedInput", "The query string is not valid UTF-8") from None
    return parameters


def _unquote(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")


def decode(operation: Operation, parameters: dict[str, str]) -> dict[str, Any]:
    """The input of an operation. Parameters it does not have (Action, Version, signatures) are ignored.

    Raises WireError for whatever AWS would refuse before it looks at the meaning.
    """
    read = operation.read_query
    if read is None:
        read = operation.read_query = _compile(operation)
    result: dict[str, Any] = read(_tree(parameters))
    return result


def encode(operation: Operation, result: dict[str, Any], request_id: str) -> bytes:
    """The answer as XML. `result` is as for JSON: no None in it, blobs are bytes, timestamps seconds."""
    service, name = operation.service, operation.name
    out = [_prologue(service), f'<{name}Response xmlns="{service.xml_namespace}">']
    if operation.output is not None:
        write = operation.write_xml
        if write is None:
            write = operation.write_xml = _element(name + "Result", _writer(operation.output))
        write(result, out)
    out.append(f"<ResponseMetadata><RequestId>{_escape(request_id)}</RequestId></ResponseMetadata></{name}Response>")
    return "".join(out).encode()


def encode_error(service: Service, code: str, message: str, request_id: str, sender_fault: bool | None = None) -> bytes:
    """An error as XML. `code` is an error of the service's model or a query code; status: `find_error(...).status`."""
    error = find_error(service, code)
    fault = error.sender_fault if sender_fault is None else sender_fault
    detail = "<Detail/>" if service.front_end == "sqs" else ""
    text = (
        f'{_prologue(service)}<ErrorResponse xmlns="{service.xml_namespace}">'
        f"<Error><Type>{'Sender' if fault else 'Receiver'}</Type><Code>{_escape(error.query_code)}</Code>"
        f"<Message>{_escape(message)}</Message>{detail}</Error>"
        f"<RequestId>{_escape(request_id)}</RequestId></ErrorResponse>"
    )
    return text.encode()


def encode_as_json(operation: Operation, result: dict[str, Any], request_id: str) -> bytes:
    """The answer to a query request with `Accept: application/json`: keys sorted, null for what is absent.

    Seen through API Gateway's integrations: {"SendMessageResponse":{"ResponseMetadata":{"RequestId":"..."},
    "SendMessageResult":{"MD5OfMessageAttributes":null,...}}}, {"ReceiveMessageResult":{"messages":null}}.
    """
    answer: dict[str, Any] = {"ResponseMetadata": {"RequestId": request_id}}
    if operation.output is not None:
        sqs = operation.service.front_end == "sqs"
        answer[f"{operation.name}Result"] = _with_nulls(operation.output, result, sqs)
    document = {f"{operation.name}Response": answer}
    return orjson.dumps(document, default=b64encode_as_string, option=orjson.OPT_SORT_KEYS)


def encode_error_as_json(
    service: Service, code: str, message: str, request_id: str, sender_fault: bool | None = None
) -> bytes:
    """{"Error":{"Code":"AccessDenied","Message":"...","Type":"Sender"},"RequestId":"..."}"""
    error = find_error(service, code)
    fault = error.sender_fault if sender_fault is None else sender_fault
    said = {"Code": error.query_code, "Message": message, "Type": "Sender" if fault else "Receiver"}
    return orjson.dumps({"Error": said, "RequestId": request_id})


# -- reading


def _tree(parameters: dict[str, str]) -> Node:
    root: Node = {}
    for name, value in parameters.items():
        steps = name.split(".", MAX_DEPTH)
        if len(steps) <= MAX_DEPTH and "" not in steps:
            node = root
            for step in steps:
                node = node.setdefault(step, {})
            node[""] = value
    return root


def _compile(operation: Operation) -> Read:
    if operation.input is None:
        return lambda node: {}
    read = _structure(operation.input)
    check = compile_check(operation)

    def run(node: Node) -> Any:
        value = read(node)
        if not check(value):
            raise refusal(operation, value)
        return value

    return run


def _reader(member: Member) -> Read:
    match member.shape:
        case Structure():
            return _structure(member.shape)
        case List():
            return _list(member.shape)
        case Map():
            return _map(member.shape)
        case Scalar():
            return _SCALARS[member.shape.kind]


def _structure(shape: Structure) -> Read:
    members = [(member, _reader(member)) for member in shape.members.values()]

    def read(node: Node) -> dict[str, Any]:
        result = {}
        for member, reader in members:
            child = node.get(member.query_name)
            if child is None and member.alias:
                child = node.get(member.alias)
            if child is not None:
                value = reader(child)
                if value is not None:
                    result[member.name] = value
        return result

    return read


def _numbered(node: Node, *wrappers: str) -> Iterator[Node]:
    """The children 1, 2, ... of a node, or of the one child that wraps them; in order, with gaps closed up."""
    for wrapper in wrappers:
        if wrapper in node:
            node = node[wrapper]
            break
    numbers = [step for step in node if step.isascii() and step.isdigit()]
    if numbers and len(max(numbers, key=len)) > MAX_INDEX_DIGITS:
        raise WireError("MalformedInput", f"{max(numbers, key=len)} is not a valid index")
    return (node[step] for step in sorted(numbers, key=int))


def _list(shape: List) -> Read:
    member = shape.member
    reader = _reader(member)
    wrappers = ("member", member.query_name)

    def read(node: Node) -> list[Any]:
        items = list(_numbered(node, *wrappers))
        if not items:
            # One without a number. With no value and nothing below it, it is how AWS's SDKs write an empty list; SQS
            # (whose lists are flattened) takes it for an entry that lacks everything where it wants entries.
            wants_entries = isinstance(member.shape, Structure) and member.query_name != "member"
            items = [node] if wants_entries or node != {"": ""} else []
        return [reader(item) for item in items]

    return read


def _map(shape: Map) -> Read:
    key_name, value_name = shape.key.query_name, shape.value.query_name
    reader = _reader(shape.value)
    absent: Any = "" if isinstance(shape.value.shape, Scalar) else {}

    def read(node: Node) -> dict[str, Any]:
        items = list(_numbered(node, "entry"))
        if not items and (key_name in node or value_name in node):
            items = [node]
        result = {}
        for item in items:
            # Without a name it is for the service to complain ("... non-empty message attribute name").
            key = item.get(key_name, {}).get("", "")
            value = reader(item[value_name]) if value_name in item else None
            result[key] = absent if value is None else value
        return result

    return read


def _scalar(convert: Callable[[str], Any], to: str) -> Read:
    def read(node: Node) -> Any:
        text = node.get("")
        if not text:
            return None
        try:
            return convert(text)
        except (LookupError, ValueError, OverflowError):
            raise WireError("MalformedInput", f"STRING_VALUE can not be converted to {to}") from None

    return read


def _integer(bits: int) -> Callable[[str], int]:
    limit = 1 << bits - 1

    def convert(text: str) -> int:
        value = int(text) if re.fullmatch("[+-]?[0-9]{1,19}", text) else limit
        if not -limit <= value < limit:
            raise ValueError
        return value

    return convert


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _timestamp(text: str) -> float:
    try:
        return _float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


_SCALARS: dict[str, Read] = {
    "string": lambda node: node.get(""),
    "boolean": _scalar(lambda text: {"true": True, "false": False}[text.lower()], "a Boolean"),
    "integer": _scalar(_integer(32), "an Integer"),
    "long": _scalar(_integer(64), "a Long"),
    "float": _scalar(_float, "a Float"),
    "double": _scalar(_float, "a Double"),
    "timestamp": _scalar(_timestamp, "milliseconds since epoch"),
    "blob": lambda node: decode_blob(node[""], "MalformedInput") if "" in node else None,
}


# -- writing


_UNWRITABLE = re.compile("[\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _escape(text: str) -> str:
    """Text for an element. A bare CR would come out of an XML parser as a LF."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    if text.isprintable():
        return text
    return _UNWRITABLE.sub(lambda found: "&#xD;" if found[0] == "\r" else "\ufffd", text)


def _prologue(service: Service) -> str:
    return '<?xml version="1.0"?>' if service.front_end == "sqs" else ""


def _element(tag: str, content: Write) -> Write:
    opening, closing, empty = f"<{tag}>", f"</{tag}>", f"<{tag}/>"

    def write(value: Any, out: list[str]) -> None:
        start = len(out)
        out.append(opening)
        content(value, out)
        if len(out) == start + 1:
            out[start] = empty
        else:
            out.append(closing)

    return write


def _writer(shape: Shape) -> Write:
    """Writes what stands inside an element."""
    match shape:
        case Structure():
            return _structure_writer(shape)
        case List():
            return _each(_element(shape.member.query_name, _writer(shape.member.shape)))
        case Map():
            return _entries("entry", shape)
        case Scalar():
            text = _TEXTS.get(shape.kind, str)
            return lambda value, out: out.append(written) if (written := text(value)) else None


def _structure_writer(shape: Structure) -> Write:
    members = [(name, _member_writer(member)) for name, member in shape.members.items()]

    def write(value: dict[str, Any], out: list[str]) -> None:
        for name, write_member in members:
            if name in value:
                write_member(value[name], out)

    return write


def _member_writer(member: Member) -> Write:
    shape, tag = member.shape, member.query_name
    if member.flattened and isinstance(shape, List):
        return _each(_element(tag, _writer(shape.member.shape)))
    if member.flattened and isinstance(shape, Map):
        return _entries(tag, shape)
    return _element(tag, _writer(shape))


def _each(element: Write) -> Write:
    def write(value: list[Any], out: list[str]) -> None:
        for item in value:
            element(item, out)

    return write


def _entries(tag: str, shape: Map) -> Write:
    write_key = _element(shape.key.query_name, _writer(shape.key.shape))
    write_value = _element(shape.value.query_name, _writer(shape.value.shape))

    def write(value: dict[str, Any], out: list[str]) -> None:
        for key, item in value.items():
            out.append(f"<{tag}>")
            write_key(key, out)
            write_value(item, out)
            out.append(f"</{tag}>")

    return write


def _iso_time(seconds: float) -> str:
    s, ms = divmod(round(seconds * 1000), 1000)
    text = datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{ms:03d}Z" if ms else f"{text}Z"


_TEXTS: dict[str, Callable[[Any], str]] = {
    "string": _escape,
    "boolean": lambda value: "true" if value else "false",
    "blob": b64encode_as_string,
    "timestamp": _iso_time,
}

# As SQS calls them in this form; the other names are the model's, as far as could be seen.
_SQS_JSON_NAMES = {"Messages": "messages", "QueueUrls": "queueUrls"}


def _with_nulls(shape: Shape, value: Any, sqs: bool) -> Any:
    if value is None:
        return None
    match shape:
        case Structure():
            return {
                (_SQS_JSON_NAMES.get(name, name) if sqs else name): _with_nulls(member.shape, value.get(name), sqs)
                for name, member in shape.members.items()
            }
        case List():
            return [_with_nulls(shape.member.shape, item, sqs) for item in value]
        case Map():
            items = {key: _with_nulls(shape.value.shape, item, sqs) for key, item in value.items()}
            if not sqs:
                return items
            key_name, value_name = shape.key.query_name, shape.value.query_name
            return [{key_name: key, value_name: item} for key, item in items.items()]
    return value
