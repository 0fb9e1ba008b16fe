"""Every documented error of every operation, provoked: through boto3 (JSON) and as a form (XML).

The model says which operation has which errors. Each pair is either provoked here or stands in `CANNOT_OCCUR` with the
reason. In JSON every error of the model has status 400; the query protocol has the older ones, and other codes.
"""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

REGION = "us-east-1"
FRIEND = "111122223333"

MODEL = botocore.session.Session().get_service_model("sqs")

# Code and status of the query protocol, where they are not the error's name and 400. API reference of 2022, Errors.
QUERY: dict[str, tuple[str, int]] = {
    "BatchEntryIdsNotDistinct": ("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400),
    "BatchRequestTooLong": ("AWS.SimpleQueueService.BatchRequestTooLong", 400),
    "EmptyBatchRequest": ("AWS.SimpleQueueService.EmptyBatchRequest", 400),
    "InvalidAddress": ("InvalidAddress", 404),
    "InvalidBatchEntryId": ("AWS.SimpleQueueService.InvalidBatchEntryId", 400),
    "InvalidSecurity": ("InvalidSecurity", 403),
    "MessageNotInflight": ("AWS.SimpleQueueService.MessageNotInflight", 400),
    "OverLimit": ("OverLimit", 403),
    "PurgeQueueInProgress": ("AWS.SimpleQueueService.PurgeQueueInProgress", 403),
    "QueueDeletedRecently": ("AWS.SimpleQueueService.QueueDeletedRecently", 400),
    "QueueDoesNotExist": ("AWS.SimpleQueueService.NonExistentQueue", 400),
    "QueueNameExists": ("QueueAlreadyExists", 400),
    "ReceiptHandleIsInvalid": ("ReceiptHandleIsInvalid", 404),
    "RequestThrottled": ("RequestThrottled", 403),
    "ResourceNotFoundException": ("ResourceNotFoundException", 404),
    "TooManyEntriesInBatchRequest": ("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400),
    "UnsupportedOperation": ("AWS.SimpleQueueService.UnsupportedOperation", 400),
}
COMMON = {
    "InvalidParameterValue": "InvalidParameterValueException",
    "MissingParameter": "MissingRequiredParameterException",
}

FIFO_QUOTA = {"SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"}
MOVE_TASKS = {"StartMessageMoveTask", "CancelMessageMoveTask", "ListMessageMoveTasks"}
WITHOUT_QUEUE_URL = {"CreateQueue", "GetQueueUrl", "ListQueues", *MOVE_TASKS}


def cannot_occur(operation: str, error: str) -> str | None:
    """Why this documented error is never answered."""
    if error.startswith("Kms"):
        return "there is no KMS here: KmsMasterKeyId is kept and shown, nothing is encrypted by it"
    if error == "InvalidIdFormat":
        return "the model calls it deprecated, included in ReceiptHandleIsInvalid"
    if error == "UnsupportedOperation" and operation not in MOVE_TASKS - {"ListMessageMoveTasks"}:
        return "AWS documents no cause for it"
    if error == "RequestThrottled" and operation not in FIFO_QUOTA:
        return "AWS documents no rate for it"
    if error == "InvalidAddress" and operation in WITHOUT_QUEUE_URL:
        return "it takes no queue URL"
    return None


# Parameters that are right but for the queue, which comes first.
MINIMAL: dict[str, dict[str, Any]] = {
    "AddPermission": {"Label": "l", "AWSAccountIds": [FRIEND], "Actions": ["SendMessage"]},
    "CancelMessageMoveTask": {"TaskHandle": "x"},
    "ChangeMessageVisibility": {"ReceiptHandle": "x", "VisibilityTimeout": 0},
    "ChangeMessageVisibilityBatch": {"Entries": [{"Id": "a", "ReceiptHandle": "x", "VisibilityTimeout": 0}]},
    "CreateQueue": {"QueueName": "q"},
    "DeleteMessage": {"ReceiptHandle": "x"},
    "DeleteMessageBatch": {"Entries": [{"Id": "a", "ReceiptHandle": "x"}]},
    "DeleteQueue": {},
    "GetQueueAttributes": {"AttributeNames": ["All"]},
    "GetQueueUrl": {"QueueName": "q"},
    "ListDeadLetterSourceQueues": {},
    "ListMessageMoveTasks": {"SourceArn": f"arn:aws:sqs:{REGION}:{FRIEND}:q"},
    "ListQueueTags": {},
    "ListQueues": {},
    "PurgeQueue": {},
    "ReceiveMessage": {},
    "RemovePermission": {"Label": "l"},
    "SendMessage": {"MessageBody": "x"},
    "SendMessageBatch": {"Entries": [{"Id": "a", "MessageBody": "x"}]},
    "SetQueueAttributes": {"Attributes": {"VisibilityTimeout": "1"}},
    "StartMessageMoveTask": {"SourceArn": f"arn:aws:sqs:{REGION}:{FRIEND}:q"},
    "TagQueue": {"Tags": {"a": "b"}},
    "UntagQueue": {"TagKeys": ["a"]},
}


class Server(Protocol):
    url: str
    host: str

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | str = b"") -> Any: ...


class Stage:
    """What a case may need: queues of an account of its own, and messages in them."""

    def __init__(self, sqs: Any, account: str) -> None:
        self.sqs = sqs
        self.account = account

    def queue(self, name: str = "q", **attributes: str) -> str:
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:{REGION}:{self.account}:{name}"

    def dead_letter_queue(self) -> str:
        """The ARN of one with messages that a slow move task would take long to move."""
        self.queue("dead")
        policy = json.dumps({"deadLetterTargetArn": self.arn("dead"), "maxReceiveCount": 1})
        source = self.queue("source", RedrivePolicy=policy)
        self.sqs.send_message_batch(QueueUrl=source, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(9)])
        for _ in range(2):
            self.sqs.receive_message(QueueUrl=source, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return self.arn("dead")

    def handle(self, url: str, timeout_s: int = 30) -> str:
        self.sqs.send_message(QueueUrl=url, MessageBody="x")
        received = self.sqs.receive_message(QueueUrl=url, VisibilityTimeout=timeout_s)
        return str(received["Messages"][0]["ReceiptHandle"])


class Case(NamedTuple):
    operation: str
    error: str  # as the model names it, or a common error's query code
    parameters: Callable[[Stage], dict[str, Any]]
    message: str  # AWS's text; {…} are parameters


def entries(count: int = 2, **each: Any) -> list[dict[str, Any]]:
    return [{"Id": f"e{n}", **each} for n in range(count)]


BATCHES: dict[str, dict[str, Any]] = {
    "SendMessageBatch": {"MessageBody": "x"},
    "DeleteMessageBatch": {"ReceiptHandle": "x"},
    "ChangeMessageVisibilityBatch": {"ReceiptHandle": "x", "VisibilityTimeout": 0},
}


def batch_cases() -> Iterator[Case]:
    for operation, each in BATCHES.items():

        def case(error: str, batch: list[dict[str, Any]], message: str, operation: str = operation) -> Case:
            return Case(operation, error, lambda s: {"QueueUrl": s.queue(), "Entries": batch}, message)

        yield case("EmptyBatchRequest", [], f"There should be at least one {operation}RequestEntry in the request.")
        yield case(
            "TooManyEntriesInBatchRequest",
            entries(11, **each),
            "Maximum number of entries per request are 10. You have sent 11.",
        )
        yield case("BatchEntryIdsNotDistinct", [{"Id": "a", **each}] * 2, "Id a repeated.")
        for id in ("a b", "a" * 81, "ä", "a.b"):
            yield case(
                "InvalidBatchEntryId",
                [{"Id": id, **each}],
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )


CASES: list[Case] = [
    *(
        Case(operation, "QueueDoesNotExist", lambda s, p=parameters: {"QueueUrl": s.queue() + "x", **p}, text)  # type: ignore[misc]
        for operation, parameters in MINIMAL.items()
        if operation not in WITHOUT_QUEUE_URL
        for text in ["The specified queue does not exist."]
    ),
    *(
        Case(operation, "InvalidAddress", lambda s, p=parameters: {"QueueUrl": "not-a-url", **p}, text)  # type: ignore[misc]
        for operation, parameters in MINIMAL.items()
        if operation not in WITHOUT_QUEUE_URL
        for text in ["The address not-a-url is not valid for this endpoint."]
    ),
    *batch_cases(),
    # queues
    Case(
        "CreateQueue",
        "QueueNameExists",
        lambda s: {"QueueName": "q", "Attributes": {"DelaySeconds": "7"}} if s.queue() else {},
        "A queue already exists with the same name and a different value for attribute DelaySeconds",
    ),
    Case(
        "CreateQueue",
        "InvalidAttributeName",
        lambda s: {"QueueName": "q", "Attributes": {"Speed": "7"}},
        "Unknown Attribute Speed.",
    ),
    Case(
        "CreateQueue",
        "InvalidAttributeValue",
        lambda s: {"QueueName": "q", "Attributes": {"DelaySeconds": "901"}},
        "Invalid value for the parameter DelaySeconds.",
    ),
    *(
        Case(
            "CreateQueue",
            "InvalidParameterValue",
            lambda s, n=name: {"QueueName": n},  # type: ignore[misc]
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        )
        for name in ("a b", "a" * 81, "q.fifo", "ä", "a/b")
    ),
    Case(
        "CreateQueue",
        "InvalidParameterValue",
        lambda s: {"QueueName": "q", "Attributes": {"FifoQueue": "true"}},
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with "
        ".fifo suffix and be 1 to 80 in length.",
    ),
    Case("CreateQueue", "MissingParameter", lambda s: {}, "The request must contain the parameter QueueName."),
    Case("GetQueueUrl", "QueueDoesNotExist", lambda s: {"QueueName": "q"}, "The specified queue does not exist."),
    Case(
        "GetQueueAttributes",
        "InvalidAttributeName",
        lambda s: {"QueueUrl": s.queue(), "AttributeNames": ["VisibilityTimeout", "Speed"]},
        "Unknown Attribute Speed.",
    ),
    Case(
        "SetQueueAttributes",
        "InvalidAttributeName",
        lambda s: {"QueueUrl": s.queue(), "Attributes": {"QueueArn": s.arn("q")}},
        "Unknown Attribute QueueArn.",
    ),
    Case(
        "SetQueueAttributes",
        "InvalidAttributeValue",
        lambda s: {"QueueUrl": s.queue(), "Attributes": {"MaximumMessageSize": "1023"}},
        "Invalid value for the parameter MaximumMessageSize.",
    ),
    Case(
        "SetQueueAttributes",
        "OverLimit",
        lambda s: {"QueueUrl": s.queue(), "Attributes": {"Policy": json.dumps({"Statement": [{"Sid": "a"}] * 21})}},
        "21 Statements were found, maximum allowed is 20.",
    ),
    Case(
        "SetQueueAttributes",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue()},
        "The request must contain the parameter Attribute.Name.",
    ),
    *(
        Case(
            operation,
            "InvalidParameterValue",
            lambda s, o=operation, n=limit: {"MaxResults": n} | ({"QueueUrl": s.queue()} if o != "ListQueues" else {}),  # type: ignore[misc]
            f"Value {limit} for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and "
            "1000.",
        )
        for operation in ("ListQueues", "ListDeadLetterSourceQueues")
        for limit in (0, 1001)
    ),
    Case(
        "ListQueues",
        "MissingParameter",
        lambda s: {"NextToken": "YQ=="},
        "The request must contain the parameter MaxResults.",
    ),
    Case(
        "ListQueues",
        "InvalidParameterValue",
        lambda s: {"NextToken": "nonsense!", "MaxResults": 1},
        "Invalid or expired next token.",
    ),
    # permissions and tags
    Case(
        "AddPermission",
        "OverLimit",
        lambda s: {
            "QueueUrl": s.queue(),
            "Label": "l",
            "AWSAccountIds": [FRIEND],
            "Actions": ["SendMessage", "ReceiveMessage"] * 4,
        },
        "8 Actions were found, maximum allowed is 7.",
    ),
    Case(
        "AddPermission",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "Label": "l", "AWSAccountIds": ["42"], "Actions": ["SendMessage"]},
        "Value 42 for parameter PrincipalId is invalid. Reason: Unable to verify.",
    ),
    Case(
        "AddPermission",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "Label": "l", "AWSAccountIds": [FRIEND], "Actions": ["AddPermission"]},
        "Value SQS:AddPermission for parameter ActionName is invalid. "
        "Reason: Only the queue owner is allowed to invoke this action.",
    ),
    Case(
        "AddPermission",
        "InvalidParameterValue",
        lambda s: MINIMAL["AddPermission"] | {"QueueUrl": with_permission(s)},
        "Value l for parameter Label is invalid. Reason: Already exists.",
    ),
    Case(
        "AddPermission",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue(), "Label": "l", "AWSAccountIds": [], "Actions": ["SendMessage"]},
        "The request must contain the parameter AWSAccountId.",
    ),
    Case(
        "AddPermission",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue(), "Label": "l", "AWSAccountIds": [FRIEND], "Actions": []},
        "The request must contain the parameter ActionName.",
    ),
    Case(
        "RemovePermission",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "Label": "l"},
        "Value l for parameter Label is invalid. Reason: can't find label on existing policy.",
    ),
    Case(
        "TagQueue",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "Tags": {f"k{n}": "v" for n in range(51)}},
        "Too many tags added for queue q.",
    ),
    Case(
        "TagQueue",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue()},
        "The request must contain the parameter Tag.Key.",
    ),
    Case(
        "UntagQueue",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue()},
        "The request must contain the parameter TagKey.",
    ),
    # messages
    *(
        Case(
            "SendMessage",
            "InvalidMessageContents",
            lambda s, c=character: {"QueueUrl": s.queue(), "MessageBody": f"a{c}b"},  # type: ignore[misc]
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
            "#xE000 to #xFFFD | #x10000 to #x10FFFF",
        )
        for character in "\x00\x08\x0b\x0c\x1f\ufffe\uffff"
    ),
    Case(
        "SendMessage",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue()},
        "The request must contain the parameter MessageBody.",
    ),
    Case(
        "SendMessage",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue(), "MessageBody": ""},
        "The request must contain the parameter MessageBody.",
    ),
    *(
        Case(
            "SendMessage",
            "InvalidParameterValue",
            lambda s, d=delay: {"QueueUrl": s.queue(), "MessageBody": "x", "DelaySeconds": d},  # type: ignore[misc]
            f"Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.",
        )
        for delay in (-1, 901)
    ),
    Case(
        "SendMessage",
        "InvalidParameterValue",
        lambda s: {
            "QueueUrl": s.queue("q.fifo", ContentBasedDeduplication="true"),
            "MessageBody": "x",
            "MessageGroupId": "g",
            "DelaySeconds": 1,
        },
        "Value 1 for parameter DelaySeconds is invalid. "
        "Reason: The request include parameter that is not valid for this queue type.",
    ),
    Case(
        "SendMessage",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue("q.fifo"), "MessageBody": "x", "MessageDeduplicationId": "d"},
        "The request must contain the parameter MessageGroupId.",
    ),
    Case(
        "SendMessage",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue("q.fifo"), "MessageBody": "x", "MessageGroupId": "g"},
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
    ),
    Case(
        "SendMessage",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "MessageBody": "x", "MessageDeduplicationId": "d"},
        "Value d for parameter MessageDeduplicationId is invalid. "
        "Reason: The request include parameter that is not valid for this queue type.",
    ),
    *(
        Case(
            "SendMessage",
            "InvalidParameterValue",
            lambda s, v=value: {"QueueUrl": s.queue(), "MessageBody": "x", "MessageGroupId": v},  # type: ignore[misc]
            f"Value {value} for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include "
            "alphanumeric and punctuation characters. 1 to 128 in length.",
        )
        for value in ("a b", "g" * 129, "ä")
    ),
    Case(
        "SendMessageBatch",
        "BatchRequestTooLong",
        lambda s: {"QueueUrl": s.queue(), "Entries": entries(2, MessageBody="x" * 524_289)},
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048578 bytes.",
    ),
    Case(
        "SendMessageBatch",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue(), "Entries": [{"Id": "a"}]},
        "The request must contain the parameter SendMessageBatchRequestEntry.1.MessageBody.",
    ),
    *(
        Case(
            "ReceiveMessage",
            "InvalidParameterValue",
            lambda s, n=name, v=value: {"QueueUrl": s.queue(), n: v},  # type: ignore[misc]
            f"Value {value} for parameter {name} is invalid. Reason: Must be {rule}, if provided.",
        )
        for name, values, rule in (
            ("MaxNumberOfMessages", (0, 11), "between 1 and 10"),
            ("WaitTimeSeconds", (-1, 21), ">= 0 and <= 20"),
            ("VisibilityTimeout", (-1, 43_201), ">= 0 and <= 43200"),
        )
        for value in values
    ),
    Case(
        "ReceiveMessage",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "ReceiveRequestAttemptId": "a"},
        "Value a for parameter ReceiveRequestAttemptId is invalid. "
        "Reason: The request include parameter that is not valid for this queue type.",
    ),
    Case(
        "DeleteMessage",
        "ReceiptHandleIsInvalid",
        lambda s: {"QueueUrl": s.queue(), "ReceiptHandle": "nonsense"},
        'The input receipt handle "nonsense" is not a valid receipt handle.',
    ),
    Case(
        "DeleteMessage",
        "MissingParameter",
        lambda s: {"QueueUrl": s.queue()},
        "The request must contain the parameter MessageHandle.",
    ),
    Case(
        "ChangeMessageVisibility",
        "ReceiptHandleIsInvalid",
        lambda s: {"QueueUrl": s.queue(), "ReceiptHandle": "nonsense", "VisibilityTimeout": 1},
        'The input receipt handle "nonsense" is not a valid receipt handle.',
    ),
    Case(
        "ChangeMessageVisibility",
        "MessageNotInflight",
        lambda s: {"QueueUrl": s.queue(), "ReceiptHandle": s.handle(s.queue(), 0), "VisibilityTimeout": 1},
        "The message referred to is not in flight.",
    ),
    *(
        Case(
            "ChangeMessageVisibility",
            "InvalidParameterValue",
            lambda s, t=timeout: {"QueueUrl": s.queue(), "ReceiptHandle": s.handle(s.queue()), "VisibilityTimeout": t},  # type: ignore[misc]
            f"Value {timeout} for parameter VisibilityTimeout is invalid. "
            "Reason: VisibilityTimeout must be an integer between 0 and 43200.",
        )
        for timeout in (-1, 43_201)
    ),
    Case(
        "ChangeMessageVisibility",
        "InvalidParameterValue",
        lambda s: {"QueueUrl": s.queue(), "ReceiptHandle": deleted(s), "VisibilityTimeout": 1},
        "Value {ReceiptHandle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "
        "available for visibility timeout change.",
    ),
    # message move tasks
    *(
        Case(
            operation,
            "ResourceNotFoundException",
            lambda s: {"SourceArn": s.arn("nowhere")},
            "The resource that you specified for the SourceArn parameter doesn't exist.",
        )
        for operation in ("StartMessageMoveTask", "ListMessageMoveTasks")
    ),
    Case(
        "StartMessageMoveTask",
        "ResourceNotFoundException",
        lambda s: {"SourceArn": s.dead_letter_queue(), "DestinationArn": s.arn("nowhere")},
        "The resource that you specified for the DestinationArn parameter doesn't exist.",
    ),
    Case(
        "StartMessageMoveTask",
        "UnsupportedOperation",
        lambda s: {"SourceArn": running_task(s)[0]},
        "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
    ),
    Case(
        "StartMessageMoveTask",
        "InvalidParameterValue",
        lambda s: {"SourceArn": s.arn("q") if s.queue() else ""},
        "Source queue must be configured as a Dead Letter Queue.",
    ),
    *(
        Case(
            "StartMessageMoveTask",
            "InvalidParameterValue",
            lambda s, r=rate: {"SourceArn": s.dead_letter_queue(), "MaxNumberOfMessagesPerSecond": r},  # type: ignore[misc]
            f"Value {rate} for parameter MaxNumberOfMessagesPerSecond is invalid. "
            "Reason: You must specify a value between 1 and 500.",
        )
        for rate in (0, 501)
    ),
    Case(
        "CancelMessageMoveTask",
        "ResourceNotFoundException",
        lambda s: {"TaskHandle": b64encode(b'{"taskId":"t","sourceArn":"arn:aws:sqs:a:1:b"}').decode()},
        "The resource that you specified for the SourceArn parameter doesn't exist.",
    ),
    Case(
        "CancelMessageMoveTask",
        "UnsupportedOperation",
        lambda s: {"TaskHandle": cancelled_task(s)},
        "Only active tasks can be cancelled.",
    ),
    *(
        Case(
            "CancelMessageMoveTask",
            "InvalidParameterValue",
            lambda s, h=handle: {"TaskHandle": h},  # type: ignore[misc]
            "Value for parameter TaskHandle is invalid.",
        )
        for handle in ("nonsense", "W10=", "eyJ0YXNrSWQiOiAxfQ==", b64encode(b"[" * 100_000).decode())
    ),
    Case(
        "ListMessageMoveTasks",
        "InvalidParameterValue",
        lambda s: {"SourceArn": s.dead_letter_queue(), "MaxResults": 11},
        "Value 11 for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 10.",
    ),
]


