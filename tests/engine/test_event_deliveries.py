"""EventBridge's remote targets: what goes into the outbox, every retry to the second, dead letters and what they say.

The postman of test_delivery.py stands for the driver and the network, as there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery import API_DESTINATION, FAILED_TO_REDRIVE, LAMBDA, REDRIVEN, STATE_MACHINE, Outcome
from broker.delivery_policy import FUNCTION_ERROR, REFUSED, THROTTLED, UNAVAILABLE, EventPolicy, read, write
from broker.entropy import Entropy
from broker.event_dead_letters import (
    CONNECTION_FAILURE,
    ERROR_FROM_TARGET,
    EVENTS_SENDER_ID,
    NO_RESOURCE,
    dead_letter_attributes,
)
from broker.queues import messages as queue_messages
from broker.queues.queue import Queue
from broker.store.port import StoredMessage
from engine.support import WORLD, Engine
from engine.test_delivery import Postman

NewEngine = Callable[..., Engine]

RULE = "arn:aws:events:us-east-1:000000000000:rule/placed"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:bill"
MACHINE = "arn:aws:states:us-east-1:000000000000:stateMachine:ship"
EVENT = '{"id":"e-1","source":"order.service","detail":{"order":"42/a","amount":7,"tags":["x"]}}'

OK = Outcome(None)
DOWN = Outcome(UNAVAILABLE, "HTTP 503", ERROR_FROM_TARGET)
GONE = Outcome(REFUSED, "no such function", NO_RESOURCE)


class Bridge:
    """EventBridge of an engine, with one rule `placed`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.make_rule()

    @property
    def events(self) -> Any:
        return self.engine.broker.events

    def make_rule(self) -> None:
        self.events.rules.put(WORLD, {"Name": "placed", "EventPattern": '{"source":["order.service"]}'})

    def target(self, arn: str, id: str = "t", **parameters: Any) -> dict[str, Any]:
        target = {"Id": id, "Arn": arn, "RoleArn": "arn:aws:iam::000000000000:role/r", **parameters}
        self.events.rules.put_targets(WORLD, {"Rule": "placed", "Targets": [target]})
        return target

    def send(self, target: dict[str, Any], body: str = EVENT) -> str | None:
        return self.events.remote.send(RULE, target, body, EVENT)  # type: ignore[no-any-return]

    def destination(self, name: str = "api", **parameters: Any) -> str:
        """The ARN of an API destination on a connection by key."""
        connections = self.events.connections
        if (WORLD, "c") not in self.events.registry.items("connection"):
            key = {"ApiKeyName": "X-Key", "ApiKeyValue": "secret"}
            given = {"Name": "c", "AuthorizationType": "API_KEY", "AuthParameters": {"ApiKeyAuthParameters": key}}
            connections.create(WORLD, given)
        given = {"Name": name, "InvocationEndpoint": "https://api.example/", "HttpMethod": "POST", **parameters}
        given["ConnectionArn"] = connections.describe(WORLD, {"Name": "c"})["ConnectionArn"]
        return self.events.api_destinations.create(WORLD, given)["ApiDestinationArn"]  # type: ignore[no-any-return]

    @property
    def counts(self) -> Counter[str]:
        return self.events.registry.bus(WORLD, "default").rules["placed"].counts  # type: ignore[no-any-return]


@pytest.fixture
def bridge(engine: Engine) -> Bridge:
    return Bridge(engine)


def letter(message: StoredMessage) -> dict[str, str]:
    attributes = queue_messages.load_attributes(message.attributes or "{}")
    return {name: attribute["StringValue"] for name, attribute in attributes.items()}


def letters(bridge: Bridge, queue: Queue) -> list[dict[str, str]]:
    return [letter(message) for message in bridge.engine.listing(queue)]


# what is put in -------------------------------------------------------------------------------------


