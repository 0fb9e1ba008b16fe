"""AWS's CBOR protocol against the RFC's own examples, against what the SDK for Java sends, against every way in which
CBOR can say the same, and against anything at all."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from botocore.parsers import RpcV2CBORParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_shapes_values import few, operation, operations, values

from protocols.shapes.constraints import violations
from protocols.shapes.model import List, Map, Member, Operation, Scalar, Shape, Structure, load
from protocols.wire import aws_json, cbor
from protocols.wire.errors import WireError

KINESIS = load("kinesis")


def op(**members: Shape) -> Operation:
    """An operation that takes and gives a structure of these members."""
    shape = Structure("S", {}, {name: Member(name, shape, {}, {}) for name, shape in members.items()})
    return Operation(KINESIS, "Test", shape, shape, ())


def scalar(kind: str) -> Scalar:
    return Scalar(kind.title(), {"type": kind})


def list_of(shape: Shape) -> List:
    return List("L", {}, Member("member", shape, {}, {}))


def map_of(shape: Shape) -> Map:
    return Map("M", {}, Member("key", scalar("string"), {}, {}), Member("value", shape, {}, {}))


def decode(operation: Operation, text: str) -> Any:
    return cbor.decode(operation, bytes.fromhex(text))


# -- RFC 8949, appendix A

INTEGERS = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
]
TEXTS = [
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("ü", "62c3bc"),
    ("水", "63e6b0b4"),
    ("𐅑", "64f0908591"),
]
BLOBS = [(b"", "40"), (b"\1\2\3\4", "4401020304")]
FLOATS = [(1.1, "fb3ff199999999999a"), (1.0e300, "fb7e37e43c8800759c"), (-4.1, "fbc010666666666666")]
READ_ONLY_FLOATS = [
    (0.0, "f90000"),
    (1.0, "f93c00"),
    (1.5, "f93e00"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    (3.4028234663852886e38, "fa7f7fffff"),
    (5.960464477539063e-8, "f90001"),
    (-4.0, "f9c400"),
]
BOTH_WAYS = [
    *(("long", *pair) for pair in INTEGERS),
    *(("string", *pair) for pair in TEXTS),
    *(("blob", *pair) for pair in BLOBS),
    *(("double", *pair) for pair in FLOATS),
    ("boolean", False, "f4"),
    ("boolean", True, "f5"),
]


@pytest.mark.parametrize(("kind", "value", "text"), BOTH_WAYS)
def test_scalars_of_the_rfc(kind: str, value: Any, text: str) -> None:
    operation = op(x=scalar(kind))
    assert decode(operation, f"a16178{text}") == {"x": value}
    assert cbor.encode(operation, {"x": value}).hex() == f"a16178{text}"


@pytest.mark.parametrize(("value", "text"), READ_ONLY_FLOATS)
def test_short_floats_of_the_rfc(value: float, text: str) -> None:
    assert decode(op(x=scalar("double")), f"a16178{text}") == {"x": value}


@pytest.mark.parametrize("text", ["f6", "f7"])
def test_null_and_undefined_are_nothing(text: str) -> None:
    members = {"a": scalar("string"), "b": list_of(scalar("string")), "c": map_of(scalar("long")), "d": scalar("blob")}
    for name in members:
        assert decode(op(**members), f"a161{name.encode().hex()}{text}") == {}
    assert decode(op(a=scalar("string")), f"bf6161626f6b6161{text}ff") == {}, "the last one counts"


@pytest.mark.parametrize(
    ("shape", "value", "definite", "others"),
    [
        (list_of(scalar("long")), [], "80", ["9fff"]),
        (list_of(scalar("long")), [1, 2, 3], "83010203", ["9f010203ff"]),
        (
            list_of(scalar("long")),
            list(range(1, 26)),
            "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
            ["9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff"],
        ),
        (
            list_of(list_of(scalar("long"))),
            [[1], [2, 3], [4, 5]],
            "8381018202038204 05",
            ["9f8101820203 9f0405ffff", "9f8101820203820405ff", "8381018202039f0405ff", "83 81 01 9f0203ff820405"],
        ),
        (map_of(scalar("string")), {}, "a0", ["bfff"]),
        (
            map_of(scalar("string")),
            {"a": "A", "b": "B", "c": "C"},
            "a3616161416162614261636143",
            ["bf616161416162614261636143ff"],
        ),
        (scalar("blob"), b"\1\2\3\4\5", "450102030405", ["5f42010243030405ff", "580501 02030405"]),
        (scalar("string"), "streaming", "6973747265616d696e67", ["7f657374726561646d696e67ff"]),
    ],
)
def test_containers_of_the_rfc(shape: Shape, value: Any, definite: str, others: list[str]) -> None:
    operation = op(x=shape)
    assert cbor.encode(operation, {"x": value}) == bytes.fromhex("a16178" + definite)
    for text in (definite, *others):
        assert decode(operation, "a16178" + text) == {"x": value}
        assert decode(operation, "bf6178" + text + "ff") == {"x": value}
        assert decode(operation, "bf6179" + text + "6178" + text + "ff") == {"x": value}, "an unknown member is skipped"


def test_a_timestamp_is_milliseconds_whatever_the_tag() -> None:
    operation = op(t=scalar("timestamp"))
    text = "a16174c11b0000018bcfe5687b"
    assert decode(operation, text) == {"t": 1700000000.123}
    assert decode(operation, "a161741b0000018bcfe5687b") == {"t": 1700000000.123}
    assert decode(operation, "a16174c1fb4278bcfe5687b000") == {"t": 1700000000.123}
    assert cbor.encode(operation, {"t": 1700000000.123}).hex() == text
    assert cbor.encode(operation, {"t": 1700000000}).hex() == "a16174c11b0000018bcfe56800"
    assert cbor.encode(operation, {"t": 0}).hex() == "a16174c100"
    assert cbor.encode(operation, {"t": -1}).hex() == "a16174c13903e7"
    assert cbor.encode(operation, {"t": 4294967.296}).hex() == "a16174c11b0000000100000000"
    for ms in (1, 999, 1700000000001, 1700000000999, 4102444799999):
        assert decode(operation, cbor.encode(operation, {"t": ms / 1000}).hex()) == {"t": ms / 1000}


# -- what the SDK for Java v2 (2.31.0) sends; it reads what `test_what_goes_to_java` has


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        (
            "PutRecords",
            "bf675265636f7264739fbf64446174614568656c6c6f6c506172746974696f6e4b65796161ffbf64446174614300ff016f4578706c"
            "69636974486173684b657961306c506172746974696f6e4b657962c3bcffff6a53747265616d4e616d656173ff",
            {
                "Records": [
                    {"Data": b"hello", "PartitionKey": "a"},
                    {"Data": b"\x00\xff\x01", "ExplicitHashKey": "0", "PartitionKey": "ü"},
                ],
                "StreamName": "s",
            },
        ),
        (
            "GetShardIterator",
            "bf6a53747265616d4e616d656173675368617264496474736861726449642d3030303030303030303030307153686172644974657261"
            "746f72547970656c41545f54494d455354414d506954696d657374616d70c11b0000018bcfe5687bff",
            {
                "StreamName": "s",
                "ShardId": "shardId-000000000000",
                "ShardIteratorType": "AT_TIMESTAMP",
                "Timestamp": 1700000000.123,
            },
        ),
        ("GetRecords", "bf6d53686172644974657261746f726178654c696d69740aff", {"ShardIterator": "x", "Limit": 10}),
        ("DescribeLimits", "bfff", {}),
    ],
)
def test_what_comes_from_java(name: str, text: str, value: dict[str, Any]) -> None:
    assert decode(operation("kinesis", name), text) == value


def test_java_writes_long_texts_in_pieces() -> None:
    pieces = b"".join(b"\x79" + struct.pack(">H", len(p)) + p for p in (b"y" * 3996, b"y" * 1004))
    body = b"\xbf\x69NextToken\x7f" + pieces + b"\xff\xff"
    assert cbor.decode(operation("kinesis", "ListShards"), body) == {"NextToken": "y" * 5000}


def test_what_goes_to_java() -> None:
    result = {
        "Records": [
            {
                "SequenceNumber": "12",
                "ApproximateArrivalTimestamp": 1700000000.123,
                "Data": b"\0\1\2",
                "PartitionKey": "ü",
            }
        ],
        "MillisBehindLatest": 5000000000,
        "NextShardIterator": "n",
        "ChildShards": [],
    }
    assert cbor.encode(operation("kinesis", "GetRecords"), result) == (
        b"\xa4\x67Records\x81\xa4\x6eSequenceNumber\x6212\x78\x1bApproximateArrivalTimestamp\xc1\x1b\0\0\1\x8b\xcf\xe5"
        b"\x68\x7b\x64Data\x43\0\1\2\x6cPartitionKey\x62\xc3\xbc\x72MillisBehindLatest\x1b\0\0\0\1\x2a\x05\xf2\0"
        b"\x71NextShardIterator\x61n\x6bChildShards\x80"
    )
    assert cbor.encode(operation("kinesis", "DeleteStream"), {}) == b"", "without an output, no body"
    assert cbor.encode_error(KINESIS, "ResourceNotFoundException", "Stream x not found.") == (
        [(b"content-type", b"application/x-amz-cbor-1.1")],
        b"\xa2\x66__type\x78\x19ResourceNotFoundException\x67message\x73Stream x not found.",
    )
    assert cbor.encode_error(KINESIS, "SerializationException", "") == (
        [(b"content-type", b"application/x-amz-cbor-1.1")],
        b"\xa1\x66__type\x76SerializationException",
    )


# -- every way to say the same


def head(kind: int, number: int, draw: st.DrawFn) -> bytes:
    widths = [(low, size) for low, size in ((24, 1), (25, 2), (26, 4), (27, 8)) if number < 1 << 8 * size]
    choice = draw(st.sampled_from([(number, 0), *widths] if number < 24 else widths))
    return bytes([kind << 5 | choice[0]]) + (number.to_bytes(choice[1], "big") if choice[1] else b"")


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> bytes:
    """The value in some correct CBOR, indefinite and wide heads and idle tags included."""
    tag = head(6, draw(st.sampled_from([0, 1, 32, 55799])), draw) if draw(st.integers(0, 9)) == 0 else b""
    match value:
        case None:
            return tag + draw(st.sampled_from([b"\xf6", b"\xf7"]))
        case bool():
            return tag + (b"\xf5" if value else b"\xf4")
        case int():
            return tag + (head(0, value, draw) if value >= 0 else head(1, -1 - value, draw))
        case float():
            return tag + b"\xfb" + struct.pack(">d", value)
        case str() | bytes():
            kind = 3 if isinstance(value, str) else 2
            if draw(st.booleans()):
                raw = value if isinstance(value, bytes) else value.encode()
                return tag + head(kind, len(raw), draw) + raw
            cut = draw(st.integers(0, len(value)))
            pieces = [p if isinstance(p, bytes) else p.encode() for p in (value[:cut], value[cut:])]
            return tag + bytes([kind << 5 | 31]) + b"".join(head(kind, len(p), draw) + p for p in pieces) + b"\xff"
        case list():
            items = b"".join(draw(spelled(item)) for item in value)
            return tag + (b"\x9f" + items + b"\xff" if draw(st.booleans()) else head(4, len(value), draw) + items)
        case dict():
            items = b"".join(draw(spelled(k)) + draw(spelled(v)) for k, v in value.items())
            return tag + (b"\xbf" + items + b"\xff" if draw(st.booleans()) else head(5, len(value), draw) + items)
    raise TypeError(value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner),
    max_leaves=10,
)


def in_ms(shape: Shape, value: Any) -> Any:
    """What goes on the wire: the same with its timestamps in milliseconds."""
    match shape:
        case Structure():
            return {n: in_ms(shape.members[n].shape, v) for n, v in value.items()}
        case List():
            return [in_ms(shape.member.shape, v) for v in value]
        case Map():
            return {k: in_ms(shape.value.shape, v) for k, v in value.items()}
        case Scalar(kind="timestamp"):
            return value * 1000
    return value


@operations("kinesis")
@few
@given(data=st.data())
def test_inputs_however_they_are_written(service: str, name: str, data: st.DataObject) -> None:
    shape = operation(service, name)
    assert shape.input is not None
    value = data.draw(values(shape.input))
    document = in_ms(shape.input, value) | {"Unknown": data.draw(ANYTHING)}
    body = data.draw(spelled(document))
    if violations(shape, value):
        with pytest.raises(WireError) as refused:
            cbor.decode(shape, body)
        with pytest.raises(WireError) as refused_in_json:
            aws_json.decode(shape, aws_json.encode_document(value))
        assert refused.value.args == refused_in_json.value.args
    else:
        assert cbor.decode(shape, body) == value


@operations("kinesis")
@few
@given(data=st.data())
def test_outputs_as_botocore_reads_cbor(service: str, name: str, data: st.DataObject) -> None:
    shape = operation(service, name)
    if shape.output is None or "EventStream" in shape.output.members:
        return
    value = data.draw(values(shape.output))
    parser = RpcV2CBORParser(timestamp_parser=lambda ms: ms)
    read = parser.parse_data_item(parser.get_peekable_stream_from_bytes(cbor.encode(shape, value)))
    assert read == in_ms(shape.output, value)


# -- anything

STRICT = op(
    text=scalar("string"),
    number=scalar("integer"),
    real=scalar("double"),
    blob=scalar("blob"),
    time=scalar("timestamp"),
    flag=scalar("boolean"),
    list=list_of(scalar("string")),
    map=map_of(scalar("blob")),
    inner=Structure("Inner", {}, {"text": Member("text", scalar("string"), {}, {})}),
)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\xbf" + rest))
@example(b"\xa1\x9b\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff")
def test_anything_is_read_or_refused(body: bytes) -> None:
    for shape in (STRICT, op(), op(a=list_of(list_of(scalar("long"))))):
        with contextlib.suppress(WireError):
            assert isinstance(cbor.decode(shape, body), dict)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_torn_or_has_more_behind_it_is_refused(data: st.DataObject) -> None:
    body = data.draw(spelled({"text": "abc", "list": ["a", "bc"], "unknown": data.draw(ANYTHING), "number": 1000}))
    assert cbor.decode(STRICT, body) == {"text": "abc", "list": ["a", "bc"], "number": 1000}
    for wrong in (body[: data.draw(st.integers(0, len(body) - 1))], body + b"\xf6"):
        with pytest.raises(WireError) as refused:
            cbor.decode(STRICT, wrong)
        assert refused.value.args == ("SerializationException", "", 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xf6",
        b"\xa1\x01\x01",  # a key that is no text
        b"\xa1\x64text\x62\xff\xff",  # no UTF-8
        b"\xa1\x64text\x7f\x41a\xff",  # a text in pieces of blobs
        b"\xa1\x64text\x7f\x7f\x61a\xff\xff",  # pieces of pieces
        b"\xa1\x66number\x1c",  # a head there is not
        b"\xa1\x64real\xfb\x7f\xf0\0\0\0\0\0\0",  # infinity
        b"\xa1\x64time\xf9\x7e\0",  # not a number
        b"\xa1\x64text\xf8\x20",  # simple values nobody knows
        b"\xa1\x61x\xff",
        b"\xa1\x61x\xc1\xff",
        b"\xa1\x61x\xbf\x61y\xff",  # a key without a value
        b"\xa1\x61x" + b"\x81" * 1001 + b"\x00",
        b"\xa1\x61x" + b"\x9f" * 100_000,
        b"\xa1\x61x" + b"\xc1" * 100_000,
        b"\xa1\x64text" + b"\xc1" * 100_000,
        b"\xa1\x64list\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x61x\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x64blob\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(WireError) as refused:
        cbor.decode(STRICT, body)
    assert refused.value.args == ("SerializationException", "", 400)


def test_what_no_shape_knows_may_be_deep() -> None:
    assert cbor.decode(STRICT, b"\xa1\x61x" + b"\x81" * 1000 + b"\x00") == {}
    assert cbor.decode(STRICT, b"\xa1\x61x" + b"\xbf\x61y" * 1000 + b"\x00" + b"\xff" * 1000) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xa1\x64text\x01", "NUMBER_VALUE can not be converted to a String"),
        (b"\x80", "Start of list found where not expected"),
        (b"\x61a", "Expected null"),
        (b"\xa1\x64text\x41a", "EMBEDDED_OBJECT_VALUE can not be converted to a String"),
        (b"\xa1\x64text\x80", "Start of list found where not expected"),
        (b"\xa1\x66number\x61a", "STRING_VALUE can not be converted to an Integer"),
        (
            b"\xa1\x66number\x1a\x80\0\0\0",
            "Numeric value (2147483648) out of range of int (-2147483648 - 2147483647)",
        ),
        (b"\xa1\x64flag\x01", "NUMBER_VALUE can not be converted to a Boolean"),
        (b"\xa1\x64time\x61a", "STRING_VALUE can not be converted to milliseconds since epoch"),
        (b"\xa1\x64blob\x01", "NUMBER_VALUE can not be converted to a Blob"),
        (b"\xa1\x64list\xa0", "Start of structure or map found where not expected."),
        (b"\xa1\x64list\x61a", "Expected list or null"),
        (b"\xa1\x63map\x80", "Start of list found where not expected"),
        (b"\xa1\x63map\x61a", "Unexpected field type"),
        (b"\xa1\x65inner\x61a", "Expected null"),
    ],
)
def test_values_of_the_wrong_type_are_refused_as_in_json(body: bytes, message: str) -> None:
    with pytest.raises(WireError) as refused:
        cbor.decode(STRICT, body)
    assert refused.value.args == ("SerializationException", message, 400)


def test_a_blob_may_be_text_in_base64() -> None:
    assert cbor.decode(STRICT, b"\xa1\x64blob\x64AP8=") == {"blob": b"\x00\xff"}
