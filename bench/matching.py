"""Event patterns alone: events a second by kind of rule and number of rules, beside aws/event-ruler on one core.

    python -m bench.matching            about ten minutes; --quick: half of that, --only exact,prefix: these kinds

Events are made in the shape of the "citylots" set that event-ruler and quamina measure with: a parcel of San Francisco
with its outline. Every second event matches exactly one rule, however many there are (none in `anything-but`, where
every rule denies what every event has), so a row shows what more rules cost that do not match. Both sides get each
event as JSON text, parse it and match it, in one thread; times are that thread's processor time, and the best of a few
rounds counts. event-ruler (2.0.1, from Maven Central) is asked in the same run, cell by cell; without Maven and a JDK
its column is missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from random import Random
from typing import Any

from broker.matching import Index, event_pattern

COUNTS = (1, 10, 100, 1_000, 10_000)
EVENTS = 1_000
STREETS = ("UNKNOWN", "MARKET", "MISSION", "VALENCIA", "FULTON", "GEARY", "LOMBARD", "BALBOA", "18TH", "03RD")
STREET_TYPES = ("ST", "AVE", "BLVD")

Lot = dict[str, Any]


def lot(number: int) -> Lot:
    """One parcel. `MAPBLKLOT` and the first coordinates are its own; the rest repeats."""
    rng = Random(number)
    block, parcel = f"{number // 40:04}", f"{number % 40:03}"
    x = -122.5 + number * 1e-5 + rng.random() * 5e-6
    y = 37.7 + rng.random() / 10
    outline = [[x + rng.random() / 1e4, y + rng.random() / 1e4, 0.0] for _ in range(rng.randint(4, 9))]
    return {
        "type": "Feature",
        "properties": {
            "MAPBLKLOT": block + parcel,
            "BLKLOT": block + parcel + rng.choice("ABCDE"),
            "BLOCK_NUM": block,
            "LOT_NUM": parcel,
            "FROM_ST": str(rng.randint(0, 4000)),
            "TO_ST": str(rng.randint(0, 4000)),
            "STREET": rng.choice(STREETS),
            "ST_TYPE": rng.choice(STREET_TYPES),
            "ODD_EVEN": rng.choice("EO"),
        },
        "geometry": {
            "type": "Polygon",
            "firstCoordinates": {"x": x, "y": y, "z": 0.0},
            "coordinates": [[[x, y, 0.0], *outline, [x, y, 0.0]]],
        },
    }


def properties(**clauses: list[Any]) -> dict[str, Any]:
    return {"properties": clauses}


def within(value: float, width: float) -> list[Any]:
    return [{"numeric": [">", round(value - width, 9), "<", round(value + width, 9)]}]


def key(of: Lot) -> str:
    text: str = of["properties"]["MAPBLKLOT"]
    return text


def number(of: Lot) -> int:
    return int(key(of)[:4]) * 40 + int(key(of)[4:])


KINDS: dict[str, Callable[[Lot], dict[str, Any]]] = {
    "exact": lambda of: properties(MAPBLKLOT=[key(of)]),
    "exact, beside three shared": lambda of: {
        "type": ["Feature"],
        "geometry": {"type": ["Polygon"]},
        **properties(MAPBLKLOT=[key(of)], ODD_EVEN=["E", "O"]),
    },
    "prefix": lambda of: properties(BLKLOT=[{"prefix": key(of)}]),
    "suffix": lambda of: properties(MAPBLKLOT=[{"suffix": key(of)}]),
    "equals-ignore-case": lambda of: properties(BLKLOT=[{"equals-ignore-case": of["properties"]["BLKLOT"].lower()}]),
    "numeric range": lambda of: {
        "geometry": {"firstCoordinates": {"x": within(of["geometry"]["firstCoordinates"]["x"], 2e-6)}}
    },
    "wildcard 0012*034*": lambda of: properties(BLKLOT=[{"wildcard": f"{key(of)[:4]}*{key(of)[4:]}*"}]),
    "wildcard *0012034*": lambda of: properties(BLKLOT=[{"wildcard": f"*{key(of)}*"}]),
    "anything-but": lambda of: properties(ST_TYPE=[{"anything-but": [*STREET_TYPES, key(of)]}]),
    "anything-but, beside exact": lambda of: properties(STREET=[{"anything-but": [key(of)]}], MAPBLKLOT=[key(of)]),
}

NOT_MATCHED = 20_000  # parcels from here on have no rule


def events(rules: int) -> list[bytes]:
    rng = Random(rules)
    numbers = [rng.randrange(rules) if n % 2 else NOT_MATCHED + n for n in range(EVENTS)]
    return [json.dumps(lot(number), separators=(",", ":")).encode() for number in numbers]


def ours(patterns: list[str], texts: list[bytes], seconds: float) -> tuple[float, int, float]:
    """Events a second, matches in one round of them, and the microseconds it took to add a rule."""
    started = time.process_time()
    index: Index[int] = Index()
    for number, pattern in enumerate(patterns):
        index.add(number, event_pattern(pattern))
    added = time.process_time() - started
    matches = sum(len(index.match(text)) for text in texts)
    match, best, spent = index.match, 0.0, 0.0
    while spent < seconds:
        started = time.process_time()
        for text in texts:
            match(text)
        took = time.process_time() - started
        best, spent = max(best, len(texts) / took), spent + took
    return best, matches, added / len(patterns) * 1e6


JAVA = """
import com.fasterxml.jackson.databind.*;
import java.io.*;
import java.lang.management.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import software.amazon.event.ruler.*;

