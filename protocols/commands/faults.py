"""`sidebus faults`: what goes wrong, where and how often."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from protocols.commands import CommandError, seed
from protocols.commands.asking import action, actions, control, show, table

if TYPE_CHECKING:
    from protocols.testing.control import FaultsControl, Plan

EPILOG = """\
examples:
  sidebus faults profile aws-like                      what AWS's queues permit, from a seed that is shown
  sidebus faults add throttle service=sqs probability=0.1
  sidebus faults add late delay=5s resource='orders-*' every=10
  sidebus faults add duplicate when=after-delete message='{"body": {"type": ["order"]}}' count=3
  sidebus faults add restart at=30s
  sidebus faults load plan.toml --seed 42              the run that seed 42 had, again
  sidebus faults                                       how often each rule has matched and struck
  sidebus faults kinds                                 everything that can go wrong
  sidebus faults clear

plan.toml:
  seed = 42
  profile = "bad-day"
  [[rule]]
  fault = "error"
  code = "InternalFailure"
  operation = "SendMessage"
  probability = 0.05
"""


def options(parser: argparse.ArgumentParser) -> None:
    known = actions(parser)
    action(known, "show", "the plan in force, its seed, and how often each rule has matched and struck")
    given = action(known, "load", "put the plan of a file in force (TOML, or JSON if its name ends in .json)")
    given.add_argument("file", metavar="FILE")
    _seed(given)
    given = action(known, "profile", "put a named plan in force; `sidebus faults profiles` lists them")
    given.add_argument("name", metavar="NAME")
    _seed(given)
    given = action(
        known,
        "add",
        "add one rule to the plan in force, or begin one",
        epilog='a value is JSON, or a text as it is: count=3 operation=\'["SendMessage", "DeleteMessage"]\' delay=5s\n'
        "`sidebus faults kinds` lists the kinds, their parameters, and what every rule may have",
    )
    given.add_argument("rule", metavar="RULE", nargs="+", help="KIND key=value …, or the whole as JSON")
    given = action(known, "remove", "take one rule away")
    given.add_argument("name", metavar="NAME")
    action(known, "clear", "no faults any more")
    given = action(known, "kinds", "everything that can go wrong, with its parameters (asks no broker)")
    given.add_argument("kind", metavar="KIND", nargs="?", help="one kind only")
    action(known, "profiles", "the named plans (asks no broker)")
    given = action(known, "check", "whether a plan could be in force (asks no broker); exit code 1 if not")
    given.add_argument("file", metavar="FILE")


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=seed, metavar="N|TEXT", help="replays the run that had it (default: one is drawn)"
    )


def run(options: argparse.Namespace) -> int:
    match options.action:
        case "kinds":
            return _kinds(options)
        case "profiles":
            return _profiles(options)
        case "check":
            return _check(options)
    with control(options) as broker:
        show(options, _do(broker.faults, options), as_text)
    return 0


def _do(faults: FaultsControl, options: argparse.Namespace) -> Plan:
    match options.action:
        case "load":
            return faults.load(options.file, options.seed)
        case "profile":
            return faults.profile(options.name, options.seed)
        case "add":
            faults.add(_rule(options.rule))
        case "remove":
            return faults.remove(options.name)
        case "clear":
            faults.clear()
    return faults.show()


def _rule(words: list[str]) -> dict[str, Any]:
    """`throttle service=sqs count=3`, `fault=throttle …`, or the whole as JSON."""
    if words[0].lstrip().startswith("{"):
        try:
            rule = json.loads(" ".join(words))
        except ValueError as error:
            raise CommandError(f"The rule is not JSON: {error}.") from None
        return dict(rule)
    rule = {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not equals:
            if number:
                raise CommandError(f"{word!r} is no key=value, such as probability=0.1.")
            name, value = "fault", word
        rule[name] = _value(value)
    return rule


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _kinds(options: argparse.Namespace) -> int:
    from broker.faults import kinds
    from broker.faults.reading import suggestion

    document = kinds.describe()
    if options.kind is not None:
        document["kinds"] = [kind for kind in document["kinds"] if kind["fault"] == options.kind]
        if not document["kinds"]:
            near = suggestion(options.kind, kinds.KINDS, " `sidebus faults kinds` lists them all.")
            raise CommandError(f"There is no fault {options.kind!r}.{near}")
    show(options, document, kinds_as_text)
    return 0


def _profiles(options: argparse.Namespace) -> int:
    from broker.faults import profiles

    show(
        options,
        profiles.describe(),
        lambda found: "\n\n".join(
            f"{name}: {profile['text']}\n"
            + "\n".join(f"  {rule['fault']}  {_settings(rule)}" for rule in profile["plan"]["rule"])
            for name, profile in found.items()
        ),
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    from broker.clock import ClockRefusal, SystemClock
    from broker.faults import Faults, PlanError
    from protocols.aws.services import SERVICES
    from protocols.control.faults import operations
    from protocols.plan_file import PlanFileError
    from protocols.start_plan import read_start_plan

    clock = SystemClock(lambda _callback: None)
    faults = Faults(clock)
    faults.operations = lambda: operations(list(SERVICES))
    try:
        plan = read_start_plan(options.file)
        if plan.clock is not None and plan.clock.at_ms is not None:
            clock.jump(plan.clock.at_ms)  # the rules' moments are compared with it
        if plan.faults is not None:
            faults.load(plan.faults, plan.seed)
    except PlanFileError as error:
        raise CommandError(str(error)) from None
    except (ClockRefusal, PlanError) as error:
        print(f"sidebus: {error}", file=sys.stderr)
        return 1
    show(options, faults.show(), lambda shown: f"{options.file} is good: {_count(len(shown.get('rules', ())), 'rule')}")
    return 0


# Texts


def as_text(shown: dict[str, Any]) -> str:
    if shown["plan"] is None:
        return "no fault plan is in force"
    rows = [
        (
            counts["name"],
            counts["kind"],
            counts["matched"],
            counts["struck"],
            "exhausted" if counts["exhausted"] else "",
            _settings(rule),
        )
        for rule, counts in zip(shown["plan"]["rule"], shown["rules"], strict=True)
    ]
    profile = f", profile {shown['profile']}" if "profile" in shown else ""
    return f"seed {shown['seed']}{profile}\n\n" + table(
        ("RULE", "FAULT", "MATCHED", "STRUCK", "", "WHERE AND HOW"), rows
    )


def _settings(rule: dict[str, Any]) -> str:
    return " ".join(f"{key}={_word(value)}" for key, value in rule.items() if key not in ("fault", "name"))


def _word(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value) if len(value) <= 3 else f"{','.join(value[:2])},… ({len(value)})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def kinds_as_text(document: dict[str, Any]) -> str:
    lines: list[str] = []
    group = None
    for kind in document["kinds"]:
        if kind["group"] != group:
            group = kind["group"]
            lines += ["", group.upper()] if lines else [group.upper()]
        lines += [f"  {kind['fault']}", f"      {kind['text']}"]
        if isinstance(kind["operations"], dict):
            at = "; ".join(f"{service} {', '.join(names)}" for service, names in kind["operations"].items())
            lines.append(f"      at {at}{'' if kind['fifo'] else '; never at FIFO queues'}")
        lines += [f"      {parameter['name']:<14} {_about(parameter)}" for parameter in kind["parameters"]]
        lines.append(f"      sidebus faults add {kind['example']}")
    lines += ["", "WHAT EVERY RULE MAY HAVE"]
    lines += [f"  {general['name']:<12} {general['text']}" for general in document["rule"]]
    return "\n".join(lines)


def _about(parameter: dict[str, Any]) -> str:
    choices = f"{' | '.join(parameter['choices'])}: " if "choices" in parameter else ""
    if "required" in parameter:
        more = " (must be given)"
    else:
        more = "" if parameter["default"] is None else f" (default: {parameter['default']})"
    return f"{choices}{parameter['text']}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
