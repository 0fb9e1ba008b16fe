"""Every documented error of every operation of SNS, provoked through boto3.

The model says which operation has which errors. Each pair is either provoked here or stands in `cannot_occur` with the
reason.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

REGION = "us-east-1"
OWNER, STRANGER = "111111111111", "222222222222"
NOWHERE = f"arn:aws:sns:{REGION}:{OWNER}:nowhere"
NUMBER = "+15550100100"
MODEL = botocore.session.Session().get_service_model("sns")

ON_TOPICS = {
    "AddPermission",
    "DeleteTopic",
    "GetDataProtectionPolicy",
    "GetTopicAttributes",
    "ListSubscriptionsByTopic",
    "ListTagsForResource",
    "Publish",
    "PublishBatch",
    "PutDataProtectionPolicy",
    "RemovePermission",
    "SetTopicAttributes",
    "Subscribe",
    "TagResource",
    "UntagResource",
}
ON_SUBSCRIPTIONS = {"GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe"}
ON_APPLICATIONS = {
    "CreatePlatformEndpoint",
    "DeletePlatformApplication",
    "GetPlatformApplicationAttributes",
    "ListEndpointsByPlatformApplication",
    "SetPlatformApplicationAttributes",
}
ON_ENDPOINTS = {"DeleteEndpoint", "GetEndpointAttributes", "SetEndpointAttributes"}


def cannot_occur(operation: str, error: str) -> str | None:
    """Why this documented error is never answered."""
    if error == "InternalErrorException":
        return "what goes wrong here is a 503 that says what to do"
    if error.startswith("KMS"):
        return "there is no KMS here: KmsMasterKeyId is kept and shown, nothing is encrypted by it"
    if error == "InvalidSecurityException":
        return "a bad signature has the codes that all services of AWS have, see test_sigv4.py"
    if error in ("StaleTagException", "TagPolicyException", "ConcurrentAccessException"):
        return "tags take effect at once, and there are no tag policies"
    if error == "ThrottledException":
        return "no rates are enforced"
    if error == "ValidationException":
        return "what the model forbids is a ValidationError, as in all query services"
    if error == "AuthorizationErrorException":
        allowed = ON_TOPICS | ON_SUBSCRIPTIONS | ON_APPLICATIONS | ON_ENDPOINTS | {"ConfirmSubscription"}
        return None if operation in allowed else "it is about the caller's own account only"
    if operation == "ConfirmSubscription" and error.endswith("LimitExceededException"):
        return "quotas are counted when the subscription is made"
    if operation == "ConfirmSubscription" and error == "NotFoundException":
        return None
    if operation == "PublishBatch" and error in ("EndpointDisabledException", "PlatformApplicationDisabledException"):
        return "it publishes to topics only"
    if (operation, error) in {
        ("PublishBatch", "InvalidParameterValueException"),
        ("UntagResource", "TagLimitExceededException"),
        ("DeleteTopic", "NotFoundException"),
        ("Unsubscribe", "NotFoundException"),
        ("ListSMSSandboxPhoneNumbers", "ResourceNotFoundException"),
        ("DeleteSMSSandboxPhoneNumber", "UserErrorException"),
        ("TagResource", "InvalidStateException"),
    }:
        return "it is an entry's, or the operation is idempotent, or AWS names no cause"
    if operation in ("ListTopics", "ListSubscriptions") and error == "InvalidParameterException":
        return None
    return None


MINIMAL: dict[str, dict[str, Any]] = {
    "AddPermission": {"Label": "l", "AWSAccountId": [OWNER], "ActionName": ["Publish"]},
    "ConfirmSubscription": {"Token": "x"},
    "Publish": {"Message": "m"},
    "PublishBatch": {"PublishBatchRequestEntries": [{"Id": "a", "Message": "m"}]},
    "PutDataProtectionPolicy": {"DataProtectionPolicy": "{}"},
    "RemovePermission": {"Label": "l"},
    "SetTopicAttributes": {"AttributeName": "DisplayName", "AttributeValue": "x"},
    "Subscribe": {"Protocol": "sqs", "Endpoint": f"arn:aws:sqs:{REGION}:{OWNER}:q"},
    "TagResource": {"Tags": [{"Key": "a", "Value": "b"}]},
    "UntagResource": {"TagKeys": ["a"]},
    "SetSubscriptionAttributes": {"AttributeName": "RawMessageDelivery", "AttributeValue": "true"},
    "CreatePlatformEndpoint": {"Token": "t"},
    "SetPlatformApplicationAttributes": {"Attributes": {"Enabled": "true"}},
    "SetEndpointAttributes": {"Attributes": {"Enabled": "true"}},
}


def about(operation: str, arn: str) -> dict[str, Any]:
    """Parameters that are right but for the resource."""
    members = MODEL.operation_model(operation).input_shape.members
    names = ("TopicArn", "ResourceArn", "SubscriptionArn", "PlatformApplicationArn", "EndpointArn")
    name = next(name for name in names if name in members)
    return {name: arn, **MINIMAL.get(operation, {})}


class Stage:
    """What a case may need, in an account of its own."""

    def __init__(self, sns: Any, account: str, sidebus: Any) -> None:
        self.sns = sns
        self.account = account
        self.sidebus = sidebus

    def topic(self, name: str = "t", **attributes: str) -> str:
        if name.endswith(".fifo"):
            attributes["FifoTopic"] = "true"
        return str(self.sns.create_topic(Name=name, Attributes=attributes)["TopicArn"])

    def queue_arn(self, name: str = "q") -> str:
        return f"arn:aws:sqs:{REGION}:{self.account}:{name}"

    def subscription(self, **attributes: str) -> str:
        made = self.sns.subscribe(
            TopicArn=self.topic(), Protocol="sqs", Endpoint=self.queue_arn(), Attributes=attributes
        )
        return str(made["SubscriptionArn"])

    def application(self) -> str:
        made = self.sns.create_platform_application(Name="a", Platform="GCM", Attributes={"PlatformCredential": "c"})
        return str(made["PlatformApplicationArn"])

    def endpoint(self, **attributes: str) -> str:
        made = self.sns.create_platform_endpoint(
            PlatformApplicationArn=self.application(), Token="tok", Attributes=attributes
        )
        return str(made["EndpointArn"])

    def opt_out(self) -> None:
        number = NUMBER.replace("+", "%2B")
        page = f"/_sidebus/sns/opted-out?account={self.account}&phoneNumber={number}"
        assert self.sidebus.request("POST", page).status == 200


Given = Callable[[Stage], dict[str, Any]]
INVALID, REFUSED = "InvalidParameterException", "InvalidParameterValueException"
CASES: list[tuple[str, str, str, Given]] = []


def case(operation: str, error: str, message: str, given: Given) -> None:
    CASES.append((operation, error, message, given))


def to_topic(**given: Any) -> Given:
    return lambda stage: {"TopicArn": stage.topic(), **given}


# What is not there, and what is no ARN.
for name in sorted(ON_TOPICS | {"ConfirmSubscription"} - {"TagResource"}):
    missing = "ResourceNotFoundException" if name in ("ListTagsForResource", "TagResource", "UntagResource") else ""
    text = "Resource does not exist" if missing else "Topic does not exist"
    if name != "DeleteTopic":
        case(name, missing or "NotFoundException", text, lambda stage, name=name: about(name, NOWHERE))
    parameter = next(key for key, value in about(name, "").items() if value == "")
    few = f"Invalid parameter: {parameter} Reason: An ARN must have at least 6 elements, not 1"
    case(name, INVALID, few, lambda stage, name=name: about(name, "nothing"))
for name in ("GetSubscriptionAttributes", "SetSubscriptionAttributes"):
    case(name, "NotFoundException", "Subscription does not exist", lambda stage, name=name: about(name, NOWHERE + ":x"))
for name in sorted(ON_SUBSCRIPTIONS):
    few = "Invalid parameter: SubscriptionArn Reason: An ARN must have at least 6 elements, not 1"
    case(name, INVALID, few, lambda stage, name=name: about(name, "nothing"))
for name in sorted(ON_APPLICATIONS):
    gone = f"arn:aws:sns:{REGION}:{OWNER}:app/GCM/gone"
    if name != "DeletePlatformApplication":
        text = "PlatformApplication does not exist"
        case(name, "NotFoundException", text, lambda stage, name=name, arn=gone: about(name, arn))
    few = "Invalid parameter: PlatformApplicationArn Reason: An ARN must have at least 6 elements, not 1"
    case(name, INVALID, few, lambda stage, name=name: about(name, "nothing"))
for name in sorted(ON_ENDPOINTS):
    gone = f"arn:aws:sns:{REGION}:{OWNER}:endpoint/GCM/gone/x"
    if name != "DeleteEndpoint":
        text = "Endpoint does not exist"
        case(name, "NotFoundException", text, lambda stage, name=name, arn=gone: about(name, arn))
    wrong = "Invalid parameter: EndpointArn Reason: Wrong number of slashes in relative portion of the ARN."
    case(name, INVALID, wrong, lambda stage, name=name: about(name, NOWHERE))

# Topics.
for attributes, text in [
    ({"Nonsense": "x"}, "Attributes Reason: Unknown attribute: Nonsense"),
    ({"FifoTopic": "maybe"}, "FifoTopic"),
    ({"ContentBasedDeduplication": "true"}, "Content-based deduplication can only be set for FIFO topics"),
    ({"Policy": "no JSON"}, "Policy Error: null"),
    ({"DisplayName": "x" * 101}, "DisplayName"),
]:
    case(
        "CreateTopic", INVALID, f"Invalid parameter: {text}", lambda stage, a=attributes: {"Name": "t", "Attributes": a}
    )
for bad in ("", "a b", "x" * 257, "t.fifo"):
    case("CreateTopic", INVALID, "Invalid parameter: Topic Name", lambda stage, bad=bad: {"Name": bad})
case(
    "CreateTopic",
    INVALID,
    "Invalid parameter: Fifo Topic names must end with .fifo and must be made up of only uppercase and lowercase ASCII "
    "letters, numbers, underscores, and hyphens, and must be between 1 and 256 characters long.",
    lambda stage: {"Name": "t", "Attributes": {"FifoTopic": "true"}},
)
case(
    "CreateTopic",
    INVALID,
    "Invalid parameter: Attributes Reason: Topic already exists with different attributes",
    lambda stage: {"Name": stage.topic() and "t", "Attributes": {"DisplayName": "other"}},
)
case(
    "CreateTopic",
    INVALID,
    "Invalid parameter: Tags Reason: Topic already exists with different tags",
    lambda stage: {"Name": stage.topic() and "t", "Tags": [{"Key": "a", "Value": "b"}]},
)
TAGS = [{"Key": str(n), "Value": ""} for n in range(51)]
QUOTA = "Could not complete request: tag quota of per resource exceeded"
case("CreateTopic", "TagLimitExceededException", QUOTA, lambda stage: {"Name": "t", "Tags": TAGS})
case("TagResource", "TagLimitExceededException", QUOTA, lambda stage: {"ResourceArn": stage.topic(), "Tags": TAGS})
case(
    "TagResource",
    INVALID,
    "Invalid parameter: Duplicated keys are not allowed.",
    lambda stage: {"ResourceArn": stage.topic(), "Tags": [{"Key": "a", "Value": v} for v in "bc"]},
)
case(
    "DeleteTopic",
    "InvalidStateException",
    "Invalid state: Cannot delete a topic with an active ArchivePolicy. Deactivate the ArchivePolicy first.",
    lambda stage: {"TopicArn": stage.topic("t.fifo", ArchivePolicy='{"MessageRetentionPeriod": "7"}')},
)
for operation in ("ListTopics", "ListSubscriptions", "ListPlatformApplications", "ListOriginationNumbers"):
    case(operation, INVALID, "Invalid parameter: NextToken", lambda stage: {"NextToken": "%"})
case("ListSMSSandboxPhoneNumbers", INVALID, "Invalid parameter: NextToken", lambda stage: {"NextToken": "%"})
case("ListPhoneNumbersOptedOut", INVALID, "Invalid parameter: NextToken", lambda stage: {"nextToken": "%"})
for name, value, text in [
    ("Nonsense", "x", "AttributeName"),
    ("FifoTopic", "true", "AttributeName Reason: FifoTopic cannot be changed once the topic is created"),
    ("SignatureVersion", "3", "SignatureVersion Reason: Invalid value [3], must be one of 1, 2"),
    ("MaximumMessageSize", "1", "MaximumMessageSize must be an integer between 1024 and 1048576"),
    (
        "Policy",
        '{"Statement": [{"Effect": "Allow", "Action": "sqs:*"}]}',
        "Policy statement action out of service scope!",
    ),
    ("SQSSuccessFeedbackSampleRate", "101", "SQSSuccessFeedbackSampleRate must be an integer from 0 to 100"),
    ("ArchivePolicy", "{}", "Attributes Reason: ArchivePolicy can only be set for FIFO topics"),
    ("DeliveryPolicy", "[]", None),
]:
    case(
        "SetTopicAttributes",
        INVALID,
        f"Invalid parameter: {text}" if text else "",
        to_topic(AttributeName=name, AttributeValue=value),
    )
case(
    "SetTopicAttributes",
    INVALID,
    "Invalid parameter: ArchivePolicy: MessageRetentionPeriod must be an integer number of days from 1 to 365",
    lambda stage: {
        "TopicArn": stage.topic("t.fifo"),
        "AttributeName": "ArchivePolicy",
        "AttributeValue": '{"MessageRetentionPeriod": "366"}',
    },
)
case(
    "AddPermission",
    INVALID,
    "Invalid parameter: Statement already exists",
    to_topic(Label="__default_statement_ID", AWSAccountId=[OWNER], ActionName=["Publish"]),
)
case(
    "AddPermission",
    INVALID,
    "Invalid parameter: Policy statement action out of service scope!",
    to_topic(Label="l", AWSAccountId=[OWNER], ActionName=["Fly"]),
)
case(
    "AddPermission",
    INVALID,
    "Invalid parameter: Policy Error: PrincipalNotFound",
    to_topic(Label="l", AWSAccountId=["me"], ActionName=["Publish"]),
)
case(
    "PutDataProtectionPolicy",
    INVALID,
    "Invalid parameter: DataProtectionPolicy",
    lambda stage: {"ResourceArn": stage.topic(), "DataProtectionPolicy": "no JSON"},
)
OTHER_REGION = f"arn:aws:sns:eu-west-1:{OWNER}:t"
case("Publish", INVALID, "Invalid parameter: TopicArn", lambda stage: about("Publish", OTHER_REGION))

# Subscriptions.
for protocol, endpoint, text in [
    ("pigeon", "x", "Amazon SNS does not support this protocol string: pigeon"),
    ("sqs", "q", "SQS endpoint ARN"),
    ("lambda", "f", "Lambda endpoint ARN"),
    ("firehose", "s", "Firehose endpoint ARN"),
    ("http", "https://x", "Endpoint must match the specified protocol"),
    ("https", "x", "Endpoint must match the specified protocol"),
    ("email", "nobody", "Email address"),
    ("sms", "call me", "Invalid SMS endpoint: call me"),
    ("application", "x", "Application endpoint arn invalid:x"),
    ("sqs", "", "Endpoint"),
    (
        "sqs",
        f"arn:aws:sqs:{REGION}:{OWNER}:q.fifo",
        "Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics",
    ),
]:
    case("Subscribe", INVALID, f"Invalid parameter: {text}", to_topic(Protocol=protocol, Endpoint=endpoint))
case(
    "Subscribe",
    INVALID,
    "Invalid parameter: Endpoint Reason: FIFO topics deliver to Amazon SQS queues only, not by http",
    lambda stage: {"TopicArn": stage.topic("t.fifo"), "Protocol": "http", "Endpoint": "http://x"},
)
for attributes, text in [
    ({"Nonsense": "x"}, "Attributes Reason: Unknown attribute: Nonsense"),
    (
        {"FilterPolicyScope": "x"},
        "FilterPolicyScope: Invalid value [x]. Please use either MessageBody or MessageAttributes",
    ),
    ({"RedrivePolicy": "x"}, "RedrivePolicy: failed to parse JSON."),
    ({"RedrivePolicy": '{"deadLetterTargetArn": "x"}'}, "RedrivePolicy: deadLetterTargetArn is an invalid arn"),
    ({"FilterPolicy": "x"}, None),
    ({"FilterPolicy": '{"a": {"b": ["c"]}}'}, None),
    ({"FilterPolicy": json.dumps({str(n): ["x"] for n in range(6)})}, None),
    (
        {"RawMessageDelivery": "x"},
        "Attributes Reason: RawMessageDelivery: Invalid value [x]. Must be true or false.",
    ),
]:
    case(
        "Subscribe",
        INVALID,
        f"Invalid parameter: {text}" if text else "",
        lambda stage, a=attributes: {
            "TopicArn": stage.topic(),
            "Protocol": "sqs",
            "Endpoint": stage.queue_arn(),
            "Attributes": a,
        },
    )
case(
    "Subscribe",
    INVALID,
    "Invalid parameter: Attributes Reason: Delivery protocol [lambda] does not support raw message delivery.",
    to_topic(
        Protocol="lambda",
        Endpoint=f"arn:aws:lambda:{REGION}:{OWNER}:function:f",
        Attributes={"RawMessageDelivery": "true"},
    ),
)
case(
    "Subscribe",
    INVALID,
    "Invalid parameter: Attributes Reason: Subscription already exists with different attributes",
    lambda stage: {
        "TopicArn": stage.subscription() and stage.topic(),
        "Protocol": "sqs",
        "Endpoint": stage.queue_arn(),
        "Attributes": {"RawMessageDelivery": "true"},
    },
)
case(
    "Subscribe",
    INVALID,
    "Invalid parameter: Attributes Reason: SubscriptionRoleArn is required for Firehose subscriptions",
    to_topic(Protocol="firehose", Endpoint=f"arn:aws:firehose:{REGION}:{OWNER}:deliverystream/s"),
)
case("ConfirmSubscription", INVALID, "Invalid parameter: Token", to_topic(Token="x"))
case(
    "SetSubscriptionAttributes",
    INVALID,
    "Invalid parameter: AttributeName",
    lambda stage: {"SubscriptionArn": stage.subscription(), "AttributeName": "Nonsense", "AttributeValue": "x"},
)
case(
    "SetSubscriptionAttributes",
    INVALID,
    "",
    lambda stage: {
        "SubscriptionArn": stage.subscription(FilterPolicy='{"a": {"b": ["c"]}}', FilterPolicyScope="MessageBody"),
        "AttributeName": "FilterPolicyScope",
        "AttributeValue": "MessageAttributes",
    },
)

# Publishing.
for given, error, text in [
    ({"Message": ""}, INVALID, "Invalid parameter: Empty message"),
    ({"Message": "x" * 262_145}, INVALID, "Invalid parameter: Message too long"),
    ({"Message": "m", "Subject": "x" * 101}, INVALID, "Invalid parameter: Subject"),
    ({"Message": "m", "Subject": "a\nb"}, INVALID, "Invalid parameter: Subject"),
    ({"Message": "m", "Subject": ""}, INVALID, "Invalid parameter: Subject"),
    (
        {"Message": "m", "MessageStructure": "json"},
        INVALID,
        "Invalid parameter: Message Structure - JSON message body failed to parse",
    ),
    (
        {"Message": '{"sqs": "x"}', "MessageStructure": "json"},
        INVALID,
        "Invalid parameter: Message Structure - No default entry in JSON message body",
    ),
    (
        {"Message": "m", "MessageStructure": "xml"},
        INVALID,
        "Invalid parameter: MessageStructure Reason: Valid value is json",
    ),
    (
        {"Message": "m", "MessageDeduplicationId": "d"},
        INVALID,
        "Invalid parameter: MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that "
        "is not valid for this topic type",
    ),
    (
        {"Message": "m", "MessageAttributes": {"a": {"DataType": "String", "StringValue": ""}}},
        REFUSED,
        "The message attribute 'a' must contain non-empty message attribute value for message attribute type 'String'.",
    ),
    (
        {"Message": "m", "MessageAttributes": {"a": {"DataType": "Thing", "StringValue": "x"}}},
        REFUSED,
        "The message attribute 'a' has an invalid message attribute type, the set of supported type prefixes is "
        "Binary, Number, and String.",
    ),
    (
        {"Message": "m", "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "x"}}},
        REFUSED,
        "Could not cast message attribute 'a' value to number.",
    ),
    (
        {"Message": "m", "MessageAttributes": {"a": {"DataType": "Binary", "StringValue": "x"}}},
        REFUSED,
        "The message attribute 'a' with type 'Binary' must use field 'BinaryValue'.",
    ),
    ({"Message": "m", "MessageAttributes": {"a..b": {"DataType": "String", "StringValue": "x"}}}, REFUSED, ""),
]:
    case("Publish", error, text, to_topic(**given))
case(
    "Publish",
    INVALID,
    "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter",
    lambda stage: {"Message": "m"},
)
case(
    "Publish",
    INVALID,
    "Invalid parameter: PhoneNumber Reason: +1 is not valid to publish to",
    lambda stage: {"Message": "m", "PhoneNumber": "+1"},
)
case(
    "Publish",
    INVALID,
    "Invalid parameter: The MessageGroupId parameter is required for FIFO topics",
    lambda stage: {"TopicArn": stage.topic("t.fifo"), "Message": "m"},
)
case(
    "Publish",
    INVALID,
    "Invalid parameter: The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
    "provided explicitly",
    lambda stage: {"TopicArn": stage.topic("t.fifo"), "Message": "m", "MessageGroupId": "g"},
)
case(
    "Publish",
    INVALID,
    "",
    lambda stage: {"TopicArn": stage.topic("t.fifo"), "Message": "m", "MessageGroupId": "a b"},
)
case(
    "Publish",
    "EndpointDisabledException",
    "Endpoint is disabled",
    lambda stage: {"TargetArn": stage.endpoint(Enabled="false"), "Message": "m"},
)


def disabled_application(stage: Stage) -> dict[str, Any]:
    endpoint = stage.endpoint()
    stage.sns.set_platform_application_attributes(
        PlatformApplicationArn=stage.application(), Attributes={"Enabled": "false"}
    )
    return {"TargetArn": endpoint, "Message": "m"}


case("Publish", "PlatformApplicationDisabledException", "Platform application is disabled", disabled_application)


def entries(*given: tuple[str, str]) -> Given:
    return to_topic(PublishBatchRequestEntries=[{"Id": id, "Message": message} for id, message in given])


case("PublishBatch", "EmptyBatchRequestException", "The batch request doesn't contain any entries.", entries())
case(
    "PublishBatch",
    "TooManyEntriesInBatchRequestException",
    "The batch request contains more entries than permissible.",
    entries(*[(str(n), "m") for n in range(11)]),
)
case(
    "PublishBatch",
    "BatchEntryIdsNotDistinctException",
    "Two or more batch entries in the request have the same Id.",
    entries(("a", "m"), ("a", "n")),
)
case(
    "PublishBatch",
    "InvalidBatchEntryIdException",
    "The Id of a batch entry in a batch request doesn't abide by the specification.",
    entries(("a b", "m")),
)
case(
    "PublishBatch",
    "BatchRequestTooLongException",
    "The length of all the batch messages put together is more than the limit.",
    entries(("a", "x" * 131_072), ("b", "x" * 131_073)),
)

# Telephones.
for given in [
    {"Name": "a b", "Platform": "GCM", "Attributes": {"PlatformCredential": "c"}},
    {"Name": "a", "Platform": "Pager", "Attributes": {"PlatformCredential": "c"}},
    {"Name": "a", "Platform": "GCM", "Attributes": {"Enabled": "true"}},
    {"Name": "a", "Platform": "APNS", "Attributes": {"PlatformCredential": "c"}},
    {"Name": "a", "Platform": "GCM", "Attributes": {"Nonsense": "c"}},
]:
    case("CreatePlatformApplication", INVALID, "", lambda stage, given=given: given)
case(
    "CreatePlatformEndpoint",
    INVALID,
    "",
    lambda stage: {
        "PlatformApplicationArn": stage.endpoint() and stage.application(),
        "Token": "tok",
        "CustomUserData": "other",
    },
)
case(
    "SetEndpointAttributes",
    INVALID,
    "Invalid parameter: CustomUserData Reason: must be at most 2048 bytes long in UTF-8 encoding",
    lambda stage: {"EndpointArn": stage.endpoint(), "Attributes": {"CustomUserData": "x" * 2049}},
)
FORMAT = "Invalid parameter: PhoneNumber Reason: input incorrectly formatted"
for operation in ("CheckIfPhoneNumberIsOptedOut", "OptInPhoneNumber"):
    case(operation, INVALID, FORMAT, lambda stage: {"phoneNumber": "call me"})
case("CreateSMSSandboxPhoneNumber", INVALID, FORMAT, lambda stage: {"PhoneNumber": "123"})
case("DeleteSMSSandboxPhoneNumber", INVALID, FORMAT, lambda stage: {"PhoneNumber": "123"})
case("VerifySMSSandboxPhoneNumber", INVALID, FORMAT, lambda stage: {"PhoneNumber": "123", "OneTimePassword": "123456"})
for operation, more in (
    ("DeleteSMSSandboxPhoneNumber", {}),
    ("VerifySMSSandboxPhoneNumber", {"OneTimePassword": "12345"}),
):
    case(
        operation,
        "ResourceNotFoundException",
        "The phone number is not in the sandbox.",
        lambda stage, more=more: {"PhoneNumber": NUMBER, **more},
    )


def opted_out(stage: Stage) -> dict[str, Any]:
    stage.opt_out()
    return {"PhoneNumber": NUMBER}


def verified(stage: Stage) -> dict[str, Any]:
    stage.sns.create_sms_sandbox_phone_number(PhoneNumber=NUMBER)
    answer = stage.sidebus.request("GET", f"/_sidebus/sns/outbox?account={stage.account}")
    password = json.loads(answer.body)["messages"][0]["message"]["one_time_password"]
    stage.sns.verify_sms_sandbox_phone_number(PhoneNumber=NUMBER, OneTimePassword=password)
    return {"PhoneNumber": NUMBER}


def unverified(stage: Stage) -> dict[str, Any]:
    stage.sns.create_sms_sandbox_phone_number(PhoneNumber=NUMBER)
    return {"PhoneNumber": NUMBER, "OneTimePassword": "0000000"}


def opted_in_twice(stage: Stage) -> dict[str, Any]:
    for _ in range(2):
        stage.opt_out()
        given = {"phoneNumber": NUMBER}
        if _:
            break
        stage.sns.opt_in_phone_number(**given)
    return given


OUT = "The phone number is opted out of receiving SMS messages."
case("CreateSMSSandboxPhoneNumber", "OptedOutException", OUT, opted_out)
case("CreateSMSSandboxPhoneNumber", "UserErrorException", "The phone number is verified already.", verified)
case("VerifySMSSandboxPhoneNumber", "VerificationException", "The one-time password does not match.", unverified)
case(
    "OptInPhoneNumber",
    INVALID,
    "Invalid parameter: phoneNumber Reason: a phone number can be opted in only once every 30 days",
    opted_in_twice,
)
for name, value in [
    ("Nonsense", "x"),
    ("DefaultSMSType", "x"),
    ("DefaultSenderID", "123"),
    ("MonthlySpendLimit", "much"),
    ("DeliveryStatusSuccessSamplingRate", "101"),
]:
    case("SetSMSAttributes", INVALID, "", lambda stage, given={name: value}: {"attributes": given})
case("GetSMSAttributes", INVALID, "", lambda stage: {"attributes": ["Nonsense"]})


@pytest.fixture
def stage(connect: Any, sidebus: Any, account: str) -> Stage:
    return Stage(connect(sidebus, "sns"), account, sidebus)


@pytest.mark.parametrize(
    ("operation", "error", "message", "given"),
    [pytest.param(*c, id=f"{c[0]}-{c[1]}") for c in CASES],
)
def test_refusals(stage: Stage, operation: str, error: str, message: str, given: Given) -> None:
    parameters = given(stage)
    with pytest.raises(ClientError) as caught:
        getattr(stage.sns, xform_name(operation))(**parameters)
    shape = MODEL.shape_for(error)
    answer = caught.value.response
    said = shape.metadata.get("error", {})
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (
        said.get("code", error),
        said.get("httpStatusCode", 400),
    )
    assert answer["Error"]["Type"] == "Sender"
    if message:
        assert answer["Error"]["Message"] == message
    assert isinstance(caught.value, getattr(stage.sns.exceptions, error))


# limits


def test_limits(sidebus_aws: Any, connect: Any, account: str) -> None:
    sns = connect(sidebus_aws, "sns")
    topic = sns.create_topic(Name="t.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    for n in range(100):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{account}:q{n}.fifo")
    with pytest.raises(sns.exceptions.SubscriptionLimitExceededException):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{account}:more.fifo")
    topic = sns.create_topic(Name="filtered")["TopicArn"]
    policy = {"FilterPolicy": '{"a": ["b"]}'}
    for n in range(200):
        endpoint = f"arn:aws:sqs:{REGION}:{account}:q{n}"
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint, Attributes=policy)
    endpoint = f"arn:aws:sqs:{REGION}:{account}:more"
    with pytest.raises(sns.exceptions.FilterPolicyLimitExceededException):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint, Attributes=policy)
    last = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint)["SubscriptionArn"]
    with pytest.raises(sns.exceptions.FilterPolicyLimitExceededException):
        sns.set_subscription_attributes(
            SubscriptionArn=last, AttributeName="FilterPolicy", AttributeValue=policy["FilterPolicy"]
        )


LIMITS = {
    ("Subscribe", "SubscriptionLimitExceededException"),
    ("Subscribe", "FilterPolicyLimitExceededException"),
    ("SetSubscriptionAttributes", "FilterPolicyLimitExceededException"),
    # In the engine's tests, where a thousand topics take no time, and where ten replays are caught running.
    ("CreateTopic", "TopicLimitExceededException"),
    ("Subscribe", "ReplayLimitExceededException"),
    ("SetSubscriptionAttributes", "ReplayLimitExceededException"),
}


# who may


@pytest.fixture(scope="module")
def strict(start_sidebus: Any) -> Any:
    return start_sidebus("--auth", "strict", "--key", f"{OWNER}=o", "--key", f"{STRANGER}=s")


def test_strangers_are_refused(strict: Any, connect: Any) -> None:
    owner = Stage(connect(strict, "sns", account=OWNER, secret="o"), OWNER, strict)
    stranger = connect(strict, "sns", account=STRANGER, secret="s")
    topic, subscription, endpoint = owner.topic(), owner.subscription(), owner.endpoint()
    resources = (
        (ON_TOPICS, topic),
        (ON_SUBSCRIPTIONS, subscription),
        (ON_APPLICATIONS, owner.application()),
        (ON_ENDPOINTS, endpoint),
    )
    for operations, arn in resources:
        for operation in sorted(operations):
            with pytest.raises(stranger.exceptions.AuthorizationErrorException):
                getattr(stranger, xform_name(operation))(**about(operation, arn))
    owner.sns.add_permission(TopicArn=topic, Label="l", AWSAccountId=[STRANGER], ActionName=["Publish"])
    stranger.publish(TopicArn=topic, Message="m")
    with pytest.raises(stranger.exceptions.AuthorizationErrorException, match="SNS:DeleteTopic"):
        stranger.delete_topic(TopicArn=topic)


def test_links_need_no_signature_unless_asked_for(strict: Any, connect: Any) -> None:
    sns = connect(strict, "sns", account=OWNER, secret="o")
    topic = sns.create_topic(Name="links")["TopicArn"]

    def asked(address: str) -> dict[str, Any]:
        sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
        answer = strict.request("GET", f"/_sidebus/sns/outbox?channel=email&account={OWNER}")
        return json.loads(answer.body)["messages"][-1]["message"]  # type: ignore[no-any-return]

    def visit(url: str) -> int:
        try:
            with urllib.request.urlopen(url) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    plain, guarded = asked("a@b.c"), asked("d@e.f")
    assert visit(plain["subscribe_url"] + "&AuthenticateOnUnsubscribe=true") == 403
    assert visit(plain["subscribe_url"]) == 200
    sns.confirm_subscription(TopicArn=topic, Token=guarded["token"], AuthenticateOnUnsubscribe="true")
    for question, status in ((plain, 200), (guarded, 403)):
        assert visit(f"{strict.url}/?Action=Unsubscribe&SubscriptionArn={question['subscription_arn']}") == status
    assert visit(f"{strict.url}/?Action=ListTopics&Version=2010-03-31") == 403


AUTHORIZATION = {
    (operation, "AuthorizationErrorException")
    for operation in ON_TOPICS | ON_SUBSCRIPTIONS | ON_APPLICATIONS | ON_ENDPOINTS | {"ConfirmSubscription"}
}


def test_every_documented_error_is_provoked_or_cannot_occur() -> None:
    provoked = {(operation, error) for operation, error, _, _ in CASES} | LIMITS | AUTHORIZATION
    documented = {
        (operation, error.name)
        for operation in MODEL.operation_names
        for error in MODEL.operation_model(operation).error_shapes
    }
    assert {pair for pair in documented - provoked if cannot_occur(*pair) is None} == set()
    assert {pair for pair in provoked & documented if cannot_occur(*pair) is not None} == set()


def test_what_the_model_forbids(stage: Stage) -> None:
    for operation, given in (
        ("list_sms_sandbox_phone_numbers", {"MaxResults": 101}),
        ("verify_sms_sandbox_phone_number", {"PhoneNumber": NUMBER, "OneTimePassword": "letters"}),
        ("tag_resource", {"ResourceArn": stage.topic(), "Tags": [{"Key": "x" * 129, "Value": ""}]}),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(stage.sns, operation)(**given)
        assert caught.value.response["Error"]["Code"] == "ValidationError"
