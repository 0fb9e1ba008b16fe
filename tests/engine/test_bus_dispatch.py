"""From PutEvents to targets: each entry's outcome, the bytes a target gets, and what becomes of what cannot arrive."""

from __future__ import annotations

import json
from hashlib import md5, sha256
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.buses import publishing
from broker.buses.envelope import Event, Malformed
from broker.errors import BrokerFailure, ValidationException
from broker.matching import Index, event_pattern
from broker.names import queue_arn, topic_arn
from broker.queues import Queue
from engine.bus_support import OTHER_ACCOUNT, OTHER_REGION, Bridge, bus_arn, open_to_rules, rule_arn
from engine.support import START_MS, WORLD, Engine
from engine.topic_support import Sns

ALL = {"version": ["0"]}
ROLE_ARN = "arn:aws:iam::000000000000:role/r"
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/s"


@pytest.fixture
def bridge(engine: Engine) -> Bridge:
    return Bridge(engine)


@pytest.fixture
def queue(bridge: Bridge) -> Queue:
    """What it is given are all events of the default bus."""
    queue = bridge.engine.create("q")
    bridge.connect(ALL, queue)
    return queue


# the entries


def test_the_bytes_that_a_target_gets(bridge: Bridge, queue: Queue) -> None:
    outcome = bridge.put_entry(
        Time=1_704_110_400_999,
        Source="order.service",
        DetailType='Order "Placed" ü',
        Resources=["arn:aws:x", 'a"b'],
        Detail='{ "b" : 1,\n "a" : [ 1.10, 1e3, "x y" ] }',
        TraceHeader="Root=1-5759e988-bd862e3fe1be46a994272793",
    )
    [message] = bridge.engine.receive(queue)
    assert message.body == (
        f'{{"version":"0","id":"{outcome["EventId"]}","detail-type":"Order \\"Placed\\" ü","source":"order.service",'
        '"account":"000000000000","time":"2024-01-01T12:00:00Z","region":"us-east-1",'
        '"resources":["arn:aws:x","a\\"b"],"detail":{"b":1,"a":[1.10,1e3,"x y"]}}'
    )
    assert message.md5 == md5(message.body.encode()).hexdigest()
    assert message.trace_header == "Root=1-5759e988-bd862e3fe1be46a994272793"
    assert (message.attributes, message.group_id) == (None, None)


def test_an_event_without_a_time_is_of_now(bridge: Bridge, queue: Queue) -> None:
    bridge.put()
    [event] = bridge.received(queue)
    assert (event["time"], START_MS) == ("2023-11-14T22:13:20Z", 1_700_000_000_000)
    assert event["resources"] == []


@pytest.mark.parametrize(
    ("detail", "written"),
    [
        ('{"a": {"b": [ ]}, "c": "d  e"}', '{"a":{"b":[]},"c":"d  e"}'),
        ('{"n": 9223372036854775807, "m": -9223372036854775808}', '{"n":9223372036854775807,"m":-9223372036854775808}'),
        ('{"n": 100000000000000000000000}', '{"n":100000000000000000000000}'),
        ('{"n": 0.10, "m": 1E5, "k": -0.0}', '{"n":0.10,"m":1E5,"k":-0.0}'),
        ('{"n": 0.1, "m": 12.5}', '{"n":0.1,"m":12.5}'),
        ('{"a": 1, "a": 2}', '{"a":2}'),
        ('{"a": 1.0, "a": 2.50, "b": "1.0 "}', '{"a":2.50,"b":"1.0 "}'),
        ('{"a":"\\ud800 "}', '{"a":"\\ud800 "}'),
        ('{"a":' * 300 + "1 " + "}" * 300, '{"a":' * 300 + "1" + "}" * 300),
        ('{"a":' * 1000 + "1 " + "}" * 1000, '{"a":' * 1000 + "1" + "}" * 1000),
    ],
)
def test_a_detail_arrives_as_it_was_written(bridge: Bridge, queue: Queue, detail: str, written: str) -> None:
    bridge.put(detail)
    [message] = bridge.engine.receive(queue)
    assert message.body.partition(',"detail":')[2] == written + "}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON), st.booleans(), st.sampled_from([None, 0, 2]))