def with_permission(stage: Stage) -> str:
    url = stage.queue()
    if "Attributes" not in stage.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]):
        stage.sqs.add_permission(QueueUrl=url, **MINIMAL["AddPermission"])
    return url


def deleted(stage: Stage) -> str:
    handle = stage.handle(stage.queue())
    stage.sqs.delete_message(QueueUrl=stage.queue(), ReceiptHandle=handle)
    return handle


def running_task(stage: Stage) -> tuple[str, str]:
    source = stage.dead_letter_queue()
    started = stage.sqs.start_message_move_task(SourceArn=source, MaxNumberOfMessagesPerSecond=1)
    return source, started["TaskHandle"]


def cancelled_task(stage: Stage) -> str:
    handle = running_task(stage)[1]
    stage.sqs.cancel_message_move_task(TaskHandle=handle)
    return handle


# asking in both protocols


def form(operation: str, parameters: Mapping[str, Any]) -> str:
    """The parameters as the query protocol has them. Names from botocore 1.29, the last to know it."""
    lists = {
        "Actions": "ActionName",
        "AWSAccountIds": "AWSAccountId",
        "AttributeNames": "AttributeName",
        "Entries": f"{operation}RequestEntry",
        "TagKeys": "TagKey",
    }
    maps = {"Attributes": ("Attribute", "Name"), "Tags": ("Tag", "Key")}
    flat = {"Action": operation, "Version": "2012-11-05"}
    for name, value in parameters.items():
        if isinstance(value, dict):
            tag, key = maps[name]
            for n, (k, v) in enumerate(value.items(), 1):
                flat |= {f"{tag}.{n}.{key}": k, f"{tag}.{n}.Value": v}
        elif isinstance(value, list):
            for n, item in enumerate(value, 1):
                if isinstance(item, dict):
                    flat |= {f"{lists[name]}.{n}.{k}": v for k, v in item.items()}
                else:
                    flat[f"{lists[name]}.{n}"] = item
        else:
            flat[name] = value
    return urlencode(flat)


