"""Malformed requests: each kind is a function of a source of chance and of a world to which valid requests belong.

A case is made from a valid request of each of SQS's operations in either of its protocols, or from nothing but noise.
"""

from __future__ import annotations

import json
import random
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, quote_from_bytes, quote_plus

from sidecar import Client, http_request

from protocols.shapes.model import List, Map, Scalar, Shape, Structure, load

SQS = load("sqs")
ARN = "arn:aws:sqs:us-east-1:000000000000:"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
JSON_TYPE = "application/x-amz-json-1.0"

Members = dict[str, Any]


class Case(NamedTuple):
    """A request. `wrong`: by construction, so that it must not be accepted. `raw`: perhaps no HTTP."""

    kind: str
    data: bytes
    wrong: bool = True
    raw: bool = False
    method: str = "POST"


class World:
    """Queues, messages in flight and a move task; and valid requests for each operation."""

    def __init__(self, client: Client) -> None:
        client.write(http_request("POST", "/_sidebus/reset", {}))
        client.answer()
        self.dead = client.queue("dead")
        redrive = json.dumps({"deadLetterTargetArn": ARN + "dead", "maxReceiveCount": 9})
        self.url = client.queue("q", RedrivePolicy=redrive)
        self.fifo = client.queue("f.fifo", FifoQueue="true")
        for number in range(12):
            client.call("SendMessage", QueueUrl=self.url, MessageBody=f"message {number}")
        received = client.call("ReceiveMessage", QueueUrl=self.url, MaxNumberOfMessages=2, VisibilityTimeout=3600)
        self.handles = [message["ReceiptHandle"] for message in received["Messages"]]
        self.task = client.call("StartMessageMoveTask", SourceArn=ARN + "dead")["TaskHandle"]
        self.requests = self._requests()

    def request(self, chance: random.Random) -> tuple[str, Members]:
        """An operation and valid members, which may be changed."""
        operation, members = chance.choice(self.requests)
        return operation, json.loads(json.dumps(members))

    def _requests(self) -> list[tuple[str, Members]]:
        url = {"QueueUrl": self.url}
        handle = {"ReceiptHandle": self.handles[0]}
        entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(self.handles)]
        attributes = {
            "text": {"DataType": "String", "StringValue": "x"},
            "count": {"DataType": "Number.int", "StringValue": "12"},
            "bytes": {"DataType": "Binary", "BinaryValue": "AAEC"},
        }
        trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5e3d83c1-e6a0db584850d61342823d4c"}}
        message = {"MessageBody": "hello", "DelaySeconds": 0, "MessageAttributes": attributes}
        traced = {"MessageBody": "hello", "MessageSystemAttributes": trace}
        ordered = {"MessageBody": "one", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
        settings = {
            "VisibilityTimeout": "30",
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": ARN + "dead", "maxReceiveCount": "5"}),
            "Policy": json.dumps({"Version": "2012-10-17", "Statement": []}),
        }
        receive = {
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["SentTimestamp"],
            "MessageAttributeNames": ["a.*"],
            "MaxNumberOfMessages": 1,
            "VisibilityTimeout": 0,
        }
        return [
            ("AddPermission", {**url, "Label": "l", "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}),
            ("CancelMessageMoveTask", {"TaskHandle": self.task}),
            ("ChangeMessageVisibility", {**url, **handle, "VisibilityTimeout": 3600}),
            ("ChangeMessageVisibilityBatch", {**url, "Entries": [{**e, "VisibilityTimeout": 3600} for e in entries]}),
            ("CreateQueue", {"QueueName": "made", "Attributes": settings, "tags": {"a": "b"}}),
            ("DeleteMessage", {**url, **handle}),
            ("DeleteMessageBatch", {**url, "Entries": entries}),
            ("DeleteQueue", {"QueueUrl": self.dead}),
            ("GetQueueAttributes", {**url, "AttributeNames": ["All"]}),
            ("GetQueueUrl", {"QueueName": "q", "QueueOwnerAWSAccountId": "000000000000"}),
            ("ListDeadLetterSourceQueues", {"QueueUrl": self.dead, "MaxResults": 1, "NextToken": "cQ=="}),
            ("ListMessageMoveTasks", {"SourceArn": ARN + "dead", "MaxResults": 1}),
            ("ListQueueTags", url),
            ("ListQueues", {"QueueNamePrefix": "q", "MaxResults": 1, "NextToken": "cQ=="}),
            ("PurgeQueue", {"QueueUrl": self.dead}),
            ("ReceiveMessage", {**url, **receive}),
            ("ReceiveMessage", {"QueueUrl": self.fifo, "ReceiveRequestAttemptId": "attempt"}),
            ("RemovePermission", {**url, "Label": "l"}),
            ("SendMessage", {**url, **message}),
            ("SendMessage", {**url, **traced}),
            ("SendMessage", {"QueueUrl": self.fifo, **ordered}),
            ("SendMessageBatch", {**url, "Entries": [{"Id": "a", **message}, {"Id": "b", **traced}]}),
            ("SendMessageBatch", {"QueueUrl": self.fifo, "Entries": [{"Id": "a", **ordered}]}),
            ("SetQueueAttributes", {**url, "Attributes": settings}),
            ("StartMessageMoveTask", {"SourceArn": ARN + "dead", "MaxNumberOfMessagesPerSecond": 10}),
            ("TagQueue", {**url, "Tags": {"a": "b"}}),
            ("UntagQueue", {**url, "TagKeys": ["a"]}),
        ]


def json_call(operation: str, body: bytes, **headers: str) -> bytes:
    return http_request(
        "POST", "/", {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": JSON_TYPE, **headers}, body
    )


def parameters(shape: Shape, value: Any, name: str) -> Iterator[tuple[str, str]]:
    """A value as the query protocol has it."""
    match shape:
        case Structure():
            for key, item in value.items():
                member = shape.members[key]
                yield from parameters(member.shape, item, f"{name}.{member.query_name}".lstrip("."))
        case List():
            for number, item in enumerate(value, 1):
                yield from parameters(shape.member.shape, item, f"{name}.{number}")
        case Map():
            for number, (key, item) in enumerate(value.items(), 1):
                yield f"{name}.{number}.{shape.key.query_name}", key
                yield from parameters(shape.value.shape, item, f"{name}.{number}.{shape.value.query_name}")
        case Scalar():
            yield name, str(value)


def fields(operation: str, members: Members) -> list[tuple[str, str]]:
    known = SQS.operation(operation)
    assert known is not None
    assert known.input is not None
    return [("Action", operation), ("Version", "2012-11-05"), *parameters(known.input, members, "")]


def encoded(pairs: list[tuple[str, str]]) -> bytes:
    return "&".join(f"{quote_plus(n)}={quote_plus(v, errors='surrogatepass')}" for n, v in pairs).encode()


def call(chance: random.Random, operation: str, members: Members) -> bytes:
    """In either protocol."""
    if chance.random() < 0.5:
        return json_call(operation, json.dumps(members).encode())
    accept = {"Accept": "application/json"} if chance.random() < 0.1 else {}
    return http_request("POST", "/", FORM | accept, encoded(fields(operation, members)))


# what is wrong with them --------------------------------------------------------------------------

TEXTS = [
    "",
    " ",
    "\x00",
    "\t\r\n",
    "'; DROP TABLE message; --",
    "%s%n%x{}{0}",
    "../../../../etc/passwd",
    "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    "\ufffe\uffff",
    "\u202e\u0000\u0001\x7f\x9f",
    "١٢٣",
    "\U0001f600" * 100,
    "e\u0301" * 50,
    "x" * 300,
    "x" * 20_000,
    "http://",
    "http:///000000000000/q",
    "http://localhost/000000000000/",
    "http://localhost/00000000000/q",
    "http://localhost/000000000000/q/../q",
    "http://[::1/000000000000/q",
    "http://localhost/queue/eu%00west/000000000000/q",
    "https://eu-west-1.queue.amazonaws.com:99999/000000000000/q",
    "//000000000000//",
    "/١٢٣٤٥٦٧٨٩٠١٢/q",
    "/000000000000/%ff%fe",
    "arn:aws:sqs:us-east-1:000000000000:",
    "arn:aws:sqs",
    "arn:" * 50,
    "AQEB" + "A" * 28,
    "AQEB" + "é" * 28,
    "====",
    "null",
    "-1",
    "1e999",
    "__proto__",
]

NUMBERS: list[Any] = [-1, -(2**31) - 1, 2**31, 2**63, 2**64, 10**30, 10**400, 1e300, -1e308, float("nan"), float("inf")]
NUMBERS_IN_FORMS = [
    "-1",
    "2147483648",
    "9" * 19,
    "9" * 5000,
    "1e3",
    "0x10",
    "１",
    " 1",
    "1 ",
    "1_0",
    "NaN",
    "true",
    "+-1",
]
NOT_UTF8 = [b"\xff", b"\xc3(", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"]


def nested(chance: random.Random) -> str:
    depth = chance.choice((5, 50, 200, 300, 500, 900, 960, 980, 990, 995, 1000, 1100, 3000, 100_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}"), ('[{"":', "}]")))
    return opening * depth + "1" + (closing * depth if chance.random() < 0.8 else "")


def documents(chance: random.Random) -> str:
    """What stands for JSON in attributes and tokens, and is not what belongs there."""
    arn: Any = chance.choice(
        [ARN + "dead", ARN + "f.fifo", ARN + "no", "arn:aws:sns:us-east-1:000000000000:dead", "\ud800", ""]
    )
    count: Any = chance.choice([0, -1, 1001, 10**30, 1.5, "1", "x", "", "\ud800", "９", None, True, [], {}, [1]])
    permission: Any = chance.choice(["allowAll", "byQueue", "some", "", None, [], {}, 1, "\udfff"])
    sources: Any = chance.choice([None, [], "x", [1], [arn] * 11, [[]], {}, [None]])
    return chance.choice(
        [
            nested(chance),
            f'{{"deadLetterTargetArn":"{ARN}dead","maxReceiveCount":{nested(chance)}}}',
            f'{{"redrivePermission":"allowAll","x":{nested(chance)}}}',
            f'{{"Statement":{nested(chance)}}}',
            '{"Statement":[1,null,"x",[]]}',
            '{"Statement":{"Sid":[]}}',
            '{"deadLetterTargetArn":' + "9" * 5000 + ',"maxReceiveCount":1}',
            json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count}),
            json.dumps({"deadLetterTargetArn": count, "maxReceiveCount": arn}),
            json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3, "\ud800": count}),
            json.dumps({"maxReceiveCount": count}),
            json.dumps({"redrivePermission": permission, "sourceQueueArns": sources}),
            json.dumps({"redrivePermission": permission}),
            json.dumps({"taskId": count, "sourceArn": arn}),
            json.dumps({"taskId": arn, "sourceArn": sources}),
            json.dumps([count, arn]),
            json.dumps(count),
            "NaN",
            "{",
            '"',
            "",
        ]
    )


