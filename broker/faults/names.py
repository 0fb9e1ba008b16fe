"""Patterns with `*` and `?` of names, and whether any name there can be would match one.

A service's names are written as shapes: pieces one after another, each a literal or a run of characters of a set. A
pattern is walked along a shape piece by piece, keeping the set of places in the pattern that could have been reached.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

_LETTERS = frozenset(string.ascii_letters + string.digits + "_-")
_DOTTED = _LETTERS | {"."}
_PATHS = _DOTTED | frozenset("/:#*@+")
_DIGITS = frozenset(string.digits)
_KINDS_BY_COLON = ("function", "stateMachine")
_PARTITIONS = ("aws", "aws-cn", "aws-us-gov")


class Run(NamedTuple):
    """`least` to `most` characters of a set."""

    characters: frozenset[str]
    least: int
    most: int


Shape = tuple[str | Run, ...]
FIFO = ".fifo"
MAX_PATTERN_CHARS = 1_000
_STARS = re.compile(r"\*{2,}")
SHAPES: dict[str, tuple[Shape, ...]] = {
    "sqs": ((Run(_LETTERS, 1, 80),), (Run(_LETTERS, 1, 75), FIFO)),
    "sns": ((Run(_LETTERS, 1, 256), Run(_PATHS, 0, 300)), (Run(_LETTERS, 1, 251), FIFO, Run(_PATHS, 0, 300))),
    "kinesis": ((Run(_PATHS, 1, 400),),),
    "events": ((Run(_PATHS, 1, 600),),),
    "dynamodb": ((Run(_PATHS, 1, 300),),),
}
"""What can stand last in an ARN of a service. Exact for queues, where a FIFO queue can be told from others by it."""


def compiled(pattern: str) -> Callable[[str], object]:
    """Matches a whole text. The first place where a piece between two stars fits is the one, so that no pattern,
    however many stars it has, is tried in more than one way."""
    first, *others = (_without_stars(piece) for piece in _STARS.sub("*", pattern).split("*"))
    if not others:
        return re.compile(first, re.DOTALL).fullmatch
    *between, last = others
    pieces = "".join(f"(?>.*?{piece})" for piece in between)
    return re.compile(f"{first}{pieces}.*{last}", re.DOTALL).fullmatch


def _without_stars(piece: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in piece)


def resource_matcher(pattern: str) -> Callable[[str], bool]:
    """Matches an ARN by the name in it, a pattern with a colon also by the whole; else (an endpoint's URL) as it is. A
    resource of several names has a space between them.
    """
    matches = compiled(pattern)

    def one(name: str) -> bool:
        if not name.startswith("arn:"):
            return matches(name) is not None
        return (":" in pattern and matches(name) is not None) or any(map(matches, _names(name.split(":", 5)[-1])))

    return lambda resource: any(map(one, resource.split(" ")))


def _names(resource: str) -> Iterator[str]:
    """The names in an ARN's last part: `stream/orders` is orders, `rule/bus/paid` bus/paid and paid, and the
    subscription `topic:6a7b` also topic."""
    kind, mark, name = resource.partition("/")
    if not mark:
        kind, mark, name = resource.partition(":")
        if mark and kind not in _KINDS_BY_COLON:
            yield kind
            name = resource
    if not mark:
        yield resource
        return
    yield name
    if "/" in name:
        yield name.rpartition("/")[2]


def can_match(pattern: str, service: str, *, fifo: bool | None = None) -> bool:
    """Whether a resource of the service can have such a name. `fifo` asks only for those that are, or are not."""
    pattern = _STARS.sub("*", pattern)
    for shape in SHAPES.get(service, ()):
        if fifo is not None and fifo != (FIFO in shape):
            continue
        if any(_meets(pattern, whole) for whole in _whole(pattern, service, shape)):
            return True
    return False


def _whole(pattern: str, service: str, shape: Shape) -> Iterator[Shape]:
    yield shape
    if ":" not in pattern:
        return
    for partition in _PARTITIONS:
        yield (f"arn:{partition}:{service}:", Run(_LETTERS, 1, 64), ":", Run(_DIGITS, 12, 12), ":", *shape)


def _meets(pattern: str, shape: Shape) -> bool:
    places = _rest(pattern, {0})
    for piece in shape:
        if isinstance(piece, str):
            for char in piece:
                places = _step(pattern, places, char)
        else:
            reached = set(places) if piece.least == 0 else set()
            for length in range(1, piece.most + 1):
                places = _step(pattern, places, piece.characters)
                if not places:
                    break
                if length >= piece.least:
                    reached |= places
            places = reached
    return len(pattern) in places


def _step(pattern: str, places: Collection[int], characters: Collection[str]) -> set[int]:
    """Where one character of these leads."""
    after = set()
    for place in places:
        if place < len(pattern):
            char = pattern[place]
            if char == "*":
                after.add(place)
            elif char == "?" or char in characters:
                after.add(place + 1)
    return _rest(pattern, after)


def _rest(pattern: str, places: set[int]) -> set[int]:
    """With the stars there skipped: they may stand for nothing."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            places.add(place)
    return places
