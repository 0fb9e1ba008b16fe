"""What is refused, word for word: one sentence that says why, and what was perhaps meant."""

from __future__ import annotations

from typing import Any

import pytest

from broker.clock import ManualClock
from broker.faults import Faults, PlanError
from engine.test_faults import OPERATIONS

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "It needs `fault`, the kind of what goes wrong, such as throttle or duplicate."),
    ({"fault": "thrttle"}, "There is no fault 'thrttle'. Did you mean throttle?"),
    ({"fault": "xyz"}, "There is no fault 'xyz'. `sidebus faults kinds` lists them all."),
    ({"fault": "late", "dealy": "2s"}, "late has no 'dealy'. Did you mean delay?"),
    ({"fault": "throttle", "probabilty": 1}, "throttle has no 'probabilty'. Did you mean probability?"),
    ({"fault": "late", "xyz": 1}, "late has no 'xyz': it takes delay, besides what every rule may have."),
    ({"fault": "late", "name": ""}, "name takes a text of up to 80 characters, not ''."),
    # how often
    (
        {"fault": "late", "probability": 0},
        "probability takes a number above 0 and at most 1, not 0; with 0 it would never strike.",
    ),
    ({"fault": "late", "probability": 1.5}, "probability takes a number above 0 and at most 1, not 1.5."),
    ({"fault": "late", "probability": True}, "probability takes a number above 0 and at most 1, not True."),
    ({"fault": "late", "every": 0}, "every takes a whole number from 1 on, not 0."),
    ({"fault": "late", "count": 1.5}, "count takes a whole number from 1 on, not 1.5."),
    ({"fault": "late", "burst": "2"}, "burst takes a whole number from 1 on, not '2'."),
    # when
    ({"fault": "late", "from": "20s", "until": "10s"}, "until (10s) is not after from (20s)."),
    (
        {"fault": "late", "until": "2020-01-01T00:00:00Z"},
        "until: 2020-01-01T00:00:00Z is past; it is 2023-11-14T22:13:20.000Z for the broker.",
    ),
    (
        {"fault": "late", "from": "soon"},
        "from takes a length of time after loading such as 30s, or a moment such as 2026-12-01T00:00:00Z, not 'soon'.",
    ),
    (
        {"fault": "late", "at": "3s"},
        "late takes no `at`, only jump, drift, pause, restart, full-disk do: use `from` and `count`.",
    ),
    (
        {"fault": "pause", "at": "3s", "service": "sqs"},
        "`at` stands in place of a request, so `service` cannot match anything: leave out one of them.",
    ),
    (
        {"fault": "pause", "at": "2020-01-01T00:00:00Z"},
        "at: 2020-01-01T00:00:00Z is past; it is 2023-11-14T22:13:20.000Z for the broker.",
    ),
    # where
    ({"fault": "throttle", "service": "sqz"}, "There is no service 'sqz' here. Did you mean sqs?"),
    (
        {"fault": "throttle", "service": "ec2"},
        "There is no service 'ec2' here. There are events, kinesis, sns, sqs and sts.",
    ),
    ({"fault": "throttle", "service": []}, "service takes a name or a list of names, not []."),
    ({"fault": "late", "service": "sns"}, "late strikes at sqs, not at sns."),
    (
        {"fault": "throttle", "service": "sqs", "operation": "RecieveMessage"},
        "sqs has no operation 'RecieveMessage'. Did you mean ReceiveMessage?",
    ),
    (
        {"fault": "throttle", "operation": "RecieveMessage"},
        "no service here has an operation 'RecieveMessage'. Did you mean ReceiveMessage?",
    ),
    (
        {"fault": "throttle", "service": ["sqs", "sns"], "operation": "Publish"},
        "sqs has none of the operations Publish: leave it out.",
    ),
    (
        {"fault": "duplicate", "operation": "SendMessage"},
        "duplicate strikes at ReceiveMessage, not at SendMessage.",
    ),
    (
        {"fault": "duplicate", "when": "after-delete", "operation": "ReceiveMessage"},
        "duplicate strikes at DeleteMessage and DeleteMessageBatch, not at ReceiveMessage.",
    ),
    (
        {"fault": "partial-batch", "operation": "SendMessage"},
        "partial-batch strikes at ChangeMessageVisibilityBatch, DeleteMessageBatch, PublishBatch, PutEvents, "
        "PutRecords and SendMessageBatch, not at SendMessage.",
    ),
    (
        {"fault": "throttle", "service": "sqs", "resource": "orders.v2"},
        "resource 'orders.v2' can match nothing: no name in sqs is like that.",
    ),
    (
        {"fault": "reorder", "resource": "*.fifo"},
        "resource '*.fifo' names FIFO queues only, and reorder never strikes there: AWS does not do "
        "that to a FIFO queue.",
    ),
    (
        {"fault": "throttle", "operation": "ListQueues", "resource": "orders"},
        "resource 'orders' can match nothing: ListQueues is about no resource.",
    ),
    (
        {"fault": "throttle", "service": "sts", "resource": "orders"},
        "resource 'orders' can match nothing: sts is about no resource.",
    ),
    ({"fault": "throttle", "resource": 5}, "resource takes a pattern of a name or an ARN, such as orders-*, not 5."),
    ({"fault": "throttle", "account": "12"}, "account takes twelve digits as a text, or a list of such, not '12'."),
    (
        {"fault": "throttle", "client": "boto3"},
        "client 'boto3' can match nothing: the whole of ACCESS-KEY USER-AGENT is compared, with a space in between; "
        "write *boto3*.",
    ),
    ({"fault": "throttle", "resource": "x" * 1001}, "resource takes a pattern of up to 1000 characters, not 1001."),
    ({"fault": "throttle", "client": "*" * 1001}, "client takes a pattern of up to 1000 characters, not 1001."),
    # messages
    (
        {"fault": "throttle", "operation": "CreateQueue", "message": {"body": ["x"]}},
        "message can match nothing: throttle at CreateQueue has no message to look into.",
    ),
    (
        {"fault": "empty-receive", "message": {"body": ["x"]}},
        "message can match nothing: empty-receive has no message to look into.",
    ),
    (
        {"fault": "late", "message": {"bdy": ["x"]}},
        "message: a message has body and attributes, not 'bdy'. Did you mean body?",
    ),
    (
        {"fault": "late", "message": "x"},
        'message takes an event pattern such as {"body": {"type": ["order"]}}, not \'x\'.',
    ),
    (
        {"fault": "late", "message": {"body": "x"}},
        'message: Event pattern is not valid. Reason: "body" must be an object or an array\n'
        ' at [Source: (String)"{"body": "x"}"; line: 1, column: 11]',
    ),
    # parameters
    (
        {"fault": "late", "delay": "2x"},
        "delay: '2x' is not a length of time: write 500ms, 90s, 1h30m, 14d or a number of seconds.",
    ),
    ({"fault": "late", "delay": True}, "delay takes a length of time such as 500ms, 90s or 1h30m, not True."),
    ({"fault": "error"}, "error needs `code`: AWS's code, such as InternalFailure or KMS.ThrottlingException."),
    ({"fault": "error", "code": "X", "status": 200}, "status takes an HTTP status from 400 to 599, not 200."),
    ({"fault": "reset", "when": "aftr"}, "when takes before or after, not 'aftr'. Did you mean after?"),
    ({"fault": "jump", "by": "0s"}, "by is 0, which changes nothing."),
    ({"fault": "drift", "ppm": 0}, "ppm takes a number other than 0, not 0."),
    ({"fault": "drift", "ppm": -1_000_000}, "ppm takes a number from -999999 to 1000000000, not -1000000."),
    ({"fault": "lag", "growth_per_s": 1e308}, "growth_per_s takes a number from 0 to 2147483648, not 1e+308."),
    (
        {"fault": "slow-bytes", "bytes_per_s": 1 << 40},
        "bytes_per_s takes a whole number from 1 to 2147483648, not 1099511627776.",
    ),
    (
        {"fault": "error", "code": "X\r\nSet-Cookie: a=b"},
        "code takes a code of AWS's such as InternalFailure, not 'X\\r\\nSet-Cookie: a=b'.",
    ),
    (
        {"fault": "latency", "distribution": "gamma", "delay": "1s"},
        "distribution takes fixed or normal or pareto or percentiles, not 'gamma'.",
    ),
    (
        {"fault": "partial-batch", "fraction": 0},
        "fraction takes a number above 0 and at most 1, not 0; with 0 it would never strike.",
    ),
    ({"fault": "slow-bytes", "bytes_per_s": 0}, "bytes_per_s takes a whole number from 1 on, not 0."),
    (
        {"fault": "early-visibility", "fraction": 0.5, "after": "1s"},
        "early-visibility takes fraction or after, not both.",
    ),
    (
        {"fault": "latency"},
        "latency says no delay: give delay, or mean and deviation, or median and p99, or percentiles.",
    ),
    ({"fault": "latency", "mean": "1s"}, "latency draws from normal and needs deviation."),
    (
        {"fault": "latency", "delay": "1s", "p99": "2s"},
        "latency draws from fixed, which takes delay and no p99.",
    ),
    (
        {"fault": "latency", "median": "2s", "p99": "1s"},
        "latency needs a median above zero and a p99 above the median.",
    ),
    ({"fault": "latency", "percentiles": {"p50": "2s", "p99": "1s"}}, "percentiles: p99 must not be below p50."),
    (
        {"fault": "latency", "percentiles": {"p101": "2s"}},
        "percentiles: there is no p101, a percentile is from p0 to p100.",
    ),
]


