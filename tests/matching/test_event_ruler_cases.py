"""What AWS's own engine answered, 1,726 times: each pattern by itself, then all of them in one index."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.matching import Index, InvalidEventPattern, event_pattern

CASES: list[dict[str, str]] = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "event-ruler-cases.jsonl").read_text().splitlines()
]
VALID = [case for case in CASES if case["expected"] != "error"]


def test_there_are_so_many() -> None:
    assert len(CASES) == 1726
    assert len(VALID) == 1656


@pytest.mark.parametrize("parse", [str, str.encode, json.loads], ids=["text", "bytes", "parsed"])
def test_each_by_itself(parse: Any) -> None:
    for case in VALID:
        index: Index[str] = Index()
        index.add("rule", event_pattern(case["pattern"]))
        expected = {"rule"} if case["expected"] == "true" else set()
        assert index.match(parse(case["event"])) == expected, case


def test_refusals() -> None:
    for case in CASES:
        if case["expected"] == "error":
            with pytest.raises(InvalidEventPattern):
                event_pattern(case["pattern"])


def test_all_in_one_index() -> None:
    index: Index[str] = Index()
    for case in VALID:
        index.add(case["id"], event_pattern(case["pattern"]))
    for case in VALID:
        assert (case["id"] in index.match(case["event"])) == (case["expected"] == "true"), case
    for case in VALID[::2]:
        index.remove(case["id"])
    for case in VALID:
        there = case not in VALID[::2] and case["expected"] == "true"
        assert (case["id"] in index.match(case["event"])) == there, case
