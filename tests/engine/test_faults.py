"""The fault plan: which rule strikes when, against a naive model; seeds that replay; appointments; distributions."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.clock import ManualClock, iso_8601_ms
from broker.entropy import Entropy
from broker.faults import Faults, Hit, Occasion, PlanError, kinds, latency, profiles
from broker.faults.names import SHAPES, Run, can_match, compiled, resource_matcher
from broker.faults.reading import MAX_RULES

ACCOUNT = "111122223333"
OPERATIONS = {
    "sqs": {
        *("SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"),
        *("ListQueues", "CreateQueue"),
    },
    "sns": {"Publish", "PublishBatch", "ListTopics"},
    "events": {"PutEvents"},
    "kinesis": {"PutRecord", "PutRecords", "GetRecords", "SubscribeToShard"},
    "sts": {"GetCallerIdentity"},
}


def queue(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


def occasion(
    operation: str = "SendMessage",
    name: str = "orders",
    *,
    account: str = ACCOUNT,
    client: str = "AKID Boto3/1",
    content: object = None,
) -> Occasion:
    return Occasion("sqs", operation, queue(name), account, client, None if content is None else lambda: content)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def faults(clock: ManualClock) -> Faults:
    faults = Faults(clock, Entropy(1))
    faults.operations = lambda: OPERATIONS
    return faults


def load(faults: Faults, *rules: Mapping[str, Any], seed: int | str = 1) -> None:
    faults.load({"seed": seed, "rule": list(rules)})


def strikes(faults: Faults, *occasions: Occasion, point: str = "request") -> list[bool]:
    return [faults.hit(point, asked) is not None for asked in occasions]


# Nothing


def test_without_a_plan_no_point_is_looked_at(faults: Faults) -> None:
    assert faults.points == frozenset()
    assert faults.hit("request", occasion()) is None
    assert faults.show() == {"plan": None}


def test_only_the_points_of_rules_that_may_strike_are_looked_at(faults: Faults) -> None:
    load(
        faults,
        {"fault": "throttle", "count": 1},
        {"fault": "late"},
        {"fault": "shard-throttle", "operation": "GetRecords"},
    )
    assert faults.points == {"request", "send", "get-records"}
    assert faults.hit("request", occasion())
    assert faults.points == {"send", "get-records"}
    faults.remove("late")
    assert faults.points == {"get-records"}
    faults.clear()
    assert faults.points == frozenset()


def test_who_asked_to_be_told_is_told_of_every_change(faults: Faults) -> None:
    told: list[frozenset[str]] = []
    faults.changed.append(lambda: told.append(faults.points))
    load(faults, {"fault": "late"})
    faults.add({"fault": "throttle"})
    faults.remove("late")
    faults.clear()
    assert told == [{"send"}, {"send", "request"}, {"request"}, frozenset()]


# Where


def test_where(faults: Faults) -> None:
    load(faults, {"fault": "throttle", "service": "sqs", "operation": ["SendMessage"], "resource": "ord*s"})
    assert strikes(faults, occasion(), occasion("ReceiveMessage"), occasion(name="ordos"), occasion(name="order")) == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("where", "hits", "misses"),
    [
        ({"account": ACCOUNT}, occasion(), occasion(account="999999999999")),
        ({"account": [ACCOUNT]}, occasion(), occasion(account="999999999999")),
        ({"client": "AKID *"}, occasion(), occasion(client="AKIX Boto3/1")),
        ({"client": "*Boto3*"}, occasion(), occasion(client="AKID aws-sdk-go")),
        ({"resource": "arn:aws:sqs:*:orders"}, occasion(), occasion(name="orders-2")),
        ({"resource": "*:orders"}, occasion(), occasion(name="orders-2")),
        ({"resource": "order?"}, occasion(), occasion(name="order")),
        (
            {"message": {"body": {"type": ["order"]}}},
            occasion(content={"body": {"type": "order"}, "attributes": {}}),
            occasion(content={"body": "text", "attributes": {}}),
        ),
        (
            {"message": {"attributes": {"tenant": [{"prefix": "a"}]}}},
            occasion(content=[{"body": "", "attributes": {}}, {"body": "", "attributes": {"tenant": "ab"}}]),
            occasion(content=[{"body": "", "attributes": {"tenant": "b"}}]),
        ),
        ({"message": {"body": ["x"]}}, occasion(content={"body": "x"}), occasion()),
    ],
)
def test_where_a_rule_looks(faults: Faults, where: dict[str, Any], hits: Occasion, misses: Occasion) -> None:
    load(faults, {"fault": "throttle", **where})
    assert strikes(faults, misses, hits, misses) == [False, True, False]
    assert faults.show()["rules"][0]["matched"] == 1


def test_a_hit_tells_which_entries_of_a_batch_matched(faults: Faults) -> None:
    load(faults, {"fault": "partial-batch", "message": {"body": ["bad"]}})
    good, bad = {"body": "good", "attributes": {}}, {"body": "bad", "attributes": {}}
    hit = faults.hit("request", occasion("SendMessageBatch", content=[good, bad]))
    assert hit is not None
    assert (hit.matches(good), hit.matches(bad)) == (False, True)
    faults.clear()
    load(faults, {"fault": "partial-batch"})
    hit = faults.hit("request", occasion("SendMessageBatch", content=[good, bad]))
    assert hit is not None
    assert hit.matches(good)


def test_a_pattern_is_not_read_unless_all_else_fits(faults: Faults) -> None:
    def unread() -> object:
        raise AssertionError

    load(faults, {"fault": "throttle", "resource": "other", "message": {"body": ["x"]}})
    assert faults.hit("request", Occasion("sqs", "SendMessage", queue("orders"), ACCOUNT, "", unread)) is None


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("orders", "arn:aws:kinesis:us-east-1:111122223333:stream/orders", True),
        ("stream", "arn:aws:kinesis:us-east-1:111122223333:stream/orders", False),
        ("s*", "arn:aws:kinesis:us-east-1:111122223333:stream/orders", False),
        ("a*", "arn:aws:kinesis:us-east-1:111122223333:stream/orders", False),
        ("paid", "arn:aws:events:us-east-1:111122223333:rule/shop/paid", True),
        ("shop/paid", "arn:aws:events:us-east-1:111122223333:rule/shop/paid", True),
        ("news", "arn:aws:sns:us-east-1:111122223333:news", True),
        ("news", "arn:aws:sns:us-east-1:111122223333:news:6a7b", True),
        ("resize", "arn:aws:lambda:us-east-1:111122223333:function:resize", True),
        ("http://127.0.0.1:*/hook", "http://127.0.0.1:9000/hook arn:aws:sns:us-east-1:111122223333:news:6a7b", True),
        ("news", "http://127.0.0.1:9000/hook arn:aws:sns:us-east-1:111122223333:news:6a7b", True),
        ("http", "http://127.0.0.1:9000/hook", False),
        ("orders", "", False),
        ("a.b", "arn:aws:kinesis:us-east-1:111122223333:stream/axb", False),
    ],
)
def test_a_resource_goes_by_its_name_or_its_whole_arn(pattern: str, resource: str, matches: bool) -> None:
    assert resource_matcher(pattern)(resource) is matches


@given(st.data())
def test_whatever_a_name_can_be_is_matched_by_a_pattern_that_is_let_through(data: st.DataObject) -> None:
    service = data.draw(st.sampled_from(sorted(SHAPES)))
    shape = data.draw(st.sampled_from(SHAPES[service]))
    name = "".join(
        piece
        if isinstance(piece, str)
        else data.draw(st.text(sorted(piece.characters), min_size=piece.least, max_size=min(piece.most, 6)))
        for piece in shape
    )
    assert can_match(name, service)
    # Parts of it replaced by stars and question marks.
    cuts = sorted(data.draw(st.lists(st.integers(0, len(name)), max_size=4)))
    pattern, at = "", 0
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        pattern += name[at:start] + data.draw(st.sampled_from(["*", "?" * (end - start)]))
        at = end
    pattern += name[at:]
    assert can_match(pattern, service)
    assert can_match(f"arn:aws*:{service}:*:{pattern}", service)


@given(st.text("ab*?", max_size=12), st.text("ab\n", max_size=12))
def test_a_pattern_against_the_plain_expression(pattern: str, name: str) -> None:
    plain = pattern.replace("?", ".").replace("*", ".*")
    assert (compiled(pattern)(name) is not None) == (re.fullmatch(plain, name, re.DOTALL) is not None)


def test_no_pattern_takes_long() -> None:
    text = "a" * 4_000 + " " + "ao" * 4_000
    for pattern in ("*a" * 400 + "b", "* *o*o*o*o*o*Z", "*" * 900 + "q", "*?a?" * 200 + "z"):
        assert compiled(pattern)(text) is None
    for pattern in ("*" * 1_000, "*?" * 500, "a*" * 499 + "!"):
        assert can_match(pattern, "events") is (pattern[-1] != "!")


def test_what_no_queue_can_be_called() -> None:
    for pattern in ("a.b", "*.fifo.fifo", "a b", "x" * 81, "*!*", "arn:aws:sns:*", "arn:aws:sqs:us-east-1:12:*"):
        assert not can_match(pattern, "sqs"), pattern
    for pattern in ("*.fifo", "x" * 75 + ".fifo", "a.*"):
        assert can_match(pattern, "sqs", fifo=True), pattern
        assert not can_match(pattern, "sqs", fifo=False), pattern
    assert not can_match("x" * 76 + ".fifo", "sqs")
    assert can_match("*fifo", "sqs", fifo=False)
    assert isinstance(SHAPES["sqs"][0][0], Run)


# How often


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {"fault": "throttle"}
    if draw(st.booleans()):
        rule["resource"] = draw(st.sampled_from(["a", "b", "*", "a*"]))
    if draw(st.booleans()):
        rule["every"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        rule["probability"] = draw(st.sampled_from([0.1, 0.5, 0.9, 1]))
    if draw(st.booleans()):
        rule["count"] = draw(st.integers(1, 5))
    if draw(st.booleans()):
        rule["burst"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        rule["from"] = draw(st.integers(0, 4))
    if draw(st.booleans()):
        rule["until"] = draw(st.integers(5, 12))
    return rule


class Naive:
    """A rule by the words of FAULTS.md, on a list of everything it has seen."""

    def __init__(self, rule: dict[str, Any], name: str, seed: int) -> None:
        self.rule = rule
        self.chance = Entropy(f"{seed}/{name}")
        self.matched: list[bool] = []  # whether it struck, each time it matched
        self.last_began = -1000  # the match at which the last burst began

    def strikes(self, name: str, at_s: int) -> bool:
        rule = self.rule
        if sum(self.matched) >= rule.get("count", 10**9):
            return False
        if not rule.get("from", 0) <= at_s < rule.get("until", 10**9):
            return False
        if rule.get("resource", "*") not in ("*", name, name[0] + "*"):
            return False
        number = len(self.matched) + 1
        if number - self.last_began < rule.get("burst", 1):
            self.matched.append(True)
        elif number % rule.get("every", 1) != 0 or (
            rule.get("probability", 1) < 1 and self.chance.random() >= rule["probability"]
        ):
            self.matched.append(False)
        else:
            self.last_began = number
            self.matched.append(True)
        return self.matched[-1]


@given(
    st.lists(rules(), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["a", "b", "aa"]), st.integers(0, 1)), max_size=60),
    st.integers(0, 5),
)
def test_rules_count_as_the_naive_model(
    given_rules: list[dict[str, Any]], steps: list[tuple[str, int]], seed: int
) -> None:
    clock = ManualClock()
    faults = Faults(clock)
    faults.load({"seed": seed, "rule": given_rules})
    names = [rule["name"] for rule in faults.show()["rules"]]
    naive = [Naive(rule, name, seed) for rule, name in zip(given_rules, names, strict=True)]
    at_s = 0
    for name, passing_s in steps:
        at_s += passing_s
        clock.advance(passing_s * 1000)
        expected = next((n for n, rule in zip(names, naive, strict=True) if rule.strikes(name, at_s)), None)
        hit = faults.hit("request", occasion(name=name))
        assert (hit.rule if hit else None) == expected
    for rule, model in zip(faults.show()["rules"], naive, strict=True):
        assert (rule["matched"], rule["struck"]) == (len(model.matched), sum(model.matched))
        spent = sum(model.matched) >= model.rule.get("count", 10**9)
        assert rule["exhausted"] == (spent or at_s >= model.rule.get("until", 10**9))


def test_kinds_that_are_not_asked_for_do_not_count(faults: Faults) -> None:
    load(faults, {"fault": "early-dead-letter"}, {"fault": "empty-receive"})
    hit = faults.hit("receive", occasion("ReceiveMessage"), "empty-receive")
    assert hit is not None
    assert hit.kind == "empty-receive"
    assert [rule["matched"] for rule in faults.show()["rules"]] == [0, 1]


# Chance


def run(faults: Faults, seed: int | str, *more: dict[str, Any]) -> list[str | None]:
    load(faults, *more, {"fault": "throttle", "name": "a", "probability": 0.3}, {"fault": "late"}, seed=seed)
    return [hit.rule if (hit := faults.hit("request", occasion())) else None for _ in range(200)]


def test_a_seed_replays(faults: Faults) -> None:
    assert run(faults, 7) == run(faults, 7)
    assert run(faults, "seven") == run(faults, "seven")
    assert run(faults, 7) != run(faults, 8)


def test_another_rules_draws_do_not_shift_ones_own(faults: Faults) -> None:
    other = {"fault": "reset", "name": "b", "probability": 0.5, "resource": "elsewhere"}
    assert run(faults, 7) == run(faults, 7, other)


def test_a_plan_without_a_seed_gets_one_and_shows_it() -> None:
    seeds = []
    for _ in range(2):
        faults = Faults(ManualClock(), Entropy(5))
        faults.load({"profile": "aws-like"})
        seeds.append(faults.show()["seed"])
    assert seeds[0] == seeds[1]
    assert faults.show()["plan"]["seed"] == seeds[0]
    faults.load({"seed": 3, "profile": "aws-like"}, 4)
    assert faults.seed == 4


def test_what_is_shown_can_be_loaded_again_and_is_the_same(faults: Faults) -> None:
    for name in profiles.PROFILES:
        faults.load({"profile": name, "seed": 9, "rule": [{"fault": "jump", "by": "-5m", "at": "1h"}]})
        shown = faults.show()
        faults.load(shown["plan"])
        assert faults.show()["plan"] == shown["plan"]


def test_a_plans_own_rules_are_asked_before_the_profiles(faults: Faults) -> None:
    own = [{"fault": kind} for kind in ("throttle", "late")]
    faults.load({"profile": "bad-day", "rule": own})
    names = [rule["name"] for rule in faults.show()["rules"]]
    assert names[:2] == ["throttle", "late"]
    assert "came-late" in names[2:]
    hit = faults.hit("request", occasion())
    assert hit is not None
    assert hit.rule == "throttle"


def test_no_rule_of_a_profile_has_the_name_that_a_rule_of_ones_own_gets_by_itself() -> None:
    for _, rules in profiles.PROFILES.values():
        names = [rule["name"] for rule in rules]
        assert len(set(names)) == len(names)
        assert not set(names) & set(kinds.KINDS)


def test_names_and_defaults_are_filled_in(faults: Faults) -> None:
    load(faults, {"fault": "late"}, {"fault": "late", "delay": "2m"}, {"fault": "restart"})
    assert faults.show()["plan"]["rule"] == [
        {"fault": "late", "name": "late", "delay": "5s"},
        {"fault": "late", "name": "late-2", "delay": "2m"},
        {"fault": "restart", "name": "restart", "down": "1s", "count": 1},
    ]
    hit = faults.hit("send", occasion())
    assert hit is not None
    assert hit.parameters == {"delay_ms": 5_000}


# Latency


def draws(faults: Faults, **given: Any) -> list[int]:
    load(faults, {"fault": "latency", **given})
    hits = [faults.hit("request", occasion()) for _ in range(4000)]
    return sorted(hit.parameters["delay_ms"] for hit in hits if hit)


def test_latency_fixed(faults: Faults) -> None:
    assert set(draws(faults, delay="40ms")) == {40}


def test_latency_normal(faults: Faults) -> None:
    drawn = draws(faults, mean="1s", deviation="200ms")
    assert statistics.mean(drawn) == pytest.approx(1000, rel=0.02)
    assert statistics.stdev(drawn) == pytest.approx(200, rel=0.05)
    assert min(draws(faults, mean="1ms", deviation="10ms")) == 0


def test_latency_pareto(faults: Faults) -> None:
    drawn = draws(faults, median="20ms", p99="2s")
    assert drawn[2000] == pytest.approx(20, rel=0.15)
    assert drawn[3960] == pytest.approx(2000, rel=0.4)
    assert drawn[-1] <= latency.MAX_MS


def test_latency_from_percentiles(faults: Faults) -> None:
    drawn = draws(faults, percentiles={"p50": "20ms", "p99": "2s"})
    assert drawn[2000] == pytest.approx(20, rel=0.15)
    assert drawn[3000] == pytest.approx(20 * 100 ** (25 / 49), rel=0.2)  # geometric in between
    assert (drawn[3990], drawn[-1]) == (2000, 2000)
    assert drawn[0] <= 1


@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 5000)), min_size=1, max_size=5, unique_by=lambda pair: pair[0]
    ),
    st.integers(0, 100),
)
def test_percentiles_are_met_and_rise(pairs: list[tuple[int, int]], seed: int) -> None:
    places = sorted(place for place, _ in pairs)
    delays = sorted(delay for _, delay in pairs)
    points = [(float(place), float(delay)) for place, delay in zip(places, delays, strict=True)]
    drawn = [latency._between(points, place) for place in range(101)]
    assert drawn == sorted(drawn)
    for place, delay in points:
        assert latency._between(points, place) == pytest.approx(delay)


# Appointments


def test_a_fault_at_a_moment_strikes_by_the_clock(faults: Faults, clock: ManualClock) -> None:
    struck: list[tuple[int, Hit]] = []
    began_ms = clock.now_ms()
    for kind in ("jump", "pause"):
        faults.on(kind, lambda hit: struck.append((clock.now_ms() - began_ms, hit)))
    load(
        faults,
        {"fault": "jump", "by": "-1h", "at": "30s"},
        {"fault": "pause", "for": "2s", "at": iso_8601_ms(began_ms + 10_000)},
        {"fault": "pause", "at": "20s", "name": "gone"},
    )
    faults.remove("gone")
    assert faults.points == frozenset()
    clock.advance(60_000)
    assert [(at_ms, hit.kind, dict(hit.parameters)) for at_ms, hit in struck] == [
        (10_000, "pause", {"for_ms": 2_000}),
        (30_000, "jump", {"by_ms": -3_600_000}),
    ]
    assert [(rule["struck"], rule["exhausted"]) for rule in faults.show()["rules"]] == [(1, True), (1, True)]


def test_another_plan_cancels_appointments(faults: Faults, clock: ManualClock) -> None:
    faults.on("restart", lambda _: pytest.fail("it was cancelled"))
    load(faults, {"fault": "restart", "at": "30s"})
    load(faults, {"fault": "throttle"})
    clock.advance(60_000)
    load(faults, {"fault": "restart", "at": "30s"})
    faults.clear()
    clock.advance(60_000)


def test_a_broker_fault_at_a_request_strikes_once_unless_told_otherwise(faults: Faults) -> None:
    load(faults, {"fault": "restart", "operation": "SendMessage"})
    assert strikes(faults, *[occasion()] * 3) == [True, False, False]
    load(faults, {"fault": "restart", "operation": "SendMessage", "count": 2})
    assert strikes(faults, *[occasion()] * 3) == [True, True, False]


# Kinds and profiles


def test_every_kind_can_be_added_as_it_is_described(faults: Faults) -> None:
    needed = {"code": "InternalFailure", "by": "1h"}
    for kind in kinds.describe()["kinds"]:
        rule = {"fault": kind["fault"]} | ({"delay": "1ms"} if kind["fault"] == "latency" else {})
        for parameter in kind["parameters"]:
            if "required" in parameter:
                rule[parameter["name"]] = needed[parameter["name"]]
            elif parameter["default"] is not None:
                rule[parameter["name"]] = parameter["default"]
        name = faults.add(rule)
        assert name == kind["fault"]
        assert kind["text"].endswith(".")
    assert faults.points == set(kinds.POINTS)


def test_parameters_that_decide_on_the_point(faults: Faults) -> None:
    for when, point in (("at-once", "receive"), ("later", "receive"), ("after-delete", "delete")):
        load(faults, {"fault": "duplicate", "when": when})
        assert faults.points == {point}


def test_a_refused_plan_leaves_the_one_in_force(faults: Faults) -> None:
    load(faults, {"fault": "late"})
    before = faults.show()
    with pytest.raises(PlanError):
        load(faults, {"fault": "throttle"}, {"fault": "nonsense"})
    with pytest.raises(PlanError):
        faults.add({"fault": "late", "name": "late"})
    with pytest.raises(PlanError, match=r"There is no rule 'lat' in force\. Did you mean late\?"):
        faults.remove("lat")
    assert faults.show() == before


def test_a_plan_has_an_end_however_it_comes_about(faults: Faults) -> None:
    faults.load({"rule": [{"fault": "late"}] * MAX_RULES})
    with pytest.raises(PlanError, match="A plan has at most 1000 rules: remove one first"):
        faults.add({"fault": "late"})


@pytest.mark.parametrize("rule", [{}, {"service": "sqs"}])
def test_a_kind_strikes_at_its_own_operations_only(faults: Faults, rule: dict[str, Any]) -> None:
    load(faults, {"fault": "partial-batch", **rule})
    assert faults.hit("request", Occasion("sqs", "SendMessage", queue("orders"), ACCOUNT, "")) is None
    assert faults.hit("request", Occasion("sqs", "SendMessageBatch", queue("orders"), ACCOUNT, "")) is not None
    assert faults.show()["rules"][0]["matched"] == 1
