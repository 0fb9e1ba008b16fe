"""wildcard: `*` stands for any run of characters, also none; `\\*` and `\\\\` for themselves.

A wildcard's literals are its pieces: what comes before the first star, between stars, after the last. Wildcards with
the same beginning are a group. In it each waits at its ending or at a run of eight characters (or less, if there are
no more) from a piece in the middle: where the fewest waited when it came. A value asks in the groups of its own
beginnings for its own ending and runs, and compares with the few that wait there. So the number of wildcards does not
matter as long as the literals of each, taken together, are not those of many others.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .tables import Beginnings, Table
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "wildcard"
_RUN = 8  # characters of a middle piece
_COMMON = {0: 64, 1: 16, 2: 4}  # how much more often than a longer one a literal of so few characters comes up


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`pieces`: the literals between the stars; one piece: no star at all."""

    pieces: tuple[str, ...]

    def matches(self, value: str) -> bool:
        pieces = self.pieces
        if len(pieces) == 1:
            return value == pieces[0]
        at, end = len(pieces[0]), len(value) - len(pieces[-1])
        if at > end or not value.startswith(pieces[0]) or not value.endswith(pieces[-1]):
            return False
        for piece in pieces[1:-1]:
            at = value.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


def parse(tokens: Tokens) -> Wildcard:
    if tokens.next() != "string":
        tokens.fail("wildcard match pattern must be a string")
    return parse_text(tokens, tokens.text)


def parse_text(tokens: Tokens, text: str) -> Wildcard:
    pieces = [""]
    at = 0
    while at < len(text):
        char = text[at]
        following = text[at + 1 : at + 2]
        if char == "*":
            if following == "*":
                tokens.fail(f"Consecutive wildcard characters at pos {_position(text, at)}")
            pieces.append("")
        elif char == "\\":
            if not following or following not in "*\\":
                tokens.fail(f"Invalid escape character at pos {_position(text, at)}")
            pieces[-1] += following
            at += 1
        else:
            pieces[-1] += char
        at += 1
    return Wildcard(tuple(pieces))


def _position(text: str, at: int) -> int:
    """event-ruler counts bytes, and the opening quote."""
    return len(text[:at].encode("utf-8", "replace")) + 1


def complexity(single: Iterable[Wildcard], lists: Iterable[frozenset[Wildcard]]) -> int:
    """How many beginnings of these wildcards, all on one field, the worst value can be in the middle of at once.

    `lists` are those of anything-but, each one pattern to event-ruler, whose MachineComplexityEvaluator this follows
    (to the number for wildcards; for lists, whose states it shares in part, within one or two).
    """
    # Once a star is reached it stays reached. Beside the stars, the worst value ends in whatever text most pieces
    # begin with: a beginning of some piece, together with all beginnings of pieces that it ends with.
    groups = [frozenset({wildcard}) for wildcard in dict.fromkeys(single)] + list(lists)
    members = [(number, wildcard) for number, group in enumerate(groups) for wildcard in group]
    if not any(len(wildcard.pieces) > 1 for _, wildcard in members):
        return min(1, len(members))
    worst = 0
    for _, lead in members:  # a value has one beginning: only wildcards that agree on it add up
        start = lead.pieces[0]
        agreeing = [(n, w) for n, w in members if len(w.pieces) > 1 and start.startswith(w.pieces[0])]
        stars = sum(len(w.pieces) - 1 for _, w in agreeing)
        stars -= sum(1 for _ in agreeing) - len({(n, w.pieces[0]) for n, w in agreeing})
        closing = len({n for n, _ in agreeing})
        worst = max(worst, stars + max(closing, _most_beginnings(agreeing)))
    return worst


def _most_beginnings(wildcards: list[tuple[int, Wildcard]]) -> int:
    """The most pieces' beginnings that end at one place: Aho and Corasick's automaton, adding along failure links."""
    children: list[dict[str, int]] = [{}]
    counts = [0]
    for _, wildcard in wildcards:
        for number, piece in enumerate(wildcard.pieces[1:], 2):
            node = 0
            for char in piece + '"' if number == len(wildcard.pieces) else piece:
                if char not in children[node]:
                    children[node][char] = len(children)
                    children.append({})
                    counts.append(0)
                node = children[node][char]
                counts[node] += 1
    failure = [0] * len(children)
    queue = list(children[0].values())
    for node in queue:
        for char, child in children[node].items():
            fallback = failure[node]
            while fallback and char not in children[fallback]:
                fallback = failure[fallback]
            failure[child] = children[fallback].get(char, 0) if node else 0
            queue.append(child)
        counts[node] += counts[failure[node]]
    return max(counts)


