"""Exact strings and literals: equal or not, and never across types."""

from .asking import Written, matches, pattern_matches


def test_a_string_equals_itself_only() -> None:
    assert matches(["ab"], "ab", "AB", "ab ", "abc", "", None, True) == [True] + [False] * 6
    assert matches([""], "", "x", None) == [True, False, False]


def test_literals_are_not_their_names() -> None:
    assert matches([True], True, False, "true", 1) == [True, False, False, False]
    assert matches([False], False, 0, "", None) == [True, False, False, False]
    assert matches([None], None, "null", False, 0) == [True, False, False, False]
    assert matches(["true", "null"], True, None, "true", "null") == [False, False, True, True]


def test_any_member_will_do_and_any_element() -> None:
    assert matches(["a", "b", None], "a", "b", None, "c", ["c", "b"], ["c"], []) == [True] * 3 + [
        False,
        True,
        False,
        False,
    ]


def test_escapes_and_unicode_are_compared_as_characters() -> None:
    assert matches(['é\n"\\'], Written('"\\u00e9\\n\\"\\\\"')) == [True]
    assert matches(["😀"], Written('"\\ud83d\\ude00"'), "😀") == [True, True]


def test_exactly() -> None:
    # An address written so stays text; without it, it is an address.
    assert matches([{"exactly": "10.0.0.1"}], "10.0.0.1", "10.0.0.01") == [True, False]
    assert matches(["10.0.0.1"], "10.0.0.1", "10.0.0.01") == [True, True]


def test_all_fields_must_match() -> None:
    pattern = {"a": ["x"], "b": {"c": ["y"]}}
    assert pattern_matches(pattern, {"a": "x", "b": {"c": "y", "d": 1}, "e": 2})
    assert not pattern_matches(pattern, {"a": "x", "b": {"c": "z"}})
    assert not pattern_matches(pattern, {"a": "x"})
