from .asking import matches, refusal


def test_prefix() -> None:
    assert matches([{"prefix": "ab"}], "ab", "abc", "a", "xab", "AB", 12, None, ["x", "abz"]) == (
        [True, True, False, False, False, False, False, True]
    )
    assert matches([{"prefix": ""}], "", "x", 1, None) == [True, True, False, False]


def test_several_lengths_at_once() -> None:
    clause = [{"prefix": "a"}, {"prefix": "abc"}, {"prefix": "b"}]
    assert matches(clause, "a", "ab", "abcd", "bb", "c") == [True, True, True, True, False]


def test_the_closing_quote_counts() -> None:
    # As in event-ruler: the value still has its quotes on.
    assert matches([{"prefix": 'ab"'}], "ab", 'ab"c', "abc") == [True, True, False]


def test_ignoring_case() -> None:
    clause = [{"prefix": {"equals-ignore-case": "aé"}}]
    assert matches(clause, "aéx", "AÉX", "Aé", "ae", "xaé") == [True, True, True, False, False]
    assert matches([{"prefix": {"equals-ignore-case": "ß"}}], "ßx", "SSx", "ssx") == [True, True, False]
    assert matches([{"prefix": {"equals-ignore-case": "k"}}], "K", "\u212a", "ka") == [True, False, True]


def test_refused() -> None:
    assert refusal({"a": [{"prefix": 1}]}) == "prefix match pattern must be a string"
    assert refusal({"a": [{"prefix": ["x"]}]}) == "prefix match pattern must be a string"
    assert refusal({"a": [{"prefix": "x", "suffix": "y"}]}) == "Only one key allowed in match expression"
    assert refusal({"a": [{"prefix": {}}]}) == "Prefix expression name not found"
    assert refusal({"a": [{"prefix": {"wildcard": "x"}}]}) == "Unsupported prefix pattern: wildcard"
    assert (
        refusal({"a": [{"prefix": {"equals-ignore-case": 1}}]}) == "equals-ignore-case match pattern must be a string"
    )