def test_any_detail_comes_to_the_same(detail: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(detail, ensure_ascii=ascii_only, indent=indent)
    event = Event.create("1", WORLD, "s", "t", text, [], 0, 0)
    assert json.loads(event.text)["detail"] == event.document["detail"] == detail
    assert event.text.partition('"detail":')[2] == json.dumps(detail, ensure_ascii=False, separators=(",", ":")) + "}"


@given(st.text(alphabet='{}[]":,.0123456789eE+-\\ tfn\ud800ü', max_size=30))
@example('{"":1e999}')
@example('{"":' + "9" * 400 + "}")
@example('{"":' + "9" * 5000 + "}")
def test_any_text_is_a_detail_or_malformed(text: str) -> None:
    index: Index[str] = Index()
    index.add("r", event_pattern('{"detail": {"": [1]}}'))
    try:
        event = Event.create("1", WORLD, "s", "t", text, [], 0, 0)
    except Malformed:
        assert not is_object(text)
    else:
        assert is_object(text)
        index.match(event.subject)
        event.text.encode()


def is_object(text: str) -> bool:
    try:
        text.encode()
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def test_numbers_are_matched_to_the_last_digit(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect('{"detail": {"n": [1152921504606846976]}}', queue)
    bridge.connect('{"detail": {"n": [0.1]}}', queue, "r2")
    for number in ("1152921504606846977", "1152921504606846976", "0.10", "0.1000001"):
        bridge.put(f'{{"n": {number} }}')
    assert bridge.details(queue) == [{"n": 1152921504606846976}, {"n": 0.1}]


def invalid(name: str, reason: str | None = None) -> tuple[str, str]:
    return "InvalidArgument", f"Parameter {name} is not valid. Reason: {reason or f'{name} is a required argument.'}"


MALFORMED = ("MalformedDetail", "Detail is malformed.")
GOOD = {"Source": "s", "DetailType": "t", "Detail": "{}"}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"Source": None}, invalid("Source")),
        ({"Source": ""}, invalid("Source")),
        ({"Source": None, "Detail": None}, invalid("Source")),
        ({"DetailType": None, "Detail": "x"}, invalid("DetailType")),
        ({"Detail": None}, invalid("Detail")),
        ({"Detail": ""}, invalid("Detail")),
        ({"Detail": "x", "Source": "aws.mine"}, ("NotAuthorizedForSourceException", "Not authorized for the source.")),
        ({"DetailType": "t" * 129}, invalid("DetailType", "DetailType must not exceed 128 characters.")),
        ({"Time": 1 << 60}, invalid("Time", "Time is out of range.")),
        ({"Time": -1}, invalid("Time", "Time is out of range.")),
        ({"Source": "\ud800"}, MALFORMED),
        *(
            ({"Detail": detail}, MALFORMED)
            for detail in (
                " ",
                "x",
                "[]",
                "1",
                "null",
                '"x"',
                '{"a":1',
                "{'a':1}",
                '{"a":NaN}',
                '{"a":1}{}',
                '{"a":"\ud800"}',
                "[" * 100_000,
                '{"a":' * 1001 + "1" + "}" * 1001,
            )
        ),
    ],
)
def test_an_entry_that_is_refused(bridge: Bridge, queue: Queue, changes: dict[str, Any], outcome: Any) -> None:
    told = bridge.put_entry(**{**GOOD, **changes})
    assert (told.get("ErrorCode"), told.get("ErrorMessage")) == outcome
    assert bridge.received(queue) == []


def test_each_entry_has_its_own_outcome(bridge: Bridge, queue: Queue) -> None:
    entries = [{**GOOD, "Detail": detail} for detail in ('{"n":1}', "", '{"n":2}', "{", '{"n":3}')]
    told = bridge.events.publisher.put_events(WORLD, {"Entries": entries})
    assert told["FailedEntryCount"] == 2
    assert [entry.get("ErrorCode") for entry in told["Entries"]] == [
        *(None, "InvalidArgument", None),
        *("MalformedDetail", None),
    ]
    events = bridge.received(queue)
    assert [event["detail"]["n"] for event in events] == [1, 2, 3]
    assert [event["id"] for event in events] == [entry["EventId"] for entry in told["Entries"] if "EventId" in entry]


