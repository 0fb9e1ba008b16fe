"""Lambda's filter criteria: which records of a queue or stream a function is given.

Each pattern is compiled to a predicate over a record (pure). The rule: a record is given if any pattern matches it, and
a pattern matches if every field it names has a value that passes any of its tests. A number is what is written, as
Lambda's guide says: 300 is not 300.0, but `numeric` compares values.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
Ugly: what is "valid JSON" is said nowhere. Here it is an object or an array; a body of `5` is a plain string.
"""

from __future__ import annotations

import base64
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

MOST_FILTERS = (
    10  # five, unless AWS has raised the quota: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
)
MOST_CHARS = 4096  # of a pattern, by the API's model

Keep = Callable[[Mapping[str, Any]], bool]


class InvalidFilterCriteria(ValueError):
    """Lambda would refuse to create the mapping."""


class _Number(NamedTuple):
    text: str

    @property
    def value(self) -> Decimal:
        return Decimal(self.text)


def queue_filter(criteria: Mapping[str, Any] | None) -> Keep:
    """Of `FilterCriteria`, as CreateEventSourceMapping takes it, for records as Lambda gives them of a queue.

    Where a pattern's `body` is an object, a body that is no JSON does not match it; where it is a list, one that is
    JSON does not.
    """
    patterns = _patterns(criteria, "body")
    if patterns is None:
        return _everything

    def keep(record: Mapping[str, Any]) -> bool:
        document = _parsed(json.dumps({**record, "body": None}))
        document["body"] = _data(record["body"])
        return any(pattern(document) for pattern in patterns)

    return keep


def stream_filter(criteria: Mapping[str, Any] | None) -> Keep:
    """The same for records of a Kinesis stream. `data` is what its base64 says; fields beside it are named as it is.

    Raises InvalidFilterCriteria also where a pattern's `data` is not an object.
    """
    patterns = _patterns(criteria, "data", must_be_json=True)
    if patterns is None:
        return _everything

    def keep(record: Mapping[str, Any]) -> bool:
        kinesis = {**record["kinesis"], "data": None}
        document = _parsed(json.dumps({**record, "kinesis": None, **kinesis}))
        try:
            document["data"] = _data(base64.b64decode(record["kinesis"]["data"]).decode())
        except UnicodeDecodeError:
            document["data"] = None
        return any(pattern(document) for pattern in patterns)

    return keep


def _everything(record: Mapping[str, Any]) -> bool:
    return True


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _data(text: str) -> Any:
    """An object or an array, or the text."""
    try:
        parsed = _parsed(text)
    except (ValueError, RecursionError):
        return text
    return parsed if isinstance(parsed, (dict, list)) else text


# Compiling ----------------------------------------------------------------------------------------

_Document = Mapping[str, Any]
_Match = Callable[[_Document], bool]
_Test = Callable[[Sequence[Any]], bool]  # of a field's values, which may be none


def _patterns(criteria: Mapping[str, Any] | None, data: str, *, must_be_json: bool = False) -> list[_Match] | None:
    filters = (criteria or {}).get("Filters") or []
    if len(filters) > MOST_FILTERS:
        raise InvalidFilterCriteria(f"{len(filters)} filters are more than {MOST_FILTERS}")
    compiled = []
    for one in filters:
        text = one.get("Pattern") or ""
        if len(text) > MOST_CHARS:
            raise InvalidFilterCriteria(f"a pattern has at most {MOST_CHARS} characters")
        try:
            pattern = _parsed(text)
        except ValueError as error:
            raise InvalidFilterCriteria(f"not JSON: {text!r}: {error}") from None
        compiled.append(_fields(pattern, "", data, must_be_json))
    return compiled or None


def _fields(pattern: Any, path: str, data: str = "", must_be_json: bool = False) -> _Match:
    """`data` is the name of the field whose content is the sender's: at the top only."""
    if not isinstance(pattern, dict) or not pattern:
        raise InvalidFilterCriteria(f"{path or 'a pattern'} is an object with at least one field")
    matches = []
    for name, rule in pattern.items():
        where = f"{path}.{name}" if path else name
        if name == "$or":
            matches.append(_any_of(rule, path, data, must_be_json))
        elif isinstance(rule, dict):
            matches.append(_nested(name, _fields(rule, where), is_data=name == data))
        elif isinstance(rule, list) and rule:
            if name == data and must_be_json:
                raise InvalidFilterCriteria(f"{where} is not JSON: it must be an object")
            matches.append(_leaf(name, [_test(test, where) for test in rule], is_data=name == data))
        else:
            raise InvalidFilterCriteria(f"{where} is an object, or a list of at least one test")
    return lambda document: all(match(document) for match in matches)


