"""cidr, and addresses written as plain strings: IPv4 and IPv6 compared as numbers.

event-ruler compares the hexadecimal digits of addresses and decides at the first that settles it. So an address of one
family can lie in a block of the other: an IPv6 address in an IPv4 block by its first 32 bits; an IPv4 address in an
IPv6 block wider than /32 strictly between that block's first and last 32 bits. (`0.0.0.0/0` and `::/0` so hold nearly
every address of both.) Kept, for patterns that were tested on AWS. What is not kept: there, a number in an event can
lie in a block by its digits, or not, depending on which other patterns the same machine holds.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .intervals import Intervals
from .tokens import Malformed, Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "cidr"
_V4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_V6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


@dataclass(frozen=True, slots=True)
class Cidr:
    """A block of 32- or 128-bit addresses, both ends included."""

    bits: int
    low: int
    high: int


def address(text: str) -> tuple[int, int] | None:
    """(bits, number) of what Java takes for an address: leading zeros are decimal, ::ffff:a.b.c.d in hex is IPv4."""
    if _V4.fullmatch(text):
        if len(text) > 15:
            return None
        number = 0
        for part in text.split("."):
            octet = int(part)
            if octet > 255:
                return None
            number = number << 8 | octet
        return 32, number
    return _address_v6(text) if _V6.fullmatch(text) else None


def _address_v6(text: str) -> tuple[int, int] | None:
    head, gap, tail = text.partition("::")
    heads = head.split(":") if head else []
    tails = tail.split(":") if tail else []
    missing = 8 - len(heads) - len(tails)
    if missing < 1 if gap else missing:
        return None
    number = 0
    for group in heads + ["0"] * missing + tails:
        if not group or int(group, 16) > 0xFFFF:
            return None
        number = number << 16 | int(group, 16)
    return (32, number & 0xFFFF_FFFF) if number >> 32 == 0xFFFF else (128, number)


def single(text: str) -> Cidr | None:
    """A string in a pattern, if it is an address: the block of that one."""
    if "." not in text and ":" not in text:
        return None
    found = address(text)
    return Cidr(found[0], found[1], found[1]) if found else None


def parse(tokens: Tokens) -> Cidr:
    if tokens.next() != "string":
        tokens.fail("prefix match pattern must be a string")
    parts = tokens.text.rstrip("/").split("/")
    if len(parts) != 2:
        raise Malformed("Malformed CIDR, one '/' required")
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", parts[1]):
        raise Malformed("Malformed CIDR, mask bits must be an integer")
    mask = int(parts[1])
    if mask < 0:
        raise Malformed("Malformed CIDR, mask bits must not be negative")
    found = address(parts[0])
    if found is None:
        known = _V4.fullmatch(parts[0]) or _V6.fullmatch(parts[0])
        raise Malformed(f"{'Invalid' if known else 'Nonstandard'} IP address: {parts[0]}")
    bits, number = found
    if mask >= bits:
        raise Malformed(f"IPv{'4' if bits == 32 else '6'} mask bits must be < {bits}")
    low = number >> (bits - mask) << (bits - mask)
    return Cidr(bits, low, low | (1 << (bits - mask)) - 1)


class CidrIndex(Generic[T]):
    __slots__ = ("_v4", "_v6")

    def __init__(self) -> None:
        self._v4: Intervals[T] = Intervals()  # what each block holds of IPv4, and of IPv6
        self._v6: Intervals[T] = Intervals()

    def add(self, test: Cidr, target: T) -> None:
        v4, v6 = _views(test)
        if v4[0] <= v4[1]:
            self._v4.add(*v4, target)
        self._v6.add(*v6, target)

    def remove(self, test: Cidr, target: T) -> None:
        v4, v6 = _views(test)
        if v4[0] <= v4[1]:
            self._v4.remove(*v4, target)
        self._v6.remove(*v6, target)

    def find(self, value: str, out: list[T]) -> None:
        if "." in value or ":" in value:
            found = address(value)
            if found:
                (self._v4 if found[0] == 32 else self._v6).find(found[1], out)

    def __len__(self) -> int:
        return len(self._v6)


def _views(test: Cidr) -> tuple[tuple[int, int], tuple[int, int]]:
    if test.bits == 32:
        return (test.low, test.high), (test.low << 96, test.high << 96 | (1 << 96) - 1)
    return ((test.low >> 96) + 1, (test.high >> 96) - 1), (test.low, test.high)
