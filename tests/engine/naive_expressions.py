"""DynamoDB's conditions and updates once more, as plainly as can be: trees of tuples over DynamoDB's own JSON.

Nothing of `broker.tables` is used here. `text_of_*` writes a tree down as an expression, with as few parentheses as
AWS's precedence allows.
"""

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction
from typing import Any

Tree = tuple[Any, ...]
Document = dict[str, Any]


class Refused(Exception):
    """DynamoDB would answer ValidationException."""


# looking ------------------------------------------------------------------------------------------


def find(item: Document, path: Tree) -> Document | None:
    here: Document | None = {"M": item}
    for part in path:
        if here is None:
            return None
        if isinstance(part, int):
            elements = here.get("L", [])
            here = elements[part] if part < len(elements) else None
        else:
            here = here.get("M", {}).get(part)
    return here


def plain(document: Document) -> Any:
    """Something that is equal for equal values and for no others."""
    ((kind, part),) = document.items()
    match kind:
        case "N":
            return kind, Fraction(part)
        case "NS":
            return kind, frozenset(map(Fraction, part))
        case "SS" | "BS":
            return kind, frozenset(part)
        case "L":
            return kind, tuple(map(plain, part))
        case "M":
            return kind, frozenset((name, plain(value)) for name, value in part.items())
    return kind, part


def operand(tree: Tree, item: Document) -> Document | None:
    match tree:
        case ("value", document):
            return document  # type: ignore[no-any-return]
        case ("path", path):
            return find(item, path)
        case ("size", path):
            found = find(item, path)
            if found is None:
                return None
            ((kind, part),) = found.items()
            return {"N": str(len(part))} if kind in ("S", "SS", "NS", "BS", "L", "M") else None
    raise AssertionError(tree)


def holds(tree: Tree, item: Document) -> bool:
    match tree:
        case ("and", *parts):
            return all(holds(part, item) for part in parts)
        case ("or", *parts):
            return any(holds(part, item) for part in parts)
        case ("not", part):
            return not holds(part, item)
        case ("exists", path):
            return find(item, path) is not None
        case ("not_exists", path):
            return find(item, path) is None
        case ("type", path, kind):
            found = find(item, path)
            return found is not None and list(found) == [kind]
        case ("compare", sign, left, right):
            return compares(sign, operand(left, item), operand(right, item))
        case ("between", value, low, high):
            one, least, most = (operand(each, item) for each in (value, low, high))
            return compares(">=", one, least) and compares("<=", one, most)
        case ("in", value, *choices):
            one = operand(value, item)
            return any(compares("=", one, operand(choice, item)) for choice in choices)
        case ("begins_with", value, beginning):
            one, other = operand(value, item), operand(beginning, item)
            return (
                one is not None
                and other is not None
                and "S" in one
                and "S" in other
                and one["S"].startswith(other["S"])
            )
        case ("contains", value, part):
            return contains(operand(value, item), operand(part, item))
    raise AssertionError(tree)


def compares(sign: str, one: Document | None, other: Document | None) -> bool:
    equal = one is not None and other is not None and plain(one) == plain(other)
    if sign in ("=", "<>"):
        return equal == (sign == "=")
    if one is None or other is None or list(one) != list(other) or next(iter(one)) not in ("S", "N"):
        return False
    if equal:
        return "=" in sign
    left, right = (plain(each)[1] for each in (one, other))
    if isinstance(left, str):
        left, right = left.encode(), right.encode()
    return bool(left < right) == sign.startswith("<")


def contains(whole: Document | None, part: Document | None) -> bool:
    if whole is None or part is None:
        return False
    ((kind, elements),) = whole.items()
    match kind:
        case "S":
            return "S" in part and part["S"] in elements
        case "SS" | "NS":
            return list(part) == [kind[0]] and plain(part)[1] in plain(whole)[1]
        case "L":
            return any(plain(element) == plain(part) for element in elements)
    return False


# changing -----------------------------------------------------------------------------------------


def updated(actions: list[Tree], item: Document) -> Document:
    """Raises Refused."""
    result = deepcopy(item)
    wanted = [(action[1], target(action, item)) for action in actions]
    for path, document in sorted(((p, d) for p, d in wanted if d is not None), key=lambda pair: str(pair[0])):
        parent = parent_of(result, path)
        if isinstance(path[-1], int):
            if path[-1] < len(parent):
                parent[path[-1]] = document
            else:
                parent.append(document)
        else:
            parent[path[-1]] = document
    gone: dict[int, tuple[list[Any], set[int]]] = {}
    for path in [p for p, d in wanted if d is None]:
        parent = parent_of(result, path)
        if isinstance(path[-1], int):
            gone.setdefault(id(parent), (parent, set()))[1].add(path[-1])
        else:
            parent.pop(path[-1], None)
    for elements, indexes in gone.values():
        elements[:] = [element for index, element in enumerate(elements) if index not in indexes]
    return result


