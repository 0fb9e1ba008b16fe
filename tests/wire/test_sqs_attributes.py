"""A queue's attributes: what each may be, what it is without being set, what it does, and how it is shown."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

REGION = "us-east-1"


def arn(account: str, name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{account}:{name}"


def create(sqs: Any, name: str = "q", **attributes: str) -> str:
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return str(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def shown(sqs: Any, url: str, *names: str) -> dict[str, str]:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names) or ["All"])
    return dict(answer.get("Attributes", {}))


def refusal(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


STANDARD = {
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
    "VisibilityTimeout": "30",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}
FIFO = STANDARD | {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}


@pytest.mark.parametrize(("name", "expected"), [("q", STANDARD), ("q.fifo", FIFO)])
def test_a_new_queue_shows_all_its_defaults(sqs: Any, account: str, name: str, expected: dict[str, str]) -> None:
    before_s = int(time.time())
    attributes = shown(sqs, create(sqs, name))
    created_s = attributes.pop("CreatedTimestamp")
    assert attributes.pop("LastModifiedTimestamp") == created_s
    assert before_s <= int(created_s) <= time.time()
    assert attributes == {**expected, "QueueArn": arn(account, name)}


def test_every_attribute_of_the_model_can_be_asked_for(sqs: Any, account: str) -> None:
    names = sqs.meta.service_model.shape_for("QueueAttributeName").enum
    create(sqs, "dead")
    policies = {
        "RedrivePolicy": {"deadLetterTargetArn": arn(account, "dead"), "maxReceiveCount": 3},
        "RedriveAllowPolicy": {"redrivePermission": "denyAll"},
        "Policy": {"Version": "2012-10-17", "Statement": []},
    }
    url = create(sqs, KmsMasterKeyId="alias/aws/sqs", **{name: json.dumps(value) for name, value in policies.items()})
    fifo = create(sqs, "q.fifo")
    assert {*shown(sqs, url), *shown(sqs, fifo), "All"} == set(names)
    for name in names:
        both = shown(sqs, url, name) | shown(sqs, fifo, name)
        assert name == "All" or set(both) == {name}


INTEGERS = {
    "DelaySeconds": (0, 900),
    "MaximumMessageSize": (1024, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, 43_200),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_numbers_and_their_bounds(sqs: Any, name: str) -> None:
    low, high = INTEGERS[name]
    for place, value in enumerate((low, high)):
        url = create(sqs, f"q{place}", **{name: str(value)})
        assert shown(sqs, url, name) == {name: str(value)}
    for wrong in (str(low - 1), str(high + 1), "", "x", "1.5", "1e3", "+60", "6_0", " 60", "٦٠", "9" * 5000):
        expected = ("InvalidAttributeValue", f"Invalid value for the parameter {name}.")
        assert refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={name: wrong}) == expected
        assert refusal(sqs.create_queue, QueueName="other", Attributes={name: wrong}) == expected
    assert shown(sqs, url, name) == {name: str(high)}
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="other")


@pytest.mark.parametrize("name", ["ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"])
def test_attributes_of_fifo_queues_alone(sqs: Any, name: str) -> None:
    value = {"ContentBasedDeduplication": "true", "DeduplicationScope": "messageGroup"}.get(name, "perQueue")
    fifo, standard = create(sqs, "q.fifo"), create(sqs)
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={name: value})
    assert shown(sqs, fifo, name) == {name: value}
    unknown = ("InvalidAttributeName", f"Unknown Attribute {name}.")
    assert refusal(sqs.set_queue_attributes, QueueUrl=standard, Attributes={name: value}) == unknown
    wrong = ("InvalidAttributeValue", f"Invalid value for the parameter {name}.")
    assert refusal(sqs.set_queue_attributes, QueueUrl=fifo, Attributes={name: "maybe"}) == wrong


def test_high_throughput_needs_deduplication_by_group(sqs: Any) -> None:
    url = create(sqs, "q.fifo")
    limit = {"FifoThroughputLimit": "perMessageGroupId"}
    code, message = refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes=limit)
    assert code == "InvalidAttributeValue"
    assert message.startswith("Invalid value for the parameter FifoThroughputLimit.")
    both = limit | {"DeduplicationScope": "messageGroup"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=both)
    assert shown(sqs, url, *both) == both


def test_a_queue_keeps_its_type(sqs: Any) -> None:
    fifo, standard = create(sqs, "q.fifo"), create(sqs)
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"FifoQueue": "true"})
    for url, value in ((fifo, "false"), (standard, "true")):
        assert refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={"FifoQueue": value}) == (
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        )
    unknown = ("InvalidAttributeName", "Unknown Attribute FifoQueue.")
    assert refusal(sqs.create_queue, QueueName="other", Attributes={"FifoQueue": "false"}) == unknown


@pytest.mark.parametrize("name", ["All", "QueueArn", "CreatedTimestamp", "ApproximateNumberOfMessages", "Nonsense", ""])
def test_what_cannot_be_set(sqs: Any, name: str) -> None:
    expected = ("InvalidAttributeName", f"Unknown Attribute {name}.")
    assert refusal(sqs.set_queue_attributes, QueueUrl=create(sqs), Attributes={name: "1"}) == expected


def test_a_refused_change_changes_nothing(sqs: Any) -> None:
    url = create(sqs, VisibilityTimeout="5")
    before = shown(sqs, url)
    refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={"VisibilityTimeout": "6", "DelaySeconds": "x"})
    assert shown(sqs, url) == before


def test_creating_what_is_there_must_agree_with_it(sqs: Any, account: str) -> None:
    create(sqs, "dead")
    policy = {"deadLetterTargetArn": arn(account, "dead"), "maxReceiveCount": 3}
    url = create(sqs, VisibilityTimeout="5", RedrivePolicy=json.dumps(policy))
    assert create(sqs) == create(sqs, VisibilityTimeout="5") == url
    assert create(sqs, DelaySeconds="0") == url  # the default is a value like any other
    assert create(sqs, RedrivePolicy=json.dumps(policy, indent=4)) == url
    for name, value in (("VisibilityTimeout", "6"), ("DelaySeconds", "1"), ("KmsMasterKeyId", "k")):
        assert refusal(sqs.create_queue, QueueName="q", Attributes={name: value}) == (
            "QueueAlreadyExists",
            f"A queue already exists with the same name and a different value for attribute {name}",
        )


# what they do


def test_delay_seconds(sqs: Any) -> None:
    url = create(sqs, DelaySeconds="900")
    sqs.send_message(QueueUrl=url, MessageBody="waits")
    sqs.send_message(QueueUrl=url, MessageBody="comes", DelaySeconds=0)
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert message["Body"] == "comes"


def test_receive_message_wait_time_seconds(sqs: Any) -> None:
    url = create(sqs, ReceiveMessageWaitTimeSeconds="1")
    started = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0)
    assert time.monotonic() - started < 0.9
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert time.monotonic() - started > 0.9


def test_visibility_timeout(sqs: Any) -> None:
    url = create(sqs, VisibilityTimeout="0")
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    assert len(sqs.receive_message(QueueUrl=url, VisibilityTimeout=10)["Messages"]) == 1
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_maximum_message_size(sqs: Any) -> None:
    url = create(sqs, MaximumMessageSize="1024")
    sqs.send_message(QueueUrl=url, MessageBody="ä" * 512)
    too_long = (
        "InvalidParameterValue",
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.",
    )
    assert refusal(sqs.send_message, QueueUrl=url, MessageBody="ä" * 512 + "x") == too_long
    attributes = {"n": {"DataType": "String", "StringValue": "v"}}  # eight bytes: name, type and value
    sqs.send_message(QueueUrl=url, MessageBody="x" * 1016, MessageAttributes=attributes)
    assert refusal(sqs.send_message, QueueUrl=url, MessageBody="x" * 1017, MessageAttributes=attributes) == too_long


# encryption


def test_one_kind_of_encryption_at_a_time(sqs: Any) -> None:
    url = create(sqs)
    names = ("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/mine"})
    with_kms = {"KmsMasterKeyId": "alias/mine", "KmsDataKeyReusePeriodSeconds": "300", "SqsManagedSseEnabled": "false"}
    assert shown(sqs, url, *names) == with_kms
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"SqsManagedSseEnabled": "true"})
    assert shown(sqs, url, *names) == {"SqsManagedSseEnabled": "true"}
    both = {"KmsMasterKeyId": "alias/mine", "SqsManagedSseEnabled": "true"}
    assert refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes=both) == (
        "InvalidAttributeValue",
        "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
    )
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/mine"})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": ""})
    assert shown(sqs, url, *names) == {"SqsManagedSseEnabled": "false"}


# policies


def test_the_redrive_policy_is_shown_as_aws_writes_it(sqs: Any, account: str) -> None:
    create(sqs, "dead")
    given = {"maxReceiveCount": "5", "deadLetterTargetArn": arn(account, "dead")}
    url = create(sqs, RedrivePolicy=json.dumps(given, indent=1))
    expected = f'{{"deadLetterTargetArn":"{arn(account, "dead")}","maxReceiveCount":5}}'
    assert shown(sqs, url, "RedrivePolicy") == {"RedrivePolicy": expected}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
    assert shown(sqs, url, "RedrivePolicy") == {}


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("not json", "Redrive policy is not a valid JSON map."),
        ("[]", "Redrive policy is not a valid JSON map."),
        ("[" * 100_000, "Redrive policy is not a valid JSON map."),
        (r'{"\ud800":1}', "Redrive policy is not a valid JSON map."),  # half a pair: no answer could say it back
        ('{"speed":1}', "Unknown parameter speed."),
        ('{"maxReceiveCount":1}', "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:dead"}',
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:dead","maxReceiveCount":0}',
            "Invalid value for maxReceiveCount: 0, valid values are from 1 to 1000 both inclusive.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:dead","maxReceiveCount":1001}',
            "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:dead","maxReceiveCount":true}',
            "Invalid value for maxReceiveCount: true, valid values are from 1 to 1000 both inclusive.",
        ),
        ('{"deadLetterTargetArn":"dead","maxReceiveCount":1}', "Invalid value for deadLetterTargetArn."),
        ('{"deadLetterTargetArn":7,"maxReceiveCount":1}', "Invalid value for deadLetterTargetArn."),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:nowhere","maxReceiveCount":1}',
            "Dead letter target does not exist.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:$:dead","maxReceiveCount":1}',
            "Dead letter target does not exist.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:$:dead.fifo","maxReceiveCount":1}',
            "Dead-letter queue must be same type of queue as the source.",
        ),
    ],
)
def test_redrive_policies_that_cannot_be(sqs: Any, account: str, policy: str, reason: str) -> None:
    url = create(sqs)
    create(sqs, "dead")
    create(sqs, "dead.fifo")
    given = policy.replace("$", account)
    for call, target in ((sqs.create_queue, {"QueueName": "q2"}), (sqs.set_queue_attributes, {"QueueUrl": url})):
        assert refusal(call, **target, Attributes={"RedrivePolicy": given}) == (
            "InvalidParameterValue",
            f"Value {given} for parameter RedrivePolicy is invalid. Reason: {reason}",
        )


def test_a_queue_says_whose_dead_letters_it_takes(sqs: Any, account: str) -> None:
    dead = create(sqs, "dead")
    policy = json.dumps({"deadLetterTargetArn": arn(account, "dead"), "maxReceiveCount": 1})
    for allow, allowed in (
        ({"redrivePermission": "allowAll"}, {"friend", "stranger"}),
        ({"redrivePermission": "denyAll"}, set()),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [arn(account, "friend")]}, {"friend"}),
    ):
        sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(allow)})
        assert json.loads(shown(sqs, dead)["RedriveAllowPolicy"]) == allow
        for name in ("friend", "stranger"):
            url = create(sqs, name)
            if name in allowed:
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
            else:
                code, _ = refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={"RedrivePolicy": policy})
                assert code == "InvalidParameterValue"


@pytest.mark.parametrize(
    "policy",
    [
        "not json",
        "[]",
        "{}",
        '{"redrivePermission":"perhaps"}',
        '{"redrivePermission":"byQueue"}',
        '{"redrivePermission":"byQueue","sourceQueueArns":[]}',
        '{"redrivePermission":"byQueue","sourceQueueArns":"arn:aws:sqs:us-east-1:111122223333:q"}',
        '{"redrivePermission":"byQueue","sourceQueueArns":["no arn"]}',
        json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [f"arn:aws:sqs:a:1:{n}" for n in range(11)]}),
        '{"redrivePermission":"allowAll","sourceQueueArns":["arn:aws:sqs:us-east-1:111122223333:q"]}',
    ],
)
def test_redrive_allow_policies_that_cannot_be(sqs: Any, policy: str) -> None:
    code, message = refusal(sqs.set_queue_attributes, QueueUrl=create(sqs), Attributes={"RedriveAllowPolicy": policy})
    assert code == "InvalidParameterValue"
    assert message.startswith(f"Value {policy} for parameter RedriveAllowPolicy is invalid. Reason: ")


def test_a_policy_is_kept_as_it_was_written(sqs: Any) -> None:
    policy = '{ "Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "sqs:*"} }'
    url = create(sqs, Policy=policy)
    assert shown(sqs, url, "Policy") == {"Policy": policy}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    assert shown(sqs, url, "Policy") == {}


@pytest.mark.parametrize("policy", ["not json", "[]", "{}", '{"Statement":"x"}', "[" * 100_000])
def test_policies_that_cannot_be(sqs: Any, policy: str) -> None:
    expected = ("InvalidAttributeValue", "Invalid value for the parameter Policy.")
    assert refusal(sqs.set_queue_attributes, QueueUrl=create(sqs), Attributes={"Policy": policy}) == expected


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        ([{}] * 21, "21 Statements were found, maximum allowed is 20."),
        ([{"Principal": {"AWS": ["*"] * 51}}], "51 Principals were found, maximum allowed is 50."),
        ([{"Action": ["sqs:SendMessage"] * 8}], "8 Actions were found, maximum allowed is 7."),
        ([{"Sid": "x" * 8192}], "8220 Bytes were found, maximum allowed is 8192."),
    ],
)
def test_how_much_a_policy_may_say(sqs: Any, statements: list[dict[str, Any]], text: str) -> None:
    policy = json.dumps({"Statement": statements})
    assert refusal(sqs.create_queue, QueueName="q", Attributes={"Policy": policy}) == ("OverLimit", text)


def test_permissions_are_counted_too(sqs: Any) -> None:
    url = create(sqs)
    grant = {"QueueUrl": url, "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
    for n in range(20):
        sqs.add_permission(Label=f"l{n}", **grant)
    code, _ = refusal(sqs.add_permission, Label="one-more", **grant)
    assert code == "OverLimit"
