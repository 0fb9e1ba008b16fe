"""Many patterns, one index: the cost of an event is that of the rules it comes near to, not of all there are.

A pattern is one or more rules (`$or` makes more), a rule a clause for each of its fields. Rules are kept as a tree:
each step down is a field with a clause, rules with the same first steps share them, and at each place all the steps
that look at one field stand in one FieldIndex. An event walks down from the root, at each place only along the steps
whose clause its values satisfy. A rule's most telling clauses come first, so that most walks end where they begin;
only rules that ask for a field's absence are ordered by name as event-ruler does, because with arrays it matters there.
"""

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

from .anything_but import AnythingBut
from .arrays import ANYWHERE, Place, apart, join
from .cidr import Cidr
from .event import Fields, Reader
from .exists import Absent, Exists
from .field import Clause, FieldIndex, Test, Value
from .grammar import Pattern, Rule
from .numeric import Range
from .prefix import Prefix, PrefixIgnoreCase
from .suffix import Suffix, SuffixIgnoreCase
from .wildcard import Wildcard

K = TypeVar("K", bound=Hashable)

_NOWHERE: frozenset[int] = frozenset()


class _Node(Generic[K]):
    """Where rules meet and part: the keys of those that end here and the steps that lead on."""

    __slots__ = ("absences", "below", "children", "fields", "keys", "parent", "step")

    def __init__(self, parent: "_Node[K] | None", step: tuple[str, Clause]) -> None:
        self.parent = parent
        self.step = step
        self.keys: set[K] = set()
        self.children: dict[tuple[str, Clause], _Node[K]] = {}
        self.fields: dict[str, FieldIndex[_Node[K]]] = {}
        self.absences: dict[str, FieldIndex[_Node[K]]] = {}  # those of the fields with `exists: false`
        self.below: dict[str, int] = {}  # the fields of all steps below, each counted by rules

    def child(self, step: tuple[str, Clause]) -> "_Node[K]":
        child = self.children.get(step)
        if child is None:
            child = self.children[step] = _Node(self, step)
            name, clause = step
            if name not in self.fields:
                self.fields[name] = FieldIndex()
            index = self.fields[name]
            index.add(clause, child)
            if index.absent:
                self.absences[name] = index
        return child

    def drop(self, child: "_Node[K]") -> None:
        name, clause = child.step
        del self.children[child.step]
        index = self.fields[name]
        index.remove(clause, child)
        if not index.absent:
            self.absences.pop(name, None)
        if not index:
            del self.fields[name]

    def concerned(self, fields: Fields) -> Iterator[tuple[str, FieldIndex["_Node[K]"], list[Value] | None]]:
        """The fields looked at here that the event has, with its values, or whose absence is looked for."""
        if len(self.fields) <= len(fields):
            for name, index in self.fields.items():
                yield name, index, fields.get(name)
        else:
            for name, values in fields.items():
                if name in self.fields:
                    yield name, self.fields[name], values
            for name, index in self.absences.items():
                if name not in fields:
                    yield name, index, None


