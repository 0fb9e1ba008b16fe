"""An event as an index sees it: for each field that some pattern names, the values it has and where they lie.

A field's name is its path joined by dots, and a dot in a key is as good as a step: `{"a": {"b": 1}}` and `{"a.b": 1}`
both have a field `a.b`. Objects and empty arrays are no values. Of two equal keys in one object the last counts.
Only what patterns name is walked into, and nothing here recurses: an event may nest as deep as its parser allows.
"""

import json
import re
from typing import Any, NoReturn

import orjson

from .arrays import ANYWHERE, Place
from .field import Value
from .numeric import NumberText, comparable, number

Fields = dict[str, list[Value]]

# Where orjson may have rounded: a literal of 16 characters or more (15 digits survive a double), or one near zero.
_LONG = re.compile(r"[0-9][-+.0-9eE]{15,}")
_LONG_BYTES = re.compile(_LONG.pattern.encode())
_SMALLEST_NORMAL = 2.2250738585072014e-308

# So many arrays around a value are told apart. A thousand around each of many would fill the memory.
_DEEPEST = 64


class Step:
    """A place in the tree of the names in use. `name` is empty unless a pattern names this very field."""

    __slots__ = ("children", "field", "name", "uses")

    def __init__(self, name: str) -> None:
        self.name = name
        self.field = False
        self.uses = 0
        self.children: dict[str, Step] = {}

    def down(self, key: str) -> "Step | None":
        """Along the steps of a key with dots in it."""
        step: Step | None = self
        for part in key.split("."):
            step = step.children.get(part) if step else None
        return step


class Reader:
    """The names in use, each counted."""

    def __init__(self) -> None:
        self._root = Step("")
        self._uses: dict[str, int] = {}

    def use(self, name: str) -> None:
        self._uses[name] = self._uses.get(name, 0) + 1
        if self._uses[name] > 1:
            return
        step = self._root
        for part in name.split("."):
            step = step.children.setdefault(part, Step(name))
            step.uses += 1
        step.name, step.field = name, True

    def disuse(self, name: str) -> None:
        self._uses[name] -= 1
        if self._uses[name]:
            return
        del self._uses[name]
        step = self._root
        for part in name.split("."):
            parent, step = step, step.children[part]
            step.uses -= 1
            if not step.uses:
                del parent.children[part]
        step.field = False

    def read(self, event: bytes | str | dict[str, Any]) -> tuple[Fields, dict[str, list[Place]]]:
        """The values of each field in use, and where they lie for those that have one inside an array's object.

        Raises ValueError for what is not a JSON object.
        """
        if isinstance(event, dict):
            fields, places, _ = self._walk(event)
            return fields, places
        try:
            parsed = orjson.loads(event)
        except orjson.JSONDecodeError:
            parsed = _loads_exactly(event)  # numbers beyond a double, halves of a surrogate pair
        if type(parsed) is not dict:
            raise ValueError("Event must be a JSON object")
        fields, places, floats = self._walk(parsed)
        if floats and _rounds(event, floats):
            fields, places, _ = self._walk(_loads_exactly(event))
        return fields, places

    def _walk(self, event: dict[str, Any]) -> tuple[Fields, dict[str, list[Place]], list[float]]:
        fields: Fields = {}
        places: dict[str, list[Place]] = {}
        floats: list[float] = []
        arrays = 0
        stack: list[tuple[Step, Any, Place]] = [(self._root, event, ANYWHERE)]
        while stack:
            step, container, place = stack.pop()
            if type(container) is dict:
                children = step.children
                for key, value in container.items():
                    child = children.get(key)
                    if child is None:
                        if "." not in key:
                            continue
                        child = step.down(key)
                        if child is None:
                            continue
                    kind = type(value)
                    if kind is dict or kind is list:
                        stack.append((child, value, place))
                    elif child.field:
                        name = child.name
                        if kind is float:
                            floats.append(value)
                        values = fields.get(name)
                        if values is None:
                            values = fields[name] = [value]
                        else:
                            values.append(value)
                        if place or places:
                            _note(places, name, len(values), place)
            else:
                field = step.field
                told_apart = len(container) > 1 and len(place) < _DEEPEST
                for element, value in enumerate(container):
                    kind = type(value)
                    if kind is dict or kind is list:
                        stack.append((step, value, (*place, (arrays, element)) if told_apart else place))
                    elif field:
                        if kind is float:
                            floats.append(value)
                        values = fields.setdefault(step.name, [])
                        values.append(value)
                        if place or places:
                            _note(places, step.name, len(values), place)
                arrays += 1
        return fields, places, floats


def _note(places: dict[str, list[Place]], name: str, count: int, place: Place) -> None:
    known = places.get(name)
    if known is not None:
        known.append(place)
    elif place:
        places[name] = [ANYWHERE] * (count - 1) + [place]


def _rounds(event: bytes | str, floats: list[float]) -> bool:
    """Whether one of the floats may stand for a literal that event-ruler could not compare."""
    sizes = {abs(value) for value in floats}
    literals = _LONG.findall(event) if isinstance(event, str) else _LONG_BYTES.findall(event)
    for literal in set(literals):
        try:
            size = float(literal)
        except ValueError:  # digits and dots inside a string
            continue
        if size in sizes:
            text = literal if isinstance(literal, str) else literal.decode()
            if text != repr(size) and comparable(text) is None:
                return True
    if min(sizes) < _SMALLEST_NORMAL:
        return ("e-" in event or "E-" in event) if isinstance(event, str) else (b"e-" in event or b"E-" in event)
    return False


def _loads_exactly(event: bytes | str) -> Any:
    try:
        return json.loads(event, parse_float=number, parse_int=_integer, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("Event is nested too deep") from None


def _integer(text: str) -> int | float | NumberText:
    return int(text) if len(text) < 16 else number(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"Non-standard token '{text}'")
