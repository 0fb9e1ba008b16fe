"""Document paths: `a.b[0]` as ("a", "b", 0). What reads, picks and changes parts of items by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.errors import ValidationException
from broker.tables.values import MISSING, Item, Value

Path = tuple[str | int, ...]
"""A name, then names of maps' members and indexes of lists' elements."""


def shown(path: Path) -> str:
    """As AWS quotes it."""
    return f"[{', '.join(f'[{part}]' if isinstance(part, int) else part for part in path)}]"


def look_up(item: Item, path: Path) -> Value:
    """The value at a path, or MISSING."""
    found: Any = item
    for part in path:
        if isinstance(part, int):
            if type(found) is not list or part >= len(found):
                return MISSING
        elif type(found) is not dict or part not in found:
            return MISSING
        found = found[part]
    return found


def pick(item: Item, paths: Iterable[Path]) -> Item:
    """An item of what these paths lead to. Lists close up around what is left."""
    tree: dict[Any, Any] = {}
    for path in paths:
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = None
    picked = _pick(item, tree)
    return {} if picked is MISSING else dict(picked)


def _pick(value: Value, tree: dict[Any, Any] | None) -> Value:
    if tree is None:
        return value
    if type(value) is dict:
        members = {
            name: part
            for name, below in tree.items()
            if name in value and (part := _pick(value[name], below)) is not MISSING
        }
        return members or MISSING
    if type(value) is list:
        at = sorted(part for part in tree if isinstance(part, int) and part < len(value))
        elements = [part for index in at if (part := _pick(value[index], tree[index])) is not MISSING]
        return elements or MISSING
    return MISSING


def check_apart(kind: str, paths: Iterable[Path]) -> None:
    """No path may be another's beginning, or take for a list what another takes for a map.

    Raises ValidationException.
    """
    whole: set[Path] = set()
    begun: dict[Path, Path] = {}  # what goes on somehow: the first path that does
    for path in paths:
        for length in range(len(path)):
            before = path[:length]
            if before in whole:
                raise _clash(kind, "overlap", before, path)
            first = begun.setdefault(before, path)
            if type(first[length]) is not type(path[length]):
                raise _clash(kind, "conflict", first, path)
        if path in whole or path in begun:
            raise _clash(kind, "overlap", begun.get(path, path), path)
        whole.add(path)


def _clash(kind: str, how: str, one: Path, other: Path) -> ValidationException:
    return ValidationException(
        f"Invalid {kind}: Two document paths {how} with each other; must remove or rewrite one of these paths; "
        f"path one: {shown(one)}, path two: {shown(other)}"
    )


def put(item: Item, path: Path, value: Value) -> None:
    """Sets what is at a path; beyond a list's end it is appended. Raises ValidationException."""
    parent, last = _parent(item, path), path[-1]
    if isinstance(last, int) and last >= len(parent):
        parent.append(value)
    else:
        parent[last] = value


def remove(item: Item, path: Path) -> None:
    """Takes away what is at a path, if something is. Raises ValidationException."""
    parent, last = _parent(item, path), path[-1]
    if not isinstance(last, int):
        parent.pop(last, None)
    elif last < len(parent):
        del parent[last]


def _parent(item: Item, path: Path) -> Any:
    parent = look_up(item, path[:-1])
    if type(parent) is not (list if isinstance(path[-1], int) else dict):
        raise ValidationException("The document path provided in the update expression is invalid for update")
    return parent
