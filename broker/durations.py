"""Lengths of time as people write them: `500ms`, `90s`, `1h30m`, `14d`, or a plain number of seconds."""

from __future__ import annotations

import re

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
_MAX_MS = 100 * 366 * 86_400_000


def parse_duration_ms(given: str | int | float) -> int:
    """Milliseconds. Raises ValueError, whose text says what to write, for anything else or more than a century."""
    text = str(given).strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        ms = float(text) * 1_000
    elif re.fullmatch(f"(?:{_PART.pattern})+", text):
        ms = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError(f"{text!r} is not a length of time: write 500ms, 90s, 1h30m, 14d or a number of seconds.")
    if ms > _MAX_MS:
        raise ValueError(f"{text!r} is longer than a century.")
    return round(ms)


def show_duration(ms: int) -> str:
    """The same, written: 5400000 is `1h30m`."""
    if ms == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
