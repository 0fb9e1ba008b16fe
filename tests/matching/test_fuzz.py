"""Whatever comes as a pattern is accepted or refused; nothing else ever happens, and not for long."""

import contextlib
import json
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.matching import Index, InvalidEventPattern, InvalidFilterPolicy, event_pattern, filter_policy
from broker.matching.filter_policies import Scope

from . import generate

KEYWORDS = [
    "prefix",
    "suffix",
    "numeric",
    "anything-but",
    "exists",
    "cidr",
    "wildcard",
    "equals-ignore-case",
    "exactly",
    "$or",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(["=", "<", ">="])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYWORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=30,
)
SCOPES: list[Scope] = ["MessageAttributes", "MessageBody"]
QUICK = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def take(text: str | bytes) -> None:
    pattern, refusal = None, "Event pattern is not valid. Reason: "
    try:
        pattern = event_pattern(text)
    except InvalidEventPattern as refused:
        refusal = str(refused)
    assert refusal.startswith("Event pattern is not valid. Reason: ")
    if pattern is not None:
        index: Index[int] = Index()
        index.add(1, pattern)
        index.match({"a": [{"b": 1}, "x"], "c": None})
        index.remove(1)
    for scope in SCOPES:
        with contextlib.suppress(InvalidFilterPolicy):
            filter_policy(text, scope)


@QUICK
@given(st.dictionaries(st.text(max_size=4) | st.just("$or"), JSON, max_size=4))
def test_json(value: object) -> None:
    take(json.dumps(value))


@QUICK
@given(st.lists(JSON, max_size=3))
def test_json_as_a_clause(value: object) -> None:
    take(json.dumps({"field": value}))


@QUICK
@given(st.text() | st.binary())
def test_anything(text: str | bytes) -> None:
    take(text)


BITS = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u12",
    "-",
    "0",
    ".",
    "e",
    "null",
    "tru",
    "\t",
    "\x01",
    "é",
    "😀",
    "\ud800",
    "/",
]


@QUICK
@given(st.integers(0, 2**32 - 1).map(Random))
def test_patterns_with_something_wrong(rng: Random) -> None:
    text = generate.pattern(rng)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice([*BITS, "", ""]) + text[at + rng.choice([0, 1, 5]) :]
    take(text)


def test_deep_and_wide() -> None:
    for text in ('{"a":' * 2000, '{"$or":[' * 2000, "[" * 4000, '{"a":[' + "[" * 4000, '{"a":[{"prefix":' * 200):
        take(text)
    take('{"a":[' + ",".join(['{"wildcard":"*a*b*"}'] * 200) + "]}")
    take('{"a":[{"wildcard":"' + "*a" * 2000 + '"}]}')
    take('{"a":[{"anything-but":{"wildcard":["' + '*","'.join("abcdefghij" * 20) + '"]}}]}')
    take('{"a":[' + "9" * 4000 + "]}")
    take('{"a":["' + "\\u0041" * 600 + '"]}')
    take(json.dumps({f"f{n}": {"$or": [{"a": [1]}, {"b": [1]}]} for n in range(80)}))
