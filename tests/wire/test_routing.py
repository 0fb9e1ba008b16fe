"""Routing: what SDKs really send reaches its operation, strange bytes reach nobody and raise nothing.

Run one seed again: pytest tests/wire/test_routing.py --hypothesis-seed=N
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import botocore.config
import botocore.loaders
import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http.message import Request
from protocols.routing import QueueAddress, Route, Router, parse_queue_url, queue_url

ACCOUNT = "000000000000"
QUEUE = f"http://localhost:4566/{ACCOUNT}/orders"


def route(request: Request) -> Route:
    return Router("us-east-1", ACCOUNT).route(request)


def from_wire(raw: bytes) -> Request:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    method, target, _ = line.split(b" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in rest)]
    return Request(method.decode(), target, headers, body)


def signed(service: str, region: str = "eu-west-1", access_key: str = "AKID") -> str:
    scope = f"{access_key}/20261121/{region}/{service}/aws4_request"
    return f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={64 * '0'}\n"


def sent(text: str) -> Request:
    return from_wire(text.replace("\n", "\r\n").encode())


# --- boto3 as it is installed, on a real socket ---


class _Recorder(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()).strip():
            lines.append(line)
        head = b"".join(lines)
        request = from_wire(head.removesuffix(b"\r\n"))
        request.body = self.rfile.read(int(request.header(b"content-length") or 0))
        self.server.requests.append(request)  # type: ignore[attr-defined]
        action = request.body.partition(b"&")[0].removeprefix(b"Action=")
        document = b"<%bResponse><%bResult/></%bResponse>" % (action, action, action)
        answer = b"{}" if request.header(b"x-amz-target") else document
        status = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer)
        self.wfile.write(status + answer)


@pytest.fixture(scope="module")
def recorder() -> Iterator[socketserver.TCPServer]:
    with socketserver.TCPServer(("127.0.0.1", 0), _Recorder) as server:
        server.requests = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "protocol"),
    [
        ("sqs", "SendMessage", {"QueueUrl": QUEUE, "MessageBody": "&Action=Publish"}, "json1.0"),
        ("sqs", "ListQueues", {}, "json1.0"),
        ("sns", "Publish", {"TopicArn": "arn:aws:sns:eu-west-1:000000000000:t", "Message": "&Action=x"}, "query"),
        ("sns", "TagResource", {"ResourceArn": "arn", "Tags": []}, "query"),
        ("events", "PutEvents", {"Entries": [{"Source": "a"}]}, "json1.1"),
        ("kinesis", "PutRecord", {"StreamName": "s", "PartitionKey": "k", "Data": b"d"}, "json1.1"),
        ("sts", "GetCallerIdentity", {}, "query"),
    ],
)
def test_boto3(recorder: Any, service: str, operation: str, parameters: dict[str, Any], protocol: str) -> None:
    session = botocore.session.Session()
    client = session.create_client(
        service,
        "eu-west-1",
        endpoint_url=f"http://127.0.0.1:{recorder.server_address[1]}",
        aws_access_key_id="111122223333",
        aws_secret_access_key="secret",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )
    client._make_api_call(operation, parameters)
    client.close()
    request = recorder.requests.pop()
    assert route(request) == Route(service, "eu-west-1", "111122223333", operation, protocol, "111122223333")


# --- What other clients sent to a listening socket, headers that tell nothing left out ---

FORM = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\n"
JSON10 = "Content-Type: application/x-amz-json-1.0\n"
JSON11 = "Content-Type: application/x-amz-json-1.1\n"
CBOR = "Content-Type: application/x-amz-cbor-1.1\n"
LOCAL = "Host: 127.0.0.1:41493\n"


def expected(service: str | None, operation: str | None, protocol: str | None, region: str = "eu-west-1") -> Route:
    return Route(service, region, ACCOUNT, operation, protocol, "AKID")


CAPTURED = {
    "JavaScript v3, SQS": (
        f"POST / HTTP/1.1\n{JSON10}x-amz-target: AmazonSQS.SendMessage\nx-amzn-query-mode: true\n{LOCAL}"
        + signed("sqs")
        + '\n{"QueueUrl":"http://127.0.0.1:41493/000000000000/orders","MessageBody":"hi"}',
        expected("sqs", "SendMessage", "json1.0"),
    ),
    "JavaScript v2, SNS: the parameters are sorted, the Version is last": (
        f"POST / HTTP/1.1\n{FORM}{LOCAL}"
        + signed("sns")
        + "\nAction=Publish&Message=hi%20%26%20bye&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A000000000000%3At"
        "&Version=2010-03-31",
        expected("sns", "Publish", "query"),
    ),
    "Go v2, SNS: sorted as well, here with a parameter before the Action": (
        f"POST / HTTP/1.1\n{LOCAL}"
        + signed("sns")
        + "Content-Type: application/x-www-form-urlencoded\n"
        + "\nAWSAccountId.member.1=1&Action=AddPermission&ActionName.member.1=Publish&Label=l&Version=2010-03-31",
        expected("sns", "AddPermission", "query"),
    ),
    "botocore 1.29, SQS": (
        f"POST / HTTP/1.1\n{LOCAL}{FORM}"
        + signed("sqs")
        + "\nAction=SendMessage&Version=2012-11-05"
        + "&QueueUrl=http%3A%2F%2F127.0.0.1%3A41493%2F000000000000%2Forders&MessageBody=hi",
        expected("sqs", "SendMessage", "query"),
    ),
    "Java v1, SQS: the queue is the path": (
        f"POST /000000000000/orders HTTP/1.1\n{LOCAL}"
        + signed("sqs")
        + FORM
        + "\nAction=SendMessage&Version=2012-11-05&MessageBody=hi",
        expected("sqs", "SendMessage", "query"),
    ),
    "Java v1 and v2, Kinesis: CBOR": (
        f"POST / HTTP/1.1\n{signed('kinesis')}{CBOR}X-Amz-Target: Kinesis_20131202.PutRecord\n{LOCAL}\n\x7f",
        expected("kinesis", "PutRecord", "cbor"),
    ),
    "Java v2, STS": (
        f"POST / HTTP/1.1\n{signed('sts')}{FORM}{LOCAL}\nAction=GetCallerIdentity&Version=2011-06-15",
        expected("sts", "GetCallerIdentity", "query"),
    ),
    "Go v2, EventBridge": (
        f'POST / HTTP/1.1\n{LOCAL}{signed("events")}{JSON11}X-Amz-Target: AWSEvents.PutEvents\n\n{{"Entries":[]}}',
        expected("events", "PutEvents", "json1.1"),
    ),
    "botocore 1.29, SQS, presigned": (
        "GET /?Action=SendMessage&Version=2012-11-05&QueueUrl=http%3A%2F%2F127.0.0.1%3A41493%2F000000000000%2Forders"
        "&MessageBody=hi&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKID%2F20261121%2Feu-west-1%2Fsqs%2Faws4_request&X-Amz-Date=20261121T021653Z"
        f"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=7f26 HTTP/1.1\n{LOCAL}\n",
        expected("sqs", "SendMessage", "query"),
    ),
    "botocore 1.44, SQS, presigned: the operation is in a header": (
        "GET /?QueueUrl=http%3A%2F%2F127.0.0.1%3A41493%2F000000000000%2Forders&MessageBody=hi"
        "&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20261121%2Feu-west-1%2Fsqs%2Faws4_request"
        "&X-Amz-Date=20261121T021654Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target"
        f"&X-Amz-Signature=d774 HTTP/1.1\n{LOCAL}X-Amz-Target: AmazonSQS.SendMessage\n{JSON10}\n",
        expected("sqs", "SendMessage", "json1.0"),
    ),
    "boto 2, SQS: signature version 2": (
        f"POST /000000000000/orders HTTP/1.1\nHost: eu-west-1.queue.amazonaws.com\n{FORM}"
        "\nAWSAccessKeyId=AKID&Action=SendMessage&MessageBody=hi&SignatureMethod=HmacSHA256&SignatureVersion=2"
        "&Timestamp=2026-11-21T02%3A16%3A53Z&Version=2012-11-05&Signature=x%3D",
        expected("sqs", "SendMessage", "query"),
    ),
}


@pytest.mark.parametrize("client", CAPTURED)
def test_captured(client: str) -> None:
    text, wanted = CAPTURED[client]
    assert route(sent(text)) == wanted


def test_every_operation_of_the_query_services() -> None:
    """By its Version alone always; without it, by its name, but for the names that several services have."""
    loader = botocore.loaders.Loader()
    shared = {"AddPermission", "RemovePermission", "TagResource", "UntagResource", "ListTagsForResource"}
    for service, version in (("sqs", "2012-11-05"), ("sns", "2010-03-31"), ("sts", "2011-06-15")):
        for operation in loader.load_service_model(service, "service-2")["operations"]:
            tagged = route(sent(f"GET /?Version={version}&Action={operation} HTTP/1.1\n{LOCAL}\n"))
            assert (tagged.service, tagged.operation, tagged.protocol) == (service, operation, "query")
            bare = route(sent(f"GET /?Action={operation} HTTP/1.1\n{LOCAL}\n"))
            assert bare.service == (None if operation in shared else service), operation


@pytest.mark.parametrize("service", ["sqs", "events", "kinesis", "dynamodb"])
def test_every_target_is_the_one_of_the_model(service: str) -> None:
    model = botocore.loaders.Loader().load_service_model(service, "service-2")
    prefix, version = model["metadata"]["targetPrefix"], model["metadata"]["jsonVersion"]
    for operation in model["operations"]:
        got = route(sent(f"POST / HTTP/1.1\n{LOCAL}X-Amz-Target: {prefix}.{operation}\n\n{{}}"))
        assert got == Route(service, "us-east-1", ACCOUNT, operation, f"json{version}", None)


# --- Whatever the signature says ---

TELLING = [
    (f"POST / HTTP/1.1\n{LOCAL}{JSON10}X-Amz-Target: AmazonSQS.ListQueues\n%s\n{{}}", "sqs", "ListQueues"),
    (f"POST / HTTP/1.1\n{LOCAL}X-Amz-Target: AWSEvents.ListRules\n%s\n{{}}", "events", "ListRules"),
    (f"POST / HTTP/1.1\n{LOCAL}{FORM}%s\nAction=ListTopics&Version=2010-03-31", "sns", "ListTopics"),
    (f"POST / HTTP/1.1\n{LOCAL}%s\nAction=ListTopics", "sns", "ListTopics"),
    (f"POST / HTTP/1.1\n{LOCAL}{FORM}%s\nVersion=2010-03-31&Action=TagResource", "sns", "TagResource"),
    (f"POST /?Action=ListQueues HTTP/1.1\n{LOCAL}{FORM}%s\n", "sqs", "ListQueues"),
    (f"GET /000000000000/orders?Action=AddPermission HTTP/1.1\n{LOCAL}%s\n", "sqs", "AddPermission"),
    ("GET /?Action=AddPermission HTTP/1.1\nHost: sqs.eu-west-1.localhost:4566\n%s\n", "sqs", "AddPermission"),
]


@pytest.mark.parametrize(
    "signature", ["", signed("s3"), signed("execute-api"), "Authorization: Bearer t\n", signed("")]
)
@pytest.mark.parametrize(("text", "service", "operation"), TELLING)
def test_a_request_routes_whoever_signed_it(text: str, service: str, operation: str, signature: str) -> None:
    got = route(sent(text % signature))
    assert (got.service, got.operation) == (service, operation)


def test_links_in_sns_messages_have_neither_version_nor_signature() -> None:
    link = (
        f"GET /?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:000000000000:t&Token=2336 HTTP/1.1\n{LOCAL}\n"
    )
    assert route(sent(link)) == Route("sns", "us-east-1", ACCOUNT, "ConfirmSubscription", "query", None)


def test_services_that_are_told_by_path_and_method() -> None:
    got = route(sent(f"POST /v1/pipes/p HTTP/1.1\n{LOCAL}Content-Type: application/json\n{signed('pipes')}\n{{}}"))
    assert got == expected("pipes", None, "rest-json")


def test_json_is_not_searched_for_an_action() -> None:
    body = '{"text": "&Action=ListQueues&Version=2012-11-05"}'
    got = route(sent(f"POST / HTTP/1.1\n{LOCAL}Content-Type: application/json\n{signed('s3')}\n{body}"))
    assert (got.service, got.operation) == ("s3", None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"GET / HTTP/1.1\n{LOCAL}\n", Route(None, "us-east-1", ACCOUNT, None, None, None)),
        (f"POST / HTTP/1.1\n{LOCAL}{FORM}\n", Route(None, "us-east-1", ACCOUNT, None, "query", None)),
        (f"POST / HTTP/1.1\n{LOCAL}{JSON11}\n", Route(None, "us-east-1", ACCOUNT, None, "json1.1", None)),
        (
            f"POST / HTTP/1.1\n{LOCAL}{JSON11}X-Amz-Target: Logs_20140328.PutLogEvents\n{signed('logs')}\n",
            expected("logs", "PutLogEvents", "json1.1"),
        ),
        (f"POST / HTTP/1.1\n{LOCAL}X-Amz-Target: x\n\n", Route(None, "us-east-1", ACCOUNT, "x", "json1.1", None)),
        (
            f"POST / HTTP/1.1\n{LOCAL}{FORM}{signed('sqs')}\nAction=No%20Such+Action",
            expected("sqs", "No Such Action", "query"),
        ),
        (
            f"POST / HTTP/1.1\n{LOCAL}Content-Type: APPLICATION/X-AMZ-JSON-1.0; charset=utf-8\n"
            "X-Amz-Target: Kinesis_20131202.ListStreams\n\n{}",
            Route("kinesis", "us-east-1", ACCOUNT, "ListStreams", "json1.0", None),
        ),
    ],
)
def test_what_little_there_is_is_told(text: str, wanted: Route) -> None:
    assert route(sent(text)) == wanted


# --- Worlds: regions and accounts ---

HOSTS = {
    "sqs.us-east-2.amazonaws.com": ("sqs", "us-east-2"),
    "SQS.us-east-2.amazonaws.com:443": ("sqs", "us-east-2"),
    "us-east-2.queue.amazonaws.com": ("sqs", "us-east-2"),
    "cn-north-1.queue.amazonaws.com.cn": ("sqs", "cn-north-1"),
    "queue.amazonaws.com": ("sqs", "us-east-1"),
    "sns.amazonaws.com": ("sns", "us-east-1"),
    "sts.amazonaws.com": ("sts", "us-east-1"),
    "sns.eu-west-1.amazonaws.com": ("sns", "eu-west-1"),
    "sqs-fips.us-gov-west-1.amazonaws.com": ("sqs", "us-gov-west-1"),
    "sqs.eu-west-1.api.aws": ("sqs", "eu-west-1"),
    "vpce-0a1b2c-3d4e.sqs.us-east-2.vpce.amazonaws.com": ("sqs", "us-east-2"),
    "111122223333.data-kinesis.us-west-2.amazonaws.com": ("kinesis", "us-west-2"),
    "abc123.xyz.endpoint.events.amazonaws.com": ("events", None),
    "sqs.eu-west-1.localhost": ("sqs", "eu-west-1"),
    "sqs.eu-west-1.localhost:4566": ("sqs", "eu-west-1"),
    "eu-west-1.queue.localhost:4566": ("sqs", "eu-west-1"),
    "sqs.team-east-1.svc.cluster.local:4566": ("sqs", None),  # a namespace, not a region
    "queue": (None, None),  # a container's name
    "sqs:4566": (None, None),
    "localhost:4566": (None, None),
    "127.0.0.1": (None, None),
    "[::1]:4566": (None, None),
    "eu-west-1": (None, None),
    "": (None, None),
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: str) -> None:
    service, region = HOSTS[host]
    got = route(Request("POST", b"/", [(b"host", host.encode())]))
    assert (got.service, got.region) == (service, region or "us-east-1")
    request = sent(f"POST / HTTP/1.1\nHost: {host}\n{signed('s3', 'ap-south-1')}X-Amz-Target: AmazonSQS.ListQueues\n\n")
    assert route(request).region == (region or "ap-south-1")  # the host goes before the signature
    if region:
        assert parse_queue_url(f"https://{host}/{ACCOUNT}/q") == QueueAddress(region, ACCOUNT, "q")


def test_every_region_of_aws_is_seen_in_a_host() -> None:
    partitions = botocore.loaders.Loader().load_data("partitions")["partitions"]
    regions = [region for p in partitions for region in p["regions"] if not region.endswith("-global")]
    assert len(regions) > 30
    for region in regions:
        assert parse_queue_url(f"https://sqs.{region}.amazonaws.com/{ACCOUNT}/q") == QueueAddress(region, ACCOUNT, "q")


def test_the_region_of_a_path() -> None:
    text = f"POST /queue/ap-south-1/000000000000/q HTTP/1.1\nHost: sqs.eu-west-1.localhost\n{FORM}{signed('sqs')}\n"
    assert route(sent(text + "Action=ReceiveMessage")).region == "ap-south-1"


@pytest.mark.parametrize("region", ["", "..", "a:b", "*", "a" * 65])
def test_a_region_that_cannot_stand_in_an_arn_is_not_taken(region: str) -> None:
    assert route(
        sent(f"POST / HTTP/1.1\n{LOCAL}{signed('sqs', region)}X-Amz-Target: AmazonSQS.ListQueues\n\n")
    ).region == ("us-east-1")


@pytest.mark.parametrize(
    ("access_key", "account"),
    [("111122223333", "111122223333"), ("11112222333", ACCOUNT), ("1111222233334", ACCOUNT), ("AKIA", ACCOUNT)],
)
def test_the_account_of_an_access_key(access_key: str, account: str) -> None:
    text = f"POST / HTTP/1.1\n{LOCAL}{signed('sqs', access_key=access_key)}X-Amz-Target: AmazonSQS.ListQueues\n\n"
    assert route(sent(text)).account == account
    assert route(sent(text)).access_key == access_key


def test_regions_of_a_4a_signature_are_not_mixed_up() -> None:
    router = Router("us-east-1", ACCOUNT)
    head = f"POST / HTTP/1.1\n{LOCAL}X-Amz-Target: AWSEvents.PutEvents\nAuthorization: AWS4-ECDSA-P256-SHA256 "
    head += "Credential=AKID/20261121/events/aws4_request, SignedHeaders=host, Signature=0\n"
    for region in ("eu-west-1", "eu-west-2"):
        assert router.route(sent(f"{head}X-Amz-Region-Set: {region}\n\n{{}}")).region == region
    assert router.route(sent(f"{head}X-Amz-Region-Set: *\n\n{{}}")).region == "us-east-1"


# --- Queue URLs ---

QUEUE_URLS = {
    f"http://localhost:4566/{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"http://localhost:4566/{ACCOUNT}/orders.fifo/": QueueAddress(None, ACCOUNT, "orders.fifo"),
    f"http://localhost:4566//{ACCOUNT}//orders?Action=x#y": QueueAddress(None, ACCOUNT, "orders"),
    f"http://[::1]:4566/{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"http://user:secret@sqs.eu-west-1.localhost/{ACCOUNT}/orders": QueueAddress("eu-west-1", ACCOUNT, "orders"),
    f"https://sqs.us-west-2.amazonaws.com/{ACCOUNT}/orders": QueueAddress("us-west-2", ACCOUNT, "orders"),
    f"http://sqs.us-west-2.localhost:4566/{ACCOUNT}/orders": QueueAddress("us-west-2", ACCOUNT, "orders"),
    f"https://us-east-2.queue.amazonaws.com/{ACCOUNT}/orders": QueueAddress("us-east-2", ACCOUNT, "orders"),
    f"https://queue.amazonaws.com/{ACCOUNT}/orders": QueueAddress("us-east-1", ACCOUNT, "orders"),
    f"http://localhost:4566/queue/us-east-1/{ACCOUNT}/orders": QueueAddress("us-east-1", ACCOUNT, "orders"),
    f"http://sqs.eu-west-1.host/queue/us-east-1/{ACCOUNT}/orders": QueueAddress("us-east-1", ACCOUNT, "orders"),
    f"/{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"/queue/eu-west-1/{ACCOUNT}/orders": QueueAddress("eu-west-1", ACCOUNT, "orders"),
    f"https://proxy.example/sqs/{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"http://localhost/{ACCOUNT}/a%62c": QueueAddress(None, ACCOUNT, "abc"),
    f"/queue/a:b/{ACCOUNT}/orders": QueueAddress(None, ACCOUNT, "orders"),
    f"http://localhost/{ACCOUNT}": None,
    "http://localhost/orders": None,
    "http://localhost/12345/orders": None,
    "orders": None,
    "arn:aws:sqs:us-east-1:000000000000:orders": None,
    "": None,
    f"/{ACCOUNT}/{'x' * 100_000}": None,
}


@pytest.mark.parametrize("url", QUEUE_URLS, ids=lambda url: url[:60])
def test_queue_urls(url: str) -> None:
    assert parse_queue_url(url) == QUEUE_URLS[url]


def test_a_path_takes_its_region_from_the_host_it_was_sent_to() -> None:
    assert parse_queue_url(f"/{ACCOUNT}/q", "sqs.eu-west-1.localhost:4566") == QueueAddress("eu-west-1", ACCOUNT, "q")
    assert parse_queue_url(QUEUE, "sqs.eu-west-1.localhost:4566") == QueueAddress(None, ACCOUNT, "orders")


def test_the_url_that_is_handed_out() -> None:
    assert queue_url("http", "localhost:4566", "us-east-1", ACCOUNT, "orders") == QUEUE
    assert queue_url("http", "localhost:4566", "eu-west-1", ACCOUNT, "orders") == QUEUE
    host = "sqs.eu-west-1.localhost:4566"
    assert queue_url("https", host, "eu-west-1", ACCOUNT, "q") == f"https://{host}/{ACCOUNT}/q"
    assert queue_url("https", host, "us-east-1", ACCOUNT, "q") == f"https://{host}/queue/us-east-1/{ACCOUNT}/q"


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(HOSTS)).filter(bool),
    st.sampled_from(["us-east-1", "eu-west-1", "ap-south-1"]),
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,75}(\.fifo)?", fullmatch=True),
)
def test_a_url_that_is_handed_out_leads_back(host: str, region: str, account: str, name: str) -> None:
    """To the queue's own region, or to none: then the signature tells, as it did when the URL was made."""
    address = parse_queue_url(queue_url("http", host, region, account, name))
    assert address in (QueueAddress(region, account, name), QueueAddress(None, account, name))
    assert address.region == (region if HOSTS[host][1] else None)


