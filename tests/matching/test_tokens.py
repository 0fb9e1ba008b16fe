"""AWS's error texts to the column: as EventBridge was seen to answer, and as event-ruler 2.0.1 (Jackson 2.21) says."""

import pytest

from broker.matching import InvalidEventPattern, event_pattern
from broker.matching.tokens import MAX_DEPTH, Malformed, Tokens


def reason(pattern: str) -> str:
    with pytest.raises(InvalidEventPattern) as refused:
        event_pattern(pattern)
    return refused.value.reason


def test_as_eventbridge_was_seen_to_answer() -> None:
    pattern = '{"source": ["aws.health"], "detail": {}}'
    with pytest.raises(InvalidEventPattern) as refused:
        event_pattern(pattern)
    assert str(refused.value) == (
        "Event pattern is not valid. Reason: Empty objects are not allowed\n"
        ' at [Source: (String)"{"source": ["aws.health"], "detail": {}}"; line: 1, column: 40]'
    )


@pytest.mark.parametrize(
    ("pattern", "message", "line", "column"),
    [
        ("", "Filter is not an object", 1, 1),
        ("   ", "Filter is not an object", 1, 4),
        ('"x"', "Filter is not an object", 1, 2),
        ("[]", "Filter is not an object", 1, 2),
        ('{"a":"x"}', '"a" must be an object or an array', 1, 7),
        ('{"a":null}', '"a" must be an object or an array', 1, 10),
        ('{"a":[1],\n "b":{"c":\n  "x"}}', '"c" must be an object or an array', 3, 4),
        ('{"a":[1],\r\n "b":\r1}', '"b" must be an object or an array', 3, 2),
        ('{"a":[]}', "Empty arrays are not allowed", 1, 8),
        ('{"a":[[1]]}', "Match value must be String, number, true, false, or null", 1, 8),
        ('{"a":[{}]}', "Match expression name not found", 1, 9),
        ('{"a":[{"foo":"x"}]}', "Unrecognized match type foo", 1, 15),
        ('{"a":[{"prefix":"x","b":1}]}', "Only one key allowed in match expression", 1, 26),
        ('{"a":[{"numeric":["=",1,2]}]}', "Too many elements in numeric expression", 1, 26),
        ('{"a":["😀"],"b":1}', '"b" must be an object or an array', 1, 18),
        ('{"a":[1,]}', "Unexpected character (']' (code 93)): expected a valid value (JSON String, Number, Array, "
         "Object or token 'null', 'true' or 'false')", 1, 9),
        ('{"a" [1]}', "Unexpected character ('[' (code 91)): was expecting a colon to separate field name and value",
         1, 6),
        ("{'a':[1]}", "Unexpected character (''' (code 39)): was expecting double-quote to start field name", 1, 2),
        ('{"a":[1],}', "Unexpected character ('}' (code 125)): was expecting double-quote to start field name", 1, 10),
        ('{"a":[1 2]}', "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries", 1, 9),
        ('{"a":["x]}', "Unexpected end-of-input: was expecting closing quote for a string value", 1, 11),
        ('{"a', "Unexpected end-of-input in field name", 1, 4),
        ('{"a":', "Unexpected end-of-input within/between Object entries", 1, 6),
        ('{"a":["\\x"]}', "Unrecognized character escape 'x' (code 120)", 1, 9),
        ('{"a":[tru]}', "Unrecognized token 'tru': was expecting (JSON String, Number, Array, Object or token 'null', "
         "'true' or 'false')", 1, 7),
        ('{"a":[01]}', "Invalid numeric value: Leading zeroes not allowed", 1, 8),
        ('{"a":[1.5e+]}', "Unexpected character (']' (code 93)) in numeric value: Exponent indicator not followed by a "
         "digit", 1, 8),
        ('{"a":[NaN]}', "Non-standard token 'NaN': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow", 1, 10),
    ],
)  # fmt: skip
def test_where(pattern: str, message: str, line: int, column: int) -> None:
    assert reason(pattern) == f'{message}\n at [Source: (String)"{pattern}"; line: {line}, column: {column}]'


def test_the_start_of_what_is_not_closed() -> None:
    assert reason('{"a":[1') == (
        'Unexpected end-of-input: expected close marker for Array (start marker at [Source: (String)"{"a":[1"; '
        'line: 1, column: 6])\n at [Source: (String)"{"a":[1"; line: 1, column: 8]'
    )
    assert reason('{"a":[}').startswith(
        "Unexpected close marker '}': expected ']' (for Array starting at [Source: "
        '(String)"{"a":[}"; line: 1, column: 6])'
    )


def test_what_is_quoted_of_the_source() -> None:
    assert reason('{"' + "a" * 700 + '":1}').endswith('"[truncated 206 chars]; line: 1, column: 706]')
    assert '"{"a":["\\u0009"]}"' in reason('{"a":["\t"]}')


def test_inside_a_list_event_ruler_says_where_twice() -> None:
    at = '\n at [Source: (String)"{"a":[{"anything-but":[true]}]}"; line: 1, column: 28]'
    assert reason('{"a":[{"anything-but":[true]}]}') == (
        "Inside anything but list, start|null|boolean is not supported." + at + at
    )


def test_depth() -> None:
    deepest = '{"a":' * (MAX_DEPTH - 1) + "[1]" + "}" * (MAX_DEPTH - 1)
    assert event_pattern(deepest).rules[0][0][0] == ".".join("a" * (MAX_DEPTH - 1))
    assert reason('{"a":' * 700).startswith(f"Document nesting depth ({MAX_DEPTH + 1}) exceeds the maximum allowed")
    assert reason('{"$or":[' * 500).startswith("Document nesting depth")


def test_tokens() -> None:
    tokens = Tokens(' {"a" : [ "b\\n\\ud83d\\ude00", -1.50e3, null ] , "": {} } rest')
    kinds: list[tuple[str, str]] = []
    while not kinds or tokens._open:
        kinds.append((tokens.next(), tokens.text))
    assert kinds == [
        *[("{", "{"), ("name", "a"), ("[", "["), ("string", "b\n😀"), ("number", "-1.50e3"), ("null", "null")],
        *[("]", "]"), ("name", ""), ("{", "{"), ("}", "}"), ("}", "}")],
    ]
    with pytest.raises(Malformed):
        tokens.next()