def parent_of(item: Document, path: Tree) -> Any:
    parent = find(item, path[:-1])
    members = (parent or {}).get("L" if isinstance(path[-1], int) else "M")
    if members is None:
        raise Refused
    return members


def target(action: Tree, item: Document) -> Document | None:
    """What stands at the action's path afterwards, or None."""
    match action:
        case ("set", _, value):
            return computed(value, item)
        case ("remove", _):
            return None
        case ("add", path, value):
            old = find(item, path)
            if old is None:
                return value  # type: ignore[no-any-return]
            if list(old) != list(value):
                raise Refused
            if "N" in old:
                return number(Fraction(old["N"]) + Fraction(value["N"]))
            ((kind, part),) = old.items()
            return {kind: sorted({*part, *value[kind]})}
        case ("delete", path, value):
            old = find(item, path)
            if old is None:
                return None
            if list(old) != list(value):
                raise Refused
            ((kind, part),) = old.items()
            left = [element for element in part if element not in value[kind]]
            return {kind: left} if left else None
    raise AssertionError(action)


def computed(tree: Tree, item: Document) -> Document:
    match tree:
        case ("sum", sign, left, right):
            one, other = computed(left, item), computed(right, item)
            if "N" not in one or "N" not in other:
                raise Refused
            return number(Fraction(one["N"]) + Fraction(other["N"]) * (1 if sign == "+" else -1))
        case ("if_not_exists", path, otherwise):
            return find(item, path) or computed(otherwise, item)
        case ("list_append", left, right):
            one, other = computed(left, item), computed(right, item)
            if "L" not in one or "L" not in other:
                raise Refused
            return {"L": one["L"] + other["L"]}
    found = operand(tree, item)
    if found is None:
        raise Refused
    return deepcopy(found)


def number(value: Fraction) -> Document:
    assert value.denominator == 1
    return {"N": str(value.numerator)}


# writing down -------------------------------------------------------------------------------------


class Writer:
    """Writes trees as expressions, and collects the placeholders. `named` are the names that get one."""

    def __init__(self, named: set[str]) -> None:
        self._named = named
        self.names: dict[str, str] = {}
        self.values: dict[str, Document] = {}

    def path(self, path: Tree) -> str:
        text = ""
        for part in path:
            if isinstance(part, int):
                text += f"[{part}]"
            else:
                text += ("." if text else "") + self._name(part)
        return text

    def _name(self, name: str) -> str:
        if name not in self._named:
            return name
        self.names[f"#{name}"] = name
        return f"#{name}"

    def value(self, document: Document) -> str:
        key = f":v{len(self.values)}"
        self.values[key] = document
        return key

    def operand(self, tree: Tree) -> str:
        match tree:
            case ("value", document):
                return self.value(document)
            case ("path", path):
                return self.path(path)
            case ("size", path):
                return f"size({self.path(path)})"
            case ("sum", sign, left, right):
                return f"{self.operand(left)} {sign} {self.operand(right)}"
            case ("if_not_exists", path, otherwise):
                return f"if_not_exists({self.path(path)}, {self.operand(otherwise)})"
            case ("list_append", left, right):
                return f"list_append({self.operand(left)},{self.operand(right)})"
        raise AssertionError(tree)

    def condition(self, tree: Tree, around: int = 0) -> str:
        """`around` is how tightly what stands around it binds: 1 OR, 2 AND, 3 NOT."""
        match tree:
            case ("or" | "and" as word, *parts):
                strength = 1 if word == "or" else 2
                text = f" {word.upper()} ".join(self.condition(part, strength) for part in parts)
                return f"({text})" if strength < around else text
            case ("not", part):
                return f"NOT {self.condition(part, 3)}"
            case ("exists", path):
                return f"attribute_exists({self.path(path)})"
            case ("not_exists", path):
                return f"attribute_not_exists ( {self.path(path)} )"
            case ("type", path, kind):
                return f"attribute_type({self.path(path)}, {self.value({'S': kind})})"
            case ("compare", sign, left, right):
                return f"{self.operand(left)}{sign}{self.operand(right)}"
            case ("between", value, low, high):
                return f"{self.operand(value)} between {self.operand(low)} and {self.operand(high)}"
            case ("in", value, *choices):
                return f"{self.operand(value)} IN ({', '.join(map(self.operand, choices))})"
            case (function, value, other):
                return f"{function}({self.operand(value)}, {self.operand(other)})"
        raise AssertionError(tree)

    def update(self, actions: list[Tree]) -> str:
        sections: dict[str, list[str]] = {}
        for action in actions:
            match action:
                case ("set", path, value):
                    text = f"{self.path(path)} = {self.operand(value)}"
                case ("remove", path):
                    text = self.path(path)
                case (_, path, value):
                    text = f"{self.path(path)} {self.value(value)}"
            sections.setdefault(action[0], []).append(text)
        return " ".join(f"{name.upper()} {', '.join(texts)}" for name, texts in sections.items())