def test_the_entries_of_a_call_have_a_mebibyte(bridge: Bridge) -> None:
    entry = {"Time": 0, "Source": "ü", "DetailType": "t", "Resources": ["abc"], "Detail": "{}"}
    assert publishing.entry_bytes(entry) == 14 + 2 + 1 + 3 + 2
    rest = publishing.MAX_ENTRIES_BYTES - 2 * publishing.entry_bytes(entry)
    entries = [{**entry, "Detail": "{}" + " " * rest}, entry]
    assert bridge.events.publisher.put_events(WORLD, {"Entries": entries})["FailedEntryCount"] == 0
    entries[0]["Detail"] = "{}" + " " * (rest + 1)
    with pytest.raises(ValidationException) as caught:
        bridge.events.publisher.put_events(WORLD, {"Entries": entries})
    assert caught.value.message == "Total size of the entries in the request is over the limit."


def test_buses_by_name_and_by_arn(bridge: Bridge) -> None:
    engine = bridge.engine
    bridge.create_bus("b")
    bridge.create_bus("b", OTHER_REGION)
    here, there = engine.create("here"), engine.create("there")
    bridge.connect(ALL, here, bus="b")
    bridge.connect(ALL, there, bus="b", world=OTHER_REGION)
    bridge.put({"n": 1}, "b")
    bridge.put({"n": 2}, bus_arn("b"))
    bridge.put({"n": 3}, bus_arn("b", OTHER_REGION))
    assert bridge.details(here) == [{"n": 1}, {"n": 2}]
    assert bridge.details(there) == [{"n": 3}]


def test_what_goes_to_a_bus_that_is_not_there_is_dropped(bridge: Bridge, queue: Queue) -> None:
    assert bridge.put(bus="gone")
    assert bridge.put(bus=bus_arn("gone"))
    assert bridge.put_entry(**GOOD, EventBusName=bus_arn("b", OTHER_ACCOUNT))["ErrorCode"] == "AccessDeniedException"
    assert bridge.received(queue) == []


def test_an_endpoint_puts_events_on_both_buses(bridge: Bridge) -> None:
    engine, worlds = bridge.engine, (WORLD, OTHER_REGION)
    queues = [engine.create(f"q{number}") for number in range(2)]
    for world, queue in zip(worlds, queues, strict=True):
        bridge.create_bus("b", world)
        bridge.connect(ALL, queue, bus="b", world=world)
    route = {"Primary": {"HealthCheck": "arn:x"}, "Secondary": {"Route": OTHER_REGION.region}}
    given = {
        "Name": "e",
        "RoutingConfig": {"FailoverConfig": route},
        "EventBuses": [{"EventBusArn": bus_arn("b", world)} for world in worlds],
        "RoleArn": ROLE_ARN,
    }
    endpoint_id = bridge.events.endpoints.create(WORLD, given)["EndpointId"]
    entries = [{**GOOD, "EventBusName": name} for name in ("b", bus_arn("b", OTHER_REGION), "default")]
    told = bridge.events.publisher.put_events(WORLD, {"Entries": entries, "EndpointId": endpoint_id})
    assert told["FailedEntryCount"] == 1
    ids = [entry.get("EventId") for entry in told["Entries"][:2]]
    assert [[event["id"] for event in bridge.received(queue)] for queue in queues] == [ids, ids]
    with pytest.raises(ValidationException):
        bridge.events.publisher.put_events(WORLD, {"Entries": entries, "EndpointId": "no.such"})


def test_a_partners_events_are_the_customers(bridge: Bridge) -> None:
    name, queue = "aws.partner/example.com/one", bridge.engine.create("q")
    bridge.events.partners.create(OTHER_ACCOUNT, name, WORLD.account)
    bridge.create_bus(name, EventSourceName=name)
    bridge.connect({"source": [{"prefix": "aws.partner/"}]}, queue, bus=name)
    entries = [{**GOOD, "Source": name}, {**GOOD, "Source": "aws.partner/example.com/two"}]

    def buses_of(entry: Any) -> Any:
        bus = bridge.events.partners.bus_of(OTHER_ACCOUNT, entry["Source"])
        return [bus] if bus else []

    told = bridge.events.publisher.put(OTHER_ACCOUNT, entries, buses_of, of_partner=True)
    assert [entry.get("ErrorCode") for entry in told["Entries"]] == [None, "ResourceNotFoundException"]
    [event] = bridge.received(queue)
    assert (event["account"], event["source"]) == (WORLD.account, name)