def form_headers(account: str) -> dict[str, str]:
    scope = f"{account}/20260101/{REGION}/sqs/aws4_request"
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }


class Refused(NamedTuple):
    status: int
    code: str
    name: str | None  # QueryErrorCode: what the model calls it
    message: str
    fault: str


def ask_in_json(sqs: Any, operation: str, parameters: Mapping[str, Any]) -> Refused:
    with pytest.raises(ClientError) as caught:
        getattr(sqs, xform_name(operation))(**parameters)
    error = caught.value.response["Error"]
    status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    return Refused(status, error["Code"], error["QueryErrorCode"], error["Message"], error["Type"])


def ask_in_xml(server: Server, account: str, operation: str, parameters: Mapping[str, Any]) -> Refused:
    answer = server.request("POST", "/", form_headers(account), form(operation, parameters))
    assert answer.headers["content-type"] == "text/xml"
    return read_xml(answer.status, answer.body)


def read_xml(status: int, body: bytes) -> Refused:
    space = "{http://queue.amazonaws.com/doc/2012-11-05/}"
    root = ElementTree.fromstring(body)
    assert root.tag == f"{space}ErrorResponse"
    assert len(root.findtext(f"{space}RequestId") or "") == 36
    said = {part: root.findtext(f"{space}Error/{space}{part}") or "" for part in ("Code", "Message", "Type")}
    return Refused(status, said["Code"], None, said["Message"], said["Type"])


