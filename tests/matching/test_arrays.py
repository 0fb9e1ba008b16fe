"""Array consistency: what a rule matches in one array lies in one element of it."""

import json
import time

from broker.matching import Index, event_pattern

from .asking import pattern_matches

BANDS = {
    "employees": [{"first": "Thelonious", "last": "Monk"}, {"first": "John", "last": "Coltrane"}],
    "label": "Blue Note",
}


def test_fields_of_one_element() -> None:
    assert pattern_matches({"employees": {"first": ["John"], "last": ["Coltrane"]}}, BANDS)
    assert not pattern_matches({"employees": {"first": ["John"], "last": ["Monk"]}}, BANDS)
    assert pattern_matches({"employees": {"last": ["Monk"]}, "label": ["Blue Note"]}, BANDS)


def test_plain_values_have_no_element() -> None:
    assert pattern_matches({"a": ["x"], "b": ["y"]}, {"a": ["w", "x"], "b": ["y", "z"]})
    assert pattern_matches({"a": ["x"]}, {"a": [["w"], ["v", ["x"]]]})


def test_sibling_arrays_do_not_bind_each_other() -> None:
    event = {"a": [{"x": 1}, {"x": 2}], "b": [{"y": 1}, {"y": 2}]}
    assert pattern_matches({"a": {"x": [1]}, "b": {"y": [2]}}, event)


def test_arrays_in_arrays() -> None:
    event = {"a": [{"n": 1, "b": [{"x": 1, "y": 1}, {"x": 2, "y": 2}]}, {"n": 2, "b": [{"x": 3, "y": 4}]}]}
    assert pattern_matches({"a": {"n": [1], "b": {"x": [2], "y": [2]}}}, event)
    assert not pattern_matches({"a": {"n": [1], "b": {"x": [1], "y": [2]}}}, event)
    assert not pattern_matches({"a": {"n": [2], "b": {"x": [1]}}}, event)
    assert pattern_matches({"a": {"n": [2], "b": {"y": [4]}}}, event)


def test_absence_is_looked_for_in_the_element_chosen_before() -> None:
    event = {"a": [{"x": 1, "z": 1}, {"x": 2}]}
    assert pattern_matches({"a": {"x": [2], "z": [{"exists": False}]}}, event)
    assert not pattern_matches({"a": {"x": [1], "z": [{"exists": False}]}}, event)
    # By name, as event-ruler goes: nothing is chosen yet when "a.w" is looked for.
    assert not pattern_matches({"a": {"x": [2], "w": [{"exists": False}]}}, {"a": [{"x": 1, "w": 1}, {"x": 2}]})


def test_or_within_one_element() -> None:
    pattern = {"a": {"x": [2], "$or": [{"y": [1]}, {"z": [1]}]}}
    assert pattern_matches(pattern, {"a": [{"x": 1, "y": 1}, {"x": 2, "z": 1}]})
    assert not pattern_matches(pattern, {"a": [{"x": 1, "y": 1}, {"x": 2, "z": 2}]})


def test_a_dot_is_a_step() -> None:
    for event in ({"a": {"b": 1}}, {"a.b": 1}, {"a.b": [{"c": 2}, 1]}):
        assert pattern_matches({"a.b": [1]}, event)
        assert pattern_matches({"a": {"b": [1]}}, event)
    assert not pattern_matches({"a": {"b": [1]}}, {"a": {".b": 1}})


def test_deep_arrays_do_not_fill_the_memory() -> None:
    index: Index[int] = Index()
    index.add(1, event_pattern('{"a": {"x": [1], "y": [2]}}'))
    index.add(2, event_pattern('{"a": ["no", 7], "b": ["no"]}'))
    depth, width = 900, 20_000
    deep = '{"a": ' + "[[7]," * depth + '{"x": 1},' + "[7]," * width + '{"x": 1, "y": 2}' + "]" * depth + "}"
    started = time.process_time()
    assert index.match(deep) == {1}
    assert time.process_time() - started < 5


def test_long_arrays_take_time_in_proportion() -> None:
    def seconds(length: int) -> float:
        index: Index[int] = Index()
        index.add(1, event_pattern('{"a": {"x": [{"exists": true}], "y": ["no"]}, "b": {"x": [1], "y": ["no"]}}'))
        index.add(2, event_pattern('{"a": {"i": {"x": [{"exists": true}], "y": [{"anything-but": "yes"}], "z": [0]}}}'))
        event = {
            "a": [{"x": 1, "y": "yes", "i": [{"x": n, "y": n} for n in range(3)]} for _ in range(length)],
            "b": [{"x": 1, "y": "yes"} for _ in range(length)],
        }
        text = json.dumps(event)
        started = time.process_time()
        assert index.match(text) == set()
        return time.process_time() - started

    shorter, longer = (min(seconds(length) for _ in range(3)) for length in (800, 8000))
    assert longer < 40 * max(shorter, 0.004)
