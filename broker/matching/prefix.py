"""prefix, and prefix with equals-ignore-case inside.

A value costs one look-up for each length of prefix in use, whatever their number. event-ruler compares with the
closing quote still on the value, so a prefix that ends in a quote also equals the whole value before it; here too.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import ignore_case
from .ignore_case import LettersOf, fold
from .tables import Beginnings
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "prefix"


@dataclass(frozen=True, slots=True)
class Prefix:
    text: str


@dataclass(frozen=True, slots=True)
class PrefixIgnoreCase:
    text: str


def parse(tokens: Tokens) -> Prefix | PrefixIgnoreCase:
    kind = tokens.next()
    if kind == "{":
        if tokens.next() != "name":
            tokens.fail("Prefix expression name not found")
        if tokens.text != ignore_case.KEYWORD:
            tokens.fail(f"Unsupported prefix pattern: {tokens.text}")
        text = ignore_case.parse_text(tokens)
        if tokens.next() != "}":
            tokens.fail("Only one key allowed in match expression")
        return PrefixIgnoreCase(text)
    if kind != "string":
        tokens.fail("prefix match pattern must be a string")
    return Prefix(tokens.text)


class PrefixIndex(Generic[T]):
    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: Beginnings[T] = Beginnings()

    def add(self, test: Prefix, target: T) -> None:
        self._texts.add(test.text, target)

    def remove(self, test: Prefix, target: T) -> None:
        self._texts.remove(test.text, target)

    def find(self, value: str, out: list[T]) -> None:
        self._texts.find(value + '"', out)

    def __len__(self) -> int:
        return len(self._texts)


class PrefixIgnoreCaseIndex(Generic[T]):
    __slots__ = ("_keys", "_tests")

    def __init__(self) -> None:
        self._tests: dict[PrefixIgnoreCase, LettersOf[T]] = {}
        self._keys: Beginnings[LettersOf[T]] = Beginnings()

    def add(self, test: PrefixIgnoreCase, target: T) -> None:
        letters = self._tests.get(test)
        if letters is None:
            letters = self._tests[test] = LettersOf(test.text)
            self._keys.add(letters.key, letters)
        letters.targets[target] = None

    def remove(self, test: PrefixIgnoreCase, target: T) -> None:
        letters = self._tests[test]
        del letters.targets[target]
        if not letters.targets:
            self._keys.remove(letters.key, letters)
            del self._tests[test]

    def find(self, value: str, out: list[T]) -> None:
        value += '"'
        found: list[LettersOf[T]] = []
        self._keys.find(fold(value), found)
        for letters in found:
            if letters.begin(value):
                out.extend(letters.targets)

    def __len__(self) -> int:
        return len(self._tests)