public class Bench {
    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ThreadMXBean cpu = ManagementFactory.getThreadMXBean();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode question = new ObjectMapper().readTree(line);
            GenericMachine<Integer> machine = GenericMachine.<Integer>builder().build();
            int number = 0;
            for (JsonNode pattern : question.get("patterns")) machine.addRule(number++, pattern.asText());
            List<String> events = new ArrayList<>();
            for (JsonNode event : question.get("events")) events.add(event.asText());
            double seconds = question.get("seconds").asDouble(), best = 0;
            long matches = 0, begun = cpu.getCurrentThreadCpuTime();
            for (int round = 0; cpu.getCurrentThreadCpuTime() - begun < 3 * seconds * 1e9 || round == 0; round++) {
                long started = cpu.getCurrentThreadCpuTime();
                matches = 0;
                for (String event : events) matches += machine.rulesForJSONEvent(event).size();
                best = Math.max(best, events.size() * 1e9 / (cpu.getCurrentThreadCpuTime() - started));
            }
            System.out.println(best + " " + matches);
        }
    }
}
"""

POM = """
<project><modelVersion>4.0.0</modelVersion><groupId>sidebus</groupId><artifactId>bench</artifactId><version>1</version>
<dependencies><dependency><groupId>software.amazon.event.ruler</groupId><artifactId>event-ruler</artifactId>
<version>2.0.1</version></dependency></dependencies></project>
"""

Theirs = Callable[[list[str], list[bytes], float], tuple[float, int]]


@contextmanager
def event_ruler() -> Iterator[Theirs | None]:
    """event-ruler in a JVM of its own on one core, or None with a line that says why."""
    missing = [tool for tool in ("mvn", "javac", "java") if shutil.which(tool) is None]
    if missing:
        print(f"event-ruler is left out: {', '.join(missing)} not at hand", file=sys.stderr)
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pom.xml").write_text(POM)
        Path(directory, "Bench.java").write_text(JAVA)
        for command in (
            ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
            ["javac", "-cp", "lib/*", "Bench.java"],
        ):
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
            if done.returncode:
                print(f"event-ruler is left out: {command[0]} failed: {done.stdout.strip()[:200]}", file=sys.stderr)
                yield None
                return
        pinned = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        command = [*pinned, "java", "-XX:+UseSerialGC", "-Xmx1g", "-cp", "lib/*:.", "Bench"]
        jvm = subprocess.Popen(command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert jvm.stdin is not None
        assert jvm.stdout is not None
        stdin, stdout = jvm.stdin, jvm.stdout

        def ask(patterns: list[str], texts: list[bytes], seconds: float) -> tuple[float, int]:
            question = {"patterns": patterns, "events": [text.decode() for text in texts], "seconds": seconds}
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            rate, matches = stdout.readline().split()
            return float(rate), int(matches)

        try:
            yield ask
        finally:
            with suppress(BrokenPipeError):
                stdin.close()
            jvm.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter rounds, and 1, 100 and 10,000 rules only")
    parser.add_argument("--only", default="", help=f"kinds, by how they begin: {', '.join(KINDS)}")
    parser.add_argument("--without-event-ruler", action="store_true")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if any(kind.startswith(name) for name in options.only.split(","))]
    counts = COUNTS[::2] if options.quick else COUNTS
    seconds = 0.2 if options.quick else 0.5
    size = sum(map(len, events(1_000))) // EVENTS
    print(f"{EVENTS:,} events of {size} bytes; events a second, in thousands; flat: the first column by the last\n")
    print(f"{'':28}{'rules':>12}" + "".join(f"{count:>9,}" for count in counts) + f"{'flat':>8}{'add, us':>9}")
    with event_ruler() if not options.without_event_ruler else nullcontext() as theirs:
        for kind in kinds:
            rates: list[float] = []
            other: list[float] = []
            add_us = 0.0
            for count in counts:
                patterns = [json.dumps(KINDS[kind](lot(number))) for number in range(count)]
                texts = events(count)
                rate, matches, add_us = ours(patterns, texts, seconds)
                rates.append(rate)
                if theirs is not None:
                    their_rate, their_matches = theirs(patterns, texts, seconds)
                    other.append(their_rate)
                    if matches != their_matches:
                        sys.exit(f"{kind}: {matches} matches here, {their_matches} there")
            flat, other_flat = rates[0] / rates[-1], other[0] / other[-1] if other else 0.0
            show(kind, "Sidebus", rates, f"{flat:8.2f}{add_us:9.0f}")
            if other:
                show("", "event-ruler", other, f"{other_flat:8.2f}")
                print(f"{'':28}{'ratio':>12}" + "".join(f"{a / b:9.2f}" for a, b in zip(rates, other, strict=True)))


def show(kind: str, who: str, rates: list[float], rest: str) -> None:
    print(f"{kind:28}{who:>12}" + "".join(f"{rate / 1000:9.1f}" for rate in rates) + rest, flush=True)


if __name__ == "__main__":
    main()
