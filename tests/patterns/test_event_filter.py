"""Lambda's filter criteria: the guide's tables, what is refused, and the engine's own matcher as a second opinion."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching import Index, event_pattern
from patterns.event_filter import InvalidFilterCriteria, queue_filter, stream_filter


def criteria(*patterns: Any) -> dict[str, Any]:
    return {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}


def message(body: str, **more: Any) -> dict[str, Any]:
    return {"messageId": "m", "body": body, "attributes": {}, "eventSource": "aws:sqs", **more}


def record(data: bytes | str, key: str = "1") -> dict[str, Any]:
    raw = data.encode() if isinstance(data, str) else data
    return {
        "kinesis": {"partitionKey": key, "data": base64.b64encode(raw).decode(), "approximateArrivalTimestamp": 1.5},
        "eventSource": "aws:kinesis",
    }


def passes(pattern: Any, document: Any) -> bool:
    return queue_filter(criteria({"body": pattern}))(message(json.dumps(document)))


# https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html#filtering-syntax
@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ([None], [None], ["", 0, False]),
        ([""], [""], [None, " "]),
        (["Alice"], ["Alice", ["Bob", "Alice"]], ["alice", "Alice ", ["Bob"], []]),
        ([{"equals-ignore-case": "alice"}], ["ALICE", "alice"], ["alic"]),
        (["Credit", "Debit"], ["Credit", "Debit"], ["Cash"]),
        ([{"anything-but": ["Raining"]}], ["Sunny", 5, None], ["Raining", ["Raining"]]),
        ([{"anything-but": [5, 6]}], [7, "5"], [5, 6]),
        ([{"anything-but": {"prefix": ["a", "b"]}}], ["c", 1], ["ab", "ba"]),
        ([{"numeric": ["=", 100]}], [100, 100.0, 1e2], [101, "100"]),
        ([{"numeric": [">", 10, "<=", 20]}], [10.5, 20], [10, 20.1]),
        ([{"numeric": ["<", 5]}], [4.9, -1], [5]),
        ([{"exists": True}], ["x", None, 0], [[], {"a": 1}]),
        ([{"exists": False}], [[], {}], [None, "x"]),
        ([{"prefix": "us-"}], ["us-east-1"], ["eu-us-", 5]),
        ([{"prefix": {"equals-ignore-case": "us-"}}], ["US-east-1"], ["eu-"]),
        ([{"suffix": ".png"}], ["a.png"], ["png", ".PNG"]),
        ([300], [300], ["300"]),
        ([True], [True], [1, "true", False]),
    ],
)
def test_the_operators_of_the_guide(rule: Any, yes: list[Any], no: list[Any]) -> None:
    assert [value for value in yes if not passes({"field": rule}, {"field": value})] == []
    assert [value for value in no if passes({"field": rule}, {"field": value})] == []


def test_numbers_are_compared_as_they_are_written() -> None:
    keep = queue_filter({"Filters": [{"Pattern": '{"body": {"n": [300]}}'}]})
    assert [keep(message(f'{{"n": {text}}}')) for text in ("300", "300.0", "3.0e2")] == [True, False, False]


def test_fields_are_and_filters_are_or_and_or_is_or() -> None:
    both = {"Location": ["New York"], "Day": ["Monday"]}
    assert passes(both, {"Location": "New York", "Day": "Monday", "Hour": 5})
    assert not passes(both, {"Location": "New York"})
    either = {"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]}
    assert passes(either, {"Day": "Monday"})
    assert not passes(either, {"Day": "Sunday"})
    keep = queue_filter(criteria({"body": {"a": [1]}}, {"body": {"b": [{"exists": True}]}}))
    assert [keep(message(body)) for body in ('{"a": 1}', '{"b": 2}', '{"a": 2}')] == [True, True, False]


def test_nested_fields_lie_in_one_element() -> None:
    pattern = {"items": {"sku": ["x"], "count": [2]}}
    assert passes(pattern, {"items": [{"sku": "y"}, {"sku": "x", "count": 2}]})
    assert not passes(pattern, {"items": [{"sku": "x", "count": 1}, {"sku": "y", "count": 2}]})
    assert passes({"a": {"b": [{"exists": False}]}}, {"c": 1})


# https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html, "Properly filtering Amazon SQS messages"
@pytest.mark.parametrize(
    ("body", "pattern", "kept"),
    [
        ("hello", {"body": ["hello"]}, True),
        ("hello", {"body": [{"prefix": "x"}]}, False),
        ("hello", {"eventSource": ["aws:sqs"]}, True),
        ("hello", {"body": {"a": [{"exists": False}]}}, False),
        ('{"a": 1}', {"body": ['{"a": 1}']}, False),
        ('{"a": 1}', {"body": [{"exists": True}]}, False),
        ('{"a": 1}', {"eventSource": ["aws:sqs"]}, True),
        ('{"a": 1}', {"eventSource": ["aws:other"]}, False),
        ('{"a": 1}', {"body": {"a": [1]}}, True),
        ('{"a": NaN}', {"body": {"a": [{"exists": True}]}}, False),
        ("5", {"body": ["5"]}, True),
        ("hello", {"$or": [{"body": ["hello"]}, {"body": {"a": [1]}}]}, True),
        ('{"a": 1}', {"$or": [{"body": ["hello"]}, {"body": {"a": [1]}}]}, True),
        ('{"a": 2}', {"$or": [{"body": ["hello"]}, {"body": {"a": [1]}}]}, False),
    ],
)
def test_a_body_is_text_or_json_and_so_is_its_pattern(body: str, pattern: Any, kept: bool) -> None:
    assert queue_filter(criteria(pattern))(message(body)) is kept


# .../with-kinesis-filtering.html, "Properly filtering Kinesis records"
@pytest.mark.parametrize(
    ("data", "pattern", "kept"),
    [
        ('{"City": "Seattle"}', {"data": {"City": ["Seattle"]}}, True),
        ('{"City": "Seattle"}', {"data": {"City": ["Rome"]}}, False),
        ('{"City": "Seattle"}', {"partitionKey": ["1"]}, True),
        ("Seattle", {"partitionKey": ["1"]}, True),
        ("Seattle", {"partitionKey": ["2"]}, False),
        ("Seattle", {"data": {"City": [{"exists": False}]}}, False),
        (b"\xff", {"data": {"City": [{"exists": False}]}}, False),
        (b"\xff", {"eventSource": ["aws:kinesis"]}, True),
        ('{"City": "Seattle"}', {"partitionKey": ["1"], "data": {"City": [{"prefix": "Sea"}]}}, True),
        ("", {"approximateArrivalTimestamp": [{"numeric": [">", 1]}]}, True),
    ],
)
def test_records_of_a_stream(data: bytes | str, pattern: Any, kept: bool) -> None:
    assert stream_filter(criteria(pattern))(record(data)) is kept


@pytest.mark.parametrize("nothing", [None, {}, {"Filters": []}])
def test_no_filter_keeps_everything(nothing: Any) -> None:
    assert queue_filter(nothing)(message("x"))
    assert stream_filter(nothing)(record("x"))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"a": {}}',
        '{"a": []}',
        '{"a": 5}',
        '{"a": [[1]]}',
        '{"a": [{}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"a": [{"prefix": 5}]}',
        '{"a": [{"wildcard": "x*"}]}',
        '{"a": [{"cidr": "10.0.0.0/8"}]}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"anything-but": []}]}',
        '{"a": [{"anything-but": ["x", 1]}]}',
        '{"a": [{"anything-but": [true]}]}',
        '{"a": [{"numeric": []}]}',
        '{"a": [{"numeric": [">", "1"]}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": ["<", 1, ">", 2]}]}',
        '{"a": [{"numeric": [">", 2, "<", 1]}]}',
        '{"a": [{"numeric": ["!", 2]}]}',
        '{"a": [{"numeric": {"=": 1}}]}',
        '{"$or": [{"a": [1]}]}',
        '{"$or": {"a": [1]}}',
        '{"a": [NaN]}',
        '{"a": ["' + "x" * 4096 + '"]}',
    ],
)
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidFilterCriteria):
        queue_filter({"Filters": [{"Pattern": pattern}]})


def test_more_filters_than_any_quota_and_data_that_is_no_object_are_refused() -> None:
    queue_filter(criteria(*[{"body": ["x"]}] * 10))
    with pytest.raises(InvalidFilterCriteria, match="11 filters"):
        queue_filter(criteria(*[{"body": ["x"]}] * 11))
    with pytest.raises(InvalidFilterCriteria, match="data"):
        stream_filter(criteria({"data": ["x"]}))
    with pytest.raises(InvalidFilterCriteria, match="data"):
        stream_filter(criteria({"$or": [{"data": ["x"]}, {"data": {"a": [1]}}]}))


# What EventBridge's patterns and these have in common must be the same in the engine's matcher.

names = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(["x", "X", "xy", "yx", "", "z"])
numbers = st.integers(-2, 3)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
tests = st.one_of(
    scalars,
    st.fixed_dictionaries({"prefix": texts}),
    st.fixed_dictionaries({"suffix": texts}),
    st.fixed_dictionaries({"equals-ignore-case": texts}),
    st.fixed_dictionaries({"anything-but": st.one_of(st.lists(texts, min_size=1), st.lists(numbers, min_size=1))}),
    st.fixed_dictionaries({"anything-but": st.fixed_dictionaries({"prefix": texts.filter(bool)})}),
    numbers.map(lambda number: {"numeric": [">=", number]}),
    st.fixed_dictionaries({"exists": st.booleans()}),
)
leaves = st.lists(tests, min_size=1, max_size=3)
rules = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=5)
filters = st.dictionaries(names, rules, min_size=1, max_size=3)
values = st.one_of(scalars, st.lists(scalars, max_size=3))
documents = st.recursive(
    st.dictionaries(names, values, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(values, inner), max_size=3),
    max_leaves=5,
)


@given(filters, documents)
def test_the_engine_is_of_the_same_opinion(pattern: Any, document: Any) -> None:
    index: Index[str] = Index()
    try:
        index.add("it", event_pattern(json.dumps(pattern)))
    except ValueError:
        return
    assert passes(pattern, document) == bool(index.match(document))
