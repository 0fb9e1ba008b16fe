"""Chance: every identifier the engine makes comes from here, so that a seed replays a run byte for byte."""

from __future__ import annotations

import random


class Entropy:
    """A source of identifiers and of chance. Without a seed it is seeded from the operating system."""

    def __init__(self, seed: int | str | None = None) -> None:
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits
        self.random = self._random.random  # from 0 to just below 1

    def reseed(self, seed: int | str) -> None:
        """Begins anew, as if made with this seed."""
        self._random.seed(seed)

    def uuid(self) -> str:
        """A version 4 UUID as AWS writes message and request ids: 36 characters, lower case."""
        digits = self._bits(128).to_bytes(16, "big").hex()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"

    def bits(self, count: int) -> int:
        return self._bits(count)

    def normal(self, mean: float, deviation: float) -> float:
        return self._random.gauss(mean, deviation)