def find(value: Any, wanted: type | tuple[type, ...]) -> list[tuple[Any, Any]]:
    """Every place in a value that holds one of these types: the container and the key in it."""
    places: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(item, wanted):
            places.append((value, key))
        places += find(item, wanted)
    return places


def wrong_type(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    container, key = chance.choice(find(members, (str, int, list, dict)))
    others = {
        str: [1, 1.5, True, [], {}, ["x"], {"a": "b"}],
        int: ["x", "", True, [], {}, [1]],
        list: ["x", 1, False, {}, {"1": "x"}],
        dict: ["x", 1, False, [], ["x"]],
    }
    container[key] = chance.choice(others[type(container[key])])
    return Case("wrong type", json_call(operation, json.dumps(members).encode()))


def missing(chance: random.Random, world: World) -> Case:
    while True:
        operation, members = world.request(chance)
        known = SQS.operation(operation)
        assert known is not None
        assert known.input is not None
        if known.input.required:
            break
    name = chance.choice(known.input.required)
    del members[name]
    if chance.random() < 0.3:
        members[name] = None
        return Case("null", json_call(operation, json.dumps(members).encode()))
    return Case("missing", call(chance, operation, members))


def number(chance: random.Random, world: World) -> Case:
    while True:
        operation, members = world.request(chance)
        places = find(members, int)
        if places:
            break
    container, key = chance.choice(places)
    if chance.random() < 0.5:
        container[key] = chance.choice(NUMBERS)
        return Case("number", json_call(operation, json.dumps(members).encode()))
    container[key] = chance.choice(NUMBERS_IN_FORMS)
    return Case("number in a form", http_request("POST", "/", FORM, encoded(fields(operation, members))))


def text(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    container, key = chance.choice(find(members, str))
    container[key] = chance.choice([*TEXTS, documents(chance)])
    return Case("text", call(chance, operation, members), wrong=False)


def key(chance: random.Random, world: World) -> Case:
    """The name of a member or of an entry in a map."""
    operation, members = world.request(chance)
    container, name = chance.choice(find(members, (str, int, list, dict)))
    if isinstance(container, dict):
        container[chance.choice(TEXTS)] = container.pop(name)
    return Case("key", json_call(operation, json.dumps(members).encode()), wrong=False)


def document(chance: random.Random, world: World) -> Case:
    """JSON within a string: policies and handles."""
    made = documents(chance)
    name = chance.choice(("RedrivePolicy", "RedriveAllowPolicy", "Policy", "TaskHandle", "NextToken"))
    if name == "TaskHandle":
        raw = b64encode(made.encode("utf-8", "surrogatepass")).decode()
        return Case("task handle", call(chance, "CancelMessageMoveTask", {"TaskHandle": raw}))
    if name == "NextToken":
        token = b64encode(chance.choice(NOT_UTF8)).decode()
        return Case("token", call(chance, "ListQueues", {"MaxResults": 1, "NextToken": token}))
    target = {"QueueUrl": world.url} if chance.random() < 0.7 else {"QueueName": f"n{chance.random()}".replace(".", "")}
    operation = "SetQueueAttributes" if "QueueUrl" in target else "CreateQueue"
    return Case("document", call(chance, operation, {**target, "Attributes": {name: made}}), wrong=False)


def permission_on_odd_policy(chance: random.Random, world: World) -> Case:
    label = chance.choice(["l", *TEXTS])
    more = {"AWSAccountIds": [chance.choice(TEXTS)] * chance.randrange(9), "Actions": [chance.choice(TEXTS)] * 2}
    return Case("permission", call(chance, "AddPermission", {"QueueUrl": world.url, "Label": label, **more}))


def attributes(chance: random.Random, world: World) -> Case:
    """Message attributes that SQS does not take."""
    good = {"DataType": "String", "StringValue": "x"}
    made = chance.choice(
        [
            {"a": {"DataType": chance.choice(["", "Text", "string", "Stringy", ".x", "String\x00", "Number.\ud800"])}},
            {"a": {"DataType": "String"}},
            {"a": {"DataType": "String", "StringValue": ""}},
            {"a": {"DataType": "String", "StringValue": "\x00"}},
            {"a": {"DataType": "String", "StringListValues": ["x"]}},
            {"a": {"DataType": "Binary", "BinaryValue": ""}},
            {"a": {"DataType": "Binary", "BinaryValue": chance.choice(["A", "A===", "é", "AAE", "A A=", "\x00"])}},
            {
                "a": {
                    "DataType": "Number",
                    "StringValue": chance.choice(["", "x", "1e", "0x1", "NaN", "１", "1 2", "--1"]),
                }
            },
            {"a": {"DataType": "x" * 300, "StringValue": "x"}},
            {chance.choice(["", ".", ".a", "a.", "a..b", "aws.a", "AMAZON.x", "é", "a b", "x" * 257, "\x00"]): good},
            {f"a{n}": good for n in range(11)},
        ]
    )
    entry = {"MessageBody": "x", "MessageAttributes": made}
    if chance.random() < 0.7:
        return Case("attributes", call(chance, "SendMessage", {"QueueUrl": world.url, **entry}))
    return Case(
        "attributes", call(chance, "SendMessageBatch", {"QueueUrl": world.url, "Entries": [{"Id": "a", **entry}]})
    )


def message(chance: random.Random, world: World) -> Case:
    bodies = ["", "\x00", "a\x01b", "\x0b", "\ufffe", "x" * (1 << 20 | 1)]
    odd = ["", "é", "x" * 129, "a b", "\n", "\x00"]
    url, fifo = {"QueueUrl": world.url}, {"QueueUrl": world.fifo, "MessageBody": "x"}
    trace = {"DataType": "String", "StringValue": "x"}
    choices: list[Members] = [
        {**url, "MessageBody": chance.choices(bodies, (9, 9, 9, 9, 9, 1))[0]},
        {**url, "MessageBody": "x", "MessageDeduplicationId": "d"},
        {**url, "MessageBody": "x", "MessageGroupId": chance.choice(odd[1:])},
        {**url, "MessageBody": "x", "MessageSystemAttributes": {chance.choice(TEXTS): trace}},
        {**url, "MessageBody": "x", "MessageSystemAttributes": {"AWSTraceHeader": {**trace, "DataType": "Number"}}},
        fifo,
        {**fifo, "MessageGroupId": "g"},
        {**fifo, "MessageDeduplicationId": "d"},
        {**fifo, "MessageGroupId": chance.choice(odd[1:]), "MessageDeduplicationId": "d"},
        {**fifo, "MessageGroupId": "g", "MessageDeduplicationId": chance.choice(odd[1:])},
        {**fifo, "MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 1},
    ]
    return Case("message", call(chance, "SendMessage", chance.choice(choices)))


def batch(chance: random.Random, world: World) -> Case:
    ids = chance.choice(
        [[], ["a"] * 2, [""], ["a b"], ["é"], ["x" * 81], [f"i{n}" for n in range(11)], [f"i{n}" for n in range(500)]]
    )
    operation, of = chance.choice(
        [
            ("SendMessageBatch", {"MessageBody": "x"}),
            ("DeleteMessageBatch", {"ReceiptHandle": world.handles[0]}),
            ("ChangeMessageVisibilityBatch", {"ReceiptHandle": world.handles[0], "VisibilityTimeout": 1}),
        ]
    )
    return Case("batch", call(chance, operation, {"QueueUrl": world.url, "Entries": [{"Id": id, **of} for id in ids]}))


def handle(chance: random.Random, world: World) -> Case:
    good = world.handles[0]
    at = chance.randrange(len(good))
    made = chance.choice(
        [good[:at], good + good, good[:at] + "é" + good[at + 1 :], good.swapcase(), good[::-1], *TEXTS[1:]]
    )
    if chance.random() < 0.5:
        return Case("handle", call(chance, "DeleteMessage", {"QueueUrl": world.url, "ReceiptHandle": made}))
    members = {"QueueUrl": world.url, "ReceiptHandle": made, "VisibilityTimeout": 5}
    return Case("handle", call(chance, "ChangeMessageVisibility", members))


def truncated(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    body = json.dumps(members).encode()
    return Case("truncated", json_call(operation, body[: chance.randrange(len(body))]))


def not_utf8(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    container, name = chance.choice(find(members, str))
    container[name] += "HERE"
    bad = chance.choice(NOT_UTF8)
    if chance.random() < 0.5:
        bad = chance.choice((bad, rb"\ud800", rb"\udc00x", rb"\u12", rb"\x41", b"\n"))
        return Case("UTF-8", json_call(operation, json.dumps(members).encode().replace(b"HERE", bad)))
    body = encoded(fields(operation, members)).replace(b"HERE", chance.choice((bad, quote_from_bytes(bad).encode())))
    return Case("UTF-8 in a form", http_request("POST", "/", FORM, body))


def changed_bytes(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken away, doubled or put in."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(4):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[at : at + chance.choice((1, 1, 5))]
            case 2:
                made[at:at] = made[max(0, at - 8) : at]
            case _:
                made[at:at] = chance.choice(
                    (b'"', b"{", b"[", b"]", b"}", b",", b":", b"\\", b"&", b"=", b"%", b"\x00", b".")
                )
    return bytes(made)


def bytes_in_json(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    body = changed_bytes(chance, json.dumps(members).encode())
    return Case("bytes", json_call(operation, body), wrong=False)


def bytes_in_form(chance: random.Random, world: World) -> Case:
    body = changed_bytes(chance, encoded(fields(*world.request(chance))))
    return Case("bytes in a form", http_request("POST", "/", FORM, body), wrong=False)


def no_object(chance: random.Random, world: World) -> Case:
    operation, _ = world.request(chance)
    bodies = [
        "[]",
        "null",
        "1",
        '"x"',
        "true",
        "[[]]",
        "{}x",
        "{} {}",
        "\ufeff{}",
        "{'a':1}",
        "{a:1}",
        "//",
        "{,}",
        nested(chance),
    ]
    body = chance.choice(bodies).encode()
    return Case("no object", json_call(operation, body), wrong=not body.startswith(b'{"a":'))


def deep(chance: random.Random, world: World) -> Case:
    operation, members = world.request(chance)
    container, name = chance.choice(find(members, (str, int, list, dict)))
    container[name] = "HERE"
    body = json.dumps(members).encode().replace(b'"HERE"', nested(chance).encode())
    return Case("deep", json_call(operation, body))


def index(chance: random.Random, world: World) -> Case:
    """Numbers and names of a form's parameters."""
    pairs = fields(*world.request(chance))
    odd = [
        "0",
        "-1",
        "01",
        "1000000",
        "9" * 20,
        "9" * 4000,
        "1.1",
        "",
        "x",
        "１",
        "1e3",
        "member.1",
        "entry.1",
        "." * 30,
        "%00",
    ]
    at = chance.randrange(1, len(pairs))
    name, value = pairs[at]
    steps = name.split(".")
    steps[chance.randrange(len(steps))] = chance.choice(odd)
    pairs[at] = (".".join(steps), value)
    return Case("index", http_request("POST", "/", FORM, encoded(pairs)), wrong=False)


def form(chance: random.Random, world: World) -> Case:
    """Forms that are none, or too much of one."""
    good = encoded(fields("ListQueueTags", {"QueueUrl": world.url}))
    deep_name = ".".join(["a"] * chance.choice((15, 16, 17, 1000)))
    made, wrong = chance.choice(
        [
            (b"", True),
            (b"&&&&", True),
            (b"=", True),
            (b"Action", True),
            (b"Action=", True),
            (b"Action=&Version=2012-11-05", True),
            (b"%41ction=ListQueues", False),
            (b"Action=ListQueues%00", True),
            (b"Action=List%20Queues&Version=2012-11-05", True),
            (b"Action=%FF%FE&Version=2012-11-05", True),
            (b"Version=2012-11-05", True),
            (b"Action=ListQueueTags&QueueUrl=%zz", True),
            (b"Action=ListQueueTags&QueueUrl=%u1234", True),
            (b"Action=ListQueueTags&QueueUrl=%", True),
            (good + b"&" + deep_name.encode() + b"=1", False),
            (good + b"&x=1" * 10_000, True),
            (b"&".join(b"Attribute.%d.Name=x" % n for n in range(9_000)) + b"&Action=SetQueueAttributes", True),
        ]
    )
    return Case("form", http_request("POST", "/", FORM, made), wrong)


def in_url(chance: random.Random, world: World) -> Case:
    """The query protocol by GET, on a queue's path and elsewhere."""
    query = encoded(fields(*world.request(chance)))
    path = chance.choice(
        ("/", "/000000000000/q", "/000000000000/no", "/1/2", "/queue/eu-west-1/000000000000/q", "//", "/%00")
    )
    made = changed_bytes(chance, query).decode("latin-1")
    made = quote(made, safe="/?&=%+.-_:;,@!$'()*~")
    made = chance.choice((made, made[: chance.randrange(len(made))], "Action=" + "x" * 15_000, "a=&" * 5000))
    return Case("GET", http_request("GET", f"{path}?{made}", {}), wrong=False, method="GET")


def envelope(chance: random.Random, world: World) -> Case:
    """Target, action and content type that do not go together or do not exist."""
    operation, members = world.request(chance)
    body = json.dumps(members).encode()
    targets = [
        "",
        ".",
        "AmazonSQS",
        "AmazonSQS.",
        "AmazonSQS.listQueues",
        "AmazonSQS.ListQueues.",
        "AmazonSQS.__class__",
        f"AmazonSNS.{operation}",
        f"amazonsqs.{operation}",
        "Kinesis_20131202.PutRecord",
        "AWSEvents.PutTargets",
        "DynamoDB_20120810.ExecuteStatement",
        "AmazonSQS." + "x" * 5000,
        "AmazonSQS.\xff\xfe",
        "../AmazonSQS.ListQueues",
    ]
    types = [
        "",
        "text/plain",
        "text/xml",
        JSON_TYPE,
        "application/x-amz-json-1.1",
        "application/x-amz-cbor-1.1",
        "multipart/form-data",
    ]
    headers = {"X-Amz-Target": chance.choice(targets), "Content-Type": chance.choice(types)}
    return Case("envelope", http_request("POST", "/", headers, body))


def unknown_action(chance: random.Random, world: World) -> Case:
    actions = [
        "Nope",
        "listqueues",
        "ListQueues2",
        "Publish",
        "AssumeRole",
        "SendMessage.1",
        "GetObject",
        "x" * 3000,
        "<a>&amp;",
    ]
    versions = ["2012-11-05", "2011-06-15", "2010-03-31", "1999-01-01", "", "é"]
    pairs = [("Action", chance.choice(actions)), ("Version", chance.choice(versions)), ("QueueUrl", world.url)]
    return Case("action", http_request("POST", chance.choice(("/", "/000000000000/q")), FORM, encoded(pairs)))


LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(97 + n)} "{f"&{chr(96 + n)};" * 10}">' for n in range(1, 10)
)


def xml(chance: random.Random, world: World) -> Case:
    operation, _ = world.request(chance)
    body = chance.choice(
        [
            f"<?xml version='1.0'?>{LAUGHS}]><l>&j;</l>",
            "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            f"<{operation}><QueueUrl>{world.url}</QueueUrl></{operation}>",
            f"<soap:Envelope xmlns:soap='http://schemas.xmlsoap.org/soap/envelope/'><soap:Body><{operation}/></soap:Body>",
            "<" * 10_000,
            "<a>" * 10_000,
        ]
    ).encode()
    kind = {"Content-Type": chance.choice(("text/xml", "application/soap+xml", JSON_TYPE, FORM["Content-Type"]))}
    target = {"X-Amz-Target": f"AmazonSQS.{operation}"} if chance.random() < 0.5 else {}
    return Case("XML", http_request("POST", "/", kind | target, body))


def place(chance: random.Random, world: World) -> Case:
    """Methods and paths at which nothing is."""
    method = chance.choice(("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "POST", "MKCOL"))
    paths = [
        "/",
        "/favicon.ico",
        "/.env",
        "/000000000000",
        "/000000000000/q",
        "/000000000000/q/x",
        "/?",
        "/?Action",
        "//",
    ]
    paths += ["/v1/", "/2018-06-01/runtime", "/%2e%2e/", "/\xe9", "/" + "a/" * 2000, "/?" + "x" * 9000, "/;a=b", "/?#"]
    return Case("place", http_request(method, chance.choice(paths), {}), method=method)


def control(chance: random.Random, world: World) -> Case:
    method, path = chance.choice(
        [
            ("GET", "/_sidebus/"),
            ("GET", "/_sidebus/nothing"),
            ("GET", "/_sidebus/health/"),
            ("GET", "/_sidebus//health"),
            ("GET", "/_sidebus/../_sidebus/health"),
            ("GET", "/_sidebus/%68ealth"),
            ("GET", "/_sidebus/\xff"),
            ("GET", "/_sidebus/" + "x" * 9000),
            ("POST", "/_sidebus/health"),
            ("PUT", "/_sidebus/health"),
            ("DELETE", "/_sidebus/reset"),
            ("GET", "/_sidebus/reset"),
            ("POST", "/_sidebus/reset?account=1"),
            ("POST", "/_sidebus/reset?account=%00"),
            ("POST", "/_sidebus/reset?account=%FF%FF"),
            ("POST", "/_sidebus/reset?account=00000000000x"),
            ("POST", "/_sidebus/reset?account=" + "1" * 9000),
            ("POST", "/_sidebus/reset/"),
        ]
    )
    return Case("control", http_request(method, path, {}), method=method)


# and what is hardly HTTP --------------------------------------------------------------------------


def head(chance: random.Random, world: World) -> Case:
    """A head that HTTP/1.1 does not allow, or that is too much."""
    line, host = "POST / HTTP/1.1\r\n", "Host: a\r\n"
    body = json.dumps({})
    length = f"Content-Length: {len(body)}\r\n"
    lines = [
        "POST /",
        "POST / HTTP/9.9",
        "POST  /  HTTP/1.1",
        "POST / HTTP/1.1 x",
        "post / HTTP/1.1",
        "BREW / HTTP/1.1",
    ]
    lines += [
        "POST\t/\tHTTP/1.1",
        "POST / http/1.1",
        " POST / HTTP/1.1",
        "POST x HTTP/1.1",
        "POST http:// HTTP/1.1",
        "/ HTTP/1.1",
    ]
    lines += [
        "POST / HTTP/1.1\x00",
        "POST /\x00 HTTP/1.1",
        "POST /" + "x" * 17_000 + " HTTP/1.1",
        "GET * HTTP/1.1",
        "\x16\x03\x01",
    ]
    made = chance.choice(
        [
            line + length + "\r\n" + body,
            line + host + host + length + "\r\n" + body,
            line + host + "Content-Length: -1\r\n\r\n",
            line + host + "Content-Length: 0x2\r\n\r\n" + body,
            line + host + "Content-Length: 2,2\r\n\r\n" + body,
            line + host + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n" + body,
            line + host + "Content-Length: " + "9" * chance.choice((9, 18, 19, 20, 40)) + "\r\n\r\n" + body,
            line + host + "Content-Length: 17000000\r\n\r\n" + body,
            line + host + "Content-Length:\r\n\r\n" + body,
            line + host + "No colon\r\n\r\n",
            line + host + ": no name\r\n\r\n",
            line + host + "A b: c\r\n\r\n",
            line + host + "A : b\r\n\r\n",
            line + host + "A: b\r\n folded\r\n\r\n",
            line + host + "A: b\x00c\r\n\r\n",
            line + host + "A: \x01\r\n\r\n",
            line + host + "A: b\rC: d\r\n\r\n",
            line + host + "\x80\xff: b\r\n\r\n",
            line + host + "A: " + "x" * 70_000 + "\r\n\r\n",
            line + host + "A: b\r\n" * 12_000 + "\r\n",
            line + host + "Expect: the worst\r\n" + length + "\r\n" + body,
            line + "Host: " + "x" * 60_000 + "\r\n" + length + "\r\n" + body,
            chance.choice(lines) + "\r\n" + host + length + "\r\n" + body,
        ]
    )
    return Case("head", made.encode("latin-1"), raw=True)


def chunks(chance: random.Random, world: World) -> Case:
    line = "POST / HTTP/1.1\r\nHost: a\r\nX-Amz-Target: AmazonSQS.ListQueueTags\r\n"
    chunked = line + "Transfer-Encoding: chunked\r\n\r\n"
    made = chance.choice(
        [
            chunked + "x\r\n{}\r\n0\r\n\r\n",
            chunked + "-2\r\n{}\r\n0\r\n\r\n",
            chunked + "2 \r\n{}\r\n0\r\n\r\n",
            chunked + "2\r\n{}}\r\n0\r\n\r\n",
            chunked + "2\r\n{}0\r\n\r\n",
            chunked + "2\n{}\n0\n\n",
            chunked + "2;" + "x" * 70_000 + "\r\n{}\r\n0\r\n\r\n",
            chunked + "f" * chance.choice((6, 8, 15, 16, 17, 40)) + "\r\n{}",
            chunked + "2\r\n{}\r\n0\r\n" + "A: b\r\n" * 12_000 + "\r\n",
            chunked + "2\r\n{}\r\n0\r\nno colon\r\n\r\n",
            chunked + "2\r\n{}",
            chunked + "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            line + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            line + "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            line + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            line + "Transfer-Encoding: identity\r\n\r\n",
            line + "Transfer-Encoding: gzip\r\n\r\n",
            line + "Transfer-Encoding: \r\n\r\n",
            line + "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            line.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ]
    )
    return Case("chunks", made.encode("latin-1"), raw=True)


def noise(chance: random.Random, world: World) -> Case:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    made = chance.choice(
        [
            chance.randbytes(chance.choice((1, 10, 1000, 100_000))),
            b"\r\n" * 50_000,
            b"\x00" * 1000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500),  # TLS says hello
            preface[: chance.randrange(1, len(preface))],
            preface + chance.randbytes(200),
            preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + chance.randbytes(200),
            preface + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + chance.randbytes(50),
            b"SSH-2.0-OpenSSH_9.0\r\n",
            b"EHLO example.com\r\n",
            b"*1\r\n$4\r\nPING\r\n",
        ]
    )
    return Case("noise", made, raw=True)


def changed_request(chance: random.Random, world: World) -> Case:
    """Bytes changed anywhere, the head included."""
    operation, members = world.request(chance)
    data = changed_bytes(chance, call(chance, operation, members))
    return Case("changed", data, wrong=False, raw=True)


def cut(chance: random.Random, world: World) -> Case:
    """A request of which the end never comes."""
    operation, members = world.request(chance)
    data = call(chance, operation, members)
    return Case("cut", data[: chance.randrange(1, len(data))], raw=True)


def signature(chance: random.Random, headers: dict[str, str]) -> Case:
    """A request whose signature, in the header or in the URL, is none; `headers` are of a good one of `{}`."""
    headers = dict(headers)
    match chance.randrange(5):
        case 0:
            return Case("signed another", http_request("POST", "/", headers, b"{ }"))
        case 1:
            del headers[chance.choice(("Authorization", "X-Amz-Date"))]
            return Case("half signed", http_request("POST", "/", headers, b"{}"))
        case 2:
            parts = re.split("([=,/ ])", headers["Authorization"])
            parts[chance.randrange(len(parts))] = chance.choice(["", " ", "x", "\xe9", "9" * 5000, "===", "/" * 9])
            headers["Authorization"] = "".join(parts)
            return Case("signature", http_request("POST", "/", headers, b"{}"), wrong=False)
        case 3:
            dates = ["", "x", "20260101T000000Z", "99999999T999999Z", "2026-01-01T00:00:00Z", "0", "\xb2" * 8]
            headers["X-Amz-Date"] = chance.choice(dates)
            return Case("date", http_request("POST", "/", headers, b"{}"))
    del headers["Authorization"]
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")
    values = ["AWS4-HMAC-SHA256", "AKIDEXAMPLE/20260101/us-east-1/sqs/aws4_request", "9" * 400, *TEXTS[:30]]
    query = "&".join(f"X-Amz-{name}={quote(chance.choice(values))}" for name in names if chance.random() < 0.9)
    return Case("presigned", http_request("POST", f"/?{query}", headers, b"{}"))


KINDS: dict[Callable[[random.Random, World], Case], int] = {
    wrong_type: 12,
    missing: 8,
    number: 8,
    text: 12,
    key: 5,
    document: 12,
    permission_on_odd_policy: 3,
    attributes: 6,
    message: 5,
    batch: 4,
    handle: 4,
    truncated: 6,
    not_utf8: 6,
    bytes_in_json: 10,
    bytes_in_form: 10,
    no_object: 3,
    deep: 4,
    index: 8,
    form: 2,
    in_url: 8,
    envelope: 5,
    unknown_action: 4,
    xml: 3,
    place: 5,
    control: 3,
    head: 6,
    chunks: 5,
    noise: 2,
    changed_request: 4,
    cut: 1,
}