# queues


def test_all_rules_that_match_and_all_their_targets(bridge: Bridge) -> None:
    engine = bridge.engine
    queues = [engine.create(f"q{number}") for number in range(5)]
    bridge.put_rule("r", ALL)
    bridge.put_targets("r", *({"Id": queue.name, "Arn": queue.arn} for queue in queues))
    bridge.connect({"detail": {"n": [1]}}, queues[0], "r2")
    bridge.connect({"detail": {"n": [2]}}, queues[0], "r3")
    bridge.put({"n": 1})
    assert [len(bridge.received(queue)) for queue in queues] == [2, 1, 1, 1, 1]
    assert bridge.rule().counts == {"TriggeredRules": 1, "Invocations": 5}
    assert bridge.rule("r3").counts == {}
    assert bridge.events.registry.bus(WORLD, "default").counts == {"PutEventsEntriesCount": 1, "MatchedEvents": 1}


def test_a_fifo_queue_gets_groups_and_no_repetitions(bridge: Bridge) -> None:
    queue = bridge.engine.create("q.fifo", ContentBasedDeduplication="true")
    bridge.put_rule("r", ALL)
    group = {"SqsParameters": {"MessageGroupId": "g"}}
    bridge.put_targets("r", {"Id": "t", "Arn": queue.arn, "InputPath": "$.detail", **group})
    for number in (1, 2, 1):
        bridge.put({"n": number})
    messages = bridge.engine.receive(queue)
    assert [message.body for message in messages] == ['{"n":1}', '{"n":2}']
    assert [message.group_id for message in messages] == ["g", "g"]
    assert messages[0].deduplication_id == sha256(b'{"n":1}').hexdigest()


