"""equals-ignore-case, and that the key of its index is the same for everything a pattern stands for."""

import sys

from broker.matching.ignore_case import Letters, fold

from .asking import matches, refusal


def test_equals_ignore_case() -> None:
    clause = [{"equals-ignore-case": "aBc"}]
    assert matches(clause, "abc", "ABC", "aBc", "abcd", "ab", 1, None) == [True, True, True, False, False, False, False]


def test_beyond_ascii_it_is_one_character_at_a_time() -> None:
    assert matches([{"equals-ignore-case": "straße"}], "STRASSE", "STRAßE", "strasse") == [True, True, False]
    assert matches([{"equals-ignore-case": "STRASSE"}], "straße", "strasse") == [False, True]
    assert matches([{"equals-ignore-case": "\u212a"}], "k", "K", "\u212a") == [True, False, True]
    assert matches([{"equals-ignore-case": "ǅ"}], "ǅ", "ǆ", "Ǆ") == [False, True, True]
    assert matches([{"equals-ignore-case": "Σς"}], "σΣ", "ΣΣ", "σς", "σσ") == [True, True, True, False]


def test_beyond_the_basic_plane_event_ruler_has_no_case_and_no_character() -> None:
    assert matches([{"equals-ignore-case": "😀"}], "😀", "??") == [False, True]


def test_both_cases_of_every_character_have_its_key() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        assert fold(char.lower()) == fold(char.upper()) == fold(char)


def test_letters() -> None:
    letters = Letters("aß")
    assert [letters.equal(v) for v in ("aß", "ASS", "Ass")] == [True, True, False]
    assert [letters.begin(v) for v in ("aßx", "ASSx", "xaß")] == [True, True, False]
    assert [letters.end(v) for v in ("xaß", "xASS", "aßx")] == [True, True, False]


def test_refused() -> None:
    assert refusal({"a": [{"equals-ignore-case": ["x"]}]}) == "equals-ignore-case match pattern must be a string"
    assert refusal({"a": [{"equals-ignore-case": "x", "b": 1}]}) == "Only one key allowed in match expression"