def expected_in_json(error: str, message: str) -> Refused:
    code, _ = QUERY.get(error, (error, 400))
    return Refused(400, code, COMMON.get(error, error), message, "Sender")


def expected_in_xml(error: str, message: str) -> Refused:
    code, status = QUERY.get(error, (error, 400))
    return Refused(status, code, None, message, "Sender")


def check(server: Server, sqs: Any, account: str, case: Case) -> None:
    stage = Stage(sqs, account)
    given = case.parameters(stage)
    message = case.message.replace("{ReceiptHandle}", given.get("ReceiptHandle", ""))
    assert ask_in_json(sqs, case.operation, given) == expected_in_json(case.error, message)
    assert ask_in_xml(server, account, case.operation, given) == expected_in_xml(case.error, message)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}-{case.error}")
def test_refusal(sidebus: Server, connect: Callable[..., Any], account: str, case: Case) -> None:
    check(sidebus, connect(sidebus, parameter_validation=False), account, case)


def test_every_documented_error_is_provoked_or_cannot_occur() -> None:
    documented = {
        (name, error.name)
        for name in MODEL.operation_names
        for error in MODEL.operation_model(name).error_shapes
        if cannot_occur(name, error.name) is None
    }
    elsewhere = (
        {
            ("CreateQueue", "QueueDeletedRecently"),
            ("PurgeQueue", "PurgeQueueInProgress"),
            ("ReceiveMessage", "OverLimit"),
        }
        | {(operation, "RequestThrottled") for operation in FIFO_QUOTA}
        | {(operation, "InvalidSecurity") for operation in MODEL.operation_names}
    )
    assert documented - {(case.operation, case.error) for case in CASES} - elsewhere == set()


