"""Numbers: by value where event-ruler can compare them, by their digits where it cannot."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching.numeric import NumberText, comparable, number, ordered

from .asking import Written, matches, pattern_matches, refusal


def written(*texts: str) -> list[Written]:
    return [Written(text) for text in texts]


def test_equal_by_value() -> None:
    assert matches([1], *written("1", "1.0", "10e-1", "0.1e1", "1.5", '"1"', "true")) == [True] * 4 + [False] * 3
    assert matches([0], *written("0", "-0", "0.0", "-0.0", "0e9", "1e-400")) == [True] * 5 + [False]
    assert matches([301.8], *written("301.8", "3.018e2", "301.80")) == [True] * 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("0.10", 0.1),
        ("-0", 0.0),
        ("9007199254740993", None),  # no double
        ("1152921504606846976", None),  # a double, but not by its shortest decimal
        ("1.152921504606847e18", 1.152921504606847e18),
        ("0.1000000000000000055", None),
        ("1e308", 1e308),
        ("1e309", None),
        ("1e-400", None),
        ("0e-400", 0.0),
        ("1e99999999999999999999", None),
        ("1e-99999999999999999999", None),
    ],
)
def test_comparable(text: str, value: float | None) -> None:
    assert comparable(text) == value
    assert number(text) == (NumberText(text) if value is None else value)


def test_what_cannot_be_compared_equals_its_own_digits() -> None:
    pattern = '{"field": [12345678901234567890]}'
    assert pattern_matches(pattern, '{"field": 12345678901234567890}')
    assert not pattern_matches(pattern, '{"field": 12345678901234567891}')
    assert not pattern_matches(pattern, '{"field": 1.2345678901234567e19}')
    assert pattern_matches('{"field": [1e400]}', '{"field": 1e400}')
    assert not pattern_matches('{"field": [0.1]}', '{"field": 0.1000000000000000055}')
    assert not pattern_matches('{"field": [{"numeric": ["<", 1]}]}', '{"field": -12345678901234567891}')
    assert not pattern_matches('{"field": [{"numeric": ["<", 1]}]}', '{"field": 1e-400}')


def test_ranges() -> None:
    values = [-1, 0, 0.5, 5, 5.0001, "3", None, [9, 3]]
    assert matches([{"numeric": [">", 0, "<=", 5]}], *values) == [False, False, True, True, False, False, False, True]
    assert matches([{"numeric": [">=", 0, "<", 5]}], *values) == [False, True, True, False, False, False, False, True]
    assert matches([{"numeric": ["<", 0]}], *values) == [True] + [False] * 7
    assert matches([{"numeric": ["<=", 0]}], *values) == [True, True] + [False] * 6
    assert matches([{"numeric": [">", 5]}], *values) == [False] * 4 + [True, False, False, True]
    assert matches([{"numeric": [">=", 5]}], *values) == [False] * 3 + [True, True, False, False, True]
    assert matches([{"numeric": ["=", 5e0]}], *values) == [False] * 3 + [True] + [False] * 4
    assert matches([{"numeric": ["<", 0]}], *written("-0.0", "-1e-300", "-1.7976931348623157e308")) == [
        False,
        True,
        True,
    ]


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS)
def test_ordered_keeps_the_order(one: float, other: float) -> None:
    assert (ordered(one) < ordered(other)) == (one < other)
    assert (ordered(one) == ordered(other)) == (one == other)
    assert 0 <= ordered(one) < 2**64


@given(FLOATS)
def test_every_double_is_comparable_as_it_prints(value: float) -> None:
    assert comparable(repr(value)) == value


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_comparable_means_equal_to_the_shortest_decimal_of_the_nearest_double(text: str) -> None:
    nearest = float(text)
    exact = math.isfinite(nearest) and Fraction(repr(nearest)) == Fraction(text)
    assert comparable(text) == (nearest if exact else None)


def test_refused() -> None:
    def reason(members: str) -> str:
        return refusal('{"a": [{"numeric": ' + members + "}]}")

    assert reason("1") == "Value of numeric must be an array."
    assert reason("[]") == "Invalid member in numeric match: ]"
    assert reason("[1]") == "Invalid member in numeric match: 1"
    assert reason('["="]') == reason('["=", "1"]') == "Value of equals must be numeric"
    assert reason('["<>", 1]') == "Unrecognized numeric range operator: <>"
    assert reason('["<", true]') == "Value of < must be numeric"
    assert reason('["<", 1, ">", 0]') == reason('["=", 1, "<", 2]') == "Too many elements in numeric expression"
    assert reason('[">", 1, 2]') == "Bad value in numeric range: 2"
    assert reason('[">", 1, ">", 2]') == "Bad numeric range operator: >"
    assert reason('[">", 1, "<", "2"]') == "Value of < must be numeric"
    assert reason('[">", 1, "<", 2, "<", 3]') == "Too many terms in numeric range expression"
    assert reason('[">", 1, "<", 1.0]') == reason('[">", 2, "<", 1]') == "Bottom must be less than top"
    assert reason('["<", 1e400]') == "Cannot compare number : 1e400"
    assert reason('["=", 1], "b": 2') == "Too many elements in numeric expression"
