"""anything-but: every value the field has, of whatever type, except those denied.

Denied may be strings or numbers (one of them or a list, not mixed), or strings by prefix, suffix, wildcard or
equals-ignore-case (one or a list). A number never equals a denied string, so it passes; null and booleans pass.

The index turns it round: the denied values are indexed, a value finds who denies it, and all others have matched.
Where those others are few, they are remembered by value, so that many rules that deny the same value cost nothing.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from . import ignore_case, prefix, suffix, wildcard
from .exact import Exact, Literal
from .ignore_case import EqualsIgnoreCase
from .numeric import Number, NumberText, comparable
from .prefix import Prefix
from .suffix import Suffix
from .tokens import Malformed, Tokens
from .wildcard import Wildcard

if TYPE_CHECKING:
    from .field import FieldIndex

T = TypeVar("T", bound=Hashable)

KEYWORD = "anything-but"
_REMEMBERED = 512

Denied = Exact | Literal | Number | Prefix | Suffix | EqualsIgnoreCase | Wildcard


@dataclass(frozen=True, slots=True)
class AnythingBut:
    denied: frozenset[Denied]


def parse(tokens: Tokens) -> AnythingBut:
    kind, within = tokens.next(), ""
    if kind == "{":
        if tokens.next() != "name":
            tokens.fail("Anything-But expression name not found")
        within = tokens.text
        if within not in (ignore_case.KEYWORD, prefix.KEYWORD, suffix.KEYWORD, wildcard.KEYWORD):
            tokens.fail(f"Unsupported anything-but pattern: {within}")
        kind = tokens.next()
    if kind not in ("[", "string", "number"):
        tokens.fail("Value of anything-but must be an array or single string/number value.")
    if within:
        texts = _texts(tokens, within) if kind == "[" else [_text(tokens, within)]
        denied = frozenset(_denied(tokens, text, within) for text in texts)
        if tokens.next() != "}":
            tokens.fail("Too many elements in numeric expression")
        return AnythingBut(denied)
    if kind == "[":
        return AnythingBut(_values(tokens))
    if kind == "string":
        return AnythingBut(frozenset({Exact(tokens.text)}))
    value = comparable(tokens.text)
    if value is None:
        raise Malformed(f"Cannot compare number : {tokens.text}")
    return AnythingBut(frozenset({Number(value)}))


def _values(tokens: Tokens) -> frozenset[Denied]:
    strings: set[Denied] = set()
    numbers: set[Denied] = set()
    try:
        while (kind := tokens.next()) != "]":
            if kind == "string":
                strings.add(Exact(tokens.text))
            elif kind == "number":
                value = comparable(tokens.text)
                if value is None:
                    raise Malformed(f"Cannot compare number : {tokens.text}")
                numbers.add(Number(value))
            else:
                tokens.fail("Inside anything but list, start|null|boolean is not supported.")
    except Malformed as error:
        tokens.fail(error.reason)  # event-ruler says where twice
    if bool(strings) == bool(numbers):
        tokens.fail("Inside anything but list, either all values are number or string, mixed type is not supported")
    return frozenset(strings or numbers)


def _texts(tokens: Tokens, within: str) -> list[str]:
    texts = []
    try:
        while tokens.next() != "]":
            texts.append(_text(tokens, within))
    except Malformed as error:
        tokens.fail(error.reason)
    if not texts:  # event-ruler compiles it, then fails to add it
        tokens.fail("Empty arrays are not allowed")
    return texts


def _text(tokens: Tokens, within: str) -> str:
    if tokens.kind != "string":
        if within == ignore_case.KEYWORD:
            tokens.fail("Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.")
        if within == wildcard.KEYWORD:
            tokens.fail("wildcard match pattern must be a string")
        tokens.fail("prefix/suffix match pattern must be a string")
    if not tokens.text and within in (prefix.KEYWORD, suffix.KEYWORD):
        tokens.fail("Null prefix/suffix not allowed")
    return tokens.text


def _denied(tokens: Tokens, text: str, within: str) -> Denied:
    if within == prefix.KEYWORD:
        return Prefix(text)
    if within == suffix.KEYWORD:
        return Suffix(text)
    if within == wildcard.KEYWORD:
        return wildcard.parse_text(tokens, text)
    return EqualsIgnoreCase(text)


class _Denial(Generic[T]):
    """One test's targets, which what it denies does not reach."""

    __slots__ = ("targets",)

    def __init__(self) -> None:
        self.targets: dict[T, None] = {}


class AnythingButIndex(Generic[T]):
    __slots__ = ("_denied", "_remembered", "_targets", "_tests")

    def __init__(self, denied: "FieldIndex[_Denial[T]]") -> None:
        self._denied = denied
        self._tests: dict[AnythingBut, _Denial[T]] = {}
        self._targets: dict[T, int] = {}  # counted: one target may have several of these tests
        self._remembered: dict[object, list[T]] = {}

    def add(self, test: AnythingBut, target: T) -> None:
        denial = self._tests.get(test)
        if denial is None:
            denial = self._tests[test] = _Denial()
            self._denied.add(test.denied, denial)
        denial.targets[target] = None
        self._targets[target] = self._targets.get(target, 0) + 1
        self._remembered.clear()

    def remove(self, test: AnythingBut, target: T) -> None:
        denial = self._tests[test]
        del denial.targets[target]
        if not denial.targets:
            del self._tests[test]
            self._denied.remove(test.denied, denial)
        self._targets[target] -= 1
        if not self._targets[target]:
            del self._targets[target]
        self._remembered.clear()

    def find(self, value: str | int | float | bool | NumberText | None, out: list[T]) -> None:
        kept = self._remembered.get((value, type(value)))
        if kept is not None:
            out.extend(kept)
            return
        found: list[_Denial[T]] = []
        self._denied.find(value, found)
        if not found:
            out.extend(self._targets)
            return
        denials = set(found)
        if len(denials) == 1:  # the common case: all but the targets of one test
            denied = found[0].targets
            out.extend(target for target, tests in self._targets.items() if tests > 1 or target not in denied)
            return
        kept = [target for denial in self._tests.values() if denial not in denials for target in denial.targets]
        out.extend(kept)
        if len(kept) < len(denials):
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[value, type(value)] = kept

    def __len__(self) -> int:
        return len(self._tests)
