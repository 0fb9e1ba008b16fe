"""The outbox: what leaves when, what is tried again, what ends in a dead-letter queue, after restarts too.

The postman stands for the driver and the network: it takes what is due, notes the moment, and reports what its script
says came of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.delivery import (
    DELIVERED,
    FAILED,
    FAILED_TO_REDRIVE,
    HTTP,
    LAMBDA,
    REDRIVEN,
    Attempt,
    Ended,
    NewDelivery,
    Outcome,
    http_headers,
)
from broker.delivery_policy import (
    DEFAULT_HTTP_POLICY,
    EXPONENTIAL,
    FUNCTION_ERROR,
    LAMBDA_POLICY,
    LINEAR,
    REFUSED,
    THROTTLED,
    UNAVAILABLE,
    DeliveryPolicy,
    HttpPolicy,
    Phases,
)
from broker.errors import BrokerFailure
from broker.names import World
from engine.support import WORLD, Engine

NewEngine = Callable[..., Engine]

SUBSCRIPTION = "arn:aws:sns:us-east-1:000000000000:t:1"
OK = Outcome(None)
DOWN = Outcome(UNAVAILABLE, "HTTP 503")
GONE = Outcome(REFUSED, "HTTP 404")


class Postman:
    """`script` is by target: the outcome of each attempt in turn, the last one for good; None never reports."""

    def __init__(self, engine: Engine, script: dict[str, list[Outcome | None]]) -> None:
        self.engine = engine
        self.script = script
        self.account: list[tuple[float, str, int]] = []  # seconds since the start, target, number
        self.unreported: list[Attempt] = []
        self.ended: list[Ended] = []
        self.began_ms = engine.clock.now_ms()
        self.listen()

    def listen(self) -> None:
        outbox = self.engine.broker.outbox
        outbox.wake = lambda: self.engine.clock.soon(self._take) and None
        outbox.ended.append(self.ended.append)
        outbox.wake()

    def _take(self) -> None:
        broker = self.engine.broker
        claimed: list[Attempt] = []
        broker.commit.run(lambda: claimed.extend(broker.outbox.due(100)))

        def committed(failure: BrokerFailure | None) -> None:
            if failure is None:
                for attempt in claimed:
                    self._deliver(attempt)

        broker.commit.then(committed)

    def _deliver(self, attempt: Attempt) -> None:
        self.account.append(
            ((self.engine.clock.now_ms() - self.began_ms) / 1000, attempt.target, attempt.number),
        )
        outcomes = self.script[attempt.target]
        outcome = outcomes[min(attempt.number, len(outcomes)) - 1]
        if outcome is None:
            self.unreported.append(attempt)
        else:
            broker = self.engine.broker
            self.engine.clock.soon(lambda: broker.commit.run(broker.outbox.report, attempt, outcome))

    def times(self, target: str) -> list[float]:
        return [when for when, to, _ in self.account if to == target]

    def results(self) -> list[tuple[str, int, str]]:
        return [(ended.result, ended.attempts, ended.reason) for ended in self.ended]


def put(
    engine: Engine,
    target: str = "http://x/",
    policy: DeliveryPolicy = DEFAULT_HTTP_POLICY,
    owner: str = SUBSCRIPTION,
    dead_letter_arn: str | None = None,
    body: str = "hello",
) -> None:
    channel = LAMBDA if policy == LAMBDA_POLICY else HTTP
    engine.broker.outbox.put([NewDelivery(channel, owner, target, {"A": "b"}, body, policy, dead_letter_arn, body)])


# leaving --------------------------------------------------------------------------------------------


def test_a_delivery_leaves_once_its_transaction_is_committed(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [OK]})
    put(engine)
    assert postman.account == []
    engine.settle()
    assert postman.account == [(0, "http://x/", 1)]
    assert postman.results() == [(DELIVERED, 1, "")]
    engine.advance(3600)
    assert len(postman.account) == 1


def test_nothing_leaves_of_a_transaction_that_did_not_happen(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [OK]})
    engine.settle()
    put(engine)
    engine.broker.commit.abort(BrokerFailure("the disk is full"))
    engine.advance(3600)
    assert postman.account == []


def test_an_attempt_is_what_was_put(engine: Engine) -> None:
    put(engine, "http://x/", body='{"a": "ü"}')
    engine.settle()
    (attempt,) = engine.broker.outbox.due(10)
    assert attempt == Attempt(
        attempt.id, 1, HTTP, SUBSCRIPTION, "http://x/", {"A": "b"}, '{"a": "ü"}', DEFAULT_HTTP_POLICY
    )


def test_no_more_are_claimed_than_asked_for_and_none_twice(engine: Engine) -> None:
    for number in range(5):
        put(engine, f"http://{number}/")
    engine.settle()
    outbox = engine.broker.outbox
    claimed = [outbox.due(2), outbox.due(2), outbox.due(2), outbox.due(2)]
    assert [[attempt.target for attempt in part] for part in claimed] == [
        ["http://0/", "http://1/"],
        ["http://2/", "http://3/"],
        ["http://4/"],
        [],
    ]


# trying again ---------------------------------------------------------------------------------------


def test_without_a_policy_four_attempts_twenty_seconds_apart(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [DOWN]})
    put(engine)
    engine.advance(59.999)
    assert postman.times("http://x/") == [0, 20, 40]
    assert postman.results() == []
    engine.advance(3600)
    assert postman.times("http://x/") == [0, 20, 40, 60]
    assert postman.results() == [(FAILED, 4, "HTTP 503")]


def test_every_phase_at_its_moment(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [DOWN]})
    put(engine, policy=HttpPolicy(Phases(2_000, 9_000, 2, 2, 3, 2, LINEAR)))
    engine.advance(3600)
    assert postman.times("http://x/") == [0, 0, 0, 2, 4, 6, 11.5, 20.5, 29.5, 38.5]
    assert postman.results() == [(FAILED, 10, "HTTP 503")]


def test_what_succeeds_in_the_end_is_delivered(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [DOWN, DOWN, OK]})
    put(engine)
    engine.advance(3600)
    assert postman.times("http://x/") == [0, 20, 40]
    assert postman.results() == [(DELIVERED, 3, "")]


def test_a_functions_failures_count_by_kind(engine: Engine) -> None:
    error, busy = Outcome(FUNCTION_ERROR, "Unhandled"), Outcome(THROTTLED, "HTTP 429")
    postman = Postman(engine, {"f": [busy, error, busy, DOWN, error, error]})
    put(engine, "f", LAMBDA_POLICY, dead_letter_arn=engine.create("dead").arn)
    engine.advance(3600)
    assert postman.times("f") == [0, 1, 61, 63, 63, 183]
    assert postman.results() == [(FAILED, 6, "Unhandled")]  # Lambda had it: SNS's part was done


outcomes = st.sampled_from([OK, DOWN, GONE])
policies = st.builds(
    lambda low, more, immediate, pre, backoff, post: HttpPolicy(
        Phases(low, low + more, immediate, pre, backoff, post, EXPONENTIAL)
    ),
    st.integers(1_000, 30_000),
    st.integers(0, 60_000),
    *[st.integers(0, 3)] * 4,
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(policies, st.lists(outcomes, min_size=1, max_size=8)), min_size=1, max_size=6),
    st.lists(st.integers(0, 120_000), max_size=4),
)
def test_the_account_of_many_deliveries_is_that_of_each_alone(
    deliveries: list[tuple[HttpPolicy, list[Outcome | None]]], restarts_after_ms: list[int]
) -> None:
    """Whatever the others do, and however often the broker begins anew."""
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory))
        names = [f"http://{number}/" for number in range(len(deliveries))]
        postman = Postman(engine, {name: script for name, (_, script) in zip(names, deliveries, strict=True)})
        for name, (policy, _) in zip(names, deliveries, strict=True):
            put(engine, name, policy)
        for pause_ms in restarts_after_ms:
            engine.clock.advance(pause_ms)
            engine.restart()
            postman.listen()
        engine.advance(4 * 3_600)
        for name, (policy, script) in zip(names, deliveries, strict=True):
            naive, now_ms, failures = [], 0, 0
            while True:
                naive.append(now_ms / 1000)
                outcome = script[min(len(naive), len(script)) - 1]
                assert outcome is not None
                if outcome.kind is None or outcome.kind == REFUSED:
                    break
                failures += 1
                delay_ms = policy.phases.delay_ms(failures)
                if delay_ms is None:
                    break
                now_ms += delay_ms
            assert postman.times(name) == naive
        assert len(postman.ended) == len(deliveries)
        assert engine.store.deliveries.next_delivery_ms() is None
        engine.close()


# dead letters ---------------------------------------------------------------------------------------


def test_what_is_given_up_goes_to_its_dead_letter_queue(engine: Engine) -> None:
    dead = engine.create("dead")
    postman = Postman(engine, {"http://gone/": [GONE], "http://down/": [DOWN]})
    for target in postman.script:
        put(engine, target, dead_letter_arn=dead.arn, body=target)
    engine.advance(0)
    assert [message.body for message in engine.listing(dead)] == ["http://gone/"]
    engine.advance(60)
    assert [message.body for message in engine.listing(dead)] == ["http://gone/", "http://down/"]
    assert postman.results() == [(REDRIVEN, 1, "HTTP 404"), (REDRIVEN, 4, "HTTP 503")]


def test_a_raw_messages_attributes_go_with_it(engine: Engine) -> None:
    dead = engine.create("dead")
    Postman(engine, {"http://x/": [GONE]})
    attributes = {
        "n": {"DataType": "Number", "StringValue": "1"},
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    engine.broker.outbox.put(
        [NewDelivery(HTTP, SUBSCRIPTION, "http://x/", {}, "raw", DEFAULT_HTTP_POLICY, dead.arn, "raw", attributes)]
    )
    engine.advance(0)
    (message,) = engine.receive(dead)
    assert json.loads(message.attributes or "") == {
        "n": {"DataType": "Number", "StringValue": "1"},
        "b": {"DataType": "Binary", "BinaryValue": "AP8="},
    }
    assert message.sender_id == "AIDAIT2UOQQY3AUEKVGXU"


def test_a_dead_letter_queue_that_cannot_take_it(engine: Engine) -> None:
    tiny, fifo = engine.create("tiny", MaximumMessageSize="1024"), engine.create("q.fifo")
    postman = Postman(engine, {"http://x/": [GONE]})
    for arn in ("arn:aws:sqs:us-east-1:000000000000:missing", tiny.arn, fifo.arn):
        put(engine, dead_letter_arn=arn, body="x" * 1025)
    engine.advance(0)
    assert postman.results() == [(FAILED_TO_REDRIVE, 1, "HTTP 404")] * 3
    assert engine.counts(tiny) == engine.counts(fifo) == (0, 0, 0)


# maxReceivesPerSecond -------------------------------------------------------------------------------


def test_a_rate_spreads_an_owners_attempts(engine: Engine) -> None:
    slow = HttpPolicy(max_receives_per_s=2)
    postman = Postman(engine, {"http://slow/": [OK], "http://quick/": [OK]})
    for _ in range(5):
        put(engine, "http://slow/", slow)
        put(engine, "http://quick/", owner=SUBSCRIPTION + "2")
    engine.advance(60)
    assert postman.times("http://slow/") == [0, 0.5, 1, 1.5, 2]
    assert postman.times("http://quick/") == [0] * 5
    put(engine, "http://slow/", slow)
    engine.advance(0)
    assert postman.times("http://slow/")[5:] == [62 - 2]


def test_retries_count_against_the_rate_and_do_not_hold_up_others(engine: Engine) -> None:
    slow = HttpPolicy(Phases(10_000, 10_000, 0, 0, 1, 0), max_receives_per_s=1)
    postman = Postman(engine, {"http://down/": [DOWN], "http://up/": [OK]})
    put(engine, "http://down/", slow)
    put(engine, "http://down/", slow)
    put(engine, "http://up/", slow)
    engine.advance(60)
    assert postman.times("http://up/") == [2]
    assert postman.times("http://down/") == [0, 1, 10, 11]


def test_a_rate_holds_across_a_restart(on_disk: Engine) -> None:
    slow = HttpPolicy(max_receives_per_s=1)
    postman = Postman(on_disk, {"http://x/": [OK]})
    for _ in range(4):
        put(on_disk, policy=slow)
    on_disk.advance(1)
    on_disk.restart()
    postman.listen()
    put(on_disk, policy=slow)
    on_disk.advance(60)
    assert postman.times("http://x/") == [0, 1, 2, 3, 4]


# restarts, leases, owners that go -------------------------------------------------------------------


def test_retries_are_kept_across_a_restart(on_disk: Engine) -> None:
    postman = Postman(on_disk, {"http://x/": [DOWN, DOWN, OK]})
    put(on_disk)
    on_disk.advance(5)
    on_disk.restart()
    postman.listen()
    on_disk.advance(60)
    assert postman.account == [(0, "http://x/", 1), (20, "http://x/", 2), (40, "http://x/", 3)]


def test_what_was_under_way_when_the_process_ended_is_tried_at_once(on_disk: Engine) -> None:
    postman = Postman(on_disk, {"http://x/": [None, OK]})
    put(on_disk)
    on_disk.advance(5)
    assert postman.account == [(0, "http://x/", 1)]
    on_disk.restart()
    postman.listen()
    on_disk.advance(0)
    assert postman.account[1:] == [(5, "http://x/", 2)]
    assert postman.results() == [(DELIVERED, 2, "")]


def test_an_outcome_that_never_comes_is_not_waited_for_for_ever(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [None, DOWN, OK]})
    put(engine)
    engine.advance(90)
    assert postman.times("http://x/") == [0, 75]  # 15 s to answer, and the lease of a minute
    engine.broker.outbox.report(postman.unreported[0], OK)  # too late: it has been claimed again since
    engine.advance(60)
    assert postman.times("http://x/") == [0, 75, 95]
    assert postman.results() == [(DELIVERED, 3, "")]


def test_what_waits_goes_with_its_owner(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [DOWN], "http://y/": [DOWN, OK]})
    put(engine, "http://x/")
    put(engine, "http://y/", owner=SUBSCRIPTION + "2")
    engine.advance(10)
    engine.broker.outbox.drop(SUBSCRIPTION)
    engine.advance(60)
    assert postman.account == [(0, "http://x/", 1), (0, "http://y/", 1), (20, "http://y/", 2)]
    assert postman.results() == [(DELIVERED, 2, "")]


def test_an_outcome_for_an_owner_that_has_gone_is_nobodys(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [None]})
    put(engine)
    engine.advance(0)
    engine.broker.outbox.drop(SUBSCRIPTION)
    put(engine, "http://y/", owner=SUBSCRIPTION)
    postman.script["http://y/"] = [OK]
    engine.broker.outbox.report(postman.unreported[0], GONE)
    engine.advance(0)
    assert postman.results() == [(DELIVERED, 1, "")]


def test_a_disk_that_is_full_for_a_while_loses_nothing(on_disk: Engine) -> None:
    postman = Postman(on_disk, {"http://x/": [OK]})
    put(on_disk)
    on_disk.broker.commit.flush()
    on_disk.broker.outbox.due(1)
    on_disk.broker.commit.abort(BrokerFailure("the disk is full"))  # the claim did not happen
    on_disk.advance(60)
    assert [(number, to) for _, to, number in postman.account] == [(1, "http://x/")]


def test_reset_takes_an_accounts_deliveries_away(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [DOWN], "http://y/": [DOWN, OK]})
    put(engine, "http://x/")
    put(engine, "http://y/", owner="arn:aws:sns:us-east-1:111111111111:t:1")
    engine.advance(1)
    engine.broker.outbox.reset("000000000000")
    engine.advance(60)
    assert len(postman.times("http://x/")) == 1
    engine.broker.outbox.reset(None)
    assert engine.store.deliveries.next_delivery_ms() is None


# headers --------------------------------------------------------------------------------------------


def test_the_headers_of_a_notification() -> None:
    policy = HttpPolicy(content_type="application/json")
    assert list(http_headers("Notification", "m", "t", "s", policy).items()) == [
        ("x-amz-sns-message-type", "Notification"),
        ("x-amz-sns-message-id", "m"),
        ("x-amz-sns-topic-arn", "t"),
        ("x-amz-sns-subscription-arn", "s"),
        ("Content-Type", "application/json"),
        ("User-Agent", "Amazon Simple Notification Service Agent"),
    ]
    assert http_headers("Notification", "m", "t", "s", policy, raw=True)["x-amz-sns-rawdelivery"] == "true"


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_the_headers_of_a_confirmation(kind: str) -> None:
    headers = http_headers(kind, "m", "t", "s", HttpPolicy(content_type="application/json"))
    assert headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert ("x-amz-sns-subscription-arn" in headers) is (kind == "UnsubscribeConfirmation")


# what people read -----------------------------------------------------------------------------------


def test_what_would_have_been_sent_can_be_read_and_cleared(on_disk: Engine) -> None:
    other = World("111111111111", "eu-west-1")
    outbox = on_disk.broker.outbox
    outbox.record("sms", WORLD, {"to": "+1", "message": "ü"})
    on_disk.advance(1)
    outbox.record("email", WORLD, {"to": "a@b"})
    outbox.record("sms", other, {"to": "+2"})
    on_disk.restart()
    outbox = on_disk.broker.outbox

    def kept(*which: str | None, after: int = 0, limit: int = 10) -> list[str]:
        channel, account, region = (*which, None, None, None)[:3]
        return [json.loads(r.document)["to"] for r in outbox.read(channel, account, region, after, limit)]

    assert kept() == ["+1", "a@b", "+2"]
    assert kept("sms") == ["+1", "+2"]
    assert kept(None, other.account) == kept(None, None, other.region) == ["+2"]
    first = outbox.read(None, None, None, 0, 1)[0]
    assert (first.channel, first.recorded_ms) == ("sms", on_disk.clock.now_ms() - 1000)
    assert kept(after=first.id, limit=1) == ["a@b"]
    assert outbox.clear("sms", WORLD.account, None) == 1
    assert kept() == ["a@b", "+2"]
    outbox.reset(other.account)
    assert kept() == ["a@b"]


def test_a_directory_that_is_opened_again_keeps_what_is_due(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    put(engine)
    engine.close()
    later = new_engine(tmp_path, now_ms=engine.clock.now_ms() + 86_400_000)
    postman = Postman(later, {"http://x/": [OK]})
    later.advance(0)
    assert postman.account == [(0, "http://x/", 1)]
