"""SNS's dialect: scopes, what counts as a value, limits."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.matching import FilterPolicies, InvalidFilterPolicy, filter_policy
from broker.matching.filter_policies import Scope

from . import generate, naive


def string(value: str) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": value}


def typed(kind: str, value: str) -> dict[str, Any]:
    return {"DataType": kind, "StringValue": value}


def on_attributes(policy: dict[str, Any], attributes: dict[str, Any]) -> bool:
    policies: FilterPolicies[str] = FilterPolicies()
    policies.add("s", filter_policy(json.dumps(policy)), "MessageAttributes")
    return bool(policies.match(attributes, "any text"))


def on_body(policy: dict[str, Any], body: Any) -> bool:
    policies: FilterPolicies[str] = FilterPolicies()
    policies.add("s", filter_policy(json.dumps(policy), "MessageBody"), "MessageBody")
    return bool(policies.match({}, body if isinstance(body, str) else json.dumps(body)))


def refusal(policy: Any, scope: Scope = "MessageBody") -> str:
    with pytest.raises(InvalidFilterPolicy) as refused:
        filter_policy(policy if isinstance(policy, str) else json.dumps(policy), scope)
    return str(refused.value)


def test_string_attributes() -> None:
    policy = {"store": ["example_corp"], "event": [{"anything-but": "order_cancelled"}]}
    assert on_attributes(policy, {"store": string("example_corp"), "event": string("order_placed")})
    assert not on_attributes(policy, {"store": string("example_corp"), "event": string("order_cancelled")})
    assert not on_attributes(policy, {"store": string("example_corp")})


def test_array_attributes() -> None:
    interests = typed("String.Array", '["rugby", "baseball", null, true, 3]')
    assert on_attributes({"i": ["baseball"]}, {"i": interests})
    assert on_attributes({"i": [{"anything-but": ["rugby", "tennis"]}]}, {"i": interests})
    assert on_attributes({"i": [None]}, {"i": interests})
    assert on_attributes({"i": [True]}, {"i": interests})
    assert on_attributes({"i": [{"numeric": ["=", 3.0]}]}, {"i": interests})
    assert not on_attributes({"i": ["3"]}, {"i": interests})
    assert on_attributes({"price": [{"anything-but": [100, 500]}]}, {"price": typed("Number.Array", "[100, 50]")})
    for broken in ("no JSON", '"text"', "[" * 10000):
        assert not on_attributes({"i": [{"exists": True}]}, {"i": typed("String.Array", broken)})


def test_number_attributes() -> None:
    policy = {"price": [{"numeric": ["=", 301.5]}]}
    assert on_attributes(policy, {"price": typed("Number", "301.5")})
    assert on_attributes(policy, {"price": typed("Number", "3.015e2")})
    assert not on_attributes(policy, {"price": string("301.5")})
    assert on_attributes({"price": [{"numeric": [">", 100, "<=", 150]}]}, {"price": typed("Number", "150")})
    assert not on_attributes({"price": [{"exists": True}]}, {"price": typed("Number", "abc")})


def test_binary_attributes_are_not_there() -> None:
    binary = {"DataType": "Binary", "BinaryValue": b"x"}
    assert not on_attributes({"b": [{"exists": True}]}, {"b": binary, "a": string("x")})
    assert on_attributes({"b": [{"exists": False}]}, {"b": binary, "a": string("x")})


def test_absence_needs_some_attribute() -> None:
    policy = {"store": [{"exists": False}]}
    assert on_attributes(policy, {"other": string("x")})
    assert not on_attributes(policy, {"store": string("x")})
    assert not on_attributes(policy, {})
    assert not on_attributes(policy, {"b": {"DataType": "Binary", "BinaryValue": b"x"}})


def test_quotes_and_backslashes_are_escaped_twice() -> None:
    attributes = {"a": string('say "hi" \\')}
    assert on_attributes({"a": ['say \\"hi\\" \\\\']}, attributes)
    assert not on_attributes({"a": ['say "hi" \\']}, attributes)


def test_body() -> None:
    policy = {"order": {"items": {"sku": ["a"], "count": [{"numeric": [">", 1]}]}}, "store": [{"prefix": "eu-"}]}
    body = {"store": "eu-1", "order": {"items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}]}}
    assert not on_body(policy, body)
    body["order"]["items"].append({"sku": "a", "count": 3})  # type: ignore[index]
    assert on_body(policy, body)
    for text in ("no JSON", "[]", '"order"', ""):
        assert not on_body({"a": [{"exists": False}]}, text)


def test_exists_is_a_value_that_is_not_null_or_empty() -> None:
    for value, there in (
        ("x", True),
        (0, True),
        (False, True),
        ("", False),
        (None, False),
        ([], False),
        ([None, 1], True),
    ):
        assert on_body({"a": [{"exists": True}]}, {"a": value}) is there
    assert on_body({"a": [None]}, {"a": None})
    assert not on_body({"a": [{"exists": False}]}, {"a": None})


def test_or() -> None:
    policy = {"source": ["aws.cloudwatch"], "$or": [{"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2"]}]}
    assert on_attributes(policy, {"source": string("aws.cloudwatch"), "namespace": string("AWS/EC2")})
    assert not on_attributes(policy, {"source": string("aws.cloudwatch"), "namespace": string("AWS/ES")})


def test_no_policy() -> None:
    policies: FilterPolicies[str] = FilterPolicies()
    policies.add("all", filter_policy(" { } "), "MessageAttributes")
    policies.add("body", filter_policy("{}", "MessageBody"), "MessageBody")
    policies.add("some", filter_policy('{"a": ["x"]}'), "MessageAttributes")
    assert policies.match({}, "no JSON") == {"all", "body"}
    assert policies.match({"a": string("x")}, "") == {"all", "body", "some"}
    policies.add("all", filter_policy('{"a": ["y"]}', "MessageBody"), "MessageBody")
    policies.remove("body")
    assert policies.match({}, '{"a": "y"}') == {"all"}
    assert (len(policies), "body" in policies, "all" in policies) == (2, False, True)


def test_combinations() -> None:
    """The guide's own examples: 3 x 1 x 2, and 4 x 3 (levels) x 3 x 2 (levels)."""
    assert filter_policy(json.dumps({"key_a": ["1", "2", "3"], "key_b": ["1"], "key_c": ["1", "2"]}))
    nested = {"key_a": {"key_b": {"key_c": ["1", "2", "3", "4"]}}, "key_d": {"key_e": ["1", "2", "3"]}}
    assert filter_policy(json.dumps(nested), "MessageBody")
    nested["key_f"] = ["1", "2"]  # 144
    assert filter_policy(json.dumps(nested), "MessageBody")
    nested["key_f"] = ["1", "2", "3"]  # 216
    too_complex = "Invalid parameter: FilterPolicy: Filter policy is too complex"
    assert refusal(nested) == too_complex
    assert filter_policy(json.dumps({"a": list(range(150))}))
    assert refusal({"a": list(range(151))}) == too_complex
    branches = [{"a": list(range(75))}, {"b": list(range(75))}]
    assert filter_policy(json.dumps({"$or": branches}))
    assert refusal({"$or": [*branches, {"c": [1]}]}) == too_complex
    assert refusal({f"f{n}": {"$or": [{"a": [1]}, {"b": [1]}]} for n in range(12)}) == too_complex