def _any_of(branches: Any, path: str, data: str, must_be_json: bool) -> _Match:
    if not isinstance(branches, list) or len(branches) < 2:
        raise InvalidFilterCriteria("$or is a list of at least two objects")
    matches = [_fields(branch, path, data, must_be_json) for branch in branches]
    return lambda document: any(match(document) for match in matches)


def _nested(name: str, inner: _Match, *, is_data: bool) -> _Match:
    def match(document: _Document) -> bool:
        value = document.get(name)
        if is_data and not isinstance(value, (dict, list)):
            return False
        return any(inner(one) for one in _objects(value) or [{}])  # in nothing at all, a field does not exist either

    return match


def _leaf(name: str, tests: Sequence[_Test], *, is_data: bool) -> _Match:
    def match(document: _Document) -> bool:
        value = document.get(name, _MISSING)
        if is_data and not isinstance(value, str):
            return False
        values = [] if value is _MISSING else _scalars(value)
        return any(test(values) for test in tests)

    return match


_MISSING = object()


def _objects(value: Any) -> list[_Document]:
    if isinstance(value, dict):
        return [value]
    return [found for one in value for found in _objects(one)] if _is_array(value) else []


def _scalars(value: Any) -> list[Any]:
    if _is_array(value):
        return [found for one in value for found in _scalars(one)]
    return [] if isinstance(value, dict) else [value]


def _is_array(value: Any) -> bool:
    return isinstance(value, list)


# Tests --------------------------------------------------------------------------------------------


def _test(test: Any, where: str) -> _Test:
    if not isinstance(test, (dict, list)):
        return lambda values: test in values
    if not isinstance(test, dict) or len(test) != 1:
        raise InvalidFilterCriteria(f"{where}: a test is a value, or an object of one operator")
    ((name, argument),) = test.items()
    if name == "exists":
        if not isinstance(argument, bool):
            raise InvalidFilterCriteria(f"{where}: exists is true or false")
        return lambda values: bool(values) is argument
    if name == "anything-but":
        denied = _denied(argument, where)
        return lambda values: any(not denied(value) for value in values)
    if name == "numeric":
        in_range = _range(argument, where)
        return lambda values: any(isinstance(value, _Number) and in_range(value.value) for value in values)
    passes = _text(name, argument, where)
    return lambda values: any(isinstance(value, str) and passes(value) for value in values)


def _text(name: str, argument: Any, where: str) -> Callable[[str], bool]:
    ignores_case = (
        isinstance(argument, dict) and set(argument) == {"equals-ignore-case"} and name != next(iter(argument))
    )
    wanted = argument["equals-ignore-case"] if ignores_case else argument
    compare = _TEXTS.get(name)
    if compare is None or not isinstance(wanted, str):
        raise InvalidFilterCriteria(f"{where}: {name} {argument!r} is not an operator of Lambda's")
    if ignores_case or name == "equals-ignore-case":
        folded = wanted.lower()
        return lambda value: compare(value.lower(), folded)
    return lambda value: compare(value, wanted)


_TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
    "equals-ignore-case": operator.eq,
}


def _denied(argument: Any, where: str) -> Callable[[Any], bool]:
    if isinstance(argument, dict) and len(argument) == 1:
        ((name, texts),) = argument.items()
        passes = [_text(name, text, where) for text in (texts if isinstance(texts, list) else [texts])]
        return lambda value: isinstance(value, str) and any(one(value) for one in passes)
    values = argument if isinstance(argument, list) else [argument]
    if not values or {type(value) for value in values} not in ({str}, {_Number}):
        raise InvalidFilterCriteria(f"{where}: anything-but has strings or numbers, or one operator")
    return lambda value: value in values


_COMPARISONS: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _range(argument: Any, where: str) -> Callable[[Decimal], bool]:
    bounds = argument if isinstance(argument, list) else []
    names, numbers = bounds[::2], bounds[1::2]
    known = all(isinstance(name, str) for name in names) and all(isinstance(number, _Number) for number in numbers)
    shape = [name[:1] for name in names] if known else []
    if (
        len(names) != len(numbers)
        or not set(names) <= set(_COMPARISONS)
        or shape not in (["="], ["<"], [">"], [">", "<"])
    ):
        raise InvalidFilterCriteria(f'{where}: numeric is like ["=", 1], [">", 1] or [">=", 1, "<", 2]')
    tests = [(_COMPARISONS[name], number.value) for name, number in zip(names, numbers, strict=True)]
    if len(tests) == 2 and tests[0][1] >= tests[1][1]:
        raise InvalidFilterCriteria(f"{where}: no number is in that range")
    return lambda value: all(compare(value, bound) for compare, bound in tests)
