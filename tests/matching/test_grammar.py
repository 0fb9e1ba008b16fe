"""$or, names, repeated keys, limits."""

import json

import pytest

from broker.matching import Index, InvalidEventPattern, event_pattern

from .asking import pattern_matches, refusal


def test_or() -> None:
    pattern = {"source": ["s"], "$or": [{"a": [1]}, {"b": {"c": [2]}, "d": [3]}]}
    assert pattern_matches(pattern, {"source": "s", "a": 1})
    assert pattern_matches(pattern, {"source": "s", "b": {"c": 2}, "d": 3})
    assert not pattern_matches(pattern, {"source": "s", "b": {"c": 2}})
    assert not pattern_matches(pattern, {"source": "t", "a": 1})


def test_or_at_any_depth_and_in_parallel() -> None:
    pattern = {
        "$or": [{"a": [1]}, {"a": [2], "$or": [{"b": [1]}, {"c": {"$or": [{"d": [1]}, {"e": [1]}]}}]}],
        "x": {"$or": [{"y": [1]}, {"z": [1]}]},
    }
    assert pattern_matches(pattern, {"a": 1, "x": {"z": 1}})
    assert pattern_matches(pattern, {"a": 2, "c": {"e": 1}, "x": {"y": 1}})
    assert not pattern_matches(pattern, {"a": 2, "x": {"y": 1}})
    assert not pattern_matches(pattern, {"a": 1})


def test_branches_that_share_values_lose_none() -> None:
    # event-ruler drops the 3 here: it takes the second branch for one it has already.
    assert pattern_matches({"$or": [{"a": [1, 2]}, {"a": [1, 3]}]}, {"a": 3})


def test_or_that_is_none_is_a_field() -> None:
    assert pattern_matches({"$or": {"a": [1]}}, {"$or": {"a": 1}})
    assert pattern_matches({"$or": [{"prefix": "x"}, {"suffix": "y"}]}, {"$or": "xa"})
    assert pattern_matches({"$or": ["x", 1]}, {"$or": 1})


def test_or_refused() -> None:
    assert refusal({"$or": [{"a": [1]}]}) == "There must have at least 2 Objects in $or relationship."
    assert refusal({"$or": [{"a": [1]}, [{"b": [1]}]]}) == "Only JSON object is allowed in array of $or relationship."
    assert refusal({"$or": {"a": 1}}) == "It must be an Array followed with $or."
    assert refusal({"$or": [{"a": [1]}, {}]}) == "Empty objects are not allowed"
    reserved = "numeric is Ruler reserved fieldName which cannot be used inside $or."
    assert refusal({"$or": [{"numeric": [1]}, {"a": [1], "b": 2}]}) == reserved


def test_of_a_repeated_key_the_last_counts() -> None:
    assert not pattern_matches('{"a": [1], "a": [2]}', {"a": 1})
    assert pattern_matches('{"a": [1], "a": [2]}', {"a": 2})
    assert pattern_matches('{"a": {"b": [1]}, "a.b": [2]}', {"a": {"b": 2}})
    # In the order they are written, with $or between them.
    assert pattern_matches('{"a": [3], "$or": [{"a": [1]}, {"b": [2]}]}', {"a": 1})
    assert not pattern_matches('{"$or": [{"a": [1]}, {"b": [2]}], "a": [3]}', {"a": 1})
    assert pattern_matches('{"a": ["y"]}', '{"a": "x", "a": "y"}')


def test_empty_names() -> None:
    assert pattern_matches({"": [1]}, {"": 1})
    assert pattern_matches({"": {"a": [1]}}, {"a": 1})  # event-ruler's way to join names


def test_what_follows_the_pattern_is_not_read() -> None:
    assert pattern_matches('{"a": [1]} trailing', {"a": 1})


def test_or_multiplies_up_to_a_limit() -> None:
    def parallel(count: int) -> str:
        return json.dumps({f"f{n}": {"$or": [{"a": [1]}, {"b": [1]}]} for n in range(count)})

    assert len(event_pattern(parallel(9)).rules) == 512
    assert refusal(parallel(10)).startswith("Rule is too complex")
    assert refusal(parallel(60)).startswith("Rule is too complex")


def test_size() -> None:
    longest = '{"a": ["' + "x" * (4096 - 11) + '"]}'
    assert len(longest) == 4096
    assert refusal(longest) == "accepted"
    assert refusal(longest.replace("x", "xx", 1)) == "Event pattern is longer than 4096 characters"
    with pytest.raises(InvalidEventPattern):
        event_pattern(longest, max_chars=2048)


def test_fields() -> None:
    fields = {f"{n:x}": [1] for n in range(256)}
    assert refusal(fields) == "accepted"
    assert refusal({**fields, "more": [1]}) == "Size of rule exceeds max value of 256"


def test_bytes() -> None:
    assert event_pattern('{"a": ["é"]}'.encode()).rules == event_pattern('{"a": ["é"]}').rules
    with pytest.raises(InvalidEventPattern):
        event_pattern(b'{"a": ["\xff"]}')


def test_a_key_that_is_there_gets_the_new_pattern() -> None:
    index: Index[str] = Index()
    index.add("k", event_pattern('{"a": [1]}'))
    index.add("k", event_pattern('{"$or": [{"a": [2]}, {"a": [3]}, {"a": [3]}]}'))
    assert (index.match({"a": 1}), index.match({"a": 2}), index.match({"a": 3})) == (set(), {"k"}, {"k"})
    assert "k" in index
    assert len(index) == 1
    index.remove("k")
    assert index.match({"a": 2}) == set()
    assert "k" not in index
    with pytest.raises(KeyError):
        index.remove("k")
