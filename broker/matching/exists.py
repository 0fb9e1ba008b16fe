"""exists: true matches any value a field has, null included; false matches where the field has none.

Only leaves count: an object is no value, an empty array holds none. The index of either is a list; of `exists: false`
it is open, for no value ever asks it: whoever walks the rules does, where a field is missing.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "exists"


@dataclass(frozen=True, slots=True)
class Exists:
    pass


@dataclass(frozen=True, slots=True)
class Absent:
    pass


def parse(tokens: Tokens) -> Exists | Absent:
    kind = tokens.next()
    if kind not in ("true", "false"):
        tokens.fail("exists match pattern must be either true or false.")
    return Exists() if kind == "true" else Absent()


class ExistsIndex(Generic[T]):
    __slots__ = ("targets",)

    def __init__(self) -> None:
        self.targets: dict[T, None] = {}

    def add(self, test: Exists | Absent, target: T) -> None:
        self.targets[target] = None

    def remove(self, test: Exists | Absent, target: T) -> None:
        del self.targets[target]

    def find(self, value: object, out: list[T]) -> None:
        out.extend(self.targets)

    def __len__(self) -> int:
        return len(self.targets)