# entries that fail alone


def test_each_entry_of_a_batch_fails_for_itself(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    good = {"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    batch = {
        "good": good,
        "character": good | {"MessageBody": "\x00"},
        "delay": good | {"DelaySeconds": 1},
        "body": good | {"MessageBody": ""},
        "group": {"MessageBody": "x", "MessageDeduplicationId": "d"},
        "deduplication": {"MessageBody": "x", "MessageGroupId": "g"},
        "attribute": good | {"MessageAttributes": {"a": {"DataType": "Money", "StringValue": "1"}}},
    }
    answer = sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": id, **entry} for id, entry in batch.items()])
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]] == [
        ("character", "InvalidMessageContents", True),
        ("delay", "InvalidParameterValue", True),
        ("body", "MissingParameter", True),
        ("group", "MissingParameter", True),
        ("deduplication", "InvalidParameterValue", True),
        ("attribute", "InvalidParameterValue", True),
    ]


def test_a_handle_of_another_queue_is_refused(sqs: Any) -> None:
    mine, other = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("mine", "other"))
    handle = Stage(sqs, "").handle(other)
    for operation, more in (("DeleteMessage", {}), ("ChangeMessageVisibility", {"VisibilityTimeout": 1})):
        refused = ask_in_json(sqs, operation, {"QueueUrl": mine, "ReceiptHandle": handle, **more})
        assert refused.name == "ReceiptHandleIsInvalid"


