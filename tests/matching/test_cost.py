"""An event costs what it meets, not what there is: 2,000 rules that it does not match against 20 of them."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.matching import Index, event_pattern

KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "exact": lambda n: {"v": [f"no-{n}"]},
    "exact behind a shared field": lambda n: {"a": ["same"], "v": [f"no-{n}"]},
    "exact behind a field nearly all match": lambda n: {"a": [{"anything-but": f"no-{n}"}], "v": [f"no-{n}"]},
    "another field": lambda n: {f"field-{n}": ["x"], "a": ["same"]},
    "prefix": lambda n: {"v": [{"prefix": f"no-{n:05}"}]},
    "suffix": lambda n: {"v": [{"suffix": f"{n:05}-no"}]},
    "prefix, ignoring case": lambda n: {"v": [{"prefix": {"equals-ignore-case": f"NO-{n:05}"}}]},
    "suffix, ignoring case": lambda n: {"v": [{"suffix": {"equals-ignore-case": f"{n:05}-NO"}}]},
    "equals-ignore-case": lambda n: {"v": [{"equals-ignore-case": f"NO-{n}"}]},
    "wildcard, beginning": lambda n: {"v": [{"wildcard": f"no-{n:05}*x"}]},
    "wildcard, middle": lambda n: {"v": [{"wildcard": f"*{n:05}*"}]},
    "wildcard, both": lambda n: {"v": [{"wildcard": f"{n // 50:03}*{n % 50:03}*"}]},
    "numeric": lambda n: {"n": [{"numeric": [">=", n + 10, "<", n + 11]}]},
    "nested ranges": lambda n: {"n": [{"numeric": [">", n + 10, "<", 1e6 - n]}]},
    "cidr": lambda n: {"ip": [{"cidr": f"10.{n // 256}.{n % 256}.0/24"}]},
    "anything-but what there is": lambda n: {"a": [{"anything-but": ["same", f"no-{n}"]}]},
    "within an array": lambda n: {"items": {"sku": ["x"], "size": [n + 100]}},
}
EVENT = json.dumps(
    {
        "a": "same",
        "v": "no, this is a value of some length 1234",
        "n": 5,
        "ip": "192.168.1.1",
        "items": [{"sku": "x", "size": size} for size in range(4)],
    }
).encode()


def cost(kind: str, rules: int) -> float:
    index: Index[int] = Index()
    for number in range(rules):
        index.add(number, event_pattern(json.dumps(KINDS[kind](number))))
    best = 1e9
    for _ in range(5):
        started = time.process_time()
        for _ in range(60):
            assert index.match(EVENT) == set()
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize("kind", KINDS)
def test_flat(kind: str) -> None:
    # Within 1.5 by bench/matching.py; this is to notice what grows with the rules, on any machine.
    assert cost(kind, 2000) < 4 * cost(kind, 20)
