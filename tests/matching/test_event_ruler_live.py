"""The same random patterns and events put to aws/event-ruler itself, where Maven and a JDK are at hand.

Clauses have one member here: event-ruler 2.0.1 loses matches where operators share a field (["abab", {"numeric": …},
"abc"] does not match "abab"; a wildcard and equals-ignore-case disturb each other). Left out for the same reason are
patterns whose $or branches overlap, wildcards beside a literal "*", and numbers beside addresses; see PATTERNS.md.
"""

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.matching import Index, InvalidEventPattern, Pattern, event_pattern
from broker.matching.event_patterns import complexities

from . import generate

pytestmark = pytest.mark.slow

Question = tuple[str, list[str]]
Ask = Callable[[list[Question]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    for tool in ("mvn", "javac", "java"):
        if shutil.which(tool) is None:
            pytest.skip(f"event-ruler cannot be asked: {tool} is not at hand")
    here = tmp_path_factory.mktemp("event-ruler")
    for source in (Path(__file__).parent / "event_ruler").iterdir():
        shutil.copy(source, here)
    fetched = subprocess.run(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"event-ruler cannot be asked: Maven did not get it ({fetched.stdout.strip()[:200]})")
    subprocess.run(["javac", "-cp", "lib/*", "Ask.java"], cwd=here, check=True)

    def put(questions: list[Question]) -> list[dict[str, Any]]:
        lines = "\n".join(json.dumps({"pattern": pattern, "events": events}) for pattern, events in questions)
        answered = subprocess.run(
            ["java", "-XX:+UseSerialGC", "-Xmx512m", "-cp", "lib/*:.", "Ask"],
            cwd=here, input=lines, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [json.loads(line) for line in answered.stdout.splitlines()]

    return put


def is_fair(text: str, pattern: Pattern) -> bool:
    wild = "wildcard" in text and ("ignore-case" in text or '"*"' in text)
    return not wild and not any(
        [name for name, _ in one] == [name for name, _ in other]
        and all(a & b for (_, a), (_, b) in zip(one, other, strict=True))
        for one, other in itertools.combinations(pattern.rules, 2)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_answers(ask: Ask, seed: int) -> None:
    rng = Random(seed)
    questions = [generate.pattern_and_events(rng, 10, (1,), numbers_beside_addresses=False) for _ in range(4000)]
    compared = matched = 0
    for (text, events), answer in zip(questions, ask(questions), strict=True):
        pattern = event_pattern(text, **generate.NO_LIMITS)
        assert "refusal" not in answer, text
        if is_fair(text, pattern):
            index: Index[int] = Index()
            index.add(1, pattern)
            for event, expected in zip(events, answer["answers"], strict=True):
                if expected != "undecided":
                    assert bool(index.match(event)) == (expected == "true"), (text, event)
                    compared += 1
                    matched += expected == "true"
    assert compared > 30_000
    assert matched > 5_000


@pytest.mark.parametrize("seed", [1, 2])
def test_refusals(ask: Ask, seed: int) -> None:
    """What event-ruler refuses is refused and nothing else; with its very words but for a few corners of syntax."""
    rng = Random(seed)
    bits = [
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\\",
        "1",
        "-",
        ".",
        "e",
        "null",
        "tru",
        "x",
        '"prefix"',
        "{}",
        "[]",
        " ",
        "\n",
    ]
    patterns = []
    for _ in range(4000):
        text = generate.pattern(rng)
        for _ in range(rng.choice([1, 1, 2])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice([*bits, "", ""]) + text[at + rng.choice([0, 1, 4]) :]
        patterns.append(text)
    same = refused = 0
    for text, answer in zip(patterns, ask([(text, []) for text in patterns]), strict=True):
        reason = None
        try:
            event_pattern(text, **generate.NO_LIMITS)
        except InvalidEventPattern as error:
            reason = error.reason
        assert (reason is None) == ("refusal" not in answer), text
        refused += reason is not None
        same += reason is not None and reason == answer["refusal"]
    assert refused > 2_000
    assert same > 0.97 * refused


def test_complexity(ask: Ask) -> None:
    rng = Random(1)
    wildcards = ["".join(rng.choice("ab*") for _ in range(rng.randint(1, 12))) for _ in range(1000)]
    wildcards = [wildcard for wildcard in wildcards if "**" not in wildcard]
    questions = [(json.dumps({"x": [{"wildcard": wildcard}]}), list[str]()) for wildcard in wildcards]
    for (text, _), answer in zip(questions, ask(questions), strict=True):
        assert complexities(event_pattern(text, max_complexity=1000)) == {"x": answer["complexity"]}, text
