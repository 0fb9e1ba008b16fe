"""STS: who am I, which programs ask before anything else; and nothing more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

Connect = Callable[..., Any]


@pytest.mark.parametrize(("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn")])
def test_get_caller_identity(sidebus: Any, connect: Connect, account: str, region: str, partition: str) -> None:
    identity = connect(sidebus, "sts", region=region).get_caller_identity()
    assert identity["Account"] == account
    assert identity["Arn"] == f"arn:{partition}:iam::{account}:user/sidebus"
    assert len(identity["UserId"]) == 21
    assert identity == {
        **connect(sidebus, "sts", region=region).get_caller_identity(),
        "ResponseMetadata": identity["ResponseMetadata"],
    }


def test_the_sender_of_a_message_is_who_sts_says_he_is(sidebus: Any, connect: Connect, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["SenderId"])["Messages"]
    assert message["Attributes"]["SenderId"] == connect(sidebus, "sts").get_caller_identity()["UserId"]


def test_a_key_that_is_no_account(sidebus: Any, connect: Connect) -> None:
    assert connect(sidebus, "sts", account="test").get_caller_identity()["Account"] == "000000000000"


def test_the_bytes(sidebus: Any, account: str) -> None:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/sts/aws4_request, Signature=0",
    }
    answer = sidebus.request("POST", "/", headers, "Action=GetCallerIdentity&Version=2011-06-15")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/xml")
    user_id = answer.body.partition(b"<UserId>")[2][:21]
    assert answer.body.decode() == (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<UserId>{user_id.decode()}</UserId><Account>{account}</Account>"
        f"<Arn>arn:aws:iam::{account}:user/sidebus</Arn></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>{answer.headers['x-amzn-requestid']}</RequestId></ResponseMetadata>"
        "</GetCallerIdentityResponse>"
    )


def test_there_are_no_roles(sidebus: Any, connect: Connect) -> None:
    with pytest.raises(ClientError, match="Could not find operation AssumeRole for version 2011-06-15") as caught:
        connect(sidebus, "sts").assume_role(RoleArn="arn:aws:iam::111122223333:role/r", RoleSessionName="s-1")
    assert caught.value.response["Error"]["Code"] == "InvalidAction"
