"""FIFO topics: order, deduplication, the archive and its replay, on virtual time."""

from __future__ import annotations

import json

import pytest

from broker.clock import iso_8601_ms
from broker.errors import InvalidParameterException, InvalidStateException, ReplayLimitExceededException
from broker.queues import Queue
from broker.topics import Subscription, Topic
from engine.support import Engine
from engine.topic_support import Sns, attribute

ARCHIVE = {"MessageRetentionPeriod": "1"}


@pytest.fixture
def sns(engine: Engine) -> Sns:
    return Sns(engine)


def bodies(engine: Engine, queue: Queue) -> list[str]:
    return [message.body for message in engine.listing(queue)]


def since(moment_ms: int, until_ms: int | None = None) -> dict[str, str]:
    window = {"PointType": "Timestamp", "StartingPoint": iso_8601_ms(moment_ms)}
    return window if until_ms is None else {**window, "EndingPoint": iso_8601_ms(until_ms)}


def status(sns: Sns, subscription: Subscription) -> str:
    return str(sns.service.subscriptions.get_attributes(subscription)["ReplayStatus"])


def test_order_and_sequence_numbers(engine: Engine, sns: Sns) -> None:
    topic, fifo, standard = sns.create("t.fifo"), engine.create("q.fifo"), engine.create("q")
    for queue in (fifo, standard):
        sns.subscribe(topic, queue, RawMessageDelivery="true")
    published = [sns.publish(topic, f"m{n}", group_id=f"g{n % 2}") for n in range(6)]
    numbers = [int(p.sequence_number or 0) for p in published]
    assert numbers == sorted(set(numbers))
    assert all(len(str(number)) == 20 for number in numbers)
    assert bodies(engine, fifo) == bodies(engine, standard) == [f"m{n}" for n in range(6)]
    assert [m.group_id for m in engine.listing(fifo)] == ["g0", "g1"] * 3
    assert [m.deduplication_id for m in engine.listing(fifo)] == [f"m{n}" for n in range(6)]


