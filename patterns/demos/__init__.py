"""What `python -m patterns.demo NAME` runs: one module each, with `async def run(client)`."""

from __future__ import annotations

import time

_start_s = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _start_s:6.2f} s  {text}", flush=True)
