"""`sidebus ledger`: what happened to each message, and the verdict on those who consumed them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from protocols.commands.asking import action, actions, control, show, table

if TYPE_CHECKING:
    from protocols.testing.control import LedgerControl

EPILOG = """\
examples:
  sidebus ledger on                                  from now on (or at the start: sidebus serve --ledger)
  sidebus ledger show 5fea7756-0ea4-451a-a703-a558b933e274      one message's life as a time line
  sidebus ledger verdict --queue orders              exit code 1 if it has defects
  sidebus ledger verdict --queue orders --format junit > verdict.xml
  sidebus ledger entries --queue orders --event delivered
  sidebus ledger clear
"""


def options(parser: argparse.ArgumentParser) -> None:
    known = actions(parser)
    given = action(known, "show", "one message's life as a time line; without an id, how full the ledger is")
    given.add_argument(
        "message", metavar="MESSAGE_ID", nargs="?", help="also a record's sequence number, or an event's id"
    )
    given = action(known, "verdict", "what became of all that was sent; exit code 1 if there are defects")
    _resource(given, required=True)
    given.add_argument("--format", choices=("text", "json", "junit"), help="how to tell it (default: text)")
    given = action(known, "entries", "what happened, the oldest first")
    _resource(given, required=False)
    given.add_argument("--message", metavar="ID", help="of one message")
    given.add_argument("--event", metavar="EVENT", help="of one kind: sent, delivered, acknowledged, fault, …")
    given.add_argument("--after", metavar="ID", type=int, help="behind this entry")
    given.add_argument("--limit", metavar="N", type=int, default=100, help="at most so many (default: 100)")
    given = action(known, "on", "keep it from now on")
    given.add_argument("--capacity", type=int, metavar="N", help="entries to keep; the oldest go")
    action(known, "off", "keep it no more; what is in it stays")
    action(known, "clear", "empty it")


def _resource(parser: argparse.ArgumentParser, *, required: bool) -> None:
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("--queue", metavar="NAME")
    which.add_argument("--stream", metavar="NAME")
    which.add_argument("--topic", metavar="NAME")
    parser.add_argument("--account", metavar="ID", help="whose (default: the broker's default)")
    parser.add_argument("--region", metavar="NAME", help="where (default: the broker's default)")


def run(options: argparse.Namespace) -> int:
    with control(options) as broker:
        return _do(broker.ledger, options)


def _do(ledger: LedgerControl, options: argparse.Namespace) -> int:
    match options.action:
        case "show" if options.message:
            _write(ledger.life(options.message, "json" if getattr(options, "json", False) else "text"))
        case "verdict":
            return _verdict(ledger, options)
        case "entries":
            asked = {name: getattr(options, name) for name in ("message", "event", "after", *_WHOSE)}
            show(options, list(ledger.entries(limit=options.limit, **asked)), entries_as_text)
        case "on":
            show(options, ledger.on(options.capacity), as_text)
        case "off":
            show(options, ledger.off(), as_text)
        case "clear":
            show(options, ledger.clear(), as_text)
        case _:
            show(options, ledger.state(), as_text)
    return 0


_WHOSE = ("queue", "stream", "topic", "account", "region")


def _verdict(ledger: LedgerControl, options: argparse.Namespace) -> int:
    asked = {name: getattr(options, name) for name in _WHOSE}
    form = options.format or ("json" if getattr(options, "json", False) else "text")
    verdict = ledger.verdict(**asked)
    if form == "text":
        _write(str(verdict).encode())
    elif form == "json":
        print(json.dumps(verdict.document, indent=2, ensure_ascii=False))
    else:
        _write(ledger.judge({**asked, "format": form}))
    return 0 if verdict.passed else 1


def _write(answer: bytes) -> None:
    sys.stdout.write(answer.decode().rstrip("\n") + "\n")


def as_text(state: dict[str, Any]) -> str:
    text = f"the ledger is {'on' if state['enabled'] else 'off'}: {state['entries']} of {state['capacity']} entries"
    return f"{text}, {state['dropped']} dropped" if state["dropped"] else text


def entries_as_text(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return "nothing"
    rows = [
        (
            entry["id"],
            entry["time"],
            entry["event"],
            str(entry["resource"]).rpartition(":")[2],
            entry["message_id"],
            " ".join(str(entry["by"]).split()[:2]),
            " ".join(f"{name}={value}" for name, value in _detail(entry) if value not in (None, "", 0)),
        )
        for entry in entries
    ]
    return table(("ID", "TIME", "EVENT", "RESOURCE", "MESSAGE", "BY", ""), rows)


def _detail(entry: dict[str, Any]) -> list[tuple[str, Any]]:
    shown = ("id", "time", "event", "resource", "message_id", "by", "detail")
    return [(name, value) for name, value in entry.items() if name not in shown] + list(entry["detail"].items())
