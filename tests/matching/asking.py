"""One pattern, one event, yes or no."""

import json
from typing import Any

from broker.matching import Index, InvalidEventPattern, event_pattern


def matches(clause: list[Any], *values: Any) -> list[bool]:
    """Whether `{"field": clause}` matches an event whose field has each of the values (JSON text stays as it is)."""
    index: Index[str] = Index()
    index.add("rule", event_pattern(json.dumps({"field": clause}, ensure_ascii=False)))
    return [bool(index.match('{"field": ' + as_json(value) + "}")) for value in values]


class Written(str):
    """JSON as it stands."""


def as_json(value: Any) -> str:
    return str(value) if isinstance(value, Written) else json.dumps(value, ensure_ascii=False)


def pattern_matches(pattern: Any, event: Any) -> bool:
    index: Index[str] = Index()
    index.add("rule", event_pattern(pattern if isinstance(pattern, str) else json.dumps(pattern)))
    return bool(index.match(event if isinstance(event, str) else json.dumps(event)))


def refusal(pattern: Any) -> str:
    """The reason why a pattern is refused, without the place."""
    try:
        event_pattern(pattern if isinstance(pattern, str) else json.dumps(pattern))
    except InvalidEventPattern as error:
        return error.reason.partition("\n")[0]
    return "accepted"
