"""`/_sidebus/clock`: the broker's time, for people and tests to bend.

    GET
    POST {"freeze": true} | {"resume": true} | {"set": "2026-12-01T00:00:00Z" or ms} | {"advance": "14d" or seconds}
       | {"speed": 60} | {"dates": "broker" or "machine"} | {"restore": true}

Every answer is the clock as it is then. The one to `set` or `advance` comes when everything due on the way has
happened; a second journey is refused with a 409 until then. Durations are those of broker/durations.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from broker.clock import ClockRefusal, SystemClock, Travelling, iso_8601_ms, parse_iso_8601
from broker.durations import parse_duration_ms
from protocols.control.answer import Answer, Later
from protocols.http.message import Request

COMMANDS = ("freeze", "resume", "set", "advance", "speed", "dates", "restore")


class ClockPage:
    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._to_do: dict[str, Callable[[Any], Later | None]] = {
            "freeze": self._freeze,
            "resume": self._resume,
            "set": self._set,
            "advance": self._advance,
            "speed": self._speed,
            "dates": self._dates,
            "restore": self._restore,
        }

    def get(self, _request: Request) -> Answer:
        return 200, self._clock.state()

    def post(self, request: Request) -> Answer | Later:
        try:
            name, given = _command(request.body)
            later = self._to_do[name](given)
        except Travelling as refusal:
            return 409, {"error": str(refusal)}
        except ClockRefusal as refusal:
            return 400, {"error": str(refusal)}
        return later or (200, self._clock.state())

    def _freeze(self, given: object) -> None:
        _check_true("freeze", given)
        self._clock.freeze()

    def _resume(self, given: object) -> None:
        _check_true("resume", given)
        self._clock.resume()

    def _restore(self, given: object) -> None:
        _check_true("restore", given)
        self._clock.restore()

    def _speed(self, given: object) -> None:
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise ClockRefusal("speed is a number: 60 makes a minute of every second.")
        self._clock.set_speed(given)

    def _dates(self, given: object) -> None:
        self._clock.set_dates(str(given))

    def _set(self, given: object) -> Later:
        to_ms = given if isinstance(given, int) and not isinstance(given, bool) else None
        if isinstance(given, str):
            to_ms = parse_iso_8601(given)
        if to_ms is None:
            raise ClockRefusal(
                "set takes a moment: 2026-12-01T00:00:00Z, or a whole number of milliseconds since 1970."
            )
        return self._travel(to_ms)

    def _advance(self, given: object) -> Later:
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise ClockRefusal("advance takes a length of time: 90s, 1h30m, 14d, or a number of seconds.")
        try:
            by_ms = parse_duration_ms(given)
        except ValueError as error:
            raise ClockRefusal(str(error)) from None
        return self._travel(self._clock.now_ms() + by_ms)

    def _travel(self, to_ms: int) -> Later:
        clock = self._clock
        is_forward = to_ms >= clock.now_ms()
        told: list[Callable[[Answer], None]] = []

        def arrived() -> None:
            state = clock.state()
            if is_forward and state["now_ms"] < to_ms:
                error = f"The journey to {iso_8601_ms(to_ms)} was ended before: Sidebus stops, or time was restored."
                told[0]((503, {"error": error, **state}))
            else:
                told[0]((200, state))

        clock.travel(to_ms, arrived)
        return told.append


def _command(body: bytes) -> tuple[str, Any]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in COMMANDS:
        raise ClockRefusal(
            f'The body is a JSON object with one of {", ".join(COMMANDS)}, such as {{"advance": "14d"}}.'
        )
    name: str
    (name, value), *_ = given.items()
    return name, value


def _check_true(name: str, given: object) -> None:
    if given is not True:
        raise ClockRefusal(f'{name} takes true: {{"{name}": true}}.')
