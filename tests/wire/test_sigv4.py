"""Signatures: what AWS's test suite, botocore and other SDKs sign is accepted, and whatever else is refused AWS's way.

Run one seed again: pytest tests/wire/test_sigv4.py --hypothesis-seed=N
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http.message import Request
from protocols.sigv4 import AuthError, Scope, credential_of, credential_scope, verify

SUITE_KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
SUITE_CREDENTIAL = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NOON_S = NOON.timestamp()

QUERY, JSON, REST = "query", "json", "rest"
CODES = {
    QUERY: {
        "missing": ("MissingAuthenticationToken", 403),
        "incomplete": ("IncompleteSignature", 400),
        "unknown key": ("InvalidClientTokenId", 403),
        "mismatch": ("SignatureDoesNotMatch", 403),
    },
    JSON: {
        "missing": ("MissingAuthenticationTokenException", 400),
        "incomplete": ("IncompleteSignatureException", 400),
        "unknown key": ("UnrecognizedClientException", 400),
        "mismatch": ("InvalidSignatureException", 400),
    },
    REST: {
        "missing": ("MissingAuthenticationTokenException", 403),
        "incomplete": ("IncompleteSignatureException", 403),
        "unknown key": ("UnrecognizedClientException", 403),
        "mismatch": ("InvalidSignatureException", 403),
    },
}


def at(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def from_text(raw: str) -> Request:
    """A request as it was on the wire, lines ending in \\n here."""
    head, _, body = raw.encode().partition(b"\n\n")
    line, *rest = head.split(b"\n")
    method, target = line.rsplit(b" HTTP/1.1", 1)[0].split(b" ", 1)
    headers = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in rest)]
    return Request(method.decode(), target, headers, body)


# --- AWS's test suite (the signatures it publishes; credentials, date and host are the same throughout) ---

SUITE = {
    "get-vanilla": ("GET /", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-header-key-duplicate": (
        "GET /",
        "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-order": (
        "GET /",
        "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\n",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "get-header-value-trim": (
        "GET /",
        'My-Header1: value1\nMy-Header2: "a   b   c"\n',
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-unreserved": (
        "GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": ("GET /ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-space": ("GET /example space/", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    "get-relative": ("GET /example/..", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-relative-relative": (
        "GET /example1/example2/../..",
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash": ("GET //", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-slash-dot-slash": ("GET /./", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-slash-pointless-dot": (
        "GET /./example",
        "",
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "get-slashes": (
        "GET //example//",
        "",
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    "get-vanilla-empty-query-key": (
        "GET /?Param1=value1",
        "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-key": (
        "GET /?Param1=value2&Param1=Value1",
        "",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    "get-vanilla-query-order-key-case": (
        "GET /?Param2=value2&Param1=value1",
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-order-value": (
        "GET /?Param1=value2&Param1=value1",
        "",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "get-vanilla-query-order-encoded": (
        "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "get-vanilla-query-unreserved": (
        "GET /?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        "=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        "GET /?ሴ=bar",
        "",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-vanilla-with-session-token": (
        "GET /",
        "X-Amz-Security-Token:6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267\n",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    "post-vanilla": ("POST /", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-vanilla-query": (
        "POST /?Param1=value1",
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-header-key-sort": (
        "POST /",
        "My-Header1:value1\n",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        "POST /",
        "My-Header1:VALUE1\n",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-x-www-form-urlencoded": (
        "POST /",
        "Content-Type:application/x-www-form-urlencoded\n\nParam1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}

PRESIGNED_SUITE = {
    "get-vanilla": ("GET /?", "", "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    "get-vanilla-utf8-query": (
        "GET /?ሴ=bar&",
        "",
        "host",
        "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600",
    ),
    "get-header-key-duplicate": (
        "GET /?",
        "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n",
        "host%3Bmy-header1",
        "3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97",
    ),
    "get-header-value-trim": (
        "GET /?",
        'My-Header1: value1\nMy-Header2: "a   b   c"\n',
        "host%3Bmy-header1%3Bmy-header2",
        "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4",
    ),
}


def suite_request(line: str, rest: str, signature: str) -> Request:
    fields, _, body = rest.partition("\n\n")
    request = from_text(f"{line} HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n{fields}".strip())
    request.body = body.encode()
    signed = ";".join(sorted({name.decode() for name, _ in request.headers}))
    authorization = f"AWS4-HMAC-SHA256 Credential={SUITE_CREDENTIAL}, SignedHeaders={signed}, Signature={signature}"
    request.headers.append((b"authorization", authorization.encode()))
    return request


@pytest.mark.parametrize("name", SUITE)
def test_the_suite_of_aws_is_accepted(name: str) -> None:
    verify(suite_request(*SUITE[name]), SUITE_KEYS, at("2015-08-30T12:36:00Z"))


@pytest.mark.parametrize("name", PRESIGNED_SUITE)
def test_the_presigned_suite_of_aws_is_accepted(name: str) -> None:
    line, fields, signed, signature = PRESIGNED_SUITE[name]
    request = from_text(
        f"{line}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(SUITE_CREDENTIAL, safe='')}"
        f"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders={signed}&X-Amz-Expires=3600"
        f"&X-Amz-Signature={signature} HTTP/1.1\nHost:example.amazonaws.com\n{fields}".strip()
    )
    verify(request, SUITE_KEYS, at("2015-08-30T12:36:00Z"))


def test_a_wrong_secret_is_answered_with_the_strings_to_compare() -> None:
    with pytest.raises(AuthError) as refused:
        verify(suite_request(*SUITE["get-vanilla"]), {"AKIDEXAMPLE": "other"}, at("2015-08-30T12:36:00Z"))
    assert (refused.value.code, refused.value.status) == ("SignatureDoesNotMatch", 403)
    assert refused.value.message == (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.\n"
        "\n"
        "The Canonical String for this request should have been\n"
        "'GET\n"
        "/\n"
        "\n"
        "host:example.amazonaws.com\n"
        "x-amz-date:20150830T123600Z\n"
        "\n"
        "host;x-amz-date\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'\n"
        "\n"
        "The String-to-Sign should have been\n"
        "'AWS4-HMAC-SHA256\n"
        "20150830T123600Z\n"
        "20150830/us-east-1/service/aws4_request\n"
        "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63'\n"
    )


# --- Other SDKs: requests they sent to a listening socket (the secret was "secret") ---

SDKS = {
    "JavaScript v3, SNS": """\