def test_each_kind_of_target_by_its_channel(bridge: Bridge) -> None:
    destination = bridge.destination()
    for id, arn in (("f", FUNCTION), ("s", MACHINE), ("d", destination)):
        assert bridge.send(bridge.target(arn, id), id) is None
    attempts = bridge.engine.broker.outbox.due(10)
    assert [(a.channel, a.target, a.body, a.policy.timeout_ms) for a in attempts] == [
        (LAMBDA, FUNCTION, "f", 900_000),
        (STATE_MACHINE, MACHINE, "s", 15_000),
        (API_DESTINATION, destination, "d", 5_000),
    ]
    assert [a.owner for a in attempts] == [f"{RULE}#f", f"{RULE}#s", f"{RULE}#d"]
    assert len(attempts[1].headers["name"]) == 36


def test_what_nobody_can_deliver_is_for_people_to_read(bridge: Bridge) -> None:
    group = "arn:aws:logs:us-east-1:000000000000:log-group:orders"
    assert bridge.send(bridge.target(group), "text") is None
    (record,) = bridge.engine.broker.outbox.read("logs", WORLD.account, WORLD.region, 0, 10)
    assert json.loads(record.document) == {
        "rule_arn": RULE,
        "target_id": "t",
        "target_arn": group,
        "input": "text",
    }
    assert bridge.counts["Invocations"] == 1


def test_a_missing_api_destination_is_the_callers_to_bury(bridge: Bridge) -> None:
    missing = "arn:aws:events:us-east-1:000000000000:api-destination/x/0b9c5f0e-0000-4000-8000-000000000000"
    assert bridge.send({"Id": "t", "Arn": missing}) == NO_RESOURCE
    assert bridge.engine.broker.outbox.due(10) == []
    remade = bridge.destination("again")
    bridge.events.api_destinations.delete(WORLD, {"Name": "again"})
    assert bridge.send({"Id": "t", "Arn": remade}) == NO_RESOURCE
    bridge.destination("again")  # of the same name, and another
    assert bridge.send({"Id": "t", "Arn": remade}) == NO_RESOURCE


def test_dynamic_parameters_are_the_events(bridge: Bridge) -> None:
    parameters = {
        "HeaderParameters": {"X-Amount": "$.detail.amount", "X-None": "$.detail.none", "X-Plain": "$ 5"},
        "QueryStringParameters": {"tags": "$.detail.tags", "part": "is $.detail.amount"},
        "PathParameterValues": ["$.detail.order", "$.none", "fixed"],
    }
    bridge.send(bridge.target(bridge.destination(), HttpParameters=parameters), "another body")
    (attempt,) = bridge.engine.broker.outbox.due(10)
    assert attempt.headers == {
        "HeaderParameters": {"X-Amount": "7", "X-Plain": "$ 5"},
        "QueryStringParameters": {"tags": '["x"]', "part": "is $.detail.amount"},
        "PathParameterValues": ["42/a", "", "fixed"],
    }


def test_an_event_on_the_bus_gets_there(bridge: Bridge) -> None:
    postman = Postman(bridge.engine, {FUNCTION: [OK]})
    bridge.target(FUNCTION)
    entry = {"Source": "order.service", "DetailType": "Order Placed", "Detail": "{}"}
    bridge.events.publisher.put_events(WORLD, {"Entries": [entry]})
    bridge.engine.advance(0)
    assert postman.times(FUNCTION) == [0]
    assert bridge.counts["Invocations"] == 1
    assert "FailedInvocations" not in bridge.counts


# trying again ---------------------------------------------------------------------------------------


def nominal_s(retry: int) -> int:
    """Guessed from AWS's two figures: doubling from a second to eight minutes."""
    return min(2 ** (retry - 1), 480)


