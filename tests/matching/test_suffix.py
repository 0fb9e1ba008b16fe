from .asking import matches, refusal


def test_suffix() -> None:
    assert matches([{"suffix": ".png"}], "a.png", ".png", "png", "a.PNG", "a.pngx", 1, ["x", "y.png"]) == (
        [True, True, False, False, False, False, True]
    )
    assert matches([{"suffix": ""}], "", "x", 1, None) == [True, True, False, False]
    assert matches([{"suffix": "本"}], "日本", "本日", "本") == [True, False, True]


def test_the_opening_quote_counts() -> None:
    assert matches([{"suffix": '"ab'}], "ab", 'x"ab', "xab") == [True, True, False]


def test_ignoring_case() -> None:
    assert matches([{"suffix": {"equals-ignore-case": ".png"}}], "a.PNG", "a.pNg", "a.jpg") == [True, True, False]
    assert matches([{"suffix": {"equals-ignore-case": "ß"}}], "xß", "xSS", "xss", "SS", "S") == (
        [True, True, False, True, False]
    )


def test_refused() -> None:
    assert refusal({"a": [{"suffix": 1}]}) == "suffix match pattern must be a string"
    assert refusal({"a": [{"suffix": {"prefix": "x"}}]}) == "Unsupported suffix pattern: prefix"
    assert refusal({"a": [{"suffix": {}}]}) == "Suffix expression name not found"