def test_a_standard_queue_becomes_fair_by_a_group(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect(ALL, queue, SqsParameters={"MessageGroupId": "g"})
    bridge.put()
    [message] = bridge.engine.receive(queue)
    assert (message.group_id, queue.fair) == ("g", True)


def test_long_integers_stay_what_they_are_in_inputs(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect(ALL, queue, InputPath="$.detail.n")
    for number in ("9223372036854775809", "123456789012345678901234567890"):
        bridge.put(f'{{"n": {number}}}')
        assert [message.body for message in bridge.engine.receive(queue)] == [number]
        event = Event.replayed(f'{{"detail":{{"n":{number}}}}}', "again", 0, 0)
        assert event.document == {"detail": {"n": int(number)}, "replay-name": "again"}


def test_inputs(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.put_rule("r", ALL)
    transformer = {
        "InputPathsMap": {"n": "$.detail.n"},
        "InputTemplate": '{"n":<n>,"rule":<aws.events.rule-name>,"at":<aws.events.event.ingestion-time>}',
    }
    bridge.put_targets(
        "r",
        {"Id": "1", "Arn": queue.arn, "Input": '{"constant": true}'},
        {"Id": "2", "Arn": queue.arn, "InputPath": "$.detail"},
        {"Id": "3", "Arn": queue.arn, "InputTransformer": transformer},
    )
    bridge.put({"n": [1]})
    messages = bridge.engine.receive(queue)
    assert {message.body for message in messages} == {
        '{"constant": true}',
        '{"n":[1]}',
        '{"n":[1],"rule":"r","at":"2023-11-14T22:13:20.000Z"}',
    }
    assert all(message.md5 == md5(message.body.encode()).hexdigest() for message in messages)


def test_all_of_a_call_happens_or_nothing(bridge: Bridge, queue: Queue) -> None:
    second = bridge.engine.create("second")
    bridge.connect(ALL, second, "r2")
    bridge.engine.settle()
    bridge.put({"n": 1})
    bridge.engine.broker.commit.abort(BrokerFailure("the disk is full"))
    assert bridge.received(bridge.engine.find("q")) == bridge.received(bridge.engine.find("second")) == []
    bridge.put({"n": 2})
    assert bridge.details(bridge.engine.find("q")) == bridge.details(bridge.engine.find("second")) == [{"n": 2}]


# what cannot arrive


def letters(bridge: Bridge) -> list[tuple[Any, dict[str, str]]]:
    """The dead letters: each event, and the attributes that say why."""
    messages = bridge.engine.receive(bridge.engine.find("letters"))
    return [
        (json.loads(m.body), {n: a["StringValue"] for n, a in json.loads(m.attributes or "{}").items()})
        for m in messages
    ]


def bury(bridge: Bridge, arn: str, **given: Any) -> None:
    if "letters" not in [queue.name for queue in bridge.engine.queues.flow.by_arn.values()]:
        bridge.engine.create("letters")
    bridge.connect(ALL, arn, DeadLetterConfig={"Arn": queue_arn(WORLD, "letters")}, **given)


def test_the_dead_letter_is_the_event_and_says_why(bridge: Bridge) -> None:
    arn = queue_arn(WORLD, "gone")
    bury(bridge, arn, InputPath="$.detail")
    id = bridge.put({"n": 1})
    [(event, why)] = letters(bridge)
    assert (event["id"], event["detail"]) == (id, {"n": 1})
    assert why == {
        "RULE_ARN": rule_arn(),
        "TARGET_ARN": arn,
        "ERROR_CODE": "NO_RESOURCE",
        "ERROR_MESSAGE": "The specified queue does not exist.",
        "RETRY_ATTEMPTS": "0",
    }
    assert bridge.rule().counts == {
        "TriggeredRules": 1,
        "Invocations": 1,
        "FailedInvocations": 1,
        "InvocationsSentToDlq": 1,
    }


def test_without_a_queue_for_it_a_dead_letter_is_counted(bridge: Bridge) -> None:
    bridge.connect(ALL, queue_arn(WORLD, "gone"))
    bridge.put()
    assert bridge.rule().counts["FailedInvocations"] == 1
    bridge.put_targets("r", {"Id": "t", "Arn": "arn:aws:sqs:us-east-1:000000000000:gone"})
    given = {"Id": "t", "Arn": queue_arn(WORLD, "gone"), "DeadLetterConfig": {"Arn": queue_arn(WORLD, "no-letters")}}
    bridge.put_targets("r", given)
    bridge.put()
    assert bridge.rule().counts["InvocationsFailedToBeSentToDlq"] == 1


def test_what_queues_refuse(bridge: Bridge) -> None:
    engine = bridge.engine
    small = engine.create("small", MaximumMessageSize="1024")
    fifo = engine.create("no-content.fifo")
    for name, arn, parameters in [
        ("small", small.arn, {}),
        ("fifo", fifo.arn, {"SqsParameters": {"MessageGroupId": "g"}}),
        ("topic", topic_arn(WORLD, "gone"), {}),
        ("stream", STREAM_ARN, {"RoleArn": ROLE_ARN}),
        ("bus", bus_arn("gone"), {}),
    ]:
        bury(bridge, arn, name=name, **parameters)
    bridge.put({"text": "x" * 1000})
    why = {found["RULE_ARN"].rpartition("/")[2]: found["ERROR_CODE"] for _, found in letters(bridge)}
    assert why == {
        "small": "INVALID_PARAMETER",
        "fifo": "INVALID_PARAMETER",
        "topic": "NO_RESOURCE",
        "stream": "NO_RESOURCE",
        "bus": "NO_RESOURCE",
    }
    bridge.put({"text": "\u0001"})  # SQS has no such character, but in JSON it is escaped
    assert len(engine.receive(small)) == 1


def test_policies_are_asked_where_that_is_wished(bridge: Bridge) -> None:
    engine = bridge.engine
    queue, topic = engine.create("q"), Sns(engine).create()
    bury(bridge, queue.arn)
    bury(bridge, topic.arn, name="r2")
    bridge.events.enforce_policies()
    bridge.put()
    assert letters(bridge) == []  # the queue for dead letters lets nobody in either
    assert bridge.rule().counts["InvocationsFailedToBeSentToDlq"] == 1
    for name in ("q", "letters"):
        allowed = engine.find(name)
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": allowed.arn,
            "Condition": {"ArnLike": {"aws:SourceArn": rule_arn("r*")}},
        }
        engine.set(allowed, Policy={"Version": "2012-10-17", "Statement": [statement]})
    bridge.put({"n": 1})
    assert bridge.details(queue) == [{"n": 1}]
    [(_, why)] = letters(bridge)
    assert (why["RULE_ARN"], why["ERROR_CODE"]) == (rule_arn("r2"), "NO_PERMISSIONS")
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sns:Publish"}
    Sns(engine).set(topic, "Policy", {"Statement": [{**statement, "Resource": topic.arn}]})
    bridge.put()
    assert bridge.rule("r2").counts["FailedInvocations"] == 2


# topics and streams


def test_a_topic_publishes_the_text_in_the_same_transaction(bridge: Bridge) -> None:
    engine, sns = bridge.engine, Sns(bridge.engine)
    topic, queue = sns.create(), engine.create("q")
    sns.subscribe(topic, queue)
    bridge.connect(ALL, topic.arn, InputPath="$.detail")
    bridge.put({"n": 1})
    [message] = engine.receive(queue)
    assert json.loads(message.body)["Message"] == '{"n":1}'
    engine.settle()
    bridge.put({"n": 2})
    engine.broker.commit.abort(BrokerFailure("no"))
    assert engine.receive(engine.find("q")) == []


class FakeStreams:
    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes]] = []
        self.refusal: str | None = None

    def put_event(self, arn: str, partition_key: str, data: bytes) -> str | None:
        if self.refusal is None:
            self.records.append((arn, partition_key, data))
        return self.refusal