def test_the_envelope_has_the_sequence_number_and_no_signature(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create("t.fifo"), engine.create("q.fifo")
    sns.subscribe(topic, queue)
    published = sns.publish(topic)
    envelope = json.loads(engine.receive(queue)[0].body)
    assert list(envelope) == [
        "Type",
        "MessageId",
        "SequenceNumber",
        "TopicArn",
        "Message",
        "Timestamp",
        "UnsubscribeURL",
    ]
    assert envelope["SequenceNumber"] == published.sequence_number


def test_duplicates_for_five_minutes(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create("t.fifo"), engine.create("q.fifo")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    first = sns.publish(topic, "a")
    engine.advance(299)
    assert sns.publish(topic, "a") == first
    assert sns.publish(topic, "a", group_id="other") == first, "the scope is the topic"
    engine.advance(1)
    assert sns.publish(topic, "a") != first
    assert bodies(engine, queue) == ["a", "a"]


def test_duplicates_by_group(engine: Engine, sns: Sns) -> None:
    topic = sns.create("t.fifo", FifoThroughputScope="MessageGroup")
    queue = engine.create("q.fifo", DeduplicationScope="messageGroup")
    sns.subscribe(topic, queue, RawMessageDelivery="true")
    for group_id in "aabb":
        sns.publish(topic, "x", group_id=group_id)
    assert [m.group_id for m in engine.listing(queue)] == ["a", "b"]


def test_what_is_remembered_outlives_a_restart(on_disk: Engine) -> None:
    sns = Sns(on_disk)
    first = sns.publish(sns.create("t.fifo"), "a")
    on_disk.restart()
    topic = sns.find("t.fifo")
    assert sns.publish(topic, "a") == first
    assert int(sns.publish(topic, "b").sequence_number or 0) > int(first.sequence_number or 0)


# the archive


def archived(engine: Engine, sns: Sns) -> tuple[Topic, int]:
    """A topic with three messages in its archive, a minute from each to the next, and the moment of the first."""
    topic = sns.create("t.fifo", ArchivePolicy=ARCHIVE)
    began_ms = engine.clock.now_ms()
    for n in range(3):
        sns.publish(topic, f"m{n}", attributes={"n": attribute(str(n), "Number"), "b": attribute(b"\x00\x01")})
        engine.advance(60)
    return topic, began_ms


def test_replay_to_a_new_subscription(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    original = engine.create("original.fifo")
    queue = engine.create("q.fifo")
    sns.subscribe(topic, original)
    subscription = sns.subscribe(topic, queue, ReplayPolicy=since(began_ms + 60_000))
    assert status(sns, subscription) == "Pending"
    engine.settle()
    assert status(sns, subscription) == "Completed"
    replayed = [json.loads(body) for body in bodies(engine, queue)]
    assert [(m["Message"], m["Timestamp"]) for m in replayed] == [
        ("m1", iso_8601_ms(began_ms + 60_000)),
        ("m2", iso_8601_ms(began_ms + 120_000)),
    ]
    assert replayed[0]["MessageAttributes"] == {
        "n": {"Type": "Number", "Value": "1"},
        "b": {"Type": "Binary", "Value": "AAE="},
        "Replayed": {"Type": "String", "Value": "true"},
    }
    sns.publish(topic, "m3")
    live = json.loads(bodies(engine, queue)[-1])
    assert (live["Message"], "MessageAttributes" in live) == ("m3", False)
    assert [json.loads(body)["Message"] for body in bodies(engine, original)] == ["m3"]


def test_replay_has_the_same_ids_and_may_come_again_at_once(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create("t.fifo", ArchivePolicy=ARCHIVE), engine.create("q.fifo")
    began_ms = engine.clock.now_ms()
    subscription = sns.subscribe(topic, queue)
    published = sns.publish(topic, "a")
    engine.advance(1)
    sns.set_subscription(subscription, "ReplayPolicy", since(began_ms))
    engine.settle()
    live, replayed = (json.loads(body) for body in bodies(engine, queue))
    assert live["MessageId"] == replayed["MessageId"] == published.message_id
    assert live["SequenceNumber"] == replayed["SequenceNumber"] == published.sequence_number


def test_what_is_published_meanwhile_waits_behind_the_replay(engine: Engine, sns: Sns) -> None:
    topic, queue = sns.create("t.fifo", ArchivePolicy=ARCHIVE), engine.create("q.fifo")
    began_ms = engine.clock.now_ms()
    for n in range(250):
        sns.publish(topic, f"m{n}")
    engine.advance(1)
    subscription = sns.subscribe(topic, queue, ReplayPolicy=since(began_ms), RawMessageDelivery="true")
    sns.publish(topic, "live")
    assert bodies(engine, queue) == []
    engine.settle()
    sns.publish(topic, "later")
    assert bodies(engine, queue) == [*(f"m{n}" for n in range(250)), "live", "later"]
    attributes = [message.attributes for message in engine.listing(queue)]
    assert [a is None for a in attributes] == [False] * 250 + [True, True], "Replayed is what was replayed"
    assert status(sns, subscription) == "Completed"


def test_a_replay_with_an_end_is_the_end(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    subscription = sns.subscribe(
        topic, queue, ReplayPolicy=since(began_ms, began_ms + 60_000), RawMessageDelivery="true"
    )
    engine.settle()
    assert bodies(engine, queue) == ["m0", "m1"]
    assert status(sns, subscription) == "Completed"
    sns.publish(topic, "never")
    engine.settle()
    assert bodies(engine, queue) == ["m0", "m1"]
    sns.set_subscription(subscription, "ReplayPolicy", "")
    sns.publish(topic, "again")
    assert bodies(engine, queue) == ["m0", "m1", "again"]


def test_a_replay_whose_end_lies_ahead(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    end_ms = engine.clock.now_ms() + 60_000
    subscription = sns.subscribe(topic, queue, ReplayPolicy=since(began_ms, end_ms), RawMessageDelivery="true")
    engine.advance(30)
    sns.publish(topic, "m3")
    engine.settle()
    assert bodies(engine, queue) == ["m0", "m1", "m2", "m3"]
    assert status(sns, subscription) == "In progress"
    engine.advance(31)
    assert status(sns, subscription) == "Completed"


def test_a_replay_goes_by_the_filter_policy(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    policy = {"n": [{"numeric": [">=", 1]}], "Replayed": ["true"]}
    sns.subscribe(topic, queue, ReplayPolicy=since(began_ms), FilterPolicy=policy, RawMessageDelivery="true")
    engine.settle()
    sns.publish(topic, "live", attributes={"n": attribute("5", "Number")})
    assert bodies(engine, queue) == ["m1", "m2"]


def test_a_replay_goes_on_after_a_restart(on_disk: Engine) -> None:
    sns = Sns(on_disk)
    topic, queue = sns.create("t.fifo", ArchivePolicy=ARCHIVE), on_disk.create("q.fifo")
    began_ms = on_disk.clock.now_ms()
    for n in range(250):
        sns.publish(topic, f"m{n}")
    on_disk.advance(1)
    sns.subscribe(topic, queue, ReplayPolicy=since(began_ms), RawMessageDelivery="true")
    on_disk.restart()
    assert bodies(on_disk, on_disk.find("q.fifo")) == [f"m{n}" for n in range(250)]


def test_a_stopped_replay_lets_go_of_what_it_held(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    subscription = sns.subscribe(topic, queue, ReplayPolicy=since(began_ms), RawMessageDelivery="true")
    sns.publish(topic, "live")
    sns.set_subscription(subscription, "ReplayPolicy", "{}")
    sns.publish(topic, "later")
    engine.settle()
    assert bodies(engine, queue) == ["live", "later"]


def test_the_end_of_the_archive_fails_a_replay_and_loses_nothing_live(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    subscription = sns.subscribe(topic, queue, ReplayPolicy=since(began_ms), RawMessageDelivery="true")
    sns.publish(topic, "live")
    with pytest.raises(InvalidStateException):
        sns.service.topics.delete(topic.arn)
    sns.set(topic, "ArchivePolicy", "{}")
    sns.publish(topic, "later")
    engine.settle()
    assert status(sns, subscription) == "Failed"
    assert bodies(engine, queue) == ["live", "later"]
    assert engine.rows("SELECT count(*) FROM archived_message") == [(0,)]
    assert "BeginningArchiveTime" not in sns.service.topics.get_attributes(topic)
    sns.service.topics.delete(topic.arn)


def test_retention(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    assert sns.service.topics.get_attributes(topic)["BeginningArchiveTime"] == iso_8601_ms(began_ms)
    engine.advance(86_400 - 180)
    assert engine.rows("SELECT count(*) FROM archived_message") == [(2,)]
    engine.advance(60)
    assert engine.rows("SELECT count(*) FROM archived_message") == [(1,)]
    shown = sns.service.topics.get_attributes(topic)["BeginningArchiveTime"]
    assert shown == iso_8601_ms(engine.clock.now_ms() - 86_400_000)
    engine.advance(86_400)
    assert engine.rows("SELECT count(*) FROM archived_message") == [(0,)]


def test_what_a_replay_policy_must_be(engine: Engine, sns: Sns) -> None:
    topic, began_ms = archived(engine, sns)
    queue = engine.create("q.fifo")
    for policy, reason in (
        (since(began_ms - 1), "not be before"),
        (since(engine.clock.now_ms() + 1), "not be in the future"),
        (since(began_ms, began_ms), "later than"),
        ({"PointType": "Sequence", "StartingPoint": "x"}, "PointType"),
        ({"PointType": "Timestamp"}, "StartingPoint"),
        ({"PointType": "Timestamp", "StartingPoint": "soon"}, "StartingPoint"),
        ({**since(began_ms), "More": 1}, "More"),
        ("no JSON", "JSON"),
    ):
        with pytest.raises(InvalidParameterException, match=reason):
            sns.subscribe(topic, queue, ReplayPolicy=policy)
    plain = sns.create("plain.fifo")
    with pytest.raises(InvalidParameterException, match="ArchivePolicy"):
        sns.subscribe(plain, queue, ReplayPolicy=since(began_ms))
    with pytest.raises(InvalidParameterException, match="FIFO"):
        sns.subscribe(sns.create("t"), engine.create("q"), ReplayPolicy=since(began_ms))


def test_ten_replays_at_once(aws: Engine) -> None:
    sns = Sns(aws)
    topic, began_ms = archived(aws, sns)
    for n in range(10):
        sns.subscribe(topic, aws.create(f"q{n}.fifo"), ReplayPolicy=since(began_ms))
    with pytest.raises(ReplayLimitExceededException):
        sns.subscribe(topic, aws.create("one-more.fifo"), ReplayPolicy=since(began_ms))
    aws.settle()
    sns.subscribe(topic, aws.find("one-more.fifo"), ReplayPolicy=since(began_ms))