POST / HTTP/1.1
content-type: application/x-www-form-urlencoded
content-length: 112
x-amz-user-agent: aws-sdk-js/3.1168.0
host: 127.0.0.1:41493
amz-sdk-invocation-id: 4663cca6-a5ca-4bb3-900d-f6070c0e3cc2
amz-sdk-request: attempt=1; max=1
x-amz-date: 20261121T021653Z
x-amz-content-sha256: 74b40da1643ad84395d00424039f90c59188b556d5d2ed78abbe599407aafa2a
authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-1/sns/aws4_request, \
SignedHeaders=amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;\
x-amz-date;x-amz-user-agent, Signature=f5ebf25b28c85eb6fc63ce6d6935c7711a1bbbf60514dd52d9ddfe0fa33cc025
Connection: keep-alive

Action=Publish&Version=2010-03-31&Message=hi%20%26%20bye&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A000000000000%3At""",
    "Go v2, Kinesis": """\
POST / HTTP/1.1
Host: 127.0.0.1:41493
Content-Length: 51
Amz-Sdk-Invocation-Id: 7d97ae4d-72b3-4845-8e82-597fbf42b961
Amz-Sdk-Request: attempt=1; max=1
Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-1/kinesis/aws4_request, \
SignedHeaders=amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-date;x-amz-target, \
Signature=a67de8dad90d20b8efab036cc87639f5b9a6a9b3a1845616a81363a2856f2846
Content-Type: application/x-amz-json-1.1
X-Amz-Date: 20261121T021726Z
X-Amz-Target: Kinesis_20131202.PutRecord
Accept-Encoding: gzip

{"Data":"aGk=","PartitionKey":"k","StreamName":"s"}""",
    "Java v2, SQS": """\
