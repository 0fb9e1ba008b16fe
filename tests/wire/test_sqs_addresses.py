"""Who is asked for what: queue URLs in all forms, regions and accounts, GET, and requests signed with anything."""

from __future__ import annotations

import json
import random
import shutil
import ssl
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

Connect = Callable[..., Any]
JSON = "application/x-amz-json-1.0"


def sole_body(answer: Any) -> str:
    (message,) = answer["Messages"]
    return str(message["Body"])


def scope(account: str, region: str = "us-east-1") -> str:
    return f"AWS4-HMAC-SHA256 Credential={account}/20260101/{region}/sqs/aws4_request, SignedHeaders=host, Signature=0"


def ask(sidebus: Any, operation: str, parameters: dict[str, Any], target: str = "/", **headers: str) -> Any:
    """One JSON request, with these headers over the usual ones (`_` for `-`)."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    usual = {"Content-Type": JSON, "X-Amz-Target": f"AmazonSQS.{operation}"}
    return sidebus.request("POST", target, {**usual, **given}, json.dumps(parameters))


# queue URLs


@pytest.mark.parametrize(
    "form",
    [
        "{url}",
        "{url}/",
        "http://localhost:1/{account}/q",
        "https://example.com/{account}/q",
        "https://sqs.us-east-1.amazonaws.com/{account}/q",
        "https://us-east-1.queue.amazonaws.com/{account}/q",
        "https://queue.amazonaws.com/{account}/q",
        "http://sqs.us-east-1.localhost:4566/{account}/q",
        "http://us-east-1.queue.localhost:4566/{account}/q",
        "http://localhost:4566/queue/us-east-1/{account}/q",
        "/{account}/q",
    ],
)
def test_a_queue_answers_to_every_form_of_its_url(sqs: Any, account: str, form: str) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    given = form.format(url=url, account=account)
    sqs.send_message(QueueUrl=given, MessageBody="here")
    assert sole_body(sqs.receive_message(QueueUrl=url)) == "here"


@pytest.mark.parametrize(
    "url", ["q", "http://localhost/q", "http://localhost/1234/q", "http://localhost/", "arn:aws:sqs:a:b:c"]
)
def test_what_is_no_queue_url(sqs: Any, url: str) -> None:
    sqs.create_queue(QueueName="q")
    with pytest.raises(sqs.exceptions.InvalidAddress, match="is not valid for this endpoint"):
        sqs.send_message(QueueUrl=url, MessageBody="x")


@pytest.mark.parametrize(
    ("host", "region", "url"),
    [
        ("localhost:4566", "us-east-1", "http://localhost:4566/{account}/q"),
        ("broker", "eu-west-1", "http://broker/{account}/q"),
        ("sqs.eu-west-1.localhost:99", "eu-west-1", "http://sqs.eu-west-1.localhost:99/{account}/q"),
        ("eu-west-1.queue.localhost", "us-east-1", "http://eu-west-1.queue.localhost/{account}/q"),
        ("[::1]:4566", "us-east-1", "http://[::1]:4566/{account}/q"),
    ],
)
def test_urls_are_built_from_the_host_that_was_asked(
    sidebus: Any, account: str, host: str, region: str, url: str
) -> None:
    signed = scope(account, region)
    expected = {"QueueUrl": url.format(account=account)}
    for operation in ("CreateQueue", "GetQueueUrl"):
        answer = ask(sidebus, operation, {"QueueName": "q"}, Host=host, Authorization=signed)
        assert json.loads(answer.body) == expected
    listed = ask(sidebus, "ListQueues", {}, Host=host, Authorization=signed)
    assert json.loads(listed.body) == {"QueueUrls": list(expected.values())}


def test_a_host_that_names_a_region_goes_before_the_signature(sidebus: Any, connect: Connect, account: str) -> None:
    ask(sidebus, "CreateQueue", {"QueueName": "q"}, Host="sqs.eu-west-1.localhost", Authorization=scope(account))
    assert "QueueUrls" not in connect(sidebus).list_queues()
    assert len(connect(sidebus, region="eu-west-1").list_queues()["QueueUrls"]) == 1


# worlds


def test_regions_are_separate_worlds(sidebus: Any, connect: Connect, account: str) -> None:
    east, west = connect(sidebus, region="us-east-1"), connect(sidebus, region="eu-west-1")
    url = east.create_queue(QueueName="q")["QueueUrl"]
    assert "QueueUrls" not in west.list_queues()
    with pytest.raises(west.exceptions.QueueDoesNotExist):
        west.get_queue_url(QueueName="q")
    assert west.create_queue(QueueName="q")["QueueUrl"] == url
    east.send_message(QueueUrl=url, MessageBody="east")
    assert "Messages" not in west.receive_message(QueueUrl=url)
    for client, region in ((east, "us-east-1"), (west, "eu-west-1")):
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        assert attributes == {"QueueArn": f"arn:aws:sqs:{region}:{account}:q"}
    # A URL that names a region means that region, whoever asks.
    named = f"https://sqs.us-east-1.amazonaws.com/{account}/q"
    assert sole_body(west.receive_message(QueueUrl=named)) == "east"


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("mars-1", "aws")]
)
def test_partitions(sidebus: Any, connect: Connect, account: str, region: str, partition: str) -> None:
    sqs = connect(sidebus, region=region)
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    assert attributes == {"QueueArn": f"arn:{partition}:sqs:{region}:{account}:q"}


def test_accounts_are_separate_worlds_that_reach_each_other_by_url(sidebus: Any, connect: Connect) -> None:
    mine, yours = "100000000001", "100000000002"
    me, you = connect(sidebus, account=mine), connect(sidebus, account=yours)
    url = me.create_queue(QueueName="q")["QueueUrl"]
    assert "QueueUrls" not in you.list_queues()
    with pytest.raises(you.exceptions.QueueDoesNotExist):
        you.get_queue_url(QueueName="q")
    assert you.get_queue_url(QueueName="q", QueueOwnerAWSAccountId=mine)["QueueUrl"] == url
    you.send_message(QueueUrl=url, MessageBody="from you")
    assert sole_body(me.receive_message(QueueUrl=url)) == "from you"
    senders = set()
    for client in (me, you):
        client.send_message(QueueUrl=url, MessageBody="x")
        (message,) = me.receive_message(QueueUrl=url, MessageSystemAttributeNames=["SenderId"])["Messages"]
        senders.add(message["Attributes"]["SenderId"])
    assert len(senders) == 2


def test_a_key_that_is_no_account_is_the_default_account(sidebus: Any, connect: Connect) -> None:
    name = f"q{random.randrange(10**9)}"
    url = connect(sidebus, account="AKIAIOSFODNN7EXAMPLE").create_queue(QueueName=name)["QueueUrl"]
    assert url == f"{sidebus.url}/000000000000/{name}"
    assert connect(sidebus, account="test").get_queue_url(QueueName=name)["QueueUrl"] == url
    unsigned = connect(sidebus, signature_version=UNSIGNED)
    assert unsigned.get_queue_url(QueueName=name)["QueueUrl"] == url


def test_the_defaults_can_be_told(start_sidebus: Callable[..., Any]) -> None:
    other = start_sidebus("--region", "ap-south-1", SIDEBUS_ACCOUNT="123412341234")
    created = ask(other, "CreateQueue", {"QueueName": "q"})
    url = json.loads(created.body)["QueueUrl"]
    assert url == f"{other.url}/123412341234/q"
    asked = ask(other, "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})
    assert json.loads(asked.body)["Attributes"] == {"QueueArn": "arn:aws:sqs:ap-south-1:123412341234:q"}
    assert other.stop() == 0


# signed with anything, presigned, not at all


@pytest.mark.parametrize("authorization", ["", "nonsense", "Bearer x", "AWS4-HMAC-SHA256 Credential=//", "AWS a:b"])
def test_any_signature_will_do(sidebus: Any, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = ask(sidebus, "ListQueues", {"QueueNamePrefix": "none such"}, **headers)
    assert (answer.status, answer.body) == (200, b"{}")


def test_a_presigned_url(sidebus: Any, sqs: Any, account: str) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    query = urlencode({"Action": "SendMessage", "MessageBody": "a b&c=d+é", "Version": "2012-11-05"})
    request = AWSRequest("GET", f"{url}?{query}")
    SigV4QueryAuth(Credentials(account, "any"), "sqs", "us-east-1").add_auth(request)
    answer = sidebus.request("GET", request.url.removeprefix(sidebus.url))
    assert answer.status == 200
    assert sole_body(sqs.receive_message(QueueUrl=url)) == "a b&c=d+é"


# GET <queue URL>?Action=…


def test_get_on_a_queue_url(sidebus: Any, sqs: Any, account: str) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    target = f"/{account}/q?Action="
    sent = sidebus.request("GET", f"{target}SendMessage&MessageBody={quote('héllo & <bye>')}")
    assert (sent.status, sent.headers["content-type"]) == (200, "text/xml")
    space = "{http://queue.amazonaws.com/doc/2012-11-05/}"
    root = ElementTree.fromstring(sent.body)
    assert root.tag == f"{space}SendMessageResponse"
    assert root.findtext(f"{space}ResponseMetadata/{space}RequestId") == sent.headers["x-amzn-requestid"]
    asked = sidebus.request("GET", f"{target}GetQueueAttributes&AttributeName.1=ApproximateNumberOfMessages")
    values = {
        e.findtext(f"{space}Name"): e.findtext(f"{space}Value")
        for e in ElementTree.fromstring(asked.body).iter(f"{space}Attribute")
    }
    assert values == {"ApproximateNumberOfMessages": "1"}
    received = sidebus.request("GET", f"{target}ReceiveMessage", {"Accept": "application/json"})
    assert received.headers["content-type"] == "application/json"
    document = json.loads(received.body)["ReceiveMessageResponse"]
    (message,) = document["ReceiveMessageResult"]["messages"]
    assert message["Body"] == "héllo & <bye>"
    assert document["ResponseMetadata"]["RequestId"] == received.headers["x-amzn-requestid"]
    handle = quote(message["ReceiptHandle"], safe="")
    assert sidebus.request("GET", f"{target}DeleteMessage&ReceiptHandle={handle}").status == 200
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_errors_on_a_queue_url(sidebus: Any, account: str) -> None:
    target = f"/{account}/none?Action=ReceiveMessage"
    as_xml = sidebus.request("GET", target)
    assert (as_xml.status, as_xml.headers["content-type"]) == (400, "text/xml")
    assert b"<Code>AWS.SimpleQueueService.NonExistentQueue</Code>" in as_xml.body
    as_json = sidebus.request("GET", target, {"Accept": "application/json"})
    assert (as_json.status, as_json.headers["content-type"]) == (400, "application/json")
    assert json.loads(as_json.body) == {
        "Error": {
            "Code": "AWS.SimpleQueueService.NonExistentQueue",
            "Message": "The specified queue does not exist.",
            "Type": "Sender",
        },
        "RequestId": as_json.headers["x-amzn-requestid"],
    }


def test_an_operation_of_a_queue_that_is_asked_at_the_root(sidebus: Any) -> None:
    answer = sidebus.request("GET", "/?Action=ReceiveMessage&Version=2012-11-05")
    assert answer.status == 404
    assert f"<Code>InvalidAddress</Code><Message>The address {sidebus.url}/ is not valid".encode() in answer.body


def test_an_unknown_action(sidebus: Any, account: str) -> None:
    answer = sidebus.request("GET", f"/{account}/q?Action=Explode")
    assert answer.status == 400
    assert (
        b"<Code>InvalidAction</Code><Message>The action Explode is not valid for this endpoint.</Message>"
        in answer.body
    )
    unknown = ask(sidebus, "Explode", {})
    assert unknown.status == 400
    assert json.loads(unknown.body)["__type"].endswith("#UnknownOperationException")


def test_old_clients_post_to_the_queue_itself(sidebus: Any, sqs: Any, account: str) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "Authorization": scope(account)}
    answer = sidebus.request("POST", f"/{account}/q", form, "Action=SendMessage&MessageBody=old&Version=2012-11-05")
    assert answer.status == 200
    assert sole_body(sqs.receive_message(QueueUrl=url)) == "old"


# TLS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls(start_sidebus: Callable[..., Any], tmp_path: Path, account: str) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make.split(), *name, "-keyout", key, "-out", cert], check=True, capture_output=True)
    sidebus = start_sidebus("--tls-cert", cert, "--tls-key", key)
    assert sidebus.url.startswith("https://")
    headers = {"Content-Type": JSON, "X-Amz-Target": "AmazonSQS.CreateQueue", "Authorization": scope(account)}
    context = ssl.create_default_context(cafile=cert)
    answer = sidebus.request("POST", "/", headers, '{"QueueName":"q"}', context)
    assert json.loads(answer.body) == {"QueueUrl": f"{sidebus.url}/{account}/q"}
    assert sidebus.stop() == 0


def test_only_the_owner_of_a_token_knows_its_form(sqs: Any) -> None:
    with pytest.raises(ClientError, match="Invalid or expired next token"):
        sqs.list_queues(MaxResults=1, NextToken="ÿ")


# what is not served


@pytest.mark.parametrize(("service", "operation"), [("ssm", "list_documents"), ("cloudformation", "list_stacks")])
def test_a_service_that_is_not_here_says_so(sidebus: Any, connect: Connect, service: str, operation: str) -> None:
    with pytest.raises(ClientError, match=rf"Sidebus serves .*\bsqs\b.*, not {service}\."):
        getattr(connect(sidebus, service), operation)()


@pytest.mark.parametrize("target", ["/", "/favicon.ico", "/a/b/c?d=e"])
def test_a_browser_is_told_what_this_is(sidebus: Any, target: str) -> None:
    answer = sidebus.request("GET", target)
    assert answer.status == 404
    assert json.loads(answer.body)["message"].startswith("Sidebus serves ")