class Index(Generic[K]):
    """Keys (rule or subscription names) with the pattern of each; `match` gives the keys an event matches.

    One thread at a time. Adding and removing touch only the key's own rules.
    """

    def __init__(self) -> None:
        self._root: _Node[K] = _Node(None, ("", frozenset()))
        self._ends: dict[K, list[_Node[K]]] = {}
        self._reader = Reader()

    def add(self, key: K, pattern: Pattern) -> None:
        """A key that is there already gets the new pattern in place of its old one."""
        if key in self._ends:
            self.remove(key)
        ends: dict[_Node[K], None] = {}
        for rule in pattern.rules:
            steps = _ordered(rule)
            node = self._root
            for step in steps:
                node = node.child(step)
            if node in ends:
                continue
            ends[node] = None
            node.keys.add(key)
            node = self._root
            for number, step in enumerate(steps, 1):
                self._reader.use(step[0])
                for name, _ in steps[number - 1 :]:
                    node.below[name] = node.below.get(name, 0) + 1
                node = node.child(step)
        self._ends[key] = list(ends)

    def remove(self, key: K) -> None:
        """Raises KeyError for a key that is not there."""
        for node in self._ends.pop(key):
            node.keys.discard(key)
            names: list[str] = []
            while node.parent is not None:
                parent = node.parent
                names.append(node.step[0])
                self._reader.disuse(node.step[0])
                for name in names:
                    parent.below[name] -= 1
                    if not parent.below[name]:
                        del parent.below[name]
                if not node.keys and not node.children:
                    parent.drop(node)
                node = parent

    def match(self, event: bytes | str | dict[str, Any]) -> set[K]:
        """The keys whose pattern the event matches; the event as JSON, or parsed already (then numbers are as they
        are: what was written like 1152921504606846976 can no longer be told from its neighbours).

        Raises ValueError for what is not a JSON object.
        """
        fields, places = self._reader.read(event)
        return self._match_places(fields, places) if places else self._match(fields)

    def _match(self, fields: Fields) -> set[K]:
        matched = set(self._root.keys)
        stack = [self._root]
        found: list[_Node[K]] = []
        while stack:
            for _, index, values in stack.pop().concerned(fields):
                if values is None:
                    found.extend(index.absent)
                else:
                    for value in values:
                        index.find(value, found)
                if found:
                    for node in set(found) if len(found) > 1 else found:
                        if node.keys:
                            matched |= node.keys
                        if node.fields:
                            stack.append(node)
                    found.clear()
        return matched

    def _match_places(self, fields: Fields, places: dict[str, list[Place]]) -> set[K]:
        """The same for an event with objects in arrays: at each node a set of what is known of arrays so far."""
        arrays = {name: frozenset(array for place in lying for array, _ in place) for name, lying in places.items()}
        matched: set[K] = set()
        stack: list[tuple[_Node[K], set[Place]]] = [(self._root, {ANYWHERE})]
        found: list[_Node[K]] = []
        while stack:
            node, known = stack.pop()
            if node.keys:
                matched |= node.keys
            for name, index, values in node.concerned(fields):
                if values is None:
                    stack.extend((child, _relevant(known, child, arrays)) for child in index.absent)
                    continue
                where = places.get(name) or [ANYWHERE] * len(values)
                satisfied: dict[_Node[K], list[Place]] = {}
                for value, lying in zip(values, where, strict=True):
                    index.find(value, found)
                    for child in found:
                        satisfied.setdefault(child, []).append(lying)
                    found.clear()
                children = satisfied.keys() | index.absent.keys() if index.absent else satisfied.keys()
                for child in children:
                    relevant = _arrays_below(child, arrays)
                    now = join(known, satisfied[child], relevant) if child in satisfied else set()
                    if child in index.absent:
                        now |= apart(known, where, relevant)
                    if now:
                        stack.append((child, now))
        return matched

    def __contains__(self, key: K) -> bool:
        return key in self._ends

    def __len__(self) -> int:
        return len(self._ends)


def _arrays_below(node: _Node[K], arrays: dict[str, frozenset[int]]) -> frozenset[int]:
    if not node.below:
        return _NOWHERE
    return _NOWHERE.union(*(arrays[name] for name in node.below if name in arrays))


def _relevant(known: set[Place], node: _Node[K], arrays: dict[str, frozenset[int]]) -> set[Place]:
    return join(known, [ANYWHERE], _arrays_below(node, arrays))


_RARELY = 0  # matches few of the values there are
_AT_TIMES = 1
_MOSTLY = 2

_SELECTIVITY: dict[type[Test], int] = {
    Prefix: _AT_TIMES,
    PrefixIgnoreCase: _AT_TIMES,
    Suffix: _AT_TIMES,
    SuffixIgnoreCase: _AT_TIMES,
    Wildcard: _AT_TIMES,
    Range: _AT_TIMES,
    Cidr: _AT_TIMES,
    AnythingBut: _MOSTLY,
    Exists: _MOSTLY,
}


def _ordered(rule: Rule) -> list[tuple[str, Clause]]:
    if any(isinstance(test, Absent) for _, clause in rule for test in clause):
        return list(rule)
    # Fields under one prefix stay together, so that an array is done with before the next begins; among the branches
    # at each level the one with the most telling clause comes first.
    best: dict[str, int] = {}
    for name, clause in rule:
        selectivity = max(_SELECTIVITY.get(type(test), _RARELY) for test in clause)
        for prefix in _prefixes(name):
            best[prefix] = min(best.get(prefix, _MOSTLY), selectivity)
    return sorted(rule, key=lambda step: [(best[prefix], prefix) for prefix in _prefixes(step[0])])


def _prefixes(name: str) -> list[str]:
    """a.b.c: a., a.b., a.b.c"""
    parts = name.split(".")
    return [".".join(parts[:n]) + "." for n in range(1, len(parts))] + [name]
