from .asking import matches, pattern_matches, refusal


def test_true() -> None:
    assert matches([{"exists": True}], "x", "", None, False, [None], [], {}, [[]], {"y": 1}, [{"y": 1}]) == (
        [True] * 5 + [False] * 5
    )
    assert not pattern_matches({"a": [{"exists": True}]}, {})


def test_false() -> None:
    assert matches([{"exists": False}], "x", "", None, [None], [], {}, [[]], {"y": 1}, [{"y": 1}]) == (
        [False] * 4 + [True] * 5
    )
    assert pattern_matches({"a": [{"exists": False}]}, {})
    assert pattern_matches({"a": {"b": [{"exists": False}]}}, {"a": "not an object"})


def test_absent_or_a_value() -> None:
    clause = [{"exists": False}, "x"]
    assert matches(clause, "x", "y", []) == [True, False, True]
    assert pattern_matches({"a": clause}, {"b": 1})


def test_absent_beside_others() -> None:
    pattern = {"a": [{"exists": False}], "b": ["x"], "c": [{"exists": False}]}
    assert pattern_matches(pattern, {"b": "x"})
    assert not pattern_matches(pattern, {"b": "x", "c": 1})
    assert not pattern_matches(pattern, {"b": "y"})


def test_refused() -> None:
    assert refusal({"a": [{"exists": "true"}]}) == "exists match pattern must be either true or false."
    assert refusal({"a": [{"exists": True, "b": 1}]}) == "Only one key allowed in match expression"
