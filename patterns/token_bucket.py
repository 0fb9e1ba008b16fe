"""So many a second, with bursts: stay below somebody's quota instead of being throttled.

The rule: nothing is taken until all of it is there. The state is one moment, the one at which the bucket would be full
(the generic cell rate algorithm), so there is no rounding to accumulate. Ugly: a microsecond's grace, for floats.
"""

from __future__ import annotations

import anyio

_GRACE_S = 1e-6


class TokenBucket:
    """Full at first. In any span of t seconds at most `burst + rate_per_s * t` tokens are taken."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if rate_per_s <= 0 or burst <= 0:
            raise ValueError("rate_per_s and burst must be positive")
        self.rate_per_s, self.burst = rate_per_s, burst
        self._full_s = float("-inf")

    def take(self, tokens: float, now_s: float) -> float:
        """0.0 when they are taken; otherwise nothing is, and it says in how many seconds they would be there.

        Raises ValueError for more than `burst`. A clock that is set back finds the bucket empty at worst.
        """
        if not 0 < tokens <= self.burst:
            raise ValueError(f"a bucket of {self.burst} never holds {tokens}")
        self._full_s = min(self._full_s, now_s + self.burst / self.rate_per_s)
        there_s = self._full_s - (self.burst - tokens) / self.rate_per_s
        if there_s - now_s > _GRACE_S:
            return there_s - now_s
        self._full_s = max(self._full_s, now_s) + tokens / self.rate_per_s
        return 0.0


class RateLimiter:
    """Waits for tokens in order of arrival. A wait that is cancelled has taken nothing. For one event loop."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.bucket = TokenBucket(rate_per_s, burst)
        self._turn = anyio.Lock()

    async def acquire(self, tokens: float = 1.0) -> None:
        async with self._turn:
            while (wait_s := self.bucket.take(tokens, anyio.current_time())) > 0:  # noqa: ASYNC110 nobody could tell us
                await anyio.sleep(wait_s)