@pytest.fixture
def faults() -> Faults:
    faults = Faults(ManualClock())
    faults.operations = lambda: OPERATIONS
    return faults


@pytest.mark.parametrize(("rule", "sentence"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_rule_is_refused_with_a_reason(faults: Faults, rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError) as refused:
        faults.add(rule)
    assert str(refused.value) == sentence
    assert faults.show() == {"plan": None}


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ([], "A plan is an object with `seed`, `profile` and a list of `rule`."),
        ({}, "The plan has no rules: give a profile or at least one rule."),
        ({"rule": {"fault": "late"}}, "rule takes a list of rules; in TOML each begins with [[rule]]."),
        ({"rule": ["late"]}, 'Rule 1: A rule is an object such as {"fault": "throttle", "service": "sqs"}.'),
        ({"rule": [{"fault": "late"}, {"fault": "lat"}]}, "Rule 2: There is no fault 'lat'. Did you mean late?"),
        (
            {"rule": [{"fault": "late", "name": "x"}, {"fault": "late", "name": "x"}]},
            "Rule 2: There is a rule 'x' already: give it another name.",
        ),
        ({"sead": 1}, "A fault plan has seed, profile and rule, not 'sead'. Did you mean seed?"),
        (
            {"seed": -1, "profile": "poison"},
            "seed takes a whole number from 0 to 9223372036854775807, or a text, not -1.",
        ),
        ({"profile": ["poison"]}, "There is no profile ['poison']. Did you mean poison?"),
        (
            {"profile": "poison", "clock": {"frozen": True}},
            "A fault plan has seed, profile and rule, not 'clock'. clock is for `sidebus serve --plan`.",
        ),
        ({"profile": "bad-dya"}, "There is no profile 'bad-dya'. Did you mean bad-day?"),
        ({"rule": [], "rules": []}, "A plan has `rule` or `rules`, not both."),
    ],
    ids=str,
)
def test_a_plan_is_refused_with_a_reason(faults: Faults, plan: Any, sentence: str) -> None:
    with pytest.raises(PlanError) as refused:
        faults.load(plan)
    assert str(refused.value) == sentence