def test_a_stream_gets_records(bridge: Bridge) -> None:
    streams = FakeStreams()
    bridge.events.dispatch._streams = streams
    bury(bridge, STREAM_ARN, RoleArn=ROLE_ARN, InputPath="$.detail")
    keys = {"KinesisParameters": {"PartitionKeyPath": "$.detail.key"}}
    bury(bridge, STREAM_ARN, name="r2", RoleArn=ROLE_ARN, Input="1", **keys)
    ids = [bridge.put({"key": key}) for key in ("k", 7, None)]
    assert [record for record in streams.records if record[2] != b"1"] == [
        (STREAM_ARN, ids[0], b'{"key":"k"}'),
        (STREAM_ARN, ids[1], b'{"key":7}'),
        (STREAM_ARN, ids[2], b'{"key":null}'),
    ]
    assert [key for _, key, data in streams.records if data == b"1"] == ["k", "7", "null"]
    assert letters(bridge) == []
    bridge.put()
    assert streams.records[-1][1] == streams.records[-2][1]  # nothing there: the event's id
    bridge.put({"key": "x" * 257})
    assert [why["ERROR_CODE"] for _, why in letters(bridge)] == ["INVALID_PARAMETER"]
    streams.refusal = "ProvisionedThroughputExceededException"
    bridge.put()
    assert [why["ERROR_CODE"] for _, why in letters(bridge)] == ["THROTTLING", "THROTTLING"]


def test_what_is_outside_goes_to_the_outbox(bridge: Bridge) -> None:
    log_group = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/events/x"
    bridge.connect(ALL, log_group)
    bridge.connect(ALL, "arn:aws:lambda:us-east-1:000000000000:function:f", "r2")
    id = bridge.put({"n": 1})
    [kept] = bridge.engine.broker.outbox.read("logs", None, None, 0, 10)
    assert json.loads(json.loads(kept.document)["input"])["id"] == id
    [attempt] = bridge.engine.broker.outbox.due(10)
    assert json.loads(attempt.body)["id"] == id
    bridge.remove_targets("r2", "t")
    bridge.put()
    assert bridge.engine.broker.outbox.due(10) == []


# other buses


