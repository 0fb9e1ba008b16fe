"""An event on its way: the JSON that targets get, what patterns look at, and the buses it has come by.

AWS's order of fields; between the parts there is no white space. The detail is what the client wrote, its numbers to
the digit; of two equal keys the last counts. Writing it out anew from what was parsed is many times faster than going
through the text, so that is done wherever it comes to the same.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from hashlib import md5
from typing import Any, NoReturn

import orjson

from broker.buses.bus import Bus
from broker.clock import iso_8601_ms
from broker.names import World

MAX_DEPTH = 1_000  # PutEvents: "will only process nested JSON up to 1000 levels deep"

# What orjson may write in another way than it was written: fractions, exponents, more digits than 64 bits have.
_DOUBTFUL = re.compile(r"[0-9][.eE]|[0-9]{19}")
_LONG = re.compile(r"[0-9]{19}")
_NUMBER = re.compile(r"(?<![0-9])(?:[0-9]++[.eE][-+.0-9eE]*|[0-9]{19,})")
_BETWEEN = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


class Malformed(ValueError):
    """The detail is no JSON object."""


class Event:
    """One event. `document` is `text` parsed; `hops` the buses that rules have sent it on from, the first one first."""

    def __init__(
        self,
        document: dict[str, Any],
        text: str,
        time_ms: int,
        ingested_ms: int,
        trace_header: str | None = None,
        hops: tuple[Bus, ...] = (),
        *,
        exact: bool = False,
    ) -> None:
        self.document = document
        self.text = text
        self.time_ms = time_ms
        self.ingested_ms = ingested_ms
        self.trace_header = trace_header
        self.hops = hops
        self._digest: tuple[str, int] | None = None
        # What an index is asked with: not having to parse again is worth most of the time that a match takes.
        self.subject: str | dict[str, Any] = document if exact else text

    @classmethod
    def create(
        cls,
        id: str,
        world: World,
        source: str,
        detail_type: str,
        detail: str,
        resources: list[str],
        time_ms: int,
        ingested_ms: int,
        trace_header: str | None = None,
    ) -> Event:
        """A new event of this account and region. Raises Malformed."""
        parsed, written, exact = _read_detail(detail)
        time = iso_8601_ms(time_ms)[:-5] + "Z"
        document = {
            "version": "0",
            "id": id,
            "detail-type": detail_type,
            "source": source,
            "account": world.account,
            "time": time,
            "region": world.region,
            "resources": resources,
            "detail": parsed,
        }
        text = (
            f'{{"version":"0","id":"{id}","detail-type":{_quoted(detail_type)},"source":{_quoted(source)},'
            f'"account":"{world.account}","time":"{time}","region":"{world.region}",'
            f'"resources":{orjson.dumps(resources).decode() if resources else "[]"},"detail":{written}}}'
        )
        return cls(document, text, time_ms, ingested_ms, trace_header, exact=exact)

    @classmethod
    def replayed(cls, text: str, replay_name: str, time_ms: int, ingested_ms: int) -> Event:
        """An archived event that comes again. (AWS does not say where among its fields the replay's name is.)"""
        text = f'{text[:-1]},"replay-name":"{replay_name}"}}'
        return cls(_parsed(text), text, time_ms, ingested_ms)

    @property
    def id(self) -> str:
        id: str = self.document["id"]
        return id

    @property
    def digest(self) -> tuple[str, int]:
        """The MD5 of its text, and how many bytes that has."""
        if self._digest is None:
            self._digest = digest(self.text)
        return self._digest

    def sent_on(self, bus: Bus) -> Event:
        """The same event, for the bus that a rule of this one sends it to."""
        exact = self.subject is self.document
        return Event(
            self.document,
            self.text,
            self.time_ms,
            self.ingested_ms,
            self.trace_header,
            (*self.hops, bus),
            exact=exact,
        )


def digest(text: str) -> tuple[str, int]:
    """The MD5 of a text, and how many bytes it has."""
    encoded = text.encode()
    return md5(encoded, usedforsecurity=False).hexdigest(), len(encoded)


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _read_detail(detail: str) -> tuple[dict[str, Any], str, bool]:
    """The detail parsed, written without white space, and whether what was parsed is exactly that. Raises Malformed."""
    try:
        parsed = orjson.loads(detail)
        written = orjson.dumps(parsed).decode()
        exact = (
            _DOUBTFUL.search(detail) is None
            or detail == written
            or detail.replace(", ", ",").replace(": ", ":") == written  # as Python's json writes
            or _NUMBER.findall(detail) == _NUMBER.findall(written)
        )
    except orjson.JSONDecodeError:
        parsed, exact = _parsed(detail), False  # halves of surrogate pairs
    except orjson.JSONEncodeError:
        exact = False  # nested deeper than orjson writes
    if type(parsed) is not dict:
        raise Malformed
    if not exact:
        written = _rewritten(detail)
        parsed = _parsed(detail)
    if detail.count("[") + detail.count("{") > MAX_DEPTH:
        _check_depth(detail)
    return parsed, written, exact


def _rewritten(detail: str) -> str:
    """Valid JSON without white space, its numbers as they were written."""
    try:
        return orjson.dumps(json.loads(detail, parse_float=orjson.Fragment, parse_int=_integer)).decode()
    except (RecursionError, orjson.JSONEncodeError):
        return _BETWEEN.sub(r"\1", detail)


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) < 19 else orjson.Fragment(text)


def _parsed(text: str) -> Any:
    """Integers stay integers, however long they are. Raises Malformed."""
    with suppress(orjson.JSONDecodeError):
        if _LONG.search(text) is None:
            return orjson.loads(text)
    try:
        text.encode()
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        raise Malformed from None
    except RecursionError:
        return _parsed_deep(text)


def _parsed_deep(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Malformed from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _check_depth(detail: str) -> None:
    depth = 0
    for opened, closed in _BRACKETS.findall(detail):
        depth += bool(opened) - bool(closed)
        if depth > MAX_DEPTH:
            raise Malformed
