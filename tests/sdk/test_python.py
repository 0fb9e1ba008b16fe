"""SQS through AWS's other Python clients: the old botocore, the command line, aioboto3."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

PythonWith = Callable[..., Path]
RunClient = Callable[..., str]


def test_botocore_that_speaks_the_query_protocol(python_with: PythonWith, run_client: RunClient) -> None:
    binaries = python_with("botocore-query", "botocore==1.29.165")
    assert int(run_client(binaries / "python", "botocore_query.py")) >= 20


def test_aioboto3(python_with: PythonWith, run_client: RunClient) -> None:
    run_client(python_with("aioboto3", "aioboto3~=15.5") / "python", "aioboto3_consumers.py")


def test_each_operation_on_the_command_line(
    python_with: PythonWith, run_client: RunClient, sidebus: Any, account: str
) -> None:
    aws = python_with("awscli", "awscli~=1.46") / "aws"
    used = set()

    def sqs(line: str) -> Any:
        operation, *words = shlex.split(line)
        used.add(operation)
        # For SQS this version overlooks AWS_ENDPOINT_URL: https://github.com/aws/aws-cli/issues/8737
        printed = run_client(aws, "--endpoint-url", sidebus.url, "--output", "json", "sqs", operation, *words)
        return json.loads(printed) if printed.strip() else None

    def arn(name: str) -> str:
        return f"arn:aws:sqs:us-east-1:{account}:{name}"

    dead = sqs("create-queue --queue-name dead --tags team=a")["QueueUrl"]
    assert dead == f"{sidebus.url}/{account}/dead"
    policy = json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1})
    attributes = json.dumps({"RedrivePolicy": policy, "VisibilityTimeout": "0"})
    url = sqs(f"create-queue --queue-name q --attributes {shlex.quote(attributes)}")["QueueUrl"]
    assert sqs("get-queue-url --queue-name q") == {"QueueUrl": url}
    assert sqs("list-queues --max-items 1")["QueueUrls"] == [dead]
    assert sqs(f"list-dead-letter-source-queues --queue-url {dead}")["queueUrls"] == [url]
    sqs(f"set-queue-attributes --queue-url {url} --attributes DelaySeconds=0")
    shown = sqs(f"get-queue-attributes --queue-url {url} --attribute-names DelaySeconds QueueArn")
    assert shown == {"Attributes": {"DelaySeconds": "0", "QueueArn": arn("q")}}
    sqs(f"tag-queue --queue-url {dead} --tags cost=42")
    assert sqs(f"list-queue-tags --queue-url {dead}") == {"Tags": {"team": "a", "cost": "42"}}
    sqs(f"untag-queue --queue-url {dead} --tag-keys cost")
    sqs(f"add-permission --queue-url {url} --label l --aws-account-ids 111122223333 --actions SendMessage")
    sqs(f"remove-permission --queue-url {url} --label l")

    sqs(f"send-message --queue-url {url} --message-body 'Grüße <&>'")
    options = "--max-number-of-messages 10 --visibility-timeout 60 --message-system-attribute-names All"
    (message,) = sqs(f"receive-message --queue-url {url} --wait-time-seconds 2 {options}")["Messages"]
    assert message["Body"] == "Grüße <&>"
    handle = message["ReceiptHandle"]
    sqs(f"change-message-visibility --queue-url {url} --receipt-handle {handle} --visibility-timeout 30")
    entry = f"Id=a,ReceiptHandle={handle}"
    changed = sqs(f"change-message-visibility-batch --queue-url {url} --entries {entry},VisibilityTimeout=60")
    assert changed["Successful"] == [{"Id": "a"}]
    deleted = sqs(f"delete-message-batch --queue-url {url} --entries {entry} Id=b,ReceiptHandle=x")
    assert deleted["Successful"] == [{"Id": "a"}]
    assert [failed["Code"] for failed in deleted["Failed"]] == ["ReceiptHandleIsInvalid"]
    sqs(f"delete-message --queue-url {url} --receipt-handle {handle}")
    assert (
        len(sqs(f"send-message-batch --queue-url {url} --entries Id=a,MessageBody=1 Id=b,MessageBody=2")["Successful"])
        == 2
    )

    for _ in range(2):
        sqs(f"receive-message --queue-url {url} --max-number-of-messages 10")
    rate = "--max-number-of-messages-per-second 1"
    task = sqs(f"start-message-move-task --source-arn {arn('dead')} {rate}")["TaskHandle"]
    (running,) = sqs(f"list-message-move-tasks --source-arn {arn('dead')}")["Results"]
    assert running["ApproximateNumberOfMessagesToMove"] == 2
    if running["Status"] == "RUNNING":
        sqs(f"cancel-message-move-task --task-handle {task}")
    sqs(f"purge-queue --queue-url {dead}")
    sqs(f"delete-queue --queue-url {url}")
    assert sqs("list-queues") == {"QueueUrls": [dead]}

    operations = botocore.session.Session().get_service_model("sqs").operation_names
    assert used == {xform_name(name, "-") for name in operations}
