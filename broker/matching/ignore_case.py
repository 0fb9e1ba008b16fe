"""equals-ignore-case: each character of the pattern stands for its lower and its upper case, nothing more.

Ugly, and event-ruler's: it asks Java for the lower and upper case of one UTF-16 unit at a time. So "ß" also stands for
"SS" but "SS" not for "ß"; "ǅ" stands for "ǆ" and "Ǆ" but not for itself; and a character beyond the basic plane, cut
into two halves that no encoding knows, stands for "??".
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .tables import Table
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "equals-ignore-case"


@dataclass(frozen=True, slots=True)
class EqualsIgnoreCase:
    text: str


def parse(tokens: Tokens) -> EqualsIgnoreCase:
    return EqualsIgnoreCase(parse_text(tokens))


def parse_text(tokens: Tokens) -> str:
    if tokens.next() != "string":
        tokens.fail("equals-ignore-case match pattern must be a string")
    return tokens.text


class Letters:
    """A text to compare with in either case. `key` is `fold` of every value it stands for, and of some more."""

    __slots__ = ("_spelling", "_units", "key")

    def __init__(self, text: str) -> None:
        text = "".join(c if c <= "\uffff" else "??" for c in text)
        self._units = len(text)
        self.key = fold(text)
        # Among ASCII alone the key decides. Beyond it each character has its two spellings.
        self._spelling = None if text.isascii() else _spellings(text)

    def equal(self, value: str) -> bool:
        if self._spelling is None:
            return value.isascii() and fold(value) == self.key
        return self._spelling.fullmatch(value) is not None

    def begin(self, value: str) -> bool:
        if self._spelling is None:
            return self.equal(value[: len(self.key)])
        return self._spelling.match(value) is not None

    def end(self, value: str) -> bool:
        if self._spelling is None:
            return self.equal(value[len(value) - len(self.key) :])
        longest = max(0, len(value) - 3 * self._units)  # no upper case is longer than three characters
        return any(self._spelling.fullmatch(value, start) for start in range(longest, len(value) + 1))


def fold(text: str) -> str:
    return text.lower() if text.isascii() else text.upper().casefold()


def _spellings(text: str) -> re.Pattern[str]:
    return re.compile("".join(f"(?:{re.escape(c.lower())}|{re.escape(c.upper())})" for c in text))


class LettersOf(Letters, Generic[T]):
    """The letters of one test, with its targets."""

    __slots__ = ("targets",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.targets: dict[T, None] = {}


class EqualsIgnoreCaseIndex(Generic[T]):
    __slots__ = ("_keys", "_tests")

    def __init__(self) -> None:
        self._tests: dict[EqualsIgnoreCase, LettersOf[T]] = {}
        self._keys: Table[LettersOf[T]] = Table()

    def add(self, test: EqualsIgnoreCase, target: T) -> None:
        letters = self._tests.get(test)
        if letters is None:
            letters = self._tests[test] = LettersOf(test.text)
            self._keys.add(letters.key, letters)
        letters.targets[target] = None

    def remove(self, test: EqualsIgnoreCase, target: T) -> None:
        letters = self._tests[test]
        del letters.targets[target]
        if not letters.targets:
            self._keys.remove(letters.key, letters)
            del self._tests[test]

    def find(self, value: str, out: list[T]) -> None:
        for letters in self._keys.table.get(fold(value), ()):
            if letters.equal(value):
                out.extend(letters.targets)

    def __len__(self) -> int:
        return len(self._tests)