def test_an_expired_handle_of_a_fifo_queue_is_refused(sqs: Any) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName="q.fifo", Attributes=attributes)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")
    handle = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"][0]["ReceiptHandle"]
    refused = ask_in_json(sqs, "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": handle})
    assert (refused.status, refused.code) == (400, "InvalidParameterValue")
    assert refused.message == (
        f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
    )


def test_the_visibility_timeout_ends_twelve_hours_after_the_receive(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    handle = Stage(sqs, "").handle(url)
    given = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 43_200}
    refused = ask_in_json(sqs, "ChangeMessageVisibility", given)
    assert refused.message == (
        "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is "
        "beyond the limit [43200 seconds]"
    )


# quotas and waiting times, which only AWS's limits have


def test_a_queue_that_was_deleted_a_moment_ago(sidebus_aws: Server, connect: Callable[..., Any], account: str) -> None:
    sqs = connect(sidebus_aws)
    sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName="q")["QueueUrl"])
    text = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    check(sidebus_aws, sqs, account, Case("CreateQueue", "QueueDeletedRecently", lambda _: {"QueueName": "q"}, text))


def test_a_queue_that_is_being_purged(sidebus_aws: Server, connect: Callable[..., Any], account: str) -> None:
    sqs = connect(sidebus_aws)
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.purge_queue(QueueUrl=url)
    text = "Only one PurgeQueue operation on q is allowed every 60 seconds."
    check(sidebus_aws, sqs, account, Case("PurgeQueue", "PurgeQueueInProgress", lambda _: {"QueueUrl": url}, text))


