"""JSON paths, as far as EventBridge takes them: InputPath, InputPathsMap, and what a pipe's templates name.

The guide ("Amazon EventBridge input transformation") lists dot notation, dashes, underscores, letters and digits,
forward slashes, array indices and wildcards; the API adds names in brackets. A negative index counts from the end. Of
the JSONPath that AWS refers to, what the list leaves out is refused: `..`, slices, unions, filters, functions.

A path with a wildcard finds a list, of all there is behind it, and be it empty. One without finds a value or MISSING.
"""

import re
from typing import Any, Final, NoReturn


class InvalidPath(ValueError):
    """`reason` says what is wrong, and where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""Nothing is there. (Null is something.)"""


class _Wildcard:
    def __repr__(self) -> str:
        return "*"


_WILDCARD: Final = _Wildcard()
_Step = str | int | _Wildcard

_NAME = re.compile(r"""[^\s.\[\](){}<>,?@*'"\\]+""")
_INDEX = re.compile(r"-?[0-9]{1,9}")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class JsonPath:
    """A compiled path. `compile_path` makes it."""

    __slots__ = ("steps", "text")

    def __init__(self, text: str, steps: tuple[_Step, ...]) -> None:
        self.text = text
        self.steps = steps

    def find(self, event: Any) -> Any:
        """What lies there in a parsed JSON value: one of its values, a new list (of a wildcard), or MISSING."""
        value = event
        for number, step in enumerate(self.steps):
            if isinstance(step, _Wildcard):
                return _find_all(value, self.steps[number:])
            value = _down(value, step)
            if value is MISSING:
                break
        return value

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"


def compile_path(text: str) -> JsonPath:
    """Raises InvalidPath."""
    if not text.startswith("$"):
        raise InvalidPath("A JSON path must start with '$'")
    steps: list[_Step] = []
    at = 1
    while at < len(text):
        if text[at] == ".":
            step, at = _dotted(text, at + 1)
        elif text[at] == "[":
            step, at = _bracketed(text, at + 1)
        else:
            _fail(text, at, "expected '.' or '['")
        steps.append(step)
    return JsonPath(text, tuple(steps))


def _dotted(text: str, at: int) -> tuple[_Step, int]:
    if text.startswith("*", at):
        return _WILDCARD, at + 1
    name = _NAME.match(text, at)
    if name is None:
        _fail(text, at, "expected a name or '*'")
    return name[0], name.end()


def _bracketed(text: str, at: int) -> tuple[_Step, int]:
    step: _Step
    if text.startswith("*", at):
        step, end = _WILDCARD, at + 1
    elif quoted := _QUOTED.match(text, at):
        step, end = _ESCAPE.sub(r"\1", quoted[1] if quoted[2] is None else quoted[2]), quoted.end()
    elif index := _INDEX.match(text, at):
        step, end = int(index[0]), index.end()
    else:
        _fail(text, at, "expected an index, a quoted name or '*'")
    if not text.startswith("]", end):
        _fail(text, end, "expected ']'")
    return step, end + 1


def _fail(text: str, at: int, expected: str) -> NoReturn:
    found = f"'{text[at]}'" if at < len(text) else "the end"
    raise InvalidPath(f"Unexpected {found} at position {at} of JSON path '{text}': {expected}")


def _down(value: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return value.get(step, MISSING) if isinstance(value, dict) else MISSING
    if isinstance(value, list) and -len(value) <= step < len(value):
        return value[step]
    return MISSING


def _find_all(value: Any, steps: tuple[_Step, ...]) -> list[Any]:
    found = [value]
    for step in steps:
        if not isinstance(step, _Wildcard):
            found = [inner for outer in found if (inner := _down(outer, step)) is not MISSING]
        else:
            found = [inner for outer in found for inner in _children(outer)]
    return found


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
