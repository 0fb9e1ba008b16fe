"""When remote deliveries are tried again: the DeliveryPolicy of topics and subscriptions, and Lambda's own rules."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import delivery_policy
from broker.delivery_policy import (
    ARITHMETIC,
    DEFAULT_HTTP_POLICY,
    EXPONENTIAL,
    FUNCTION_ERROR,
    FUNCTIONS,
    GEOMETRIC,
    LAMBDA_POLICY,
    LINEAR,
    REFUSED,
    THROTTLED,
    UNAVAILABLE,
    HttpPolicy,
    Phases,
    backoff_ms,
    check,
    effective_of_subscription,
    effective_of_topic,
    http_policy,
)
from broker.errors import InvalidParameterException

HOUR_MS = 3_600_000


def every_delay_s(policy: HttpPolicy) -> list[float]:
    """The delays of a delivery that never succeeds."""
    delays = []
    while (delay_ms := policy.delay_ms(UNAVAILABLE, len(delays) + 1, 0)) is not None:
        delays.append(delay_ms / 1000)
    return delays


retries = st.integers(0, 12)
delays = st.tuples(st.integers(1, 3_600_000), st.integers(0, 3_600_000)).map(lambda d: (d[0], d[0] + d[1]))
phases = st.builds(
    lambda d, immediate, pre, backoff, post, function: Phases(*d, immediate, pre, backoff, post, function),
    delays,
    retries,
    retries,
    retries,
    retries,
    st.sampled_from(FUNCTIONS),
)


# the four phases --------------------------------------------------------------------------------


def test_without_a_policy_there_are_three_retries_twenty_seconds_apart() -> None:
    assert every_delay_s(DEFAULT_HTTP_POLICY) == [20, 20, 20]


def test_the_guides_example_goes_through_all_phases() -> None:
    policy = http_policy(
        None,
        json.dumps(
            {
                "healthyRetryPolicy": {
                    "minDelayTarget": 1,
                    "maxDelayTarget": 60,
                    "numRetries": 50,
                    "numNoDelayRetries": 3,
                    "numMinDelayRetries": 2,
                    "numMaxDelayRetries": 35,
                    "backoffFunction": "exponential",
                },
                "throttlePolicy": {"maxReceivesPerSecond": 10},
            }
        ),
    )
    waited = every_delay_s(policy)
    assert waited[:5] == [0, 0, 0, 1, 1]
    assert waited[5:15] == [1, 1.115, 1.346, 1.808, 2.732, 4.579, 8.274, 15.663, 30.442, 60]
    assert waited[15:] == [60] * 35
    assert policy.max_receives_per_s == 10


@pytest.mark.parametrize(
    ("function", "expected_s"),
    [
        (LINEAR, [5, 33.333, 61.667, 90, 118.333, 146.667, 175, 203.333, 231.667, 260]),
        (ARITHMETIC, [5, 10.667, 22, 39, 61.667, 90, 124, 163.667, 209, 260]),
        (GEOMETRIC, [5, 7.756, 12.031, 18.663, 28.949, 44.906, 69.658, 108.054, 167.612, 260]),
        (EXPONENTIAL, [5, 5.499, 6.497, 8.493, 12.485, 20.47, 36.438, 68.376, 132.25, 260]),
    ],
)
def test_the_functions_between_the_delays_of_the_guides_graph(function: str, expected_s: list[float]) -> None:
    assert [backoff_ms(function, 5_000, 260_000, retry, 10) / 1000 for retry in range(1, 11)] == expected_s


@given(phases)
def test_phases_follow_each_other(p: Phases) -> None:
    backoff = [backoff_ms(p.function, p.min_delay_ms, p.max_delay_ms, n, p.backoff) for n in range(1, p.backoff + 1)]
    naive = [0] * p.immediate + [p.min_delay_ms] * p.pre_backoff + backoff + [p.max_delay_ms] * p.post_backoff
    assert [p.delay_ms(retry) for retry in range(1, p.retries + 1)] == naive
    assert p.delay_ms(p.retries + 1) is None
    assert p.total_ms() == sum(naive)


@given(st.sampled_from(FUNCTIONS), delays, st.integers(2, 100))
def test_a_backoff_goes_from_the_shortest_delay_to_the_longest(function: str, d: tuple[int, int], count: int) -> None:
    waited = [backoff_ms(function, *d, retry, count) for retry in range(1, count + 1)]
    assert (waited[0], waited[-1]) == d
    assert all(earlier <= later for earlier, later in pairwise(waited))


@given(delays, st.integers(2, 100), st.data())
def test_the_functions_lie_in_the_graphs_order(d: tuple[int, int], count: int, data: st.DataObject) -> None:
    retry = data.draw(st.integers(1, count))
    linear, arithmetic, geometric, exponential = (backoff_ms(name, *d, retry, count) for name in FUNCTIONS)
    assert linear >= arithmetic >= exponential
    assert linear + 1 >= geometric  # rounded on its own


@given(phases, st.none() | st.integers(1, 1000))
def test_a_policy_is_read_as_it_was_written(p: Phases, rate: int | None) -> None:
    for policy in (HttpPolicy(p, rate, "application/json"), LAMBDA_POLICY):
        assert delivery_policy.read(delivery_policy.write(policy)) == policy


def test_a_refusal_is_not_tried_again() -> None:
    assert DEFAULT_HTTP_POLICY.delay_ms(REFUSED, 1, 0) is None
    assert DEFAULT_HTTP_POLICY.dead_letters(REFUSED)


# Lambda -------------------------------------------------------------------------------------------


def test_a_function_that_fails_runs_twice_more() -> None:
    assert [LAMBDA_POLICY.delay_ms(FUNCTION_ERROR, n, 0) for n in (1, 2, 3)] == [60_000, 120_000, None]


def test_a_throttled_function_is_tried_for_six_hours() -> None:
    waited_ms, age_ms = [], 0
    while (delay_ms := LAMBDA_POLICY.delay_ms(THROTTLED, len(waited_ms) + 1, age_ms)) is not None:
        waited_ms.append(delay_ms)
        age_ms += delay_ms
    assert [ms // 1000 for ms in waited_ms[:10]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waited_ms[9:]) == {300_000}
    assert 6 * HOUR_MS - 300_000 < age_ms <= 6 * HOUR_MS


def test_lambda_itself_is_tried_for_23_days() -> None:
    waited_ms = [LAMBDA_POLICY.delay_ms(UNAVAILABLE, n, 0) for n in range(1, 100_016)]
    assert waited_ms[:6] == [0, 0, 0, 1000, 1000, 1000]
    assert waited_ms[14:] == [20_000] * 100_001
    assert LAMBDA_POLICY.delay_ms(UNAVAILABLE, 100_016, 0) is None
    assert sum(ms or 0 for ms in waited_ms) // (24 * HOUR_MS) == 23


def test_what_lambda_has_taken_never_reaches_the_subscriptions_dead_letter_queue() -> None:
    assert [LAMBDA_POLICY.dead_letters(kind) for kind in (UNAVAILABLE, REFUSED)] == [True, True]
    assert [LAMBDA_POLICY.dead_letters(kind) for kind in (THROTTLED, FUNCTION_ERROR)] == [False, False]


# the attribute ------------------------------------------------------------------------------------

RETRY = {"numRetries": 3, "minDelayTarget": 20, "maxDelayTarget": 20}


@pytest.mark.parametrize(
    ("retry", "complaint"),
    [
        ({**RETRY, "minDelayTarget": 0}, "healthyRetryPolicy.minDelayTarget must be greater than or equal to 1"),
        ({**RETRY, "maxDelayTarget": 3601}, "healthyRetryPolicy.maxDelayTarget must be less than or equal to 3600"),
        ({**RETRY, "numRetries": 101}, "healthyRetryPolicy.numRetries must be less than or equal to 100"),
        ({**RETRY, "numRetries": "3"}, "healthyRetryPolicy.numRetries must be an integer"),
        ({**RETRY, "numRetries": True}, "healthyRetryPolicy.numRetries must be an integer"),
        ({"numRetries": 3}, "healthyRetryPolicy.minDelayTarget must be specified"),
        (
            {**RETRY, "maxDelayTarget": 19},
            "healthyRetryPolicy.maxDelayTarget must be greater than or equal to minDelayTarget",
        ),
        (
            {**RETRY, "numNoDelayRetries": 2, "numMinDelayRetries": 1, "numMaxDelayRetries": 1},
            "healthyRetryPolicy.numRetries must be greater than or equal to total of numMinDelayRetries, "
            "numNoDelayRetries and numMaxDelayRetries",
        ),
        (
            {**RETRY, "backoffFunction": "cubic"},
            "healthyRetryPolicy.backoffFunction must be one of: linear, arithmetic, geometric, exponential",
        ),
        (
            {"numRetries": 100, "minDelayTarget": 36, "maxDelayTarget": 37},
            "healthyRetryPolicy: total retry time must be less than or equal to 3600 seconds",
        ),
        ({**RETRY, "retries": 3}, "unknown property healthyRetryPolicy.retries"),
        ([3], "healthyRetryPolicy must be a JSON object"),
    ],
)
def test_a_retry_policy_that_aws_refuses(retry: Any, complaint: str) -> None:
    with pytest.raises(InvalidParameterException) as refused:
        check(json.dumps({"healthyRetryPolicy": retry}), False)
    assert refused.value.message == f"Invalid parameter: DeliveryPolicy: {complaint}"


@pytest.mark.parametrize(
    ("of_topic", "policy"),
    [
        (False, "{"),
        (False, "[]"),
        (False, '{"http": {}}'),
        (True, '{"healthyRetryPolicy": {}}'),
        (False, '{"throttlePolicy": {"maxReceivesPerSecond": 0}}'),
        (False, '{"throttlePolicy": {"perSecond": 1}}'),
        (False, '{"requestPolicy": {"headerContentType": "image/png"}}'),
        (False, '{"requestPolicy": {"headerContentType": "text/plain\\r\\nX: y"}}'),
        (True, '{"http": {"defaultRequestPolicy": {"headerContentType": "text/xml"}}}'),
        (True, '{"http": {"disableSubscriptionOverrides": "yes"}}'),
    ],
)
def test_other_policies_that_are_refused(of_topic: bool, policy: str) -> None:
    with pytest.raises(InvalidParameterException, match=r"Invalid parameter: DeliveryPolicy: "):
        check(policy, of_topic)


def test_policies_that_are_accepted() -> None:
    check("{}", True)
    check("{}", False)
    check('{"healthyRetryPolicy": null, "throttlePolicy": {"maxReceivesPerSecond": null}}', False)
    check('{"requestPolicy": {"headerContentType": "application/json; charset=UTF-8"}}', False)
    check(json.dumps({"http": {"defaultHealthyRetryPolicy": RETRY, "disableSubscriptionOverrides": True}}), True)


def test_the_effective_policies_without_any() -> None:
    retry = {
        "minDelayTarget": 20,
        "maxDelayTarget": 20,
        "numRetries": 3,
        "numMaxDelayRetries": 0,
        "numNoDelayRetries": 0,
        "numMinDelayRetries": 0,
        "backoffFunction": "linear",
    }
    request = {"headerContentType": "text/plain; charset=UTF-8"}
    assert json.loads(effective_of_topic(None)) == {
        "http": {
            "defaultHealthyRetryPolicy": retry,
            "disableSubscriptionOverrides": False,
            "defaultRequestPolicy": request,
        }
    }
    assert json.loads(effective_of_subscription(None, None)) == {
        "healthyRetryPolicy": retry,
        "sicklyRetryPolicy": None,
        "throttlePolicy": None,
        "requestPolicy": request,
        "guaranteed": False,
    }


def test_a_subscriptions_sections_go_before_its_topics_unless_the_topic_says_no() -> None:
    http: dict[str, Any] = {
        "defaultHealthyRetryPolicy": {**RETRY, "numRetries": 1},
        "defaultThrottlePolicy": {"maxReceivesPerSecond": 7},
    }
    own = json.dumps(
        {"healthyRetryPolicy": {**RETRY, "numRetries": 2}, "requestPolicy": {"headerContentType": "application/json"}}
    )
    policy = http_policy(json.dumps({"http": http}), own)
    assert (len(every_delay_s(policy)), policy.max_receives_per_s, policy.content_type) == (2, 7, "application/json")
    policy = http_policy(json.dumps({"http": {**http, "disableSubscriptionOverrides": True}}), own)
    assert (len(every_delay_s(policy)), policy.content_type) == (1, "text/plain; charset=UTF-8")