def test_a_rule_sends_events_on_to_another_bus(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.create_bus("b", OTHER_REGION)
    bridge.connect(ALL, bus_arn("b", OTHER_REGION))
    bridge.connect({"region": ["us-east-1"]}, queue, bus="b", world=OTHER_REGION)
    id = bridge.put({"n": 1})
    [event] = bridge.received(queue)
    assert (event["id"], event["account"], event["region"]) == (id, WORLD.account, WORLD.region)


def test_another_accounts_bus_must_let_the_rule_in(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.create_bus("b", OTHER_ACCOUNT)
    bury(bridge, bus_arn("b", OTHER_ACCOUNT))
    bridge.connect({"account": [WORLD.account]}, queue, bus="b", world=OTHER_ACCOUNT)
    bridge.put({"n": 0})
    assert bridge.details(queue) == [{"n": 0}]
    for name in ("q", "letters"):
        open_to_rules(bridge.engine, bridge.engine.find(name))
    bridge.events.enforce_policies()
    bridge.put()
    [(_, why)] = letters(bridge)
    assert why["ERROR_CODE"] == "NO_PERMISSIONS"
    permission = {"Action": "events:PutEvents", "Principal": WORLD.account, "StatementId": "one"}
    bridge.buses.put_permission(OTHER_ACCOUNT, {"EventBusName": "b", **permission})
    bridge.put({"n": 1})
    assert bridge.details(queue) == [{"n": 1}]
    condition = {"ArnEquals": {"aws:SourceArn": rule_arn("other")}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "events:PutEvents", "Condition": condition}
    policy = json.dumps({"Statement": statement})
    bridge.buses.put_permission(OTHER_ACCOUNT, {"EventBusName": "b", "Policy": policy})
    bridge.put({"n": 2})
    assert bridge.details(queue) == []


def test_events_travel_between_buses_once(bridge: Bridge) -> None:
    """default -> a -> b, and -> another region, and another account."""
    engine = bridge.engine
    engine.create("letters")
    queue = engine.create("q")
    for name in ("a", "b"):
        bridge.create_bus(name)
        bridge.connect(ALL, queue, "seen", name)
    bridge.connect(ALL, bus_arn("a"))
    letter = {"DeadLetterConfig": {"Arn": queue_arn(WORLD, "letters")}}
    worlds = {"THIRD_ACCOUNT_HOP_DETECTED": OTHER_ACCOUNT, "THIRD_REGION_HOP_DETECTED": OTHER_REGION}
    bridge.put_rule("on", ALL, "a")
    bridge.put_targets(
        "on",
        {"Id": "b", "Arn": bus_arn("b"), **letter},
        *({"Id": code, "Arn": bus_arn("default", world), **letter} for code, world in worlds.items()),
        bus="a",
    )
    bridge.put()
    assert len(bridge.received(queue)) == 1  # on a
    assert sorted(why["ERROR_CODE"] for _, why in letters(bridge)) == sorted(worlds)
    counts = bridge.rule("on", "a").counts
    assert counts == {
        "TriggeredRules": 1,
        "DeadLetterInvocations": 1,
        "Invocations": 2,
        "FailedInvocations": 2,
        "InvocationsSentToDlq": 2,
    }
    bridge.put(bus="a")
    assert [bus for bus in (1, 2) if bridge.received(queue)] == [1]


def test_loops_of_rules_end(bridge: Bridge, queue: Queue) -> None:
    bridge.create_bus("b")
    bridge.connect(ALL, bus_arn("default"), "self")
    bridge.connect(ALL, bus_arn("b"), "there")
    bridge.connect(ALL, bus_arn("default"), "back", bus="b")
    bridge.connect(ALL, queue, "seen", bus="b")
    bridge.put({"n": 1})
    assert bridge.details(queue) == [{"n": 1}, {"n": 1}]
    assert bridge.rule("self").counts["DeadLetterInvocations"] == 1
    assert bridge.rule("back", "b").counts["DeadLetterInvocations"] == 1


def test_archives_are_given_events(bridge: Bridge) -> None:
    bridge.events.archives.create(WORLD, {"ArchiveName": "a", "EventSourceArn": bus_arn("default")})
    bridge.put()
    assert bridge.events.archives.describe(WORLD, "a")["EventCount"] == 1
