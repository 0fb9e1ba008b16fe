import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.matching import event_pattern
from broker.matching.event_patterns import complexities
from broker.matching.wildcard import Wildcard, WildcardIndex

from .asking import matches, refusal


def test_wildcard() -> None:
    assert matches([{"wildcard": "a*b"}], "ab", "axb", "a*b", "a", "abx", "AB", 1) == [True] * 3 + [False] * 4
    assert matches([{"wildcard": "*"}], "", "x", 1, None) == [True, True, False, False]
    assert matches([{"wildcard": "*/dir/*.png"}], "x/dir/a.png", "/dir/.png", "dir/a.png", "x/dir/a.png.gz") == (
        [True, True, False, False]
    )
    assert matches([{"wildcard": ""}], "", "x") == [True, False]
    assert matches([{"wildcard": "aba*aba"}], "aba", "ababa", "abaaba", "abaxaba") == [False, False, True, True]
    assert matches([{"wildcard": "*é*\n*"}], "xéy\nz", "é", "\né") == [True, False, False]


def test_escapes() -> None:
    assert matches([{"wildcard": "a\\*b*"}], "a*bc", "axbc") == [True, False]
    assert matches([{"wildcard": "a\\\\*"}], "a\\x", "ax") == [True, False]
    assert matches([{"wildcard": "\\*"}], "*", "x") == [True, False]


def test_refused() -> None:
    assert refusal({"a": [{"wildcard": "abc**def"}]}) == "Consecutive wildcard characters at pos 4"
    assert refusal({"a": [{"wildcard": "é**"}]}) == "Consecutive wildcard characters at pos 3"
    assert refusal({"a": [{"wildcard": "a\\x"}]}) == "Invalid escape character at pos 2"
    assert refusal({"a": [{"wildcard": "a\\"}]}) == "Invalid escape character at pos 2"
    assert refusal({"a": [{"wildcard": 1}]}) == "wildcard match pattern must be a string"


PIECES = st.lists(st.text("ab", max_size=6), min_size=1, max_size=5).filter(lambda p: all(p[1:-1]))


def expression(pieces: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in pieces))


@given(PIECES, st.text("ab", max_size=12))
def test_matches_as_an_expression_does(pieces: list[str], value: str) -> None:
    wildcard = Wildcard(tuple(pieces))
    assert wildcard.matches(value) == bool(expression(wildcard.pieces).fullmatch(value))


@given(st.lists(PIECES, min_size=1, max_size=40), st.lists(st.text("ab", max_size=20), max_size=8), st.integers())
def test_the_index_as_each_alone(all_pieces: list[list[str]], values: list[str], seed: int) -> None:
    index: WildcardIndex[int] = WildcardIndex()
    there = dict(enumerate(Wildcard(tuple(pieces)) for pieces in all_pieces))
    for target, wildcard in there.items():
        index.add(wildcard, target)
    for target in Random(seed).sample(sorted(there), len(there) // 2):
        index.remove(there.pop(target), target)
    for value in values:
        found: list[int] = []
        index.find(value, found)
        assert sorted(found) == [t for t, w in there.items() if expression(w.pieces).fullmatch(value)]
    for target, wildcard in there.items():
        index.remove(wildcard, target)
    assert not index._waiting
    assert not index._groups
    assert not index._beginnings


def test_complexity_is_counted_as_event_ruler_counts() -> None:
    """Its MachineComplexityEvaluator's answers, for one wildcard and for several on one field."""
    answers = {"a": 1, "a*": 2, "*a": 2, "a*b": 2, "*a*": 3, "*a*b*": 4, "*a*a*": 5, "*aa*aa*": 7, "*a*a*a*a*": 9}
    answers |= {"*ab*ab*ab*ab*ab*": 11, "*/*/*/*/*": 9, "abc*def*ghi": 3, "*a*b*c*d*e*": 7, "a*a*a*a*": 7, "*": 2}
    answers |= {"*aaaa*aaaa*": 11, "*.*.*.*.*.*.*.*.*.*": 19, "*a*a*a": 6, "": 1}
    for wildcard, expected in answers.items():
        pattern = event_pattern('{"a": [{"wildcard": "' + wildcard + '"}]}', max_complexity=100)
        assert complexities(pattern) == {"a": expected}, wildcard
    several = {('"*a*"', '"*b*"', '"*c*"'): 9, ('"a*"', '"b*"'): 2, ('"*a"', '"*b"'): 4, ('"*ab*"', '"*ac*"'): 6}
    for members, expected in several.items():
        clause = ", ".join(f'{{"wildcard": {member}}}' for member in members)
        assert complexities(event_pattern('{"a": [' + clause + "]}", max_complexity=100)) == {"a": expected}, members


def test_too_complex() -> None:
    four = [{"wildcard": f"*:stack/{name}/*"} for name in ("Api", "Worker", "Shared", "Monitoring")]
    assert refusal({"a": four[:3]}) == "accepted"
    assert refusal({"a": four}).startswith(
        "Rule is too complex - try using fewer wildcard characters or fewer repeating"
    )
    assert refusal({"a": [{"wildcard": "*a*a*a*a*a*a*"}]}).startswith("Rule is too complex")
