"""The operations of SQS through a botocore that still speaks the query protocol (1.29.165). A program, not a test."""

import json
import os

import botocore
import botocore.session
from botocore.exceptions import ClientError

account = os.environ["AWS_ACCESS_KEY_ID"]
# This botocore is too old for AWS_ENDPOINT_URL.
sqs = botocore.session.get_session().create_client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
assert sqs.meta.service_model.protocol == "query", botocore.__version__
called = set()


def call(operation, **parameters):
    called.add(sqs.meta.method_to_api_mapping[operation])
    return getattr(sqs, operation)(**parameters)


def refused(operation, **parameters):
    try:
        call(operation, **parameters)
    except ClientError as error:
        response = error.response
        assert response["Error"]["Type"] == "Sender"
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], type(error).__name__
    raise AssertionError(f"{operation} was not refused")


def arn(name):
    return f"arn:aws:sqs:us-east-1:{account}:{name}"


# queues
dead = call("create_queue", QueueName="dead")["QueueUrl"]
policy = json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1})
url = call("create_queue", QueueName="q", Attributes={"RedrivePolicy": policy}, tags={"team": "a & b"})["QueueUrl"]
assert url == f"{os.environ['AWS_ENDPOINT_URL']}/{account}/q"
assert call("get_queue_url", QueueName="q")["QueueUrl"] == url
assert call("list_queues")["QueueUrls"] == [dead, url]
first = call("list_queues", MaxResults=1)
assert call("list_queues", MaxResults=1, NextToken=first["NextToken"])["QueueUrls"] == [url]
assert call("list_dead_letter_source_queues", QueueUrl=dead)["queueUrls"] == [url]
call("set_queue_attributes", QueueUrl=url, Attributes={"VisibilityTimeout": "7", "DelaySeconds": "0"})
attributes = call("get_queue_attributes", QueueUrl=url, AttributeNames=["VisibilityTimeout", "QueueArn"])["Attributes"]
assert attributes == {"VisibilityTimeout": "7", "QueueArn": arn("q")}
assert len(call("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]) > 10

# tags and permissions
call("tag_queue", QueueUrl=url, Tags={"cost": "42"})
assert call("list_queue_tags", QueueUrl=url)["Tags"] == {"team": "a & b", "cost": "42"}
call("untag_queue", QueueUrl=url, TagKeys=["cost", "team"])
assert "Tags" not in call("list_queue_tags", QueueUrl=url)
call("add_permission", QueueUrl=url, Label="l", AWSAccountIds=["111122223333"], Actions=["SendMessage", "*"])
call("remove_permission", QueueUrl=url, Label="l")

# messages
body = "Grüße <&> \"'\t\r\n\r 🚌"
message_attributes = {
    "text": {"DataType": "String", "StringValue": body},
    "number": {"DataType": "Number", "StringValue": "42"},
    "binary": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}
trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
sent = call(
    "send_message",
    QueueUrl=url,
    MessageBody=body,
    MessageAttributes=message_attributes,
    MessageSystemAttributes=trace,
)
assert {"MD5OfMessageBody", "MD5OfMessageAttributes", "MD5OfMessageSystemAttributes", "MessageId"} < set(sent)
(message,) = call(
    "receive_message", QueueUrl=url, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=1
)["Messages"]
assert message["Body"] == body, message["Body"]
assert message["MessageAttributes"] == message_attributes
assert message["Attributes"]["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]
call("change_message_visibility", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60)
changed = call(
    "change_message_visibility_batch",
    QueueUrl=url,
    Entries=[
        {"Id": "a", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 60},
        {"Id": "b", "ReceiptHandle": "nonsense", "VisibilityTimeout": 60},
    ],
)
assert [entry["Id"] for entry in changed["Successful"]] == ["a"]
assert [entry["Code"] for entry in changed["Failed"]] == ["ReceiptHandleIsInvalid"]
call("delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
assert "Messages" not in call("receive_message", QueueUrl=url)
batch = call(
    "send_message_batch",
    QueueUrl=url,
    Entries=[{"Id": str(n), "MessageBody": str(n), "MessageAttributes": message_attributes} for n in range(9)]
    + [{"Id": "late", "MessageBody": "x", "DelaySeconds": 901}],
)
assert (len(batch["Successful"]), [entry["Id"] for entry in batch["Failed"]]) == (9, ["late"])
handles = [m["ReceiptHandle"] for m in call("receive_message", QueueUrl=url, MaxNumberOfMessages=6)["Messages"]]
entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
assert len(call("delete_message_batch", QueueUrl=url, Entries=entries)["Successful"]) == 6

# dead letters and move tasks: the three that are left die
call("receive_message", QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
assert "Messages" not in call("receive_message", QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
if hasattr(sqs, "start_message_move_task"):
    handle = call("start_message_move_task", SourceArn=arn("dead"), MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    (task,) = call("list_message_move_tasks", SourceArn=arn("dead"))["Results"]
    assert (task["Status"], task["TaskHandle"], task["ApproximateNumberOfMessagesToMove"]) == ("RUNNING", handle, 3)
    call("cancel_message_move_task", TaskHandle=handle)
call("purge_queue", QueueUrl=dead)

# FIFO
fifo = call("create_queue", QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
ids = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
number = call("send_message", QueueUrl=fifo, MessageBody="x", **ids)["SequenceNumber"]
assert call("send_message", QueueUrl=fifo, MessageBody="x", **ids)["SequenceNumber"] == number

# errors
assert refused("send_message", QueueUrl=url + "x", MessageBody="x") == (
    400,
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
)
assert refused("delete_message", QueueUrl=url, ReceiptHandle="x") == (
    404,
    "ReceiptHandleIsInvalid",
    "ReceiptHandleIsInvalid",
)
assert refused("create_queue", QueueName="q", Attributes={"DelaySeconds": "9"}) == (
    400,
    "QueueAlreadyExists",
    "QueueNameExists",
)
assert refused("send_message_batch", QueueUrl=url, Entries=[]) == (
    400,
    "AWS.SimpleQueueService.EmptyBatchRequest",
    "EmptyBatchRequest",
)

call("delete_queue", QueueUrl=url)
missing = set(sqs.meta.service_model.operation_names) - called
assert not missing, missing
print(len(called))
