"""suffix, and suffix with equals-ignore-case inside: prefix.py read backwards, with its quote in front."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import ignore_case
from .ignore_case import LettersOf, fold
from .tables import Beginnings
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "suffix"


@dataclass(frozen=True, slots=True)
class Suffix:
    text: str


@dataclass(frozen=True, slots=True)
class SuffixIgnoreCase:
    text: str


def parse(tokens: Tokens) -> Suffix | SuffixIgnoreCase:
    kind = tokens.next()
    if kind == "{":
        if tokens.next() != "name":
            tokens.fail("Suffix expression name not found")
        if tokens.text != ignore_case.KEYWORD:
            tokens.fail(f"Unsupported suffix pattern: {tokens.text}")
        text = ignore_case.parse_text(tokens)
        if tokens.next() != "}":
            tokens.fail("Only one key allowed in match expression")
        return SuffixIgnoreCase(text)
    if kind != "string":
        tokens.fail("suffix match pattern must be a string")
    return Suffix(tokens.text)


class SuffixIndex(Generic[T]):
    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: Beginnings[T] = Beginnings()

    def add(self, test: Suffix, target: T) -> None:
        self._texts.add(test.text[::-1], target)

    def remove(self, test: Suffix, target: T) -> None:
        self._texts.remove(test.text[::-1], target)

    def find(self, value: str, out: list[T]) -> None:
        self._texts.find(value[::-1] + '"', out)

    def __len__(self) -> int:
        return len(self._texts)


class SuffixIgnoreCaseIndex(Generic[T]):
    __slots__ = ("_keys", "_tests")

    def __init__(self) -> None:
        self._tests: dict[SuffixIgnoreCase, LettersOf[T]] = {}
        self._keys: Beginnings[LettersOf[T]] = Beginnings()

    def add(self, test: SuffixIgnoreCase, target: T) -> None:
        letters = self._tests.get(test)
        if letters is None:
            letters = self._tests[test] = LettersOf(test.text)
            self._keys.add(letters.key[::-1], letters)
        letters.targets[target] = None

    def remove(self, test: SuffixIgnoreCase, target: T) -> None:
        letters = self._tests[test]
        del letters.targets[target]
        if not letters.targets:
            self._keys.remove(letters.key[::-1], letters)
            del self._tests[test]

    def find(self, value: str, out: list[T]) -> None:
        value = '"' + value
        found: list[LettersOf[T]] = []
        self._keys.find(fold(value)[::-1], found)
        for letters in found:
            if letters.end(value):
                out.extend(letters.targets)

    def __len__(self) -> int:
        return len(self._tests)
