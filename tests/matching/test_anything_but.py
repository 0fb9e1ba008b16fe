import json

from broker.matching import Index, event_pattern

from .asking import matches, refusal


def test_strings() -> None:
    assert matches([{"anything-but": "a"}], "a", "b", "", 1, True, None) == [False, True, True, True, True, True]
    assert matches([{"anything-but": ["a", "b"]}], "a", "b", "c", 1) == [False, False, True, True]


def test_numbers() -> None:
    assert matches([{"anything-but": 1}], 1, 1.0, 2, "1", None) == [False, False, True, True, True]
    assert matches([{"anything-but": [1, 2.5]}], 1, 2.5, 3, 12345678901234567890) == [False, False, True, True]


def test_a_field_without_a_value_is_no_other_value() -> None:
    assert matches([{"anything-but": "a"}], [], {}, [[]]) == [False, False, False]


def test_one_other_element_is_enough() -> None:
    assert matches([{"anything-but": "a"}], ["a"], ["a", "b"]) == [False, True]


def test_inside() -> None:
    assert matches([{"anything-but": {"prefix": "in"}}], "init", "out", 1) == [False, True, True]
    assert matches([{"anything-but": {"suffix": [".a", ".b"]}}], "x.a", "x.b", "x.c") == [False, False, True]
    assert matches([{"anything-but": {"equals-ignore-case": ["no", "É"]}}], "NO", "é", "yes") == [False, False, True]
    assert matches([{"anything-but": {"wildcard": "*/lib/*"}}], "a/lib/b", "a/bin/b", None) == [False, True, True]


def test_several_in_one_clause_are_alternatives() -> None:
    assert matches([{"anything-but": "a"}, {"anything-but": "b"}], "a", "b", "c") == [True, True, True]
    assert matches([{"anything-but": ["a", "b"]}, {"anything-but": ["b", "c"]}], "a", "b", "c") == [True, False, True]


def test_many_that_deny_the_same() -> None:
    index: Index[int] = Index()
    for key in range(100):
        index.add(key, event_pattern(json.dumps({"x": [{"anything-but": ["shared", f"own-{key}"]}]})))
    index.add(100, event_pattern('{"x": [{"anything-but": "else"}]}'))
    for _ in range(2):  # the second time it is remembered
        assert index.match('{"x": "shared"}') == {100}
        assert index.match('{"x": "own-7"}') == set(range(101)) - {7}
        assert index.match('{"x": "other"}') == set(range(101))
        assert index.match('{"x": ["shared", "own-7"]}') == set(range(101)) - {7}
    index.remove(100)
    assert index.match('{"x": "shared"}') == set()
    index.add(7, event_pattern('{"x": [{"anything-but": {"prefix": "own"}}]}'))
    assert index.match('{"x": "shared"}') == {7}
    assert index.match('{"x": 0}') == index.match('{"x": false}') == set(range(100))


def test_refused() -> None:
    mixed = "Inside anything but list, either all values are number or string, mixed type is not supported"
    assert refusal({"a": [{"anything-but": [1, "a"]}]}) == refusal({"a": [{"anything-but": []}]}) == mixed
    only = "Value of anything-but must be an array or single string/number value."
    assert refusal({"a": [{"anything-but": None}]}) == refusal({"a": [{"anything-but": True}]}) == only
    assert refusal({"a": [{"anything-but": [None]}]}).startswith("Inside anything but list, start|null|boolean")
    assert refusal({"a": [{"anything-but": {}}]}) == "Anything-But expression name not found"
    assert refusal({"a": [{"anything-but": {"numeric": 1}}]}) == "Unsupported anything-but pattern: numeric"
    assert refusal({"a": [{"anything-but": {"prefix": ""}}]}) == "Null prefix/suffix not allowed"
    assert refusal({"a": [{"anything-but": {"suffix": ["a", ""]}}]}) == "Null prefix/suffix not allowed"
    assert refusal({"a": [{"anything-but": {"prefix": 1}}]}) == "prefix/suffix match pattern must be a string"
    assert refusal({"a": [{"anything-but": {"wildcard": "a**"}}]}) == "Consecutive wildcard characters at pos 2"
    assert refusal({"a": [{"anything-but": {"prefix": []}}]}) == "Empty arrays are not allowed"
    assert refusal('{"a": [{"anything-but": 1e999}]}') == "Cannot compare number : 1e999"
    assert refusal({"a": [{"anything-but": "x", "b": 1}]}) == "Too many elements in numeric expression"
    assert refusal({"a": [{"anything-but": {"prefix": "x", "b": 1}}]}) == "Too many elements in numeric expression"
