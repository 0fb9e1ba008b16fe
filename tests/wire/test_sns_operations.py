"""Each of SNS's 42 operations through boto3, as a program uses it. Errors are in test_sns_errors.py."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

REGION = "us-east-1"
PERSON = {"name": {"DataType": "String", "StringValue": "ann"}}
NUMBER = "+15550100100"
RETRIES = '{"minDelayTarget":1,"maxDelayTarget":60,"numRetries":7}'


def arn(account: str, name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{account}:{name}"


def receive(sqs: Any, url: str) -> list[dict[str, Any]]:
    return sqs.receive_message(  # type: ignore[no-any-return]
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
    ).get("Messages", [])


def texts(sqs: Any, url: str) -> list[str]:
    return [json.loads(message["Body"])["Message"] for message in receive(sqs, url)]


def attributes(sns: Any, topic: str) -> dict[str, str]:
    return sns.get_topic_attributes(TopicArn=topic)["Attributes"]  # type: ignore[no-any-return]


def subscription_attributes(sns: Any, subscription: str) -> dict[str, str]:
    found = sns.get_subscription_attributes(SubscriptionArn=subscription)
    return found["Attributes"]  # type: ignore[no-any-return]


def outbox(sidebus: Any, account: str, channel: str) -> list[dict[str, Any]]:
    answer = sidebus.request("GET", f"/_sidebus/sns/outbox?channel={channel}&account={account}")
    return [entry["message"] for entry in json.loads(answer.body)["messages"]]


@pytest.fixture
def sns(connect: Any, sidebus: Any) -> Any:
    return connect(sidebus, "sns")


@pytest.fixture
def topic(sns: Any) -> str:
    return str(sns.create_topic(Name="news")["TopicArn"])


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="orders")["QueueUrl"])


@pytest.fixture
def subscription(sns: Any, topic: str, url: str, account: str) -> str:
    return str(sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(account, "orders"))["SubscriptionArn"])


@pytest.fixture
def application(sns: Any) -> str:
    created = sns.create_platform_application(Name="app", Platform="GCM", Attributes={"PlatformCredential": "key"})
    return str(created["PlatformApplicationArn"])


@pytest.fixture
def endpoint(sns: Any, application: str) -> str:
    return str(sns.create_platform_endpoint(PlatformApplicationArn=application, Token="tok")["EndpointArn"])


def test_every_operation_of_the_model_is_here(sns: Any) -> None:
    tested = {name.removeprefix("test_") for name in globals()}
    assert {name for name in sns.meta.method_to_api_mapping if name not in tested} == set()


# topics


def test_create_topic(sns: Any, account: str) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    created = sns.create_topic(Name="news", Attributes={"DisplayName": "News"}, Tags=tags)["TopicArn"]
    assert created == f"arn:aws:sns:{REGION}:{account}:news"
    assert sns.create_topic(Name="news")["TopicArn"] == created
    assert sns.create_topic(Name="news", Attributes={"DisplayName": "News"}, Tags=tags)["TopicArn"] == created
    assert sns.list_tags_for_resource(ResourceArn=created)["Tags"] == tags


def test_delete_topic(sns: Any, sqs: Any, topic: str, subscription: str) -> None:
    sns.delete_topic(TopicArn=topic)
    sns.delete_topic(TopicArn=topic)
    assert sns.list_topics()["Topics"] == []
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_list_topics(sns: Any) -> None:
    assert sns.list_topics()["Topics"] == []
    made = {sns.create_topic(Name=f"t{n:03}")["TopicArn"] for n in range(101)}
    first = sns.list_topics()
    assert len(first["Topics"]) == 100
    second = sns.list_topics(NextToken=first["NextToken"])
    assert "NextToken" not in second
    assert {entry["TopicArn"] for entry in first["Topics"] + second["Topics"]} == made


def test_get_topic_attributes(sns: Any, topic: str, subscription: str, account: str) -> None:
    shown = attributes(sns, topic)
    policy = json.loads(shown.pop("Policy"))
    assert policy["Id"] == "__default_policy_ID"
    assert policy["Statement"][0]["Condition"] == {"StringEquals": {"AWS:SourceOwner": account}}
    effective = json.loads(shown.pop("EffectiveDeliveryPolicy"))
    assert effective["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 3
    assert shown == {
        "TopicArn": topic,
        "Owner": account,
        "DisplayName": "",
        "SubscriptionsConfirmed": "1",
        "SubscriptionsPending": "0",
        "SubscriptionsDeleted": "0",
    }
    fifo = sns.create_topic(Name="news.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    shown = attributes(sns, fifo)
    assert (shown["FifoTopic"], shown["ContentBasedDeduplication"]) == ("true", "false")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DisplayName", "All the news"),
        ("SignatureVersion", "2"),
        ("TracingConfig", "Active"),
        ("KmsMasterKeyId", "alias/aws/sns"),
        ("MaximumMessageSize", "1048576"),
        ("SQSSuccessFeedbackRoleArn", "arn:aws:iam::123456789012:role/log"),
        ("SQSSuccessFeedbackSampleRate", "50"),
        ("SQSFailureFeedbackRoleArn", "arn:aws:iam::123456789012:role/log"),
        ("DeliveryPolicy", f'{{"http":{{"defaultHealthyRetryPolicy":{RETRIES}}}}}'),
        ("Policy", '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"SNS:Publish"}]}'),
    ],
)
def test_set_topic_attributes(sns: Any, topic: str, name: str, value: str) -> None:
    sns.set_topic_attributes(TopicArn=topic, AttributeName=name, AttributeValue=value)
    assert attributes(sns, topic)[name] == value
    again = sns.create_topic(Name=f"other-{name}", Attributes={name: value})["TopicArn"]
    assert attributes(sns, again)[name] == value


def test_tag_resource(sns: Any, topic: str) -> None:
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "2"}])
    tags = sns.list_tags_for_resource(ResourceArn=topic)["Tags"]
    assert tags == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]


def test_untag_resource(sns: Any, topic: str) -> None:
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sns.untag_resource(ResourceArn=topic, TagKeys=["a", "never"])
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_list_tags_for_resource(sns: Any, topic: str) -> None:
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == []


def test_add_permission(sns: Any, topic: str) -> None:
    sns.add_permission(TopicArn=topic, Label="other", AWSAccountId=["123456789012"], ActionName=["Publish"])
    entries = json.loads(attributes(sns, topic)["Policy"])["Statement"]
    assert [entry["Sid"] for entry in entries] == ["__default_statement_ID", "other"]
    assert entries[1] == {
        "Sid": "other",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "SNS:Publish",
        "Resource": topic,
    }


def test_remove_permission(sns: Any, topic: str) -> None:
    sns.add_permission(TopicArn=topic, Label="other", AWSAccountId=["123456789012"], ActionName=["Publish"])
    sns.remove_permission(TopicArn=topic, Label="other")
    entries = json.loads(attributes(sns, topic)["Policy"])["Statement"]
    assert [entry["Sid"] for entry in entries] == ["__default_statement_ID"]


def test_put_data_protection_policy(sns: Any, topic: str) -> None:
    sns.put_data_protection_policy(ResourceArn=topic, DataProtectionPolicy='{"Name": "p"}')
    assert sns.get_data_protection_policy(ResourceArn=topic)["DataProtectionPolicy"] == '{"Name": "p"}'


def test_get_data_protection_policy(sns: Any, topic: str) -> None:
    assert sns.get_data_protection_policy(ResourceArn=topic)["DataProtectionPolicy"] == ""
    other = sns.create_topic(Name="other", DataProtectionPolicy='{"Name": "q"}')["TopicArn"]
    assert sns.get_data_protection_policy(ResourceArn=other)["DataProtectionPolicy"] == '{"Name": "q"}'


# subscriptions


def test_subscribe(sns: Any, topic: str, account: str) -> None:
    queue = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(account, "orders"))["SubscriptionArn"]
    assert queue.startswith(f"{topic}:")
    again = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(account, "orders"))
    assert again["SubscriptionArn"] == queue
    mail = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ann@example.com")
    assert mail["SubscriptionArn"] == "pending confirmation"
    mail = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ann@example.com", ReturnSubscriptionArn=True)
    assert mail["SubscriptionArn"].startswith(f"{topic}:")
    shown = attributes(sns, topic)
    assert (shown["SubscriptionsConfirmed"], shown["SubscriptionsPending"]) == ("1", "1")


def test_confirm_subscription(sns: Any, sidebus: Any, topic: str, account: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ann@example.com")
    sns.subscribe(TopicArn=topic, Protocol="email-json", Endpoint="ben@example.com")
    (question,) = outbox(sidebus, account, "email")
    confirmed = sns.confirm_subscription(TopicArn=topic, Token=question["token"], AuthenticateOnUnsubscribe="true")[
        "SubscriptionArn"
    ]
    assert subscription_attributes(sns, confirmed)["ConfirmationWasAuthenticated"] == "true"
    # By visiting the link instead: no signature, no SDK.
    (question,) = outbox(sidebus, account, "email-json")
    with urllib.request.urlopen(question["subscribe_url"]) as answer:
        assert b"<SubscriptionArn>" in answer.read()
    shown = subscription_attributes(sns, question["subscription_arn"])
    assert (shown["PendingConfirmation"], shown["ConfirmationWasAuthenticated"]) == ("false", "false")
    sns.publish(TopicArn=topic, Message="hello")
    assert outbox(sidebus, account, "email")[-1]["body"] == "hello"
    assert json.loads(outbox(sidebus, account, "email-json")[-1]["body"])["Message"] == "hello"


def test_unsubscribe(sns: Any, sqs: Any, topic: str, subscription: str, url: str) -> None:
    sns.unsubscribe(SubscriptionArn=subscription)
    sns.unsubscribe(SubscriptionArn=subscription)
    sns.publish(TopicArn=topic, Message="nobody hears this")
    assert receive(sqs, url) == []
    assert attributes(sns, topic)["SubscriptionsDeleted"] == "1"


def test_list_subscriptions(sns: Any, topic: str, subscription: str, account: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ann@example.com")
    assert sns.list_subscriptions()["Subscriptions"] == [
        {
            "SubscriptionArn": subscription,
            "Owner": account,
            "Protocol": "sqs",
            "Endpoint": arn(account, "orders"),
            "TopicArn": topic,
        },
        {
            "SubscriptionArn": "PendingConfirmation",
            "Owner": account,
            "Protocol": "email",
            "Endpoint": "ann@example.com",
            "TopicArn": topic,
        },
    ]


def test_list_subscriptions_by_topic(sns: Any, topic: str, account: str) -> None:
    other = sns.create_topic(Name="other")["TopicArn"]
    sns.subscribe(TopicArn=other, Protocol="sqs", Endpoint=arn(account, "orders"))
    for n in range(101):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(account, f"q{n:03}"))
    first = sns.list_subscriptions_by_topic(TopicArn=topic)
    second = sns.list_subscriptions_by_topic(TopicArn=topic, NextToken=first["NextToken"])
    assert [len(page["Subscriptions"]) for page in (first, second)] == [100, 1]
    assert second["Subscriptions"][0]["Endpoint"] == arn(account, "q100")


def test_get_subscription_attributes(sns: Any, topic: str, subscription: str, account: str) -> None:
    assert subscription_attributes(sns, subscription) == {
        "SubscriptionArn": subscription,
        "TopicArn": topic,
        "Owner": account,
        "Protocol": "sqs",
        "Endpoint": arn(account, "orders"),
        "ConfirmationWasAuthenticated": "true",
        "PendingConfirmation": "false",
        "RawMessageDelivery": "false",
        "SubscriptionPrincipal": f"arn:aws:iam::{account}:user/sidebus",
    }


def test_set_subscription_attributes(sns: Any, sqs: Any, topic: str, subscription: str, url: str, account: str) -> None:
    def put(name: str, value: str) -> None:
        sns.set_subscription_attributes(SubscriptionArn=subscription, AttributeName=name, AttributeValue=value)

    put("RawMessageDelivery", "true")
    put("FilterPolicy", '{"kind": ["a"]}')
    shown = subscription_attributes(sns, subscription)
    assert (shown["FilterPolicy"], shown["FilterPolicyScope"]) == ('{"kind": ["a"]}', "MessageAttributes")
    put("FilterPolicyScope", "MessageBody")
    sns.publish(TopicArn=topic, Message='{"kind": "a"}', MessageAttributes=PERSON)
    sns.publish(TopicArn=topic, Message='{"kind": "b"}')
    (message,) = receive(sqs, url)
    assert message["Body"] == '{"kind": "a"}'
    assert message["MessageAttributes"] == {"name": {"StringValue": "ann", "DataType": "String"}}
    put("FilterPolicy", "{}")
    assert "FilterPolicy" not in subscription_attributes(sns, subscription)
    dead = f'{{"deadLetterTargetArn": "{arn(account, "dead")}"}}'
    put("RedrivePolicy", dead)
    assert subscription_attributes(sns, subscription)["RedrivePolicy"] == dead
    web = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint="http://127.0.0.1:9/", ReturnSubscriptionArn=True)[
        "SubscriptionArn"
    ]
    policy = f'{{"healthyRetryPolicy":{RETRIES}}}'
    sns.set_subscription_attributes(SubscriptionArn=web, AttributeName="DeliveryPolicy", AttributeValue=policy)
    shown = subscription_attributes(sns, web)
    assert shown["DeliveryPolicy"] == policy
    assert json.loads(shown["EffectiveDeliveryPolicy"])["healthyRetryPolicy"]["numRetries"] == 7


# publishing


def test_publish(sns: Any, sqs: Any, topic: str, subscription: str, url: str) -> None:
    published = sns.publish(TopicArn=topic, Message='say "héllo"\n', Subject="hi", MessageAttributes=PERSON)
    (message,) = receive(sqs, url)
    envelope = json.loads(message["Body"])
    assert list(envelope) == [
        "Type",
        "MessageId",
        "TopicArn",
        "Subject",
        "Message",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
        "UnsubscribeURL",
        "MessageAttributes",
    ]
    assert envelope["MessageId"] == published["MessageId"]
    assert (envelope["Type"], envelope["Message"], envelope["Subject"]) == ("Notification", 'say "héllo"\n', "hi")
    assert envelope["MessageAttributes"] == {"name": {"Type": "String", "Value": "ann"}}
    assert envelope["UnsubscribeURL"].endswith(subscription)
    assert "MessageAttributes" not in message
    assert "SequenceNumber" not in published
    # Visiting the link unsubscribes.
    with urllib.request.urlopen(envelope["UnsubscribeURL"]) as answer:
        assert answer.status == 200
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_publish_batch(sns: Any, sqs: Any, topic: str, subscription: str, url: str) -> None:
    answer = sns.publish_batch(
        TopicArn=topic,
        PublishBatchRequestEntries=[
            {"Id": "a", "Message": "first"},
            {"Id": "b", "Message": "bad", "Subject": "two\nlines"},
            {"Id": "c", "Message": '{"default": "d", "sqs": "own"}', "MessageStructure": "json"},
        ],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["a", "c"]
    assert answer["Failed"] == [
        {"Id": "b", "Code": "InvalidParameter", "Message": "Invalid parameter: Subject", "SenderFault": True}
    ]
    assert sorted(texts(sqs, url)) == ["first", "own"]


# push


def test_create_platform_application(sns: Any, account: str, application: str) -> None:
    assert application == f"arn:aws:sns:{REGION}:{account}:app/GCM/app"


def test_delete_platform_application(sns: Any, application: str, endpoint: str) -> None:
    sns.delete_platform_application(PlatformApplicationArn=application)
    sns.delete_platform_application(PlatformApplicationArn=application)
    assert sns.list_platform_applications()["PlatformApplications"] == []


def test_get_platform_application_attributes(sns: Any, application: str) -> None:
    found = sns.get_platform_application_attributes(PlatformApplicationArn=application)
    assert found["Attributes"] == {"Enabled": "true"}


def test_set_platform_application_attributes(sns: Any, application: str) -> None:
    sns.set_platform_application_attributes(
        PlatformApplicationArn=application, Attributes={"SuccessFeedbackSampleRate": "10"}
    )
    found = sns.get_platform_application_attributes(PlatformApplicationArn=application)
    assert found["Attributes"] == {"Enabled": "true", "SuccessFeedbackSampleRate": "10"}


def test_list_platform_applications(sns: Any, application: str) -> None:
    (found,) = sns.list_platform_applications()["PlatformApplications"]
    assert found == {"PlatformApplicationArn": application, "Attributes": {"Enabled": "true"}}


def test_create_platform_endpoint(sns: Any, sidebus: Any, application: str, endpoint: str, account: str) -> None:
    assert endpoint.startswith(f"arn:aws:sns:{REGION}:{account}:endpoint/GCM/app/")
    again = sns.create_platform_endpoint(PlatformApplicationArn=application, Token="tok")
    assert again["EndpointArn"] == endpoint
    message = json.dumps({"default": "plain", "GCM": '{"notification": {}}'})
    sns.publish(TargetArn=endpoint, Message=message, MessageStructure="json")
    (pushed,) = outbox(sidebus, account, "application")
    assert (pushed["endpoint_arn"], pushed["message"]) == (endpoint, '{"notification": {}}')


def test_delete_endpoint(sns: Any, application: str, endpoint: str) -> None:
    sns.delete_endpoint(EndpointArn=endpoint)
    sns.delete_endpoint(EndpointArn=endpoint)
    assert sns.list_endpoints_by_platform_application(PlatformApplicationArn=application)["Endpoints"] == []


def test_get_endpoint_attributes(sns: Any, endpoint: str) -> None:
    assert sns.get_endpoint_attributes(EndpointArn=endpoint)["Attributes"] == {"Enabled": "true", "Token": "tok"}


def test_set_endpoint_attributes(sns: Any, topic: str, sidebus: Any, endpoint: str, account: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="application", Endpoint=endpoint)
    sns.publish(TopicArn=topic, Message="one")
    sns.set_endpoint_attributes(EndpointArn=endpoint, Attributes={"Enabled": "false", "CustomUserData": "me"})
    sns.publish(TopicArn=topic, Message="two")
    found = sns.get_endpoint_attributes(EndpointArn=endpoint)["Attributes"]
    assert found == {"Enabled": "false", "Token": "tok", "CustomUserData": "me"}
    assert [message["message"] for message in outbox(sidebus, account, "application")] == ["one"]


def test_list_endpoints_by_platform_application(sns: Any, application: str, endpoint: str) -> None:
    (found,) = sns.list_endpoints_by_platform_application(PlatformApplicationArn=application)["Endpoints"]
    assert found == {"EndpointArn": endpoint, "Attributes": {"Enabled": "true", "Token": "tok"}}


# text messages


def opt_out(sidebus: Any, account: str) -> None:
    number = NUMBER.replace("+", "%2B")
    page = f"/_sidebus/sns/opted-out?account={account}&region={REGION}&phoneNumber={number}"
    assert sidebus.request("POST", page).status == 200


def test_check_if_phone_number_is_opted_out(sns: Any, sidebus: Any, account: str) -> None:
    assert sns.check_if_phone_number_is_opted_out(phoneNumber=NUMBER)["isOptedOut"] is False
    sns.publish(PhoneNumber=NUMBER, Message="hello")
    opt_out(sidebus, account)
    assert sns.check_if_phone_number_is_opted_out(phoneNumber=NUMBER)["isOptedOut"] is True
    sns.publish(PhoneNumber=NUMBER, Message="unwanted")
    (sent,) = outbox(sidebus, account, "sms")
    assert (sent["phone_number"], sent["message"]) == (NUMBER, "hello")


def test_list_phone_numbers_opted_out(sns: Any, sidebus: Any, account: str) -> None:
    assert sns.list_phone_numbers_opted_out()["phoneNumbers"] == []
    opt_out(sidebus, account)
    assert sns.list_phone_numbers_opted_out()["phoneNumbers"] == [NUMBER]


def test_opt_in_phone_number(sns: Any, sidebus: Any, account: str) -> None:
    opt_out(sidebus, account)
    sns.opt_in_phone_number(phoneNumber=NUMBER)
    assert sns.list_phone_numbers_opted_out()["phoneNumbers"] == []


def test_set_sms_attributes(sns: Any) -> None:
    sns.set_sms_attributes(attributes={"DefaultSMSType": "Transactional", "DefaultSenderID": "Sidebus"})
    assert sns.get_sms_attributes(attributes=["DefaultSMSType"])["attributes"] == {"DefaultSMSType": "Transactional"}


def test_get_sms_attributes(sns: Any) -> None:
    assert sns.get_sms_attributes()["attributes"] == {"MonthlySpendLimit": "1"}


def test_list_origination_numbers(sns: Any) -> None:
    assert sns.list_origination_numbers()["PhoneNumbers"] == []


def test_get_sms_sandbox_account_status(sns: Any) -> None:
    assert sns.get_sms_sandbox_account_status()["IsInSandbox"] is False


def test_create_sms_sandbox_phone_number(sns: Any, sidebus: Any, account: str) -> None:
    sns.create_sms_sandbox_phone_number(PhoneNumber=NUMBER, LanguageCode="de-DE")
    (sent,) = outbox(sidebus, account, "sms")
    assert sent["one_time_password"] in sent["message"]
    assert sns.list_sms_sandbox_phone_numbers()["PhoneNumbers"] == [{"PhoneNumber": NUMBER, "Status": "Pending"}]


def test_verify_sms_sandbox_phone_number(sns: Any, sidebus: Any, account: str) -> None:
    sns.create_sms_sandbox_phone_number(PhoneNumber=NUMBER)
    password = outbox(sidebus, account, "sms")[0]["one_time_password"]
    sns.verify_sms_sandbox_phone_number(PhoneNumber=NUMBER, OneTimePassword=password)
    assert sns.list_sms_sandbox_phone_numbers()["PhoneNumbers"] == [{"PhoneNumber": NUMBER, "Status": "Verified"}]


def test_delete_sms_sandbox_phone_number(sns: Any) -> None:
    sns.create_sms_sandbox_phone_number(PhoneNumber=NUMBER)
    sns.delete_sms_sandbox_phone_number(PhoneNumber=NUMBER)
    assert sns.list_sms_sandbox_phone_numbers()["PhoneNumbers"] == []


def test_list_sms_sandbox_phone_numbers(sns: Any) -> None:
    numbers = [f"+1555010{n:04}" for n in range(3)]
    for number in numbers:
        sns.create_sms_sandbox_phone_number(PhoneNumber=number)
    first = sns.list_sms_sandbox_phone_numbers(MaxResults=2)
    second = sns.list_sms_sandbox_phone_numbers(MaxResults=2, NextToken=first["NextToken"])
    found = first["PhoneNumbers"] + second["PhoneNumbers"]
    assert [entry["PhoneNumber"] for entry in found] == numbers
    assert "NextToken" not in second