def pipelined(server: Server, requests: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """The answers to requests that are all sent before the first answer is read, in pieces that buffers can hold."""
    address = urlsplit(server.url)
    with (
        socket.create_connection((address.hostname or "", address.port or 0), 20) as connection,
        connection.makefile("rb") as file,
    ):
        for start in range(0, len(requests), 100):
            part = requests[start : start + 100]
            connection.sendall(b"".join(part))
            for _ in part:
                status = int(file.readline().split()[1])
                length = 0
                while line := file.readline().strip().lower():
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                yield status, file.read(length)


def json_request(server: Server, account: str, operation: str, parameters: Mapping[str, Any]) -> bytes:
    body = json.dumps(parameters)
    head = {**form_headers(account), "Content-Type": "application/x-amz-json-1.0", "Host": server.host}
    lines = [f"{name}: {value}" for name, value in head.items()]
    lines += [f"X-Amz-Target: AmazonSQS.{operation}", f"Content-Length: {len(body)}"]
    return "\r\n".join(["POST / HTTP/1.1", *lines, "", body]).encode()


@pytest.mark.parametrize("operation", sorted(FIFO_QUOTA))
def test_the_quota_of_a_fifo_queue(
    sidebus_aws: Server, connect: Callable[..., Any], account: str, operation: str
) -> None:
    url = connect(sidebus_aws).create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    given = {"QueueUrl": url, **MINIMAL[operation]}
    # 300 a second: of 601 in less than two seconds, one at least is too many.
    answers = list(pipelined(sidebus_aws, [json_request(sidebus_aws, account, operation, given)] * 601))
    throttled = (400, b'{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Request is throttled."}')
    assert throttled in answers
    assert throttled not in answers[:300]


@pytest.mark.slow
def test_too_many_messages_in_flight(sidebus_aws: Server, connect: Callable[..., Any], account: str) -> None:
    sqs = connect(sidebus_aws)
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    batch = {"QueueUrl": url, "Entries": entries(10, MessageBody="x")}
    send = json_request(sidebus_aws, account, "SendMessageBatch", batch)
    receive = json_request(
        sidebus_aws,
        account,
        "ReceiveMessage",
        {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 43_200},
    )
    assert all(status == 200 for status, _ in pipelined(sidebus_aws, [send] * 12_001))
    assert all(b"Messages" in body for _, body in pipelined(sidebus_aws, [receive] * 12_000))
    text = "Too many messages in flight: the limit for queue q is 120000."
    check(sidebus_aws, sqs, account, Case("ReceiveMessage", "OverLimit", lambda _: {"QueueUrl": url}, text))


# requests that SQS no longer trusts


@pytest.fixture(scope="module")
def strict(start_sidebus: Callable[..., Any]) -> Any:
    return start_sidebus("--auth", "strict", "--key", "AKID=secret")


@pytest.mark.parametrize("operation", MODEL.operation_names)
def test_signature_version_2_is_refused(strict: Server, operation: str) -> None:
    text = "The request was not made over HTTPS or did not use SigV4 for signing."
    given = MINIMAL[operation] | {"QueueUrl": f"{strict.url}/{FRIEND}/q"}
    signed = {"AWSAccessKeyId": "AKID", "SignatureVersion": "2", "SignatureMethod": "HmacSHA256", "Signature": "AAAA"}
    answer = strict.request(
        "POST",
        "/",
        {"Content-Type": "application/x-www-form-urlencoded"},
        form(operation, given) + "&" + urlencode(signed),
    )
    assert read_xml(answer.status, answer.body) == expected_in_xml("InvalidSecurity", text)
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"AmazonSQS.{operation}",
        "Authorization": "AWS AKID:AAAA",
    }
    answer = strict.request("POST", "/", headers, json.dumps(given))
    assert answer.status == 400
    assert answer.headers["x-amzn-query-error"] == "InvalidSecurity;Sender"
    assert json.loads(answer.body) == {"__type": "com.amazonaws.sqs#InvalidSecurity", "message": text}
