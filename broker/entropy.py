"""Chance: every identifier the engine makes comes from here, so that a seed replays a run byte for byte."""

from __future__ import annotations

import random

_HEX = "%08x-%04x-%04x-%04x-%012x"


class Entropy:
    """A source of identifiers. Without a seed it is seeded from the operating system."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits

    def uuid(self) -> str:
        """A version 4 UUID as AWS writes message and request ids: 36 characters, lower case."""
        bits = self._bits(128)
        return _HEX % (
            bits >> 96,
            bits >> 80 & 0xFFFF,
            bits >> 64 & 0x0FFF | 0x4000,
            bits >> 48 & 0x3FFF | 0x8000,
            bits & 0xFFFFFFFFFFFF,
        )

    def bits(self, count: int) -> int:
        return self._bits(count)
