"""Topics and what reaches queues from them, on virtual time."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import md5, sha256
from typing import Any

import pytest

from broker.errors import (
    BrokerFailure,
    DomainError,
    EmptyBatchRequestException,
    FilterPolicyLimitExceededException,
    InvalidParameterException,
    SubscriptionLimitExceededException,
    TopicLimitExceededException,
)
from broker.limits import AWS
from broker.names import World
from broker.topics import Publishing, Subscriber
from engine.support import WORLD, Engine
from engine.topic_support import ME, Sns, attribute, text

FRIEND = Subscriber("111122223333", "arn:aws:iam::111122223333:user/ann", "http://there")


@pytest.fixture
def sns(engine: Engine) -> Sns:
    return Sns(engine)


# what subscribers read


def test_an_envelope_byte_for_byte(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    subscription = sns.subscribe(topic, queue)
    published = sns.publish(
        topic,
        'a "b"\n€',
        subject="s",
        attributes={"n": attribute("1.50", "Number"), "b": attribute(b"\x00\xff")},
    )
    (message,) = engine.receive(queue)
    assert message.body == (
        "{\n"
        '  "Type" : "Notification",\n'
        f'  "MessageId" : "{published.message_id}",\n'
        '  "TopicArn" : "arn:aws:sns:us-east-1:000000000000:t",\n'
        '  "Subject" : "s",\n'
        '  "Message" : "a \\"b\\"\\n€",\n'
        '  "Timestamp" : "2023-11-14T22:13:20.000Z",\n'
        '  "SignatureVersion" : "1",\n'
        '  "Signature" : "",\n'
        '  "SigningCertURL" : "http://here/SimpleNotificationService.pem",\n'
        f'  "UnsubscribeURL" : "http://here/?Action=Unsubscribe&SubscriptionArn={subscription.arn}",\n'
        '  "MessageAttributes" : {\n'
        '    "n" : {"Type":"Number","Value":"1.50"},\n'
        '    "b" : {"Type":"Binary","Value":"AP8="}\n'
        "  }\n"
        "}"
    )
    assert message.md5 == md5(message.body.encode()).hexdigest()
    assert message.attributes is None


def test_what_is_signed(engine: Engine, sns: Sns) -> None:
    class Signer:
        signed: list[tuple[str, str]] = []

        def sign(self, text: str, version: str) -> str:
            self.signed.append((text, version))
            return "c2ln"

        def certificate_url(self, origin: str) -> str:
            return origin + "/cert"

    signer = Signer()
    sns.service.publisher._fanout._signer = signer
    topic = sns.create(SignatureVersion="2")
    queues = [engine.create(name) for name in ("a", "b")]
    for queue in queues:
        sns.subscribe(topic, queue)
    published = sns.publish(topic, "m", subject="s")
    expected = (
        f"Message\nm\nMessageId\n{published.message_id}\nSubject\ns\nTimestamp\n2023-11-14T22:13:20.000Z\n"
        f"TopicArn\n{topic.arn}\nType\nNotification\n"
    )
    assert signer.signed == [(expected, "2")], "once, whoever gets it"
    for queue in queues:
        envelope = json.loads(engine.receive(queue)[0].body)
        assert (envelope["Signature"], envelope["SigningCertURL"]) == ("c2ln", "http://here/cert")


def test_raw_delivery_keeps_body_and_attributes(engine: Engine, sns: Sns) -> None:
    topic, queue, direct = sns.create(), engine.create("q"), engine.create("direct")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    attributes = {"n": attribute("1", "Number"), "b": attribute(b"\x00")}
    sns.publish(topic, "body", attributes=attributes, trace_header="Root=1")
    engine.send(direct, "body", attributes=attributes)
    (raw,), (sent,) = engine.receive(queue), engine.receive(direct)
    assert (raw.body, raw.md5, raw.attributes, raw.attributes_md5) == (
        sent.body,
        sent.md5,
        sent.attributes,
        sent.attributes_md5,
    )
    assert raw.trace_header == "Root=1"


def test_each_protocol_its_own_text(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue)
    sns.subscribe(topic, "+15550100", "sms")
    sns.publish(topic, '{"default": "d", "sms": "short", "http": 1}', structure="json")
    assert text(engine.receive(queue)[0]) == "d"
    assert [sent["message"] for sent in sns.outbox("sms")] == ["short"]


def test_everybody_else_goes_to_what_people_read(engine: Engine, sns: Sns) -> None:
    topic = sns.create(DisplayName="News")
    sns.subscribe(topic, "a@b.c", "email")
    role = "arn:aws:iam::000000000000:role/r"
    stream = "arn:aws:firehose:us-east-1:000000000000:deliverystream/s"
    sns.subscribe(topic, stream, "firehose", SubscriptionRoleArn=role)
    (asked,) = sns.outbox("email")
    sns.service.subscriptions.confirm(topic, asked["token"], authenticated=False, authenticate_on_unsubscribe="")
    sns.publish(topic, "hello", subject="hi")
    mail = sns.outbox("email")[-1]
    assert (mail["endpoint"], mail["subject"], mail["body"], mail["sender_name"]) == ("a@b.c", "hi", "hello", "News")
    assert json.loads(sns.outbox("firehose")[-1]["body"])["Message"] == "hello"
    assert topic.counts["NumberOfNotificationsDelivered"] == 2


def test_an_http_endpoint_is_asked_and_then_served_through_the_outbox(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    subscription = sns.subscribe(topic, "http://127.0.0.1:9/", "http")
    (asked,) = engine.broker.outbox.due(10)
    question = json.loads(asked.body)
    assert asked.headers["x-amz-sns-message-type"] == question["Type"] == "SubscriptionConfirmation"
    assert question["SubscribeURL"] == (
        f"http://here/?Action=ConfirmSubscription&TopicArn={topic.arn}&Token={question['Token']}"
    )
    sns.publish(topic, "too early")
    sns.service.subscriptions.confirm(topic, question["Token"], authenticated=False, authenticate_on_unsubscribe="")
    sns.publish(topic, "hello")
    (attempt,) = engine.broker.outbox.due(10)
    assert json.loads(attempt.body)["Message"] == "hello"
    assert (attempt.owner, attempt.target) == (subscription.arn, "http://127.0.0.1:9/")
    sns.service.subscriptions.unsubscribe(subscription.arn, None)
    (goodbye,) = engine.broker.outbox.due(10)
    assert json.loads(goodbye.body)["Type"] == "UnsubscribeConfirmation"


def test_a_function_is_invoked_through_the_outbox(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    function = "arn:aws:lambda:us-east-1:000000000000:function:f"
    subscription = sns.subscribe(topic, function, "lambda")
    published = sns.publish(topic, "hello", attributes={"a": attribute("b")})
    (attempt,) = engine.broker.outbox.due(10)
    (record,) = json.loads(attempt.body)["Records"]
    assert (attempt.channel, attempt.target) == ("lambda", function)
    assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", subscription.arn)
    assert record["Sns"]["Subject"] is None
    assert (record["Sns"]["MessageId"], record["Sns"]["Message"]) == (published.message_id, "hello")
    assert record["Sns"]["MessageAttributes"] == {"a": {"Type": "String", "Value": "b"}}


# where it goes


def test_a_publish_and_its_deliveries_are_one_transaction(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    queues = [engine.create(f"q{n}") for n in range(3)]
    for queue in queues:
        sns.subscribe(topic, queue)
    engine.settle()
    sns.publish(topic, "lost")
    engine.broker.commit.abort(BrokerFailure("no"))
    assert [engine.receive(engine.find(f"q{n}")) for n in range(3)] == [[], [], []]
    sns.publish(sns.find("t"), "kept")
    engine.settle()
    assert [text(engine.receive(engine.find(f"q{n}"))[0]) for n in range(3)] == ["kept"] * 3


def test_a_rollback_undoes_definitions_too(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue)
    engine.settle()
    sns.create("gone")
    sns.service.topics.delete(topic.arn)
    engine.broker.commit.abort(BrokerFailure("no"))
    assert [t.name for t in sns.service.topics.list_topics(WORLD, "", 100)[0]] == ["t"]
    sns.publish(sns.find("t"), "hello")
    assert text(engine.receive(queue)[0]) == "hello"


def test_a_restart_knows_everything(on_disk: Engine) -> None:
    sns = Sns(on_disk)
    topic, queue = sns.create(DisplayName="News"), on_disk.create("q")
    subscription = sns.subscribe(topic, queue, FilterPolicy={"a": ["b"]})
    sns.subscribe(topic, "a@b.c", "email")
    sns.service.topics.tag(topic, [("k", "v")])
    application = sns.service.mobile.create_application(WORLD, "app", "GCM", {"PlatformCredential": "c"})
    endpoint = sns.service.mobile.create_endpoint(application, "tok", "", {})
    sns.service.sms.opt_out(WORLD, "+15550100")
    before = sns.service.topics.get_attributes(topic), sns.service.subscriptions.get_attributes(subscription)
    on_disk.restart()
    topic = sns.find("t")
    again = sns.service.subscriptions.find(subscription.arn)
    assert (sns.service.topics.get_attributes(topic), sns.service.subscriptions.get_attributes(again)) == before
    assert topic.tags == {"k": "v"}
    assert sns.service.mobile.endpoint(endpoint).attributes["Token"] == "tok"
    assert sns.service.sms.opted_out(WORLD) == ["+15550100"]
    sns.publish(topic, "no")
    sns.publish(topic, "yes", attributes={"a": attribute("b")})
    assert [text(m) for m in on_disk.receive(on_disk.find("q"))] == ["yes"]


def test_other_accounts_and_regions_queues(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    far = engine.queues.create(World(WORLD.account, "eu-west-1"), "far", {})
    sns.subscribe(topic, far)
    foreign = engine.queues.create(World(FRIEND.account, "us-east-1"), "theirs", {})
    pending = sns.subscribe(topic, foreign)
    assert pending.pending, "its owner has not asked for it"
    question = json.loads(engine.receive(foreign)[0].body)
    assert question["Type"] == "SubscriptionConfirmation"
    sns.publish(topic, "one")
    sns.service.subscriptions.confirm(topic, question["Token"], authenticated=True, authenticate_on_unsubscribe="")
    sns.publish(topic, "two")
    own = engine.queues.create(World(FRIEND.account, "us-east-1"), "own", {})
    assert not sns.subscribe(topic, own, caller=FRIEND).pending, "its owner asks for it"
    sns.publish(topic, "three")
    assert [text(m) for m in engine.receive(far)] == ["one", "two", "three"]
    assert [text(m) for m in engine.receive(foreign)] == ["two", "three"]
    assert [text(m) for m in engine.receive(own)] == ["three"]


def test_a_token_holds_for_two_days(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    early = sns.subscribe(topic, "a@b.c", "email")
    engine.advance(2 * 86_400 - 1)
    sns.service.subscriptions.confirm(topic, early.token, authenticated=False, authenticate_on_unsubscribe="")
    late = sns.subscribe(topic, "d@e.f", "email")
    engine.advance(2 * 86_400)
    assert sns.service.subscriptions.list_subscriptions(None, topic, 0, 10) == ([early], False)
    with pytest.raises(InvalidParameterException, match="Invalid parameter: Token"):
        sns.service.subscriptions.confirm(topic, late.token, authenticated=False, authenticate_on_unsubscribe="")


def test_unsubscribed_by_a_link_and_back_by_another(on_disk: Engine) -> None:
    sns = Sns(on_disk)
    topic, queue = sns.create(), on_disk.create("q")
    subscription = sns.subscribe(topic, queue)
    sns.service.subscriptions.unsubscribe(subscription.arn, None)
    sns.publish(topic, "not heard")
    (message,) = on_disk.receive(queue)
    goodbye = json.loads(message.body)
    assert (goodbye["Type"], goodbye["Token"]) == ("UnsubscribeConfirmation", subscription.token)
    on_disk.restart()
    topic, queue = sns.find("t"), on_disk.find("q")
    assert sns.service.subscriptions.list_subscriptions(None, topic, 0, 10) == ([], False)
    back = sns.service.subscriptions.confirm(
        topic, goodbye["Token"], authenticated=False, authenticate_on_unsubscribe=""
    )
    assert back.arn == subscription.arn
    sns.publish(topic, "heard")
    assert [text(m) for m in on_disk.receive(queue)] == ["heard"]
    sns.service.subscriptions.unsubscribe(back.arn, None)
    on_disk.advance(2 * 86_400)
    assert on_disk.rows("SELECT count(*) FROM subscription") == [(0,)]


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("AWS.SNS.MOBILE.GCM.TTL", "60", True),
        ("AWS.SNS.MOBILE.GCM.TTL", "soon", False),
        ("AWS.SNS.SMS.SMSType", "Transactional", True),
        ("AWS.SNS.SMS.SMSType", "Loud", False),
        ("AWS.SNS.SMS.SenderID", "Sidebus", True),
        ("AWS.SNS.SMS.SenderID", "123", False),
        ("AWS.SNS.MOBILE.APNS.PRIORITY", "10", True),
        ("AWS.SNS.MOBILE.APNS.PRIORITY", "11", False),
    ],
)
def test_reserved_attributes(sns: Sns, name: str, value: str, good: bool) -> None:
    topic = sns.create()
    application = sns.service.mobile.create_application(WORLD, "app", "GCM", {"PlatformCredential": "c"})
    sns.subscribe(topic, sns.service.mobile.create_endpoint(application, "tok", "", {}), "application")
    sns.subscribe(topic, "+15550100", "sms")
    if not good:
        with pytest.raises(InvalidParameterException, match=name):
            sns.publish(topic, "m", attributes={name: attribute(value)})
        return
    sns.publish(topic, "m", attributes={name: attribute(value)})
    (push,), (sms,) = sns.outbox("application"), sns.outbox("sms")
    assert push["ttl_s"] == (60 if name.endswith("GCM.TTL") else None)
    assert sms["sms_type"] == ("Transactional" if name.endswith("SMSType") else "Promotional")


def test_a_missing_queue_leaves_it_to_the_dead_letter_queue(engine: Engine, sns: Sns) -> None:
    topic, queue, dead = sns.create(), engine.create("q"), engine.create("dead")
    other = engine.create("other")
    sns.subscribe(topic, queue, RedrivePolicy={"deadLetterTargetArn": dead.arn})
    sns.subscribe(topic, other)
    engine.queues.delete(queue)
    sns.publish(topic, "hello")
    assert text(engine.receive(dead)[0]) == "hello"
    assert text(engine.receive(other)[0]) == "hello"
    engine.queues.delete(other)
    engine.queues.delete(dead)
    sns.publish(topic, "nobody")
    assert topic.counts == {
        "NumberOfMessagesPublished": 2,
        "NumberOfNotificationsDelivered": 1,
        "NumberOfNotificationsFailed": 3,
        "NumberOfNotificationsRedrivenToDlq": 1,
        "NumberOfNotificationsFailedToRedriveToDlq": 1,
    }


def test_a_queue_refuses_what_it_cannot_hold(engine: Engine, sns: Sns) -> None:
    topic, dead = sns.create(), engine.create("dead")
    small, raw = engine.create("small", MaximumMessageSize="1024"), engine.create("raw")
    redrive = {"deadLetterTargetArn": dead.arn}
    sns.subscribe(topic, small, RedrivePolicy=redrive)
    sns.subscribe(topic, raw, RedrivePolicy=redrive, RawMessageDelivery="true")
    sns.publish(topic, "x" * 1024)
    assert [len(engine.listing(queue)) for queue in (small, raw, dead)] == [0, 1, 1]
    sns.publish(topic, "many", attributes={f"a{n}": attribute("v") for n in range(11)})
    assert [len(engine.listing(queue)) for queue in (small, raw, dead)] == [1, 1, 2]
    sns.publish(topic, "\x00")  # in an envelope it is escaped, as it is SQS does not take it
    assert [len(engine.listing(queue)) for queue in (small, raw, dead)] == [2, 1, 3]


@pytest.mark.parametrize(
    ("condition", "principal", "lets_in"),
    [
        ({}, {"Service": "sns.amazonaws.com"}, True),
        ({"ArnEquals": {"aws:SourceArn": "TOPIC"}}, {"Service": "sns.amazonaws.com"}, True),
        ({"ArnLike": {"AWS:SourceArn": "arn:aws:sns:*:*:t"}}, "*", True),
        ({"StringEquals": {"aws:SourceAccount": WORLD.account}}, {"AWS": "*"}, True),
        ({"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:000000000000:other"}}, "*", False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "*", False),
        ({}, {"Service": "events.amazonaws.com"}, False),
    ],
)
def test_a_queues_policy_must_let_the_topic_in_where_policies_count(
    engine: Engine, sns: Sns, condition: Any, principal: Any, lets_in: bool
) -> None:
    sns.service.enforce_policies()
    topic = sns.create()
    document = json.loads(json.dumps(condition).replace("TOPIC", topic.arn))
    allow = {"Effect": "Allow", "Principal": principal, "Action": "sqs:SendMessage", "Condition": document}
    queue = engine.create("q", Policy={"Statement": [allow]})
    for target in (queue, engine.create("closed")):
        sns.subscribe(topic, target)
    sns.publish(topic)
    assert len(engine.receive(queue)) == lets_in
    assert topic.counts["NumberOfNotificationsFailed"] == (1 if lets_in else 2)


def test_a_long_poll_gets_what_is_published(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    poll = engine.poll(queue)
    sns.publish(topic, "hello")
    engine.settle()
    assert poll.bodies == ["hello"]


def test_groups_on_a_standard_topic_make_a_fair_queue(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    for name in ("a1", "a2", "a3"):
        sns.publish(topic, name, group_id="a")
    sns.publish(topic, "b1", group_id="b")
    assert engine.receive_bodies(queue, 2) == ["a1", "b1"]


# filters


@pytest.mark.parametrize(
    ("policy", "scope", "message", "attributes", "matches"),
    [
        ({"a": ["x"]}, "MessageAttributes", "m", {"a": attribute("x")}, True),
        ({"a": ["x"]}, "MessageAttributes", "m", {"a": attribute("y")}, False),
        ({"a": ["x"]}, "MessageAttributes", '{"a": "x"}', {}, False),
        ({"a": [{"numeric": [">", 5]}]}, "MessageAttributes", "m", {"a": attribute("5.5", "Number")}, True),
        ({"a": [{"numeric": [">", 5]}]}, "MessageAttributes", "m", {"a": attribute("5.5")}, False),
        ({"a": ["x"]}, "MessageAttributes", "m", {"a": attribute('["y","x"]', "String.Array")}, True),
        ({"a": ["x"]}, "MessageAttributes", "m", {"a": attribute(b"x")}, False),
        ({"a": {"b": ["x"]}}, "MessageBody", '{"a": {"b": "x"}}', {}, True),
        ({"a": {"b": ["x"]}}, "MessageBody", '{"a": {"b": "y"}}', {}, False),
        ({"a": {"b": ["x"]}}, "MessageBody", "no JSON", {}, False),
        ({"a": {"b": ["x"]}}, "MessageBody", "[1]", {}, False),
    ],
)
def test_filter_policies(
    engine: Engine, sns: Sns, policy: Any, scope: str, message: str, attributes: Any, matches: bool
) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue, FilterPolicy=policy, FilterPolicyScope=scope)
    sns.publish(topic, message, attributes=attributes)
    assert len(engine.receive(queue)) == matches


def test_a_filter_on_the_body_is_on_the_text_that_the_subscriber_gets(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue, FilterPolicy={"a": ["x"]}, FilterPolicyScope="MessageBody")
    document = {"default": '{"a": "x"}', "sqs": '{"a": "y"}'}
    sns.publish(topic, json.dumps(document), structure="json")
    assert engine.receive(queue) == []
    sns.publish(topic, json.dumps({**document, "sqs": '{"a": "x"}'}), structure="json")
    assert len(engine.receive(queue)) == 1


# quotas and metrics


def test_quotas(aws: Engine) -> None:
    sns = Sns(aws)
    topic = sns.create("t.fifo")
    for n in range(100):
        sns.subscribe(topic, f"arn:aws:sqs:us-east-1:{ME.account}:q{n}.fifo")
    with pytest.raises(SubscriptionLimitExceededException):
        sns.subscribe(topic, f"arn:aws:sqs:us-east-1:{ME.account}:one-more.fifo")
    topic = sns.create("filtered")
    for n in range(200):
        sns.subscribe(topic, f"arn:aws:sqs:us-east-1:{ME.account}:q{n}", FilterPolicy={"a": ["b"]})
    with pytest.raises(FilterPolicyLimitExceededException):
        sns.subscribe(topic, f"arn:aws:sqs:us-east-1:{ME.account}:one-more", FilterPolicy={"a": ["b"]})
    last = sns.subscribe(topic, f"arn:aws:sqs:us-east-1:{ME.account}:one-more")
    with pytest.raises(FilterPolicyLimitExceededException):
        sns.set_subscription(last, "FilterPolicy", {"a": ["b"]})


def test_delivery_status_is_counted_as_it_would_be_logged(engine: Engine, sns: Sns) -> None:
    role = "arn:aws:iam::000000000000:role/log"
    topic, queue = sns.create(SQSSuccessFeedbackRoleArn=role, SQSSuccessFeedbackSampleRate="25"), engine.create("q")
    sns.subscribe(topic, queue)
    for _ in range(8):
        sns.publish(topic)
    assert topic.feedback == {"SQSSuccess": 2}
    sns.set(topic, "SQSFailureFeedbackRoleArn", role)
    engine.queues.delete(queue)
    sns.publish(topic)
    assert topic.feedback == {"SQSSuccess": 2, "SQSFailure": 1}


def test_reset_of_one_account(engine: Engine, sns: Sns) -> None:
    mine, theirs = sns.create(), sns.create("t", World(FRIEND.account, "us-east-1"))
    sns.subscribe(theirs, engine.create("q"))
    engine.broker.reset(WORLD.account)
    assert sns.service.topics.get(mine.arn) is None
    assert sns.service.topics.get(theirs.arn) is theirs
    assert theirs.subscriptions == {}
    engine.broker.reset()
    assert sns.service.topics.get(theirs.arn) is None


# large messages


def test_sizes(engine: Engine, sns: Sns) -> None:
    topic = sns.create()
    sns.publish(topic, "x" * 262_144)
    for message, attributes in (("x" * 262_145, {}), ("€" * 87_382, {}), ("x" * 262_144, {"a": attribute("b")})):
        with pytest.raises(InvalidParameterException, match="Message too long"):
            sns.publish(topic, message, attributes=attributes)
    sns.set(topic, "MaximumMessageSize", "1048576")
    sns.publish(topic, "x" * 1_048_576)
    with pytest.raises(InvalidParameterException, match="SQS, Firehose or Lambda"):
        sns.subscribe(topic, "a@b.c", "email")
    small = sns.create("small")
    sns.subscribe(small, "a@b.c", "email")
    with pytest.raises(InvalidParameterException, match="100 or fewer"):
        sns.set(small, "MaximumMessageSize", "1048576")


def test_content_based_deduplication_is_of_the_text(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create("t.fifo", ContentBasedDeduplication="true"), engine.create("q.fifo")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    first = sns.publish(topic, "a", deduplication_id=None)
    again = sns.publish(topic, "a", deduplication_id=None, subject="another", attributes={"a": attribute("b")})
    explicit = sns.publish(topic, "b", deduplication_id=sha256(b"a").hexdigest())
    assert first == again == explicit
    assert engine.receive_bodies(queue) == ["a"]


def test_a_batch_is_one_publish_each_with_its_own_outcome(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue)
    outcomes = sns.service.publisher.publish_batch(
        topic, [("a", Publishing("one")), ("b", Publishing("")), ("c", Publishing("two"))]
    )
    assert [isinstance(outcome, DomainError) for outcome in outcomes] == [False, True, False]
    assert [text(message) for message in engine.receive(queue)] == ["one", "two"]


def test_an_empty_batch(sns: Sns) -> None:
    with pytest.raises(EmptyBatchRequestException):
        sns.service.publisher.publish_batch(sns.create(), [])


def test_the_quota_of_topics(new_engine: Any) -> None:
    sns = Sns(new_engine(limits=replace(AWS, topics=2, fifo_topics=1)))
    for name in ("a", "b", "c.fifo"):
        sns.create(name)
    for name in ("d", "e.fifo"):
        with pytest.raises(TopicLimitExceededException):
            sns.create(name)
    sns.create("a")


def test_two_runs_from_one_seed_give_the_same_bytes(new_engine: Any) -> None:
    def run() -> list[str]:
        engine = new_engine(seed=7)
        sns = Sns(engine)
        topic = sns.create()
        for n in range(20):
            policy = {"FilterPolicy": {"a": [{"exists": True}]}} if n % 2 else {}
            sns.subscribe(topic, engine.create(f"q{n}"), **policy)
        sns.publish(topic, "x", attributes={"a": attribute("1")})
        return [m.message_id + m.body for n in range(20) for m in engine.receive(engine.find(f"q{n}"))]

    assert run() == run()


def test_a_dead_letter_queue_takes_no_more_than_another(engine: Engine, sns: Sns) -> None:
    topic, gone = sns.create(), engine.create("gone")
    dead = engine.create("dead", MaximumMessageSize="1024")
    sns.subscribe(topic, gone, RedrivePolicy={"deadLetterTargetArn": dead.arn}, RawMessageDelivery="true")
    engine.queues.delete(gone)
    sns.publish(topic, "x" * 1024)
    sns.publish(topic, "x" * 1025)
    assert len(engine.listing(dead)) == 1
    assert topic.counts["NumberOfNotificationsFailedToRedriveToDlq"] == 1