def test_every_retry_of_a_target_that_is_down_for_a_day(bridge: Bridge) -> None:
    engine = bridge.engine
    engine.broker.outbox._entropy = Entropy(7)
    dead = engine.create("dead")
    postman = Postman(engine, {FUNCTION: [DOWN]})
    bridge.send(bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}))
    engine.advance(86_400)

    chance, expected_ms = Entropy(7), [0]
    for retry in range(1, 186):
        delay_ms = nominal_s(retry) * 1000
        expected_ms.append(expected_ms[-1] + delay_ms - int(delay_ms * 0.1 * (chance.bits(32) / (1 << 32))))
    assert [round(when * 1000) for when in postman.times(FUNCTION)] == expected_ms
    assert 20 * 3_600 < expected_ms[-1] / 1000 < 86_400
    assert postman.results() == [(REDRIVEN, 186, "HTTP 503")]
    (message,) = engine.listing(dead)
    assert (message.body, message.sender_id) == (EVENT, EVENTS_SENDER_ID)
    assert letter(message) == {
        "RULE_ARN": RULE,
        "TARGET_ARN": FUNCTION,
        "ERROR_CODE": "ERROR_FROM_TARGET",
        "ERROR_MESSAGE": "HTTP 503",
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
        "RETRY_ATTEMPTS": "185",
    }
    assert bridge.counts == Counter(
        Invocations=1, FailedInvocations=1, RetryInvocationAttempts=185, InvocationsSentToDlq=1
    )


def test_the_age_of_an_event_ends_it_too(bridge: Bridge) -> None:
    dead = bridge.engine.create("dead")
    postman = Postman(bridge.engine, {FUNCTION: [DOWN]})
    target = bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}, RetryPolicy={"MaximumEventAgeInSeconds": 100})
    bridge.send(target)
    bridge.engine.advance(3_600)
    # After 1, 2, 4, 8, 16 and 32 seconds, or a little less; 64 more are too many.
    assert len(postman.times(FUNCTION)) == 7
    assert 56 < postman.times(FUNCTION)[-1] <= 63
    (found,) = letters(bridge, dead)
    assert (found["EXHAUSTED_RETRY_CONDITION"], found["RETRY_ATTEMPTS"]) == ("MaximumEventAgeInSeconds", "6")


def test_no_retries_where_none_are_wanted(bridge: Bridge) -> None:
    dead = bridge.engine.create("dead")
    postman = Postman(bridge.engine, {FUNCTION: [DOWN]})
    target = bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}, RetryPolicy={"MaximumRetryAttempts": 0})
    bridge.send(target)
    bridge.engine.advance(60)
    assert postman.times(FUNCTION) == [0]
    (found,) = letters(bridge, dead)
    assert (found["EXHAUSTED_RETRY_CONDITION"], found["RETRY_ATTEMPTS"]) == ("MaximumRetryAttempts", "0")


def test_what_no_retry_can_help_is_buried_at_once(bridge: Bridge) -> None:
    dead = bridge.engine.create("dead")
    postman = Postman(bridge.engine, {FUNCTION: [DOWN, GONE]})
    bridge.send(bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}))
    bridge.engine.advance(3_600)
    assert len(postman.times(FUNCTION)) == 2
    (found,) = letters(bridge, dead)
    assert "EXHAUSTED_RETRY_CONDITION" not in found
    assert (found["ERROR_CODE"], found["RETRY_ATTEMPTS"]) == ("NO_RESOURCE", "1")


def test_a_functions_own_failures_are_lambdas(bridge: Bridge) -> None:
    """EventBridge has handed the event over: neither its policy nor its dead-letter queue has to do with it."""
    dead = bridge.engine.create("dead")
    postman = Postman(bridge.engine, {FUNCTION: [Outcome(FUNCTION_ERROR), Outcome(THROTTLED), Outcome(FUNCTION_ERROR)]})
    target = bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}, RetryPolicy={"MaximumRetryAttempts": 0})
    bridge.send(target)
    bridge.engine.advance(3_600)
    assert postman.times(FUNCTION) == [0, 60, 61, 181]
    assert bridge.engine.listing(dead) == []


def test_an_endpoint_may_ask_for_more_patience_and_not_for_less(bridge: Bridge) -> None:
    arn = bridge.destination()
    waits = [Outcome(UNAVAILABLE, "HTTP 429", retry_after_ms=ms) for ms in (60_000, 100, 90_000_000)]
    dead = bridge.engine.create("dead")
    postman = Postman(bridge.engine, {arn: list(waits)})
    bridge.send(bridge.target(arn, DeadLetterConfig={"Arn": dead.arn}))
    bridge.engine.advance(86_400)
    first, second, third = postman.times(arn)
    assert (first, second) == (0, 60)
    assert 1.8 <= third - second <= 2
    (found,) = letters(bridge, dead)
    assert found["EXHAUSTED_RETRY_CONDITION"] == "MaximumEventAgeInSeconds"


