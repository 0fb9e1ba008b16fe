"""The command `sidebus`, as its users run it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sysconfig
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from protocols.cli import main
from protocols.commands.clock import as_text as clock_as_text
from protocols.testing.control import Control

Connect = Callable[..., Any]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """Runs the command in this process, asking another; `serve` gets a process of its own."""

    def __init__(self, sidebus: Any) -> None:
        self.sidebus = sidebus

    def __call__(self, *arguments: str | Path, **environment: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIDEBUS_", "AWS_"))}
        env = {**inherited, "SIDEBUS_ENDPOINT": self.sidebus.url, "COLUMNS": "100", **environment}
        given = list(map(str, arguments))
        if given[0] == "serve":
            command = [Path(sysconfig.get_path("scripts"), "sidebus"), *given]
            done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=30)
            return Ran(done.returncode, done.stdout, done.stderr)
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, env, clear=True), redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(given)
            except SystemExit as end:  # argparse's
                code = int(end.code or 0)
        return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def sidebus_command(start_sidebus: Callable[..., Any]) -> Command:
    """Asks a process of our own."""
    return Command(start_sidebus())


def test_the_clock(sidebus_command: Command) -> None:
    frozen = sidebus_command("clock", "freeze", "--json").json
    assert frozen["frozen"] is True
    ran = sidebus_command("clock", "advance", "14d")
    assert ran.code == 0
    assert ran.out.endswith(", frozen, 14d ahead of the machine's time\n") or "13d23h59m" in ran.out
    ran = sidebus_command("clock", "set", "2036-12-01T00:00:00Z")
    assert ran.out.startswith("2036-12-01T00:00:00.000Z, frozen, ")
    state = {"now": "now", "frozen": False, "speed": 1, "dates": "broker", "travelling_to": None}
    for offset_ms, told in ((1_209_599_988, "14d ahead of"), (-90_400, "1m30s behind"), (258, "258ms ahead of")):
        assert clock_as_text({**state, "offset_ms": offset_ms}) == f"now, {told} the machine's time"
    assert sidebus_command("--help").code == 0
    assert sidebus_command("clock", "dates", "machine").out.endswith(", dates by the machine\n")
    assert "60 times as fast" in sidebus_command("clock", "speed", "60").out
    assert sidebus_command("clock", "restore", "--json").json["frozen"] is False
    assert sidebus_command("clock", "--json").json["speed"] == 1
    ran = sidebus_command("clock", "advance", "fortnight")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sidebus: ")
    assert ran.err.count("\n") == 1


def test_faults(sidebus_command: Command, tmp_path: Path) -> None:
    assert sidebus_command("faults").out == "no fault plan is in force\n"
    ran = sidebus_command("faults", "profile", "aws-like", "--seed", "42")
    assert ran.out.startswith("seed 42, profile aws-like\n\nRULE ")
    ran = sidebus_command(
        *("faults", "add", "late", "delay=2s", "resource=orders-*", "every=3", 'message={"body": ["x"]}', "name=mine")
    )
    assert ran.code == 0
    assert ran.out.splitlines()[-1].split(maxsplit=4) == [
        *("mine", "late", "0", "0"),
        'delay=2s resource=orders-* every=3 message={"body": ["x"]}',
    ]
    assert [rule["name"] for rule in sidebus_command("faults", "show", "--json").json["rules"]][-1] == "mine"
    assert "mine" not in sidebus_command("faults", "remove", "mine").out
    ran = sidebus_command("faults", "add", '{"fault": "throttle", "operation": ["SendMessage", "Publish"]}')
    assert "operation=SendMessage,Publish" in ran.out
    plan = tmp_path / "plan.toml"
    plan.write_text('seed = 7\n[[rule]]\nfault = "throttle"\n')
    assert sidebus_command("faults", "load", plan).out.startswith("seed 7\n")
    assert sidebus_command("faults", "load", plan, "--seed", "8").out.startswith("seed 8\n")
    assert sidebus_command("faults", "load", plan, "--seed", "tuesday").out.startswith("seed tuesday\n")
    assert sidebus_command("faults", "clear").out == "no fault plan is in force\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "throtle"], "There is no fault 'throtle'. Did you mean throttle?"),
        (["add", "throttle", "now"], "'now' is no key=value, such as probability=0.1."),
        (["add", "{"], "The rule is not JSON: "),
        (["add", "throttle", "probability=NaN"], "It cannot be said in JSON: "),
        (["check", "/nowhere/plan.toml"], "/nowhere/plan.toml cannot be read: No such file or directory."),
        (["remove", "x"], "There is no rule 'x' in force."),
        (["profile", "bad-dya"], "There is no profile 'bad-dya'. Did you mean bad-day?"),
        (["load", "/nowhere/plan.toml"], "/nowhere/plan.toml cannot be read: No such file or directory."),
        (["kinds", "dupplicate"], "There is no fault 'dupplicate'. Did you mean duplicate?"),
    ],
    ids=str,
)
def test_what_is_refused_is_one_sentence(sidebus_command: Command, arguments: list[str], sentence: str) -> None:
    ran = sidebus_command("faults", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"sidebus: {sentence}")
    assert ran.err.count("\n") == 1


def test_what_needs_no_broker(sidebus_command: Command, tmp_path: Path) -> None:
    nowhere = {"SIDEBUS_ENDPOINT": "http://127.0.0.1:1"}
    ran = sidebus_command("faults", "kinds", **nowhere)
    assert "BROKER\n  pause\n      The process stands still.\n" in ran.out
    assert "WHAT EVERY RULE MAY HAVE" in ran.out
    assert sidebus_command("faults", "profiles", **nowhere).out.startswith("aws-like: ")
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('profile = "poison"\n[clock]\nfrozen = true\n[ledger]\ncapacity = 100\n')
    assert sidebus_command("faults", "check", good, **nowhere).out == f"{good} is good: 6 rules\n"
    good.write_text('\ufeffprofile = "poison"\n', "utf-8")  # as some editors begin a file
    assert sidebus_command("faults", "check", good, **nowhere).code == 0
    bad.write_text('[clock]\nat = "2036-01-02"\n[[rule]]\nfault = "late"\nuntil = "2036-01-01"\n')
    ran = sidebus_command("faults", "check", bad, **nowhere)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("sidebus: Rule 1: until: 2036-01-01 is past; it is 2036-01-02T00:00:00.")
    bad.write_text('[[rule]]\nfault = "late"\nresource = "a.fifo.b"\n')
    ran = sidebus_command("faults", "check", bad, **nowhere)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "sidebus: Rule 1: resource 'a.fifo.b' can match nothing: no name in sqs is like that.\n"


def test_the_ledger(sidebus_command: Command, connect: Connect, account: str) -> None:
    sqs = connect(sidebus_command.sidebus)
    assert sidebus_command("ledger", "on", "--capacity", "9000").out == "the ledger is on: 0 of 9000 entries\n"
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sent = sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"]
    verdict = ("ledger", "verdict", "--queue", "orders", "--account", account)
    message = sqs.receive_message(QueueUrl=url)["Messages"][0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    ran = sidebus_command(*verdict)
    assert (ran.code, ran.err) == (0, "")
    for _ in range(2):
        Control(sidebus_command.sidebus.url, account=account).ledger.effect(sent)
    ran = sidebus_command(*verdict)
    assert (ran.code, ran.err) == (1, "")
    assert "done-more-than-once" in ran.out
    assert sidebus_command(*verdict, "--json").json["passed"] is False
    assert sidebus_command(*verdict, "--format", "junit").out.startswith("<?xml ")
    assert sent in sidebus_command("ledger", "show", sent).out
    ran = sidebus_command("ledger", "entries", "--queue", "orders", "--account", account)
    assert ran.out.splitlines()[0].split() == ["ID", "TIME", "EVENT", "RESOURCE", "MESSAGE", "BY"]
    assert sent in ran.out
    ran = sidebus_command("ledger", "verdict", "--queue", "nowhere")
    assert ran.code == 2
    assert ran.err.startswith("sidebus: ")
    assert sidebus_command("ledger", "off").out.startswith("the ledger is off")
    assert sidebus_command("ledger", "clear").out == "the ledger is off: 0 of 9000 entries\n"


def test_where_nobody_answers(sidebus_command: Command) -> None:
    for command in ("clock", "faults", "ledger"):
        ran = sidebus_command(command, "--endpoint", "http://127.0.0.1:1")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("sidebus: No Sidebus answers at http://127.0.0.1:1 ")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:port", "http://[::1", "http://127.0.0.1:1/\N{SNOWMAN}", "x"])
def test_what_is_no_endpoint(sidebus_command: Command, endpoint: str) -> None:
    ran = sidebus_command("clock", "--endpoint", endpoint)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"sidebus: {endpoint!r} is no endpoint: give one such as http://127.0.0.1:4566.\n"


def test_the_endpoint_goes_before_or_behind_the_action(sidebus_command: Command) -> None:
    url = sidebus_command.sidebus.url
    for arguments in (["--endpoint", url, "show"], ["show", "--endpoint", url]):
        ran = sidebus_command("clock", *arguments, "--json", SIDEBUS_ENDPOINT="http://127.0.0.1:1")
        assert ran.code == 0, ran.err
    assert sidebus_command("clock", SIDEBUS_ENDPOINT="", AWS_ENDPOINT_URL=url).code == 0


@pytest.mark.parametrize("command", ["serve", "clock", "faults", "ledger"])
def test_help_has_examples(sidebus_command: Command, command: str) -> None:
    ran = sidebus_command(command, "--help")
    assert ran.code == 0
    assert f"examples:\n  sidebus {command}" in ran.out


def test_usage(sidebus_command: Command) -> None:
    assert sidebus_command("nonsense").code == 2
    assert sidebus_command("clock", "nonsense").code == 2
    assert "arguments are required: RULE" in sidebus_command("faults", "add").err
    assert sidebus_command("ledger", "verdict").code == 2
    assert all(name in sidebus_command("--help").out for name in ("serve", "clock", "faults", "ledger"))


# serve


def test_a_start_file(start_sidebus: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "start.toml"
    file.write_text(
        """
        seed = 42
        profile = "aws-like"
        [[rule]]
        fault = "throttle"
        operation = "ListTopics"
        from = "1h"
        [clock]
        at = "2036-12-01T00:00:00Z"
        frozen = true
        dates = "machine"
        [ledger]
        capacity = 5000
        """
    )
    sidebus = start_sidebus("--plan", file)
    command = Command(sidebus)
    clock = command("clock", "--json").json
    assert (clock["now"], clock["frozen"], clock["dates"]) == ("2036-12-01T00:00:00.000Z", True, "machine")
    shown = command("faults", "--json").json
    assert (shown["seed"], shown["plan"]["rule"][0]["fault"]) == (42, "throttle")
    assert command("ledger", "--json").json["capacity"] == 5000
    assert sidebus.stop() == 0


def test_the_seed_is_printed_when_there_is_a_plan(start_sidebus: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"profile": "poison"}')
    seeds = []
    for arguments in ([], ["--seed", "9"], ["--seed", "9", "--ledger"]):
        sidebus = start_sidebus("--plan", file, *arguments)
        seeds.append(sidebus.process.stdout.readline())
        command = Command(sidebus)
        seed = command("faults", "--json").json["seed"]
        assert seeds[-1] == f"a fault plan is in force, seed {seed}\n"
        assert command("ledger", "--json").json["enabled"] is ("--ledger" in arguments)
        sidebus.stop()
    assert seeds[1] == seeds[2] == "a fault plan is in force, seed 9\n"


def test_the_same_seed_is_the_same_run(start_sidebus: Callable[..., Any], connect: Connect) -> None:
    ids = []
    for _ in range(2):
        sidebus = start_sidebus("--seed", "5")
        sqs = connect(sidebus, account="111122223333")
        url = sqs.create_queue(QueueName="orders")["QueueUrl"]
        ids.append(sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"])
        sidebus.stop()
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "is not TOML: "),
        ("sead = 1", "A plan has seed, profile, rule, rules, clock, ledger, not 'sead'. Did you mean seed?"),
        ("[clock]\nfreeze = true", "[clock] has at, frozen, speed, dates, not 'freeze'. Did you mean frozen?"),
        ("[clock]\nspeed = 0", "[clock] speed takes a number above 0 and at most 1000000, not 0."),
        ("[clock]\nspeed = inf", "[clock] speed takes a number above 0 and at most 1000000, not inf."),
        ('[clock]\nat = "2500-01-01"', "[clock] at: 2500-01-01T00:00:00.000Z is more than a century ahead."),
        ('[clock]\nat = "noon"', "[clock] at takes a moment such as 2026-12-01T00:00:00Z, not 'noon'."),
        ("[ledger]\ncapacity = 0", "[ledger] capacity takes a whole number of entries, not 0."),
        ('[[rule]]\nfault = "lat"', "Rule 1: There is no fault 'lat'. Did you mean late?"),
    ],
    ids=str,
)
def test_a_start_file_that_cannot_be(sidebus_command: Command, tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "start.toml"
    file.write_text(text)
    ran = sidebus_command("serve", "--port", "0", "--plan", file)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


def test_serve_refuses_what_it_cannot_use(sidebus_command: Command) -> None:
    ran = sidebus_command("serve", "--seed", "9" * 30)
    assert ran.code == 2
    assert ran.err.startswith("sidebus: seed takes a whole number from 0 to ")
    ran = sidebus_command("serve", "--plan", "/nowhere.toml")
    assert (ran.code, ran.err) == (2, "sidebus: /nowhere.toml cannot be read: No such file or directory.\n")