# --- Any bytes ---

headers = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"authorization", b"content-type", b"x-amz-target", b"x-amz-region-set", b"x"]),
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    *(host.encode() for host in HOSTS),
                    signed("sqs")[15:-1].encode(),
                    signed("sns", "eu-west-2", "111122223333")[15:-1].encode(),
                    b"AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/events/aws4_request, SignedHeaders=host",
                    b"eu-west-1",
                    b"AmazonSQS.SendMessage",
                    b"AWSEvents.PutEvents",
                    b"AmazonSQS.",
                    b".",
                    b"application/x-www-form-urlencoded",
                    b"application/x-amz-json-1.0",
                    b"application/x-amz-cbor-1.1",
                ]
            ),
        ),
    ),
    max_size=5,
)
payloads = st.lists(
    st.one_of(
        st.binary(max_size=10),
        st.sampled_from(
            [
                b"Action=Publish",
                b"Action=AddPermission",
                b"Version=2010-03-31",
                b"Version=2012-11-05",
                b"AWSAccessKeyId=AKID",
                b"X-Amz-Credential=AKID%2F20261121%2Feu-west-3%2Fsqs%2Faws4_request",
                b"&",
            ]
        ),
    ),
    max_size=5,
).map(b"&".join)
targets = st.one_of(
    st.sampled_from([b"/", b"/000000000000/orders", b"/queue/eu-west-1/000000000000/orders", b"*"]),
    st.binary(max_size=20),
    payloads.map(lambda query: b"/?" + query),
)
any_request = st.builds(Request, st.sampled_from(["GET", "POST"]), targets, headers, payloads)


@settings(deadline=None, max_examples=60)
@given(st.lists(any_request, max_size=12))
def test_a_router_that_has_seen_others_routes_like_a_new_one(seen: list[Request]) -> None:
    router = Router("us-east-1", ACCOUNT)
    for request in seen + seen:
        got = router.route(request)
        assert got == route(request)
        assert got.region
        assert len(got.account) == 12


def test_the_cache_is_bounded() -> None:
    router = Router("us-east-1", ACCOUNT)
    for n in range(5000):
        path = b"/000000000000/q%d" % n
        router.route(Request("POST", path, [(b"x-amz-target", b"AmazonSQS.SendMessage")]))
    router.route(Request("POST", b"/", [(b"x-amz-target", b"x" * 1_000_000)]))
    assert len(router._routes) <= 4096
    assert max(len(part) for key in router._routes for part in key) < 1024


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_as_a_queue_url(url: str, host: str) -> None:
    address = parse_queue_url(url, host)
    assert address is None or len(address.account) == 12
    parse_queue_url(f"http://{host}/{ACCOUNT}/{url}")
