"""FAULTS.md is true: its tables are the engine's, its examples do what it says.

`python tests/test_faults_page.py` writes the tables anew.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker.clock import ManualClock
from broker.faults import Faults, kinds, profiles
from protocols.application import SERVICES
from protocols.commands.faults import _rule
from protocols.control.faults import operations
from protocols.start_plan import start_plan

PATH = Path(__file__).parent.parent / "FAULTS.md"
PAGE = PATH.read_text()


def rule_table() -> str:
    rows = [f"| `{general.name}` | {general.text} |" for general in kinds.GENERAL.values()]
    return "\n".join(["| key | |", "|---|---|", *rows])


def kinds_tables() -> str:
    lines: list[str] = []
    group = None
    for kind in kinds.describe()["kinds"]:
        if kind["group"] != group:
            group = kind["group"]
            lines += ["", f"**{group.capitalize()}**", "", "| fault | | parameters | example |", "|---|---|---|---|"]
        never = "" if kind["fifo"] else " Never at FIFO queues."
        parameters = "<br>".join(_parameter(parameter) for parameter in kind["parameters"])
        lines.append(f"| `{kind['fault']}` | {kind['text']}{never} | {parameters} | `{kind['example']}` |")
    return "\n".join(lines[1:])


def _parameter(parameter: dict[str, Any]) -> str:
    default = parameter.get("default")
    shown = f"`{parameter['name']}`" if default is None else f"`{parameter['name']}={default}`"
    choices = f" ({', '.join(parameter['choices'])})" if "choices" in parameter else ""
    required = ", must be given" if "required" in parameter else ""
    return f"{shown}{choices}: {parameter['text']}{required}".replace("|", "\\|")


def profiles_table() -> str:
    rows = []
    for name, profile in profiles.describe().items():
        rules = ", ".join(
            f"{rule['fault']}" + (f" {rule['probability']:.1%}".replace(".0%", "%") if "probability" in rule else "")
            for rule in profile["plan"]["rule"]
        )
        rows.append(f"| `{name}` | {profile['text']} | {rules} |")
    return "\n".join(["| profile | | rules |", "|---|---|---|", *rows])


TABLES = {"rule": rule_table, "kinds": kinds_tables, "profiles": profiles_table}


def written(page: str) -> str:
    for name, table in TABLES.items():
        marks = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = page.split(f"{marks[0]}\n")
        page = f"{before}{marks[0]}\n{table()}\n{marks[1]}{rest.partition(marks[1])[2]}"
    return page


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def faults() -> Faults:
    faults = Faults(ManualClock())
    faults.operations = lambda: operations(list(SERVICES))
    return faults


def test_the_tables_are_the_engines() -> None:
    assert written(PAGE) == PAGE, "run: python tests/test_faults_page.py"


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_example_can_be_added(faults: Faults, kind: str) -> None:
    example = _rule(shlex.split(kinds.KINDS[kind].example))
    assert example["fault"] == kind
    faults.add(example)


def test_each_command_that_adds_a_rule_does(faults: Faults) -> None:
    commands = re.findall(r"^\$ sidebus faults add (.*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        faults.add(_rule(shlex.split(command)))


def test_the_start_file_can_be_read(faults: Faults) -> None:
    (text,) = blocks("toml")
    plan = start_plan(tomllib.loads(text))
    assert plan.faults is not None
    assert plan.clock is not None
    assert plan.ledger is not None
    faults.load(plan.faults, plan.seed)


def test_the_first_screen_prints_what_it_says(start_sidebus: Any) -> None:
    server = start_sidebus("--ledger")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SIDEBUS_", "AWS_"))},
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    first, second = blocks("python")
    program = f"{first}\n{second}"
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30)
    server.stop()
    assert ran.stderr == ""
    assert ran.stdout == blocks("console")[1] + "42 {'throttle': 0}\n"


if __name__ == "__main__":
    PATH.write_text(written(PAGE))