class _Waiting(Generic[T]):
    """A wildcard where it waits: in its group, at a run of its middle or (reversed) at its ending."""

    __slots__ = ("at_middle", "literal", "targets", "test")

    def __init__(self, test: Wildcard, literal: str, at_middle: bool) -> None:
        self.test = test
        self.literal = literal
        self.at_middle = at_middle
        self.targets: dict[T, None] = {}


class _Group(Generic[T]):
    """The wildcards with one beginning."""

    __slots__ = ("_endings", "_middles", "_sizes", "size")

    def __init__(self) -> None:
        self.size = 0
        self._endings: Beginnings[_Waiting[T]] = Beginnings()
        self._middles: Table[_Waiting[T]] = Table()
        self._sizes: dict[int, int] = {}  # of the keys of _middles, counted

    def place(self, test: Wildcard) -> _Waiting[T]:
        ending = test.pieces[-1][::-1]
        literal, at_middle, least = ending, False, _crowd(self._endings.count(ending), len(ending))
        for piece in test.pieces[1:-1]:
            for at in range(max(1, len(piece) - _RUN + 1)):
                run = piece[at : at + _RUN]
                crowd = _crowd(len(self._middles.table.get(run, ())), len(run))
                if crowd < least:
                    literal, at_middle, least = run, True, crowd
        waiting: _Waiting[T] = _Waiting(test, literal, at_middle)
        self.size += 1
        if not at_middle:
            self._endings.add(literal, waiting)
        elif self._middles.add(literal, waiting):
            self._sizes[len(literal)] = self._sizes.get(len(literal), 0) + 1
        return waiting

    def displace(self, waiting: _Waiting[T]) -> None:
        literal = waiting.literal
        self.size -= 1
        if not waiting.at_middle:
            self._endings.remove(literal, waiting)
        elif self._middles.remove(literal, waiting):
            self._sizes[len(literal)] -= 1
            if not self._sizes[len(literal)]:
                del self._sizes[len(literal)]

    def find(self, value: str, backwards: str, out: list[_Waiting[T]]) -> None:
        self._endings.find(backwards, out)
        middles = self._middles.table
        for size in self._sizes:
            for run in {value[at : at + size] for at in range(len(value) - size + 1)}:
                waiting = middles.get(run)
                if waiting:
                    out.extend(waiting)


class WildcardIndex(Generic[T]):
    __slots__ = ("_beginnings", "_groups", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Wildcard, _Waiting[T]] = {}
        self._groups: dict[str, _Group[T]] = {}
        self._beginnings: Beginnings[_Group[T]] = Beginnings()

    def add(self, test: Wildcard, target: T) -> None:
        waiting = self._waiting.get(test)
        if waiting is None:
            first = test.pieces[0]
            if first not in self._groups:
                self._groups[first] = _Group()
                self._beginnings.add(first, self._groups[first])
            waiting = self._waiting[test] = self._groups[first].place(test)
        waiting.targets[target] = None

    def remove(self, test: Wildcard, target: T) -> None:
        waiting = self._waiting[test]
        del waiting.targets[target]
        if not waiting.targets:
            del self._waiting[test]
            first = test.pieces[0]
            self._groups[first].displace(waiting)
            if not self._groups[first].size:
                self._beginnings.remove(first, self._groups.pop(first))

    def find(self, value: str, out: list[T]) -> None:
        groups: list[_Group[T]] = []
        self._beginnings.find(value, groups)
        if groups:
            backwards = value[::-1]
            found: list[_Waiting[T]] = []
            for group in groups:
                group.find(value, backwards, found)
            for waiting in found:
                if waiting.test.matches(value):
                    out.extend(waiting.targets)

    def __len__(self) -> int:
        return len(self._waiting)


def _crowd(company: int, length: int) -> tuple[int, int]:
    """How many strangers a value meets at a literal; of equals, the longer literal is the better."""
    return (company + 1) * _COMMON.get(length, 1), -length