def test_retries_go_on_after_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    bridge = Bridge(engine)
    postman = Postman(engine, {FUNCTION: [DOWN, DOWN, DOWN, OK]})
    bridge.send(bridge.target(FUNCTION))
    engine.advance(2)
    assert len(postman.times(FUNCTION)) == 2
    engine.restart(after_s=100)
    postman.listen()
    engine.advance(10)
    assert [number for _, _, number in postman.account] == [1, 2, 3, 4]
    assert bridge.counts == Counter(Invocations=1, RetryInvocationAttempts=3)


@given(st.integers(0, 185), st.integers(60, 86_400), st.integers(1, 190), st.integers(0, 86_400_000))
def test_a_delay_is_within_its_bounds(retries: int, age_s: int, count: int, age_ms: int) -> None:
    policy = EventPolicy(retries, age_s)
    assert read(write(policy)) == policy
    least, most = (policy.delay_ms(UNAVAILABLE, count, age_ms, 0, lambda chance=chance: chance) for chance in (1, 0))
    nominal_ms = nominal_s(count) * 1000
    if most is not None:
        assert count <= retries
        assert age_ms + most <= age_s * 1000
        assert most == nominal_ms
        assert least == nominal_ms - nominal_ms // 10
    elif count <= retries:
        assert age_ms + nominal_ms > age_s * 1000
    assert policy.delay_ms(REFUSED, count, age_ms) is None


# going away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["target", "rule"])
def test_what_waits_goes_with_its_target_and_with_its_rule(bridge: Bridge, what: str) -> None:
    other = FUNCTION + "2"
    postman = Postman(bridge.engine, {FUNCTION: [DOWN], other: [DOWN]})
    targets = [bridge.target(FUNCTION, "a"), bridge.target(other, "b")]
    for target in targets:
        bridge.send(target)
    bridge.engine.advance(0)
    rules = bridge.events.rules
    rules.remove_targets(WORLD, {"Rule": "placed", "Ids": ["a"] if what == "target" else ["a", "b"]})
    if what == "rule":
        for target in targets:
            bridge.send(target)
        rules.put_targets(WORLD, {"Rule": "placed", "Targets": targets})
        rules.remove_targets(WORLD, {"Rule": "placed", "Ids": ["a", "b"]})
        rules.delete(WORLD, {"Name": "placed"})
    bridge.engine.advance(10)
    assert len(postman.times(FUNCTION)) == 1
    assert len(postman.times(other)) == (1 if what == "rule" else 4)


def test_a_bus_that_goes_takes_its_rules_deliveries(bridge: Bridge) -> None:
    bridge.target(FUNCTION)
    bridge.send({"Id": "t", "Arn": FUNCTION})
    bridge.engine.broker.events.registry.remove_rule(bridge.events.registry.bus(WORLD, "default").rules["placed"])
    assert bridge.engine.broker.outbox.due(10) == []


# dead-letter queues ---------------------------------------------------------------------------------


def policy_for(queue_arn: str, rule_arn: str, service: str = "events.amazonaws.com") -> dict[str, Any]:
    """That of the guide."""
    return {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
            }
        ]
    }


@pytest.mark.parametrize(
    ("rule_arn", "service", "taken"),
    [
        (RULE, "events.amazonaws.com", True),
        (RULE + "2", "events.amazonaws.com", False),
        (RULE, "sns.amazonaws.com", False),
    ],
)
def test_a_queue_must_let_the_rule_in_where_policies_count(
    bridge: Bridge, rule_arn: str, service: str, taken: bool
) -> None:
    dead = bridge.engine.create("dead")
    bridge.engine.set(dead, Policy=policy_for(dead.arn, rule_arn, service))
    bridge.engine.broker.outbox.enforce_policies = True
    postman = Postman(bridge.engine, {FUNCTION: [GONE]})
    bridge.send(bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}))
    bridge.engine.advance(0)
    assert [result for result, _, _ in postman.results()] == [REDRIVEN if taken else FAILED_TO_REDRIVE]
    assert len(bridge.engine.listing(dead)) == taken
    metric = "InvocationsSentToDlq" if taken else "InvocationsFailedToBeSentToDlq"
    assert bridge.counts == Counter({"Invocations": 1, "FailedInvocations": 1, metric: 1})


