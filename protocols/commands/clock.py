"""`sidebus clock`: the broker's time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from protocols.commands.asking import action, actions, control, show

if TYPE_CHECKING:
    from protocols.testing.control import ClockControl

EPILOG = """\
examples:
  sidebus clock                            what time it is for the broker
  sidebus clock freeze                     it stands still; `resume` lets it go on
  sidebus clock advance 14d                all that is due in 14 days happens, in order; then the command returns
  sidebus clock set 2026-12-01T00:00:00Z   the same to a moment; backwards nothing falls due
  sidebus clock speed 60                   a minute every second
  sidebus clock dates machine              Date headers by the machine's clock, for SDKs that correct their skew
  sidebus clock restore                    back to the machine's time

lengths of time: 500ms, 90s, 1h30m, 14d, or a number of seconds
"""


def options(parser: argparse.ArgumentParser) -> None:
    known = actions(parser)
    action(known, "show", "what time it is for the broker")
    action(known, "freeze", "time stands still")
    action(known, "resume", "time goes on from where it stands, at the speed of real time")
    given = action(known, "set", "go to a moment; all that is due on the way there happens, in order")
    given.add_argument("when", metavar="WHEN", help="2026-12-01T00:00:00Z, or milliseconds since 1970")
    given = action(known, "advance", "go on by a length of time; all that is due in it happens, in order")
    given.add_argument("by", metavar="BY", help="90s, 1h30m, 14d, or a number of seconds")
    given = action(known, "speed", "how fast time goes")
    given.add_argument("times", metavar="TIMES", type=float, help="60 makes a minute of every second")
    given = action(known, "dates", "whose time the Date headers of answers have")
    given.add_argument("whose", metavar="broker|machine", choices=("broker", "machine"))
    action(known, "restore", "back to the machine's time and speed")


def run(options: argparse.Namespace) -> int:
    with control(options) as broker:
        show(options, _do(broker.clock, options), as_text)
    return 0


def _do(clock: ClockControl, options: argparse.Namespace) -> dict[str, Any]:
    match options.action:
        case "freeze":
            return clock.freeze()
        case "resume":
            return clock.resume()
        case "set":
            return clock.set(int(options.when) if options.when.isdecimal() else options.when)
        case "advance":
            return clock.advance(options.by)
        case "speed":
            return clock.speed(options.times)
        case "dates":
            return clock.dates(options.whose)
        case "restore":
            return clock.restore()
    return clock.show()


READING_MS = 10  # two clocks are not read at the same moment


def as_text(state: dict[str, Any]) -> str:
    """`2026-12-01T00:00:00.000Z, frozen, 10d before the machine's`"""
    from broker.durations import show_duration

    parts = [state["now"]]
    if state["frozen"]:
        parts.append("frozen")
    elif state["speed"] != 1:
        parts.append(f"{state['speed']:g} times as fast as real time")
    offset_ms = round(state["offset_ms"])
    if abs(offset_ms) > READING_MS:
        rounded_ms = abs(offset_ms) if abs(offset_ms) < 1_000 else round(abs(offset_ms) / 1_000) * 1_000
        parts.append(f"{show_duration(rounded_ms)} {'ahead of' if offset_ms > 0 else 'behind'} the machine's time")
    if state["dates"] != "broker":
        parts.append(f"dates by the {state['dates']}")
    if state["travelling_to"] is not None:
        parts.append(f"on the way to {state['travelling_to']}")
    return ", ".join(parts)
