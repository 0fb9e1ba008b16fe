"""How long a `latency` takes: drawn from the rule's own chance, in whole milliseconds, never above an hour.

fixed         always `delay`
normal        `mean` and standard `deviation`; below zero is zero
pareto        the one whose median and 99th percentile are given: many short, few very long
percentiles   a place from 0 to 100 is drawn evenly; between two percentiles that are given the delay grows by equal
              factors for equal steps (straight on a logarithmic scale, where latencies are); below the lowest it
              falls evenly to zero; above the highest it is the highest (give p100 for a longer tail)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from broker.entropy import Entropy

MAX_MS = 3_600_000


def draw_ms(parameters: Mapping[str, Any], chance: Entropy) -> int:
    """Milliseconds, for the checked parameters of a `latency`."""
    match parameters["distribution"]:
        case "normal":
            drawn = chance.normal(parameters["mean_ms"], parameters["deviation_ms"])
        case "pareto":
            drawn = _pareto(parameters["median_ms"], parameters["p99_ms"], chance.random())
        case "percentiles":
            drawn = _between(parameters["percentiles"], chance.random() * 100)
        case _:
            drawn = parameters["delay_ms"]
    return round(min(max(drawn, 0.0), MAX_MS))


def _pareto(median_ms: float, p99_ms: float, place: float) -> float:
    """The value that a share of `place` is below. S(x) = (least / x) ** a, with S(median) = 1/2 and S(p99) = 1/100."""
    inverse = math.log(p99_ms / median_ms) / math.log(50)  # 1 / a
    least = median_ms / 2**inverse
    return float(least * (1 - place) ** -inverse)


def _between(percentiles: Sequence[tuple[float, float]], place: float) -> float:
    below, below_ms = 0.0, 0.0
    for percentile, ms in percentiles:
        if place < percentile:
            share = (place - below) / (percentile - below)
            return below_ms * (ms / below_ms) ** share if below_ms > 0 else ms * share
        below, below_ms = percentile, ms
    return below_ms


_TAKES = {
    "fixed": ("delay",),
    "normal": ("mean", "deviation"),
    "pareto": ("median", "p99"),
    "percentiles": ("percentiles",),
}


def complete(given: dict[str, Any]) -> None:
    """Fills in the distribution that follows from what is given. Raises ValueError with a sentence if none does."""
    asked = given.get("distribution")
    for name, takes in _TAKES.items():
        if name == asked or (asked is None and any(parameter in given for parameter in takes)):
            break
    else:
        ways = ", or ".join(" and ".join(takes) for takes in _TAKES.values())
        raise ValueError(f"says no delay: give {ways}.")
    missing = [parameter for parameter in takes if parameter not in given]
    if missing:
        raise ValueError(f"draws from {name} and needs {' and '.join(missing)}.")
    others = [parameter for also in _TAKES.values() for parameter in also if parameter in given and also is not takes]
    if others:
        raise ValueError(f"draws from {name}, which takes {' and '.join(takes)} and no {others[0]}.")
    given["distribution"] = name


def check(parameters: Mapping[str, Any]) -> None:
    """Raises ValueError with a sentence where no such distribution can be."""
    if parameters["distribution"] == "pareto" and not 0 < parameters["median_ms"] < parameters["p99_ms"]:
        raise ValueError("needs a median above zero and a p99 above the median.")
