"""Events as text, as bytes and parsed; what is no event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching import Index, event_pattern

from . import naive
from .asking import pattern_matches

ANY: Index[str] = Index()
ANY.add("any", event_pattern('{"a": [{"exists": true}]}'))


@pytest.mark.parametrize(
    "event", ["", "[]", "1", "null", '"a"', "{", '{"a": }', '{"a": NaN}', '{"a": 1} x', "[" * 5000]
)
def test_no_event(event: str) -> None:
    for form in (event, event.encode()):
        with pytest.raises(ValueError):  # noqa: PT011  # from orjson, json or the index
            ANY.match(form)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        ANY.match(b'{"a": "\xff"}')


def test_deep_events() -> None:
    deep = "[" * 1000 + "1" + "]" * 1000
    assert ANY.match('{"a": ' + deep + "}") == {"any"}
    assert pattern_matches({"a": {"b": [1]}}, '{"a":' * 1 + '{"b": 1}' + "}")
    assert ANY.match('{"b": ' + '{"c":' * 1000 + "1" + "}" * 1001) == set()


def test_what_orjson_does_not_take() -> None:
    assert ANY.match('{"a": "\\ud800"}') == {"any"}  # half a pair
    assert ANY.match('{"a": 1e400}') == {"any"}


@pytest.mark.parametrize(
    "other", ["0.1", "-0.1000000000000000055", "1e-5", '"0.1000000000000000055"', "1.2.3.4.5.6.7.8.9"]
)
def test_numbers_that_a_parser_rounds(other: str) -> None:
    index: Index[str] = Index()
    index.add("value", event_pattern('{"a": [0.1]}'))
    index.add("text", event_pattern('{"a": [0.1000000000000000055]}'))
    index.add("wide", event_pattern('{"a": [123456789012345678901234567890]}'))
    other = f'"{other}"' if other.count(".") > 1 else other
    for form in (str, str.encode):
        assert index.match(form('{"a": 0.1, "b": ' + other + "}")) == {"value"}
        assert index.match(form('{"b": ' + other + ', "a": 0.1000000000000000055}')) == {"text"}
        assert index.match(form('{"a": 123456789012345678901234567890, "b": ' + other + "}")) == {"wide"}
        assert index.match(form('{"a": 1e-400, "b": ' + other + "}")) == set()


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(NUMBERS, st.lists(NUMBERS, max_size=3))
def test_any_number_as_it_is_written(written: str, others: list[str]) -> None:
    event = '{"b": [' + ", ".join(others) + '], "a": ' + written + "}"
    for literal in [written, *others]:
        pattern = '{"a": [' + literal + "]}"
        assert pattern_matches(pattern, event) == naive.matches(pattern, event)


def test_parsed_events() -> None:
    assert pattern_matches({"a": [9007199254740993]}, {"a": 9007199254740993})
    index: Index[str] = Index()
    index.add("k", event_pattern('{"a": [9007199254740993, {"numeric": [">", 5]}]}'))
    assert index.match({"a": 9007199254740993}) == {"k"}
    assert index.match({"a": 9007199254740995}) == set()
    assert index.match({"a": 6.5}) == {"k"}
    assert index.match({"a": float("inf")}) == index.match({"a": float("nan")}) == set()
    assert index.match(json.loads('{"a": [{"b": 1}, 7]}')) == {"k"}