POST / HTTP/1.1
amz-sdk-invocation-id: bd39c0f0-57b6-b2fc-668b-b52c4e39aa41
amz-sdk-request: attempt=1; max=4
Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-1/sqs/aws4_request, \
SignedHeaders=amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;\
x-amz-date;x-amz-target;x-amzn-query-mode, \
Signature=450e7519b3557f2e7544c52ea82957e5cce6b83629961a014df97519b320e8e7
Content-Type: application/x-amz-json-1.0
x-amz-content-sha256: d76ec1494a05eb59fa0268e93b03215fbd29c4c3510db2e114f6a7a715602565
X-Amz-Date: 20261121T021808Z
X-Amz-Target: AmazonSQS.SendMessage
x-amzn-query-mode: true
Accept: */*
Host: 127.0.0.1:42975
Connection: keep-alive
Content-Length: 76

{"QueueUrl":"http://127.0.0.1:42975/000000000000/orders","MessageBody":"hi"}""",
}


@pytest.mark.parametrize("sdk", SDKS)
def test_what_other_sdks_sign_is_accepted(sdk: str) -> None:
    request = from_text(SDKS[sdk])
    verify(request, {"AKIDEXAMPLE": "secret"}, at("2026-11-21T02:17:30Z"))
    request.body += b" "
    with pytest.raises(AuthError, match="does not match the signature you provided"):
        verify(request, {"AKIDEXAMPLE": "secret"}, at("2026-11-21T02:17:30Z"))


# --- botocore as the signer ---


@pytest.fixture(autouse=True, scope="module")
def botocore_signs_at_noon() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: NOON)
        yield


def received(sent: AWSRequest) -> Request:
    """A request that botocore signed, as the listener would hand it over."""
    url = urlsplit(sent.url)
    target = (url.path or "/") + ("?" + url.query if url.query else "")
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers.items()]
    body = sent.body or b""
    return Request(
        sent.method,
        target.encode(),
        [(b"host", url.netloc.encode()), *headers],
        body if isinstance(body, bytes) else body.encode(),
    )


def signed(
    service: str = "sqs",
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    url: str = "http://localhost:4566/",
    body: bytes = b"Action=ListQueues",
    region: str = "eu-west-1",
    signer: Callable[..., SigV4Auth] = SigV4Auth,
    token: str | None = None,
) -> Request:
    sent = AWSRequest(method, url, headers or {}, b"" if signer is SigV4QueryAuth else body)
    signer(Credentials("AKID", "secret", token), service, region).add_auth(sent)
    return received(sent)


KEYS = {"AKID": "secret"}
BY_FAMILY: dict[str, Callable[..., Request]] = {
    QUERY: lambda **more: signed("sns", {}, **more),
    JSON: lambda **more: signed("kinesis", {"X-Amz-Target": "Kinesis_20131202.ListStreams"}, **more),
    REST: lambda **more: signed("scheduler", {}, **more),
}
families = pytest.mark.parametrize("family", CODES)


def refusal(request: Request, now_s: float = NOON_S, keys: dict[str, str] = KEYS, **scoped: str) -> AuthError:
    with pytest.raises(AuthError) as refused:
        verify(request, keys, now_s, **scoped)
    return refused.value


def with_headers(request: Request, headers: list[tuple[bytes, bytes]]) -> Request:
    return Request(request.method, request.target, headers, request.body, request.scheme)


def with_header(request: Request, name: bytes, value: bytes | None) -> Request:
    kept = [header for header in request.headers if header[0] != name]
    return with_headers(request, kept if value is None else [*kept, (name, value)])


def authorization(request: Request) -> bytes:
    return (request.header(b"authorization") or "").encode()


names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
texts = st.text(max_size=12)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
segments = st.one_of(texts, st.sampled_from(["", ".", "..", "a b", "ü/ü", "%41", "+", "000000000000"]))


@st.composite
def requests(draw: st.DrawFn) -> AWSRequest:
    path = "/" + "/".join(quote(segment, safe="-_.~") for segment in draw(st.lists(segments, max_size=4)))
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in draw(st.lists(st.tuples(texts.filter(bool), texts), max_size=4))
    )
    host = draw(st.sampled_from(["localhost:4566", "sqs.eu-west-1.amazonaws.com", "127.0.0.1"]))
    sent = AWSRequest(
        draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"])),
        f"http://{host}{path}" + (f"?{query}" if query else ""),
        {"Content-Type": "application/x-amz-json-1.0"},
        draw(st.binary(max_size=40)),
    )
    for name, value in draw(st.lists(st.tuples(names, printable), max_size=4)):
        sent.headers.add_header("x-" + name, value)  # the same name more than once, too
    return sent


credentials = st.builds(
    Credentials, st.just("AKID"), st.text(st.characters(codec="ascii"), min_size=1), st.none() | names
)


@settings(deadline=None, max_examples=80)
@given(requests(), credentials, st.sampled_from(["sqs", "sns", "kinesis", "events"]), names)
def test_what_botocore_signs_is_accepted(sent: AWSRequest, key: Credentials, service: str, region: str) -> None:
    SigV4Auth(key, service, region).add_auth(sent)
    request = received(sent)
    verify(request, {"AKID": key.secret_key}, NOON_S, service=service, region=region)
    assert credential_scope(request) == Scope("AKID", "20261121", region, service, key.token is not None)


@settings(deadline=None, max_examples=40)
@given(requests(), credentials, st.integers(1, 604800))
def test_what_botocore_presigns_is_accepted(sent: AWSRequest, key: Credentials, expires_s: int) -> None:
    sent.data = b""
    SigV4QueryAuth(key, "sqs", "eu-west-1", expires_s).add_auth(sent)
    request = received(sent)
    verify(request, {"AKID": key.secret_key}, NOON_S)
    assert credential_scope(request) == Scope("AKID", "20261121", "eu-west-1", "sqs", key.token is not None)


def changed(data: bytes, at_byte: int) -> bytes:
    """The data with one hexadecimal digit, letter or other byte turned into another."""
    at_byte %= len(data)
    other = b"b" if data[at_byte : at_byte + 1] != b"b" else b"c"
    return data[:at_byte] + other + data[at_byte + 1 :]


MUTATIONS: dict[str, Callable[[Request, int], Request]] = {
    "method": lambda request, _: setattr(request, "method", "PATCH") or request,
    "path": lambda request, _: setattr(request, "target", 9 * b"/x" + request.target) or request,
    "query": lambda request, _: (
        setattr(request, "target", request.target + (b"&" if b"?" in request.target else b"?") + b"b=1") or request
    ),
    "body": lambda request, _: setattr(request, "body", request.body + b".") or request,
    "host": lambda request, _: with_header(request, b"host", b"other"),
    "signed header": lambda request, _: with_header(request, b"content-type", b"text/plain"),
    "lost header": lambda request, _: with_header(request, b"content-type", None),
    "second value": lambda request, _: with_headers(request, [*request.headers, (b"content-type", b"text/plain")]),
    "signature": lambda request, n: with_header(
        request, b"authorization", authorization(request)[:-64] + changed(authorization(request)[-64:], n)
    ),
    "time": lambda request, n: with_header(request, b"x-amz-date", b"20261121T1200%02dZ" % (n % 59 + 1)),
    "region": lambda request, _: with_header(
        request, b"authorization", authorization(request).replace(b"/eu-west-1/", b"/eu-west-2/")
    ),
    "service": lambda request, _: with_header(
        request, b"authorization", authorization(request).replace(b"/sqs/", b"/sns/")
    ),
}


@settings(deadline=None, max_examples=80)
@given(requests(), st.sampled_from(sorted(MUTATIONS)), st.integers(0, 1000))
def test_a_change_anywhere_breaks_the_signature(sent: AWSRequest, where: str, n: int) -> None:
    SigV4Auth(Credentials("AKID", "secret"), "sqs", "eu-west-1").add_auth(sent)
    request = received(sent)
    refused = refusal(MUTATIONS[where](request, n))
    assert (refused.code, refused.status) == CODES[QUERY]["mismatch"]
    assert "The Canonical String for this request should have been\n'" in refused.message


# --- Each refusal, in the words of each family of services ---


@families
def test_no_signature(family: str) -> None:
    request = with_header(BY_FAMILY[family](), b"authorization", None)
    refused = refusal(request, service="scheduler" if family == REST else "")
    assert (refused.code, refused.status) == CODES[family]["missing"]
    assert refused.message == (
        "Request is missing Authentication Token" if family == QUERY else "Missing Authentication Token"
    )


@families
def test_a_key_that_nobody_has(family: str) -> None:
    refused = refusal(BY_FAMILY[family](), keys={"OTHER": "secret"})
    assert (refused.code, refused.status) == CODES[family]["unknown key"]
    assert refused.message == "The security token included in the request is invalid."


@families
def test_a_wrong_secret(family: str) -> None:
    refused = refusal(BY_FAMILY[family](), keys={"AKID": "other"})
    assert (refused.code, refused.status) == CODES[family]["mismatch"]


def test_sqs_answers_like_a_query_service_over_json_too() -> None:
    request = signed("sqs", {"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"})
    assert refusal(request, keys={}).code == "InvalidClientTokenId"
    assert refusal(request, keys={"AKID": "other"}).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("family", "minutes", "expired", "not_yet"),
    [
        (QUERY, 15, "20261121T114500Z (20261121T120000Z - 15 min.)", "20261121T121500Z (20261121T120000Z + 15 min.)"),
        (JSON, 5, "20261121T115500Z (20261121T120000Z - 5 min.)", "20261121T120500Z (20261121T120000Z + 5 min.)"),
        (REST, 5, "20261121T115500Z (20261121T120000Z - 5 min.)", "20261121T120500Z (20261121T120000Z + 5 min.)"),
    ],
)
def test_skew(family: str, minutes: int, expired: str, not_yet: str) -> None:
    def signed_at(offset_s: int) -> Request:
        with pytest.MonkeyPatch.context() as patch:
            instant = datetime.fromtimestamp(NOON_S + offset_s, UTC)
            patch.setattr(botocore.auth, "get_current_datetime", lambda: instant)
            return BY_FAMILY[family]()

    limit_s = minutes * 60
    verify(signed_at(-limit_s), KEYS, NOON_S)
    verify(signed_at(limit_s), KEYS, NOON_S)

    refused = refusal(signed_at(-limit_s - 1))
    assert (refused.code, refused.status) == CODES[family]["mismatch"]
    signed_text = datetime.fromtimestamp(NOON_S - limit_s - 1, UTC).strftime("%Y%m%dT%H%M%SZ")
    assert refused.message == f"Signature expired: {signed_text} is now earlier than {expired}"

    refused = refusal(signed_at(limit_s + 1))
    assert (refused.code, refused.status) == CODES[family]["mismatch"]
    signed_text = datetime.fromtimestamp(NOON_S + limit_s + 1, UTC).strftime("%Y%m%dT%H%M%SZ")
    assert refused.message == f"Signature not yet current: {signed_text} is still later than {not_yet}"

    # A fraction of a second counts though the text does not show it (aws/aws-sdk-js#401).
    assert refusal(signed_at(-limit_s), NOON_S + 0.5).message.startswith("Signature expired: ")


@pytest.mark.parametrize("expires_s", [1, 604800])
def test_a_presigned_url_lives_fifteen_minutes_whatever_it_says(expires_s: int) -> None:
    sent = AWSRequest("GET", "http://localhost:4566/000000000000/q?Action=ReceiveMessage&Version=2012-11-05")
    SigV4QueryAuth(Credentials("AKID", "secret"), "sqs", "eu-west-1", expires_s).add_auth(sent)
    request = received(sent)
    verify(request, KEYS, NOON_S + 900)
    refused = refusal(request, NOON_S + 901)
    assert (refused.code, refused.status) == ("SignatureDoesNotMatch", 403)
    assert refused.message == (
        "Signature expired: 20261121T120000Z is now earlier than 20261121T120001Z (20261121T121501Z - 15 min.)"
    )


@pytest.mark.parametrize("lost", ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"])
def test_a_presigned_url_without_one_of_its_parts(lost: str) -> None:
    request = signed("sqs", method="GET", signer=SigV4QueryAuth)
    request.target = request.target.replace(lost.encode(), b"X-Lost")
    refused = refusal(request)
    assert (refused.code, refused.status) == ("IncompleteSignature", 400)
    assert refused.message == (
        f"AWS query-string parameters must include '{lost}'. Re-examine the query-string parameters."
    )


def hashed(header: bytes) -> str:
    return b64encode(sha256(header).digest()).decode()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0",
            "Authorization header requires 'Credential' parameter."
            " (Hashed with SHA-256 and encoded with Base64) Authorization={hash}",
        ),
        (
            b"Basic dXNlcjpwYXNz=",
            "Authorization header requires 'Credential' parameter."
            " Authorization header requires 'Signature' parameter."
            " Authorization header requires 'SignedHeaders' parameter."
            " (Hashed with SHA-256 and encoded with Base64) Authorization={hash}",
        ),
        (
            b"Bearer token",
            "Invalid key=value pair (missing equal-sign) in Authorization header"
            " (hashed with SHA-256 and encoded with Base64): '{hash}'.",
        ),
        (
            b"AWS4-HMAC-SHA256 Credential= AKID/20261121/eu-west-1/sns/aws4_request, SignedHeaders=host, Signature=0",
            "Invalid key=value pair (missing equal-sign) in Authorization header"
            " (hashed with SHA-256 and encoded with Base64): '{hash}'.",
        ),
        (
            b"AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/sns, SignedHeaders=host, Signature=0",
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term,"
            " got 'AKID/20261121/eu-west-1/sns'",
        ),
        (
            b"AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/sns/aws4_request, SignedHeaders=host, Signature=0",
            "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'.",
        ),
    ],
)
@families
def test_an_authorization_header_that_is_not_whole(family: str, header: bytes, message: str) -> None:
    request = with_header(BY_FAMILY[family](), b"authorization", header)
    refused = refusal(request, service="scheduler" if family == REST else "")
    assert (refused.code, refused.status) == CODES[family]["incomplete"]
    assert refused.message == message.replace("{hash}", hashed(header))


def test_no_date_and_a_date_of_another_form() -> None:
    assert refusal(with_header(signed(), b"x-amz-date", None)).message.startswith(
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
    )
    for date in (b"Sun, 23 Nov 2014 04:07:43 GMT", b"2026-11-21T12:00:00Z", b"20261321T120000Z", b"2026W011T120000Z"):
        refused = refusal(with_header(signed(), b"x-amz-date", date))
        assert (refused.code, refused.status) == ("IncompleteSignature", 400)
        assert refused.message == (
            f"Date must be in ISO-8601 'basic format'. Got '{date.decode()}'. See http://en.wikipedia.org/wiki/ISO_8601"
        )


def test_a_date_header_takes_the_place_of_x_amz_date() -> None:
    request = signed("sns", {"Date": "now"})  # botocore puts its own time where it finds a Date
    assert request.header(b"x-amz-date") is None
    assert request.header(b"date") == "Sat, 21 Nov 2026 12:00:00 -0000"
    verify(request, KEYS, NOON_S)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"/eu-west-1/", b"/queue/", "Credential should be scoped to a valid region, not 'queue'. "),
        (b"/sqs/", b"/sns/", "Credential should be scoped to correct service: 'sqs'. "),
        (
            b"/aws4_request",
            b"/aws5_request",
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ",
        ),
        (
            b"/20261121/",
            b"/20261120/",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            "'20261120' != '20261121', from '20261121T120000Z'. ",
        ),
    ],
)
def test_a_wrong_scope(old: bytes, new: bytes, message: str) -> None:
    request = signed()
    request = with_header(request, b"authorization", authorization(request).replace(old, new))
    refused = refusal(request, service="sqs", region="eu-west-1")
    assert (refused.code, refused.status) == ("SignatureDoesNotMatch", 403)
    assert refused.message == message


def test_the_host_must_be_signed() -> None:
    request = signed("kinesis", {"X-Amz-Target": "Kinesis_20131202.ListStreams"})
    request = with_header(request, b"authorization", authorization(request).replace(b"host;", b""))
    refused = refusal(request)
    assert (refused.code, refused.status) == ("InvalidSignatureException", 400)
    assert refused.message == "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."


def test_the_payload_hash() -> None:
    unsigned = AWSRequest("POST", "https://localhost/", {}, b"Action=ListQueues")
    unsigned.context["payload_signing_enabled"] = False
    SigV4Auth(Credentials("AKID", "secret"), "sqs", "eu-west-1").add_auth(unsigned)
    request = received(unsigned)
    assert request.header(b"x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    request.body = b"anything"
    verify(request, KEYS, NOON_S)

    # A hash of another body is signed over, and is still not the hash of this one.
    request = signed(headers={"X-Amz-Content-SHA256": sha256(b"other").hexdigest()})
    assert f"\n{sha256(request.body).hexdigest()}'\n\nThe String-to-Sign" in refusal(request).message


@pytest.mark.parametrize("order", [1, -1])
def test_the_signature_believed_is_the_one_checked(order: int) -> None:
    """Two of them, one good and one that claims another's key: `credential_scope` must not differ from `verify`."""
    request = signed()
    forged = authorization(request).replace(b"=AKID/", b"=999999999999/")
    request = with_headers(request, [*request.headers, (b"authorization", forged)][::order])
    believed = credential_scope(request)
    assert believed is not None
    if believed.access_key == "AKID":
        verify(request, KEYS, NOON_S)
    else:
        assert refusal(request).code == "InvalidClientTokenId"

    request = signed("sqs", method="GET", signer=SigV4QueryAuth)
    forged = b"X-Amz-Credential=999999999999%2F20261121%2Feu-west-1%2Fsqs%2Faws4_request"
    path, _, query = request.target.partition(b"?")
    request.target = path + b"?" + b"&".join([forged, query][::order])
    assert refusal(request).code in ("IncompleteSignature", "InvalidClientTokenId", "SignatureDoesNotMatch")


# --- Believing what is claimed ---

CLAIMS = {
    b"AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0": Scope(
        "AKID", "20261121", "eu-west-1", "sqs", False
    ),
    b"AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/sqs/aws4_request,SignedHeaders=host,Signature=0": Scope(
        "AKID", "20261121", "eu-west-1", "sqs", False
    ),
    b"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0, Credential=AKID/20261121/eu-west-1/sqs/aws4_request": Scope(
        "AKID", "20261121", "eu-west-1", "sqs", False
    ),
    b"AWS4-HMAC-SHA256 Credential= a/b/20261121/eu-west-1/sqs/aws4_request , SignedHeaders=host": Scope(
        "a/b", "20261121", "eu-west-1", "sqs", False
    ),
    b"AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/events/aws4_request, SignedHeaders=host": Scope(
        "AKID", "20261121", "", "events", False
    ),
    b"AWS4-HMAC-SHA256 Credential=AKID, SignedHeaders=host": Scope("AKID", "", "", "", False),
    b"AWS AKID:frJIUN8DYpKDtOLCwo//yllqDzg=": Scope("AKID", "", "", "", False),
    b"Bearer token": None,
    b"": None,
}


@pytest.mark.parametrize("header", CLAIMS)
def test_the_scope_of_a_header(header: bytes) -> None:
    assert credential_scope(Request("POST", b"/", [(b"authorization", header)])) == CLAIMS[header]


def test_the_scope_of_other_requests() -> None:
    legacy = b"Action=ListQueues&AWSAccessKeyId=AKID&SignatureVersion=2&Signature=x"
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    assert credential_scope(Request("POST", b"/", form, legacy)) == Scope("AKID", "", "", "", False)
    assert credential_scope(Request("GET", b"/?" + legacy, [])) == Scope("AKID", "", "", "", False)
    assert credential_scope(Request("POST", b"/", [(b"content-type", b"application/x-amz-json-1.0")], legacy)) is None
    regional = [
        (b"authorization", b"AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/events/aws4_request, SignedHeaders=host"),
        (b"x-amz-region-set", b"eu-west-1, eu-west-2"),
    ]
    assert credential_scope(Request("POST", b"/", regional)) == Scope("AKID", "20261121", "eu-west-1", "events", False)
    token = [*regional, (b"x-amz-security-token", b"t")]
    assert credential_scope(Request("POST", b"/", token)) == Scope("AKID", "20261121", "eu-west-1", "events", True)


def test_a_huge_credential_fills_no_cache() -> None:
    assert len(credential_of(b"AWS4-HMAC-SHA256 Credential=" + b"A" * 100_000 + b", x")) < 300


fragments = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [
                b"AWS4-HMAC-SHA256 ",
                b"AWS4-ECDSA-P256-SHA256 ",
                b"AWS ",
                b"Credential=AKID/20261121/eu-west-1/sqs/aws4_request",
                b"Credential=",
                b"SignedHeaders=host;x-amz-date",
                b"Signature=00",
                b", ",
                b"X-Amz-Algorithm=AWS4-HMAC-SHA256&",
                b"X-Amz-Credential=AKID%2F20261121%2Feu-west-1%2Fsqs%2Faws4_request&",
                b"X-Amz-Signature=\xff&",
                b"X-Amz-Date=20261121T120000Z&",
                b"X-Amz-SignedHeaders=host&",
                b"%",
                b"?",
                b"/..",
                b"20261121T120000Z",
                b"Sat, 21 Nov 2026 12:00:00 GMT",
                b"Mon, 01 Jan 0001 00:00:00 +2359",
            ]
        ),
    ),
    max_size=8,
).map(b"".join)
known = st.sampled_from(
    [b"authorization", b"x-amz-date", b"date", b"host", b"x-amz-target", b"x-amz-content-sha256", b"x-amz-region-set"]
)


@settings(deadline=None, max_examples=200)
@given(fragments, st.lists(st.tuples(known | st.binary(max_size=5), fragments), max_size=6), fragments)
def test_any_bytes_are_refused_and_none_raise(target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    request = Request("POST", b"/" + target, headers, body)
    credential_scope(request)
    refusal(request)