def test_keys() -> None:
    assert filter_policy(json.dumps({name: [1] for name in "abcde"}))
    refused = "Invalid parameter: FilterPolicy: A filter policy can have a maximum of 5 attribute names."
    assert refusal({name: [1] for name in "abcdef"}) == refused
    assert filter_policy(json.dumps({"x": {name: [1] for name in "abcde"}}), "MessageBody")
    assert refusal({"x": {name: [1] for name in "abcdef"}}) == refused


def test_nested_keys_are_for_the_body() -> None:
    policy = {"a": {"b": ["x"]}}
    assert filter_policy(json.dumps(policy), "MessageBody")
    assert refusal(policy, "MessageAttributes").endswith(
        "Filter policy scope MessageAttributes does not support nested filter policy"
    )


def test_size_and_text() -> None:
    assert refusal('{"a": ["' + "x" * 256 * 1024 + '"]}') == (
        "Invalid parameter: FilterPolicy: Filter policy is larger than 262144 bytes"
    )
    assert refusal('{"Amount":[]}').startswith(
        "Invalid parameter: FilterPolicy: Empty arrays are not allowed\n at [Source: "
    )
    with pytest.raises(InvalidFilterPolicy):
        filter_policy(b"\xff")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1).map(Random))
def test_bodies_against_the_naive_matcher(rng: Random) -> None:
    policies: FilterPolicies[int] = FilterPolicies()
    accepted: dict[int, str] = {}
    bodies = []
    for key in range(6):
        policy, events = generate.pattern_and_events(rng, 2)
        bodies += events
        try:
            policies.add(key, filter_policy(policy, "MessageBody"), "MessageBody")
        except InvalidFilterPolicy:
            continue
        accepted[key] = policy.replace('{"exists":true}', '{"anything-but":[""]},{"exists":true}')
    for body in bodies:
        if "null" in body or '""' in body:  # there `exists: true` is SNS's own
            continue
        assert policies.match({}, body) == {k for k, policy in accepted.items() if naive.matches(policy, body)}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1).map(Random))
def test_attributes_against_the_naive_matcher(rng: Random) -> None:
    """The naive matcher sees the attributes as the object that they amount to."""
    names = ["a", "b", "c", "A", "a-b"]
    policies: FilterPolicies[int] = FilterPolicies()
    accepted: dict[int, str] = {}
    for key in range(8):
        made = generate.Pairs((rng.choice(names), [generate.test(rng)]) for _ in range(rng.randint(1, 3)))
        policy = generate.dumps(made)
        try:
            policies.add(key, filter_policy(policy), "MessageAttributes")
        except InvalidFilterPolicy:
            continue
        accepted[key] = policy
    attributes: dict[str, Any] = {}
    amount: dict[str, Any] = {}
    for name in rng.sample(names, rng.randint(1, len(names))):
        kind = rng.choice(["String", "Number", "String.Array"])
        if kind == "String":
            text = rng.choice([w for w in generate.WORDS if w])
            amount[name] = text.replace("\\", "\\\\").replace('"', '\\"')
        elif kind == "Number":
            text = rng.choice(generate.NUMBERS)
            amount[name] = generate.Raw(text)
        else:
            values = [generate.scalar(rng) for _ in range(rng.randint(0, 3))]
            text, amount[name] = generate.dumps(values), values
        attributes[name] = typed(kind, text)
    event = generate.dumps(amount)
    expected = {key for key, policy in accepted.items() if naive.matches(policy, event)}
    if "null" not in event and '""' not in event:
        assert policies.match(attributes, "") == expected