def test_a_dead_letter_is_the_whole_event_whatever_the_target_was_to_get(bridge: Bridge) -> None:
    dead = bridge.engine.create("dead")
    Postman(bridge.engine, {FUNCTION: [GONE]})
    bridge.send(bridge.target(FUNCTION, DeadLetterConfig={"Arn": dead.arn}), '"only this"')
    bridge.engine.advance(0)
    assert [message.body for message in bridge.engine.listing(dead)] == [EVENT]


@given(st.text(max_size=2_000), st.text(max_size=20))
def test_attributes_can_be_sent_whatever_a_target_answers(message: str, code: str) -> None:
    attributes = dead_letter_attributes(RULE, FUNCTION, code.strip() and CONNECTION_FAILURE, message)
    queue_messages.check_attributes(attributes)


# rates ----------------------------------------------------------------------------------------------


def test_all_rules_share_an_api_destinations_rate(bridge: Bridge) -> None:
    slow, quick = bridge.destination("slow", InvocationRateLimitPerSecond=4), bridge.destination("quick")
    postman = Postman(bridge.engine, {slow: [OK], quick: [OK]})
    for number in range(6):
        owner = {"Id": f"t{number % 2}", "Arn": slow}
        assert bridge.events.remote.send(f"{RULE}{number % 3}", owner, "", EVENT) is None
        bridge.send({"Id": "q", "Arn": quick})
    bridge.engine.advance(60)
    assert postman.times(slow) == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert postman.times(quick) == [0] * 6


def test_a_changed_rate_is_that_of_what_comes_due_from_then_on(bridge: Bridge) -> None:
    arn = bridge.destination("api", InvocationRateLimitPerSecond=1)
    postman = Postman(bridge.engine, {arn: [OK]})
    for _ in range(2):
        bridge.send({"Id": "t", "Arn": arn})
    bridge.engine.advance(5)
    bridge.events.api_destinations.update(WORLD, {"Name": "api", "InvocationRateLimitPerSecond": 10})
    for _ in range(3):
        bridge.send({"Id": "t", "Arn": arn})
    bridge.engine.advance(5)
    assert postman.times(arn) == [0, 1, 5, 5.1, 5.2]


def test_a_shared_rate_holds_across_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    bridge = Bridge(engine)
    arn = bridge.destination(InvocationRateLimitPerSecond=1)
    postman = Postman(engine, {arn: [OK]})
    for number in range(5):
        bridge.send({"Id": f"t{number}", "Arn": arn})
    engine.advance(1.5)
    engine.restart()
    postman.listen()
    bridge.send({"Id": "late", "Arn": arn})
    engine.advance(60)
    times = postman.times(arn)
    assert len(times) == 6
    assert times[:2] == [0, 1]
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


def test_what_waits_too_long_for_its_turn_is_buried(bridge: Bridge) -> None:
    """Guide: "events may not be delivered within the 24 hour retry time"."""
    dead = bridge.engine.create("dead")
    arn = bridge.destination(InvocationRateLimitPerSecond=1)
    postman = Postman(bridge.engine, {arn: [OK]})
    target = bridge.target(arn, DeadLetterConfig={"Arn": dead.arn}, RetryPolicy={"MaximumEventAgeInSeconds": 60})
    for _ in range(100):
        bridge.send(target)
    bridge.engine.advance(3_600)
    assert postman.times(arn) == list(range(61))
    found = letters(bridge, dead)
    assert len(found) == 39
    assert {f["EXHAUSTED_RETRY_CONDITION"] for f in found} == {"MaximumEventAgeInSeconds"}
    assert {f["RETRY_ATTEMPTS"] for f in found} == {"0"}
