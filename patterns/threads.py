"""A boto3 client whose calls can be awaited, so that a pattern written for aiobotocore and aioboto3 takes it as well.

The rule: a call that has begun is waited for, also by who is cancelled, because nobody could say what became of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread


class InThreads:
    """`await InThreads(boto3_client).send_message(QueueUrl=…)`, at most `calls` at once. For asyncio and trio."""

    def __init__(self, client: Any, calls: int = 10) -> None:
        self._client = client
        self._threads = anyio.CapacityLimiter(calls)

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, operation)

        async def call(**parameters: Any) -> Any:
            return await anyio.to_thread.run_sync(partial(method, **parameters), limiter=self._threads)

        return call
