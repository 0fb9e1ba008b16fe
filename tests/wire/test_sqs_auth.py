"""`--auth strict`: what good and bad signatures get, and what policies say to strangers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

Connect = Callable[..., Any]

OWNER, STRANGER = "111122223333", "444455556666"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def strict(start_sidebus: Callable[..., Any]) -> Any:
    keys = ("--key", f"OWNERKEY=owner/secret+=@{OWNER}", "--key", f"STRANGERKEY=s@{STRANGER}", "--key", f"{STRANGER}=t")
    return start_sidebus("--auth", "strict", *keys)


@pytest.fixture
def owner(strict: Any, connect: Connect) -> Any:
    strict.request("POST", "/_sidebus/reset")
    return connect(strict, account="OWNERKEY", secret="owner/secret+=")


@pytest.fixture
def stranger(strict: Any, connect: Connect) -> Any:
    return connect(strict, account="STRANGERKEY", secret="s")


def refusal(call: Any, **parameters: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def test_a_good_key_is_its_account(strict: Any, owner: Any, connect: Connect) -> None:
    assert owner.create_queue(QueueName="q")["QueueUrl"] == f"{strict.url}/{OWNER}/q"
    identity = connect(strict, "sts", account="OWNERKEY", secret="owner/secret+=").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == (OWNER, f"arn:aws:iam::{OWNER}:user/sidebus")
    other_key = connect(strict, account=STRANGER, secret="t")
    assert other_key.create_queue(QueueName="q")["QueueUrl"] == f"{strict.url}/{STRANGER}/q"


def test_bad_keys(strict: Any, connect: Connect) -> None:
    wrong = connect(strict, account="OWNERKEY", secret="guess")
    status, code, message = refusal(wrong.list_queues)
    assert (status, code) == (403, "SignatureDoesNotMatch")
    assert message.startswith("The request signature we calculated does not match the signature you provided.")
    invalid = (403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    assert refusal(connect(strict, account="NOKEY", secret="x").list_queues) == invalid
    missing = (403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    assert refusal(connect(strict, signature_version=UNSIGNED).list_queues) == missing


def signed(url: str, form: dict[str, str], at: datetime | None = None) -> dict[str, str]:
    """The headers of a form that botocore has signed, now or at another time."""
    request = AWSRequest("POST", url, headers=FORM, data=urlencode(form))
    auth = SigV4Auth(Credentials("OWNERKEY", "owner/secret+="), "sqs", "us-east-1")
    if at is None:
        auth.add_auth(request)
    else:
        request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        request.headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=" + ", ".join(
            [
                auth.scope(request),
                f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}",
                f"Signature={auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)}",
            ]
        )
    return dict(request.headers.items())


def test_a_signed_form(strict: Any, owner: Any) -> None:
    form = {"Action": "CreateQueue", "QueueName": "by-form", "Version": "2012-11-05"}
    headers = signed(f"{strict.url}/", form)
    assert strict.request("POST", "/", headers, urlencode(form)).status == 200
    tampered = strict.request("POST", "/", headers, urlencode({**form, "QueueName": "another"}))
    assert tampered.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in tampered.body
    assert len(owner.list_queues()["QueueUrls"]) == 1


@pytest.mark.parametrize(
    ("minutes", "text"), [(-16, b"Signature expired: "), (16, b"Signature not yet current: "), (-14, b""), (14, b"")]
)
def test_clocks_may_differ_by_fifteen_minutes(strict: Any, minutes: int, text: bytes) -> None:
    form = {"Action": "ListQueues", "Version": "2012-11-05"}
    headers = signed(f"{strict.url}/", form, datetime.now(UTC) + timedelta(minutes=minutes))
    answer = strict.request("POST", "/", headers, urlencode(form))
    assert answer.status == (403 if text else 200)
    assert text in answer.body


def test_a_presigned_url(strict: Any, owner: Any) -> None:
    url = owner.create_queue(QueueName="q")["QueueUrl"]
    request = AWSRequest("GET", f"{url}?{urlencode({'Action': 'SendMessage', 'MessageBody': 'a b+c'})}")
    SigV4QueryAuth(Credentials("OWNERKEY", "owner/secret+="), "sqs", "us-east-1").add_auth(request)
    target = request.url.removeprefix(strict.url)
    assert strict.request("GET", target).status == 200
    tampered = strict.request("GET", target.replace("MessageBody=a", "MessageBody=b"))
    assert tampered.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in tampered.body
    (message,) = owner.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert message["Body"] == "a b+c"


def denied(action: str, url: str) -> tuple[int, str, str]:
    name = url.rpartition("/")[2]
    return (
        403,
        "AccessDenied",
        f"User: arn:aws:iam::{STRANGER}:user/sidebus is not authorized to perform: sqs:{action} on resource: "
        f"arn:aws:sqs:us-east-1:{OWNER}:{name} because no resource-based policy allows the sqs:{action} action",
    )


def test_a_stranger_needs_a_permission(owner: Any, stranger: Any) -> None:
    url = owner.create_queue(QueueName="q")["QueueUrl"]
    hello = {"QueueUrl": url, "MessageBody": "hello"}
    batch = {"QueueUrl": url, "Entries": [{"Id": "a", "MessageBody": "hello"}]}
    assert refusal(stranger.send_message, **hello) == denied("sendmessage", url)
    assert refusal(stranger.delete_queue, QueueUrl=url) == denied("deletequeue", url)
    owner.add_permission(QueueUrl=url, Label="l", AWSAccountIds=[STRANGER], Actions=["SendMessage"])
    stranger.send_message(**hello)
    stranger.send_message_batch(**batch)  # policies know no batches: SendMessage is both
    assert refusal(stranger.receive_message, QueueUrl=url) == denied("receivemessage", url)
    assert len(owner.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 2
    owner.remove_permission(QueueUrl=url, Label="l")
    assert refusal(stranger.send_message_batch, **batch) == denied("sendmessage", url)


def test_a_stranger_is_not_told_which_queues_there_are(owner: Any, stranger: Any) -> None:
    url = owner.create_queue(QueueName="q")["QueueUrl"]
    asked = {"QueueName": "q", "QueueOwnerAWSAccountId": OWNER}
    status, code, _ = refusal(stranger.get_queue_url, **asked)
    assert (status, code) == (400, "AWS.SimpleQueueService.NonExistentQueue")
    assert "QueueUrls" not in stranger.list_queues()
    owner.add_permission(QueueUrl=url, Label="l", AWSAccountIds=[STRANGER], Actions=["GetQueueUrl"])
    assert stranger.get_queue_url(**asked)["QueueUrl"] == url


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([{"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": "*"}], True),
        ([{"Effect": "Allow", "Principal": {"AWS": STRANGER}, "Action": "SQS:Send*"}], True),
        (
            [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": [f"arn:aws:iam::{STRANGER}:root"]},
                    "Action": ["sqs:SendMessage"],
                }
            ],
            True,
        ),
        ([{"Effect": "Allow", "Principal": "*", "Action": "sqs:ReceiveMessage"}], False),
        ([{"Effect": "Allow", "Principal": {"AWS": "777788889999"}, "Action": "sqs:*"}], False),
        ([{"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": "arn:aws:sqs:*:*:other"}], False),
        (
            [
                {"Effect": "Allow", "Principal": "*", "Action": "sqs:*"},
                {"Effect": "Deny", "Principal": {"AWS": STRANGER}, "Action": "sqs:SendMessage"},
            ],
            False,
        ),
    ],
)
def test_what_a_policy_allows(owner: Any, stranger: Any, statements: list[dict[str, Any]], allowed: bool) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    url = owner.create_queue(QueueName="q", Attributes={"Policy": policy})["QueueUrl"]
    if allowed:
        stranger.send_message(QueueUrl=url, MessageBody="x")
    else:
        assert refusal(stranger.send_message, QueueUrl=url, MessageBody="x")[1] == "AccessDenied"


def test_no_policy_shares_the_administration_of_a_queue(owner: Any, stranger: Any) -> None:
    policy = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]})
    url = owner.create_queue(QueueName="q", Attributes={"Policy": policy})["QueueUrl"]
    stranger.purge_queue(QueueUrl=url)
    stranger.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    assert refusal(stranger.delete_queue, QueueUrl=url) == denied("deletequeue", url)
    assert refusal(stranger.list_queue_tags, QueueUrl=url) == denied("listqueuetags", url)
    change = {"QueueUrl": url, "Attributes": {"DelaySeconds": "1"}}
    assert refusal(stranger.set_queue_attributes, **change) == denied("setqueueattributes", url)


def test_health_is_for_everybody(strict: Any) -> None:
    assert strict.request("GET", "/_sidebus/health").status == 200


def test_keys_from_the_environment(start_sidebus: Callable[..., Any], connect: Connect) -> None:
    sidebus = start_sidebus(SIDEBUS_AUTH="strict", SIDEBUS_KEY=f"A=a@{OWNER},B=b")
    assert connect(sidebus, account="A", secret="a").create_queue(QueueName="q")["QueueUrl"].endswith(f"/{OWNER}/q")
    assert "QueueUrls" not in connect(sidebus, account="B", secret="b").list_queues()
    assert sidebus.stop() == 0
