"""SNS through other clients than boto3: the command line, and AWS's SDK for JavaScript under Node."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore import xform_name

PythonWith = Callable[..., Path]
NodeWith = Callable[..., Path]
RunClient = Callable[..., str]

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PHONE = "+15555550100"
PACKAGES = {"@aws-sdk/client-sns": "^3.1018.0", "@aws-sdk/client-sqs": "^3.1018.0"}


@pytest.mark.parametrize("part", ["topics", "queues", "filters", "fifo", "errors", "http"])
def test_sdk_for_javascript(part: str, node_with: NodeWith, run_client: RunClient) -> None:
    directory = node_with("sns-node", 20, PACKAGES)
    program = Path(__file__).with_name("sns_client.mjs")
    shutil.copy(program, directory)  # beside its node_modules
    run_client("node", program.name, part, where=directory)


class CommandLine:
    """`aws sns …` against a broker; knows which operations were used."""

    def __init__(self, aws: Path, run_client: RunClient, sidebus: Any) -> None:
        self._aws = aws
        self._run_client = run_client
        self._sidebus = sidebus
        self.used: set[str] = set()

    def __call__(self, line: str) -> Any:
        """What it printed, read as JSON; None where it printed nothing."""
        operation, *words = shlex.split(line)
        self.used.add(operation)
        options = ("--endpoint-url", self._sidebus.url, "--output", "json")
        printed = self._run_client(self._aws, *options, "sns", operation, *words)
        return json.loads(printed) if printed.strip() else None


def test_each_operation_on_the_command_line(
    python_with: PythonWith, run_client: RunClient, sidebus: Any, sqs: Any, account: str
) -> None:
    sns = CommandLine(python_with("awscli", "awscli~=1.46") / "aws", run_client, sidebus)

    def control(method: str, page: str, **parameters: str) -> Any:
        query = urlencode({"account": account, **parameters})
        answer = sidebus.request(method, f"/_sidebus/sns/{page}?{query}")
        assert answer.status == 200
        return json.loads(answer.body)

    def sent(channel: str) -> list[dict[str, Any]]:
        """What would have gone out since the last time."""
        messages = [record["message"] for record in control("GET", "outbox", channel=channel)["messages"]]
        control("DELETE", "outbox", channel=channel)
        return messages

    # topics
    prefix = f"arn:aws:sns:us-east-1:{account}:"
    topic = f"{prefix}t"
    made = sns("create-topic --name t --attributes DisplayName=Tee --tags Key=team,Value=a")
    assert made == {"TopicArn": topic}
    assert sns("create-topic --name t") == made
    other = sns("create-topic --name u.fifo --attributes FifoTopic=true,ContentBasedDeduplication=true")["TopicArn"]
    assert other == f"{prefix}u.fifo"
    assert sns("list-topics") == {"Topics": [{"TopicArn": topic}, {"TopicArn": other}]}
    page = sns("list-topics --max-items 1")
    assert page["Topics"] == [{"TopicArn": topic}]
    assert sns(f"list-topics --starting-token {page['NextToken']}")["Topics"] == [{"TopicArn": other}]
    assert sns(f"set-topic-attributes --topic-arn {topic} --attribute-name DisplayName --attribute-value 'Té'") is None
    shown = sns(f"get-topic-attributes --topic-arn {topic}")["Attributes"]
    counts = {f"Subscriptions{state}": "0" for state in ("Confirmed", "Pending", "Deleted")}
    assert shown | {"TopicArn": topic, "Owner": account, "DisplayName": "Té", **counts} == shown
    assert json.loads(shown["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"] == {
        "minDelayTarget": 20,
        "maxDelayTarget": 20,
        "numRetries": 3,
        "numMaxDelayRetries": 0,
        "numNoDelayRetries": 0,
        "numMinDelayRetries": 0,
        "backoffFunction": "linear",
    }

    # tags, permissions, data protection
    sns(f"tag-resource --resource-arn {topic} --tags Key=cost,Value=42 Key=team,Value=b")
    tags = sns(f"list-tags-for-resource --resource-arn {topic}")["Tags"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("cost", "42"), ("team", "b")]
    sns(f"untag-resource --resource-arn {topic} --tag-keys cost gone")
    assert sns(f"list-tags-for-resource --resource-arn {topic}") == {"Tags": [{"Key": "team", "Value": "b"}]}

    def labels() -> list[str]:
        policy = json.loads(sns(f"get-topic-attributes --topic-arn {topic}")["Attributes"]["Policy"])
        return [statement["Sid"] for statement in policy["Statement"]]

    permission = "--label shared --aws-account-id 111122223333 --action-name Publish Subscribe"
    assert sns(f"add-permission --topic-arn {topic} {permission}") is None
    assert labels() == ["__default_statement_ID", "shared"]
    assert sns(f"remove-permission --topic-arn {topic} --label shared") is None
    assert labels() == ["__default_statement_ID"]
    statement = {
        "Sid": "s",
        "DataDirection": "Inbound",
        "Principal": ["*"],
        "DataIdentifier": ["arn:aws:dataprotection::aws:data-identifier/CreditCardNumber"],
        "Operation": {"Deny": {}},
    }
    protection = json.dumps({"Name": "p", "Version": "2021-06-01", "Statement": [statement]})
    put = f"put-data-protection-policy --resource-arn {topic} --data-protection-policy {shlex.quote(protection)}"
    assert sns(put) is None
    kept = sns(f"get-data-protection-policy --resource-arn {topic}")
    assert json.loads(kept["DataProtectionPolicy"]) == json.loads(protection)
    assert sns(f"put-data-protection-policy --resource-arn {topic} --data-protection-policy ''") is None

    # subscriptions
    queue_url = sqs.create_queue(QueueName="q")["QueueUrl"]
    queue = f"arn:aws:sqs:us-east-1:{account}:q"
    policy = shlex.quote(json.dumps({"FilterPolicy": json.dumps({"colour": ["red"]})}))
    target = f"--topic-arn {topic} --protocol sqs --notification-endpoint {queue}"
    subscription = sns(f"subscribe {target} --attributes {policy}")["SubscriptionArn"]
    assert re.fullmatch(f"{topic}:{UUID}", subscription)
    raw = "--attribute-name RawMessageDelivery --attribute-value true"
    assert sns(f"set-subscription-attributes --subscription-arn {subscription} {raw}") is None
    shown = sns(f"get-subscription-attributes --subscription-arn {subscription}")["Attributes"]
    assert shown == {
        "SubscriptionArn": subscription,
        "TopicArn": topic,
        "Protocol": "sqs",
        "Endpoint": queue,
        "Owner": account,
        "SubscriptionPrincipal": shown["SubscriptionPrincipal"],
        "PendingConfirmation": "false",
        "ConfirmationWasAuthenticated": "true",
        "RawMessageDelivery": "true",
        "FilterPolicy": '{"colour": ["red"]}',
        "FilterPolicyScope": "MessageAttributes",
    }
    assert shown["SubscriptionPrincipal"].startswith(f"arn:aws:iam::{account}:")

    mail = f"--topic-arn {topic} --protocol email --notification-endpoint ann@example.com"
    assert sns(f"subscribe {mail}") == {"SubscriptionArn": "pending confirmation"}
    (question,) = sent("email")
    (token,) = set(re.findall(r"[?&]Token=([0-9a-f]+)", json.dumps(question)))
    listed = sns(f"list-subscriptions-by-topic --topic-arn {topic}")["Subscriptions"]
    of_queue = {
        "SubscriptionArn": subscription,
        "Owner": account,
        "Protocol": "sqs",
        "Endpoint": queue,
        "TopicArn": topic,
    }
    of_mail = {**of_queue, "Protocol": "email", "Endpoint": "ann@example.com"}
    assert listed == [of_queue, {**of_mail, "SubscriptionArn": "PendingConfirmation"}]
    confirmed = sns(f"confirm-subscription --topic-arn {topic} --token {token} --authenticate-on-unsubscribe true")
    assert re.fullmatch(f"{topic}:{UUID}", confirmed["SubscriptionArn"])
    page = sns("list-subscriptions --max-items 1")
    assert page["Subscriptions"] == [of_queue]
    rest = sns(f"list-subscriptions --starting-token {page['NextToken']}")
    assert rest["Subscriptions"] == [{**of_mail, **confirmed}]

    # publishing
    red = shlex.quote(json.dumps({"colour": {"DataType": "String", "StringValue": "red"}}))
    published = sns(f"publish --topic-arn {topic} --subject Hi --message 'Grüße <&> \u2028' --message-attributes {red}")
    assert list(published) == ["MessageId"]
    assert re.fullmatch(UUID, published["MessageId"])
    (message,) = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=5, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == "Grüße <&> \u2028"
    assert message["MessageAttributes"]["colour"] == {"StringValue": "red", "DataType": "String"}
    (mailed,) = sent("email")
    assert (mailed["endpoint"], mailed["subject"], mailed["body"]) == ("ann@example.com", "Hi", "Grüße <&> \u2028")
    entries = "Id=a,Message=1 Id=b,Message=2,MessageStructure=json"
    batch = sns(f"publish-batch --topic-arn {topic} --publish-batch-request-entries {entries}")
    assert [(entry["Id"], len(entry["MessageId"])) for entry in batch["Successful"]] == [("a", 36)]
    (failed,) = batch["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("b", "InvalidParameter", True)
    ordered = sns(f"publish --topic-arn {other} --message-group-id g --message x")
    assert re.fullmatch("[0-9]{20}", ordered["SequenceNumber"])
    assert sns(f"unsubscribe --subscription-arn {subscription}") is None
    assert sns(f"list-subscriptions-by-topic --topic-arn {topic}")["Subscriptions"] == [{**of_mail, **confirmed}]

    # push
    application = sns("create-platform-application --name app --platform GCM --attributes PlatformCredential=key")
    assert application == {"PlatformApplicationArn": f"{prefix}app/GCM/app"}
    of_application = f"--platform-application-arn {application['PlatformApplicationArn']}"
    rate = "--attributes SuccessFeedbackSampleRate=50"
    assert sns(f"set-platform-application-attributes {of_application} {rate}") is None
    shown = sns(f"get-platform-application-attributes {of_application}")["Attributes"]
    assert shown == {"Enabled": "true", "SuccessFeedbackSampleRate": "50"}
    assert sns("list-platform-applications") == {"PlatformApplications": [{**application, "Attributes": shown}]}
    device = sns(f"create-platform-endpoint {of_application} --token tok --custom-user-data ann")["EndpointArn"]
    assert re.fullmatch(f"{prefix}endpoint/GCM/app/{UUID}", device)
    assert sns(f"set-endpoint-attributes --endpoint-arn {device} --attributes CustomUserData=bob") is None
    attributes = sns(f"get-endpoint-attributes --endpoint-arn {device}")["Attributes"]
    assert attributes == {"Enabled": "true", "Token": "tok", "CustomUserData": "bob"}
    listed = sns(f"list-endpoints-by-platform-application {of_application}")
    assert listed == {"Endpoints": [{"EndpointArn": device, "Attributes": attributes}]}
    texts = shlex.quote(json.dumps({"default": "all", "GCM": '{"notification": {}}'}))
    pushed = sns(f"publish --target-arn {device} --message-structure json --message {texts}")
    (message,) = sent("application")
    assert (message["message_id"], message["message"]) == (pushed["MessageId"], '{"notification": {}}')
    assert sns(f"delete-endpoint --endpoint-arn {device}") is None
    assert sns(f"list-endpoints-by-platform-application {of_application}") == {"Endpoints": []}
    assert sns(f"delete-platform-application {of_application}") is None
    assert sns("list-platform-applications") == {"PlatformApplications": []}

    # text messages
    sns("set-sms-attributes --attributes DefaultSMSType=Transactional")
    assert sns("get-sms-attributes --attributes DefaultSMSType") == {"attributes": {"DefaultSMSType": "Transactional"}}
    texted = sns(f"publish --phone-number {PHONE} --message hello")
    (message,) = sent("sms")
    assert (message["message_id"], message["phone_number"], message["message"]) == (texted["MessageId"], PHONE, "hello")
    assert message["sms_type"] == "Transactional"
    assert sns(f"check-if-phone-number-is-opted-out --phone-number {PHONE}") == {"isOptedOut": False}
    control("POST", "opted-out", phoneNumber=PHONE)
    assert sns(f"check-if-phone-number-is-opted-out --phone-number {PHONE}") == {"isOptedOut": True}
    assert sns("list-phone-numbers-opted-out") == {"phoneNumbers": [PHONE]}
    sns(f"opt-in-phone-number --phone-number {PHONE}")
    assert sns("list-phone-numbers-opted-out") == {"phoneNumbers": []}
    assert sns("list-origination-numbers") == {"PhoneNumbers": []}

    # the sandbox
    assert sns("get-sms-sandbox-account-status") == {"IsInSandbox": False}
    sns(f"create-sms-sandbox-phone-number --phone-number {PHONE} --language-code de-DE")
    assert sns("list-sms-sandbox-phone-numbers") == {"PhoneNumbers": [{"PhoneNumber": PHONE, "Status": "Pending"}]}
    (message,) = sent("sms")
    password = message["one_time_password"]
    sns(f"verify-sms-sandbox-phone-number --phone-number {PHONE} --one-time-password {password}")
    assert sns("list-sms-sandbox-phone-numbers") == {"PhoneNumbers": [{"PhoneNumber": PHONE, "Status": "Verified"}]}
    sns(f"create-sms-sandbox-phone-number --phone-number {PHONE}1")
    numbers = sns("list-sms-sandbox-phone-numbers --page-size 1")["PhoneNumbers"]
    assert [number["PhoneNumber"] for number in numbers] == [PHONE, f"{PHONE}1"]
    sns(f"delete-sms-sandbox-phone-number --phone-number {PHONE}1")
    sns(f"delete-sms-sandbox-phone-number --phone-number {PHONE}")
    assert sns("list-sms-sandbox-phone-numbers") == {"PhoneNumbers": []}

    assert sns(f"delete-topic --topic-arn {topic}") is None
    assert sns("list-topics") == {"Topics": [{"TopicArn": other}]}
    assert sns("list-subscriptions") == {"Subscriptions": []}
    operations = botocore.session.Session().get_service_model("sns").operation_names
    assert sns.used == {xform_name(name, "-") for name in operations}
