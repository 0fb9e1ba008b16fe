"""A client of a broker's control pages: its clock, its faults, its ledger. The standard library is all it needs.

    with Control("http://127.0.0.1:4566") as control:
        control.clock.advance("14d")
        with control.faults.add(fault="throttle", service="sqs", probability=0.1):
            ...
        assert control.ledger.verdict(queue="orders").passed

The rule: each call is one request on a connection of its own, never tried again, as most of what is asked here must not
happen twice. So a Control may be shared by threads. What the broker refuses is a ControlError with the broker's words.

Ugly: parameters that are Python's own words take an underscore behind them: `for_="5s"`, `from_="10s"`.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from protocols.plan_file import read_plan_file

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"
PAGE = 1_000  # entries of the ledger, the most that one answer has
TIMEOUT_S = 600.0
"""An advance of fourteen days is answered when all of them have happened."""

Send = Callable[[str, str, bytes], tuple[int, bytes]]
"""Method, target, body → status, body: in place of HTTP."""


class ControlError(Exception):
    """The broker refused; the text is its sentence. `status` is HTTP's."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Unreachable(ControlError):
    """No broker answers there."""


def default_endpoint() -> str:
    """SIDEBUS_ENDPOINT, else AWS_ENDPOINT_URL, else the address that `sidebus serve` has by itself."""
    return os.environ.get("SIDEBUS_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL") or DEFAULT_ENDPOINT


class Control:
    """`account` and `region` say whose queues the ledger is asked about; the broker's defaults without them."""

    def __init__(
        self,
        endpoint: str | None = None,
        send: Send | None = None,
        *,
        account: str | None = None,
        region: str | None = None,
    ) -> None:
        self.endpoint = (endpoint or default_endpoint()).rstrip("/")
        self._send = send or _over_http(self.endpoint)
        self.clock = ClockControl(self)
        self.faults = FaultsControl(self)
        self.ledger = LedgerControl(self, {"account": account, "region": region})

    def health(self) -> dict[str, Any]:
        return self.ask("GET", "/_sidebus/health")

    def reset(self, account: str | None = None) -> None:
        """Empties the broker, or one account."""
        self.ask("POST", "/_sidebus/reset" + query({"account": account}))

    def close(self) -> None:
        """Nothing is kept open: for symmetry with other clients."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, method: str, target: str, document: object = None) -> dict[str, Any]:
        """One request, its answer parsed. Raises ControlError."""
        try:
            answer = json.loads(self.read(method, target, document))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ControlError(f"{self.endpoint} answers, but not as Sidebus does.")
        return answer

    def read(self, method: str, target: str, document: object = None) -> bytes:
        """One request, its answer as it is. Raises ControlError."""
        try:
            body = b"" if document is None else json.dumps(document, default=_as_json, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ControlError(f"It cannot be said in JSON: {error}.") from None
        status, answer = self._send(method, target, body)
        if status >= 400:
            try:
                text = json.loads(answer)["error"]
            except (ValueError, LookupError, TypeError):
                text = f"{self.endpoint}{target} answers with status {status}, which is not Sidebus's way: is it one?"
            raise ControlError(text, status)
        return answer


def _over_http(endpoint: str) -> Send:
    try:
        url = urlsplit(endpoint)
        is_good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and endpoint.isascii()
    except ValueError:
        is_good = False
    if not is_good:
        raise ControlError(f"{endpoint!r} is no endpoint: give one such as {DEFAULT_ENDPOINT}.")
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection

    def send(method: str, target: str, body: bytes) -> tuple[int, bytes]:
        connection = connect(url.netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, url.path + target, body or None, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"No Sidebus answers at {endpoint} ({error or type(error).__name__}): start one with `sidebus serve`, "
                "or say where it is with --endpoint, SIDEBUS_ENDPOINT or AWS_ENDPOINT_URL."
            ) from None
        finally:
            connection.close()

    return send


def query(given: Mapping[str, object]) -> str:
    """A query string of what is not None, with its question mark, or nothing."""
    named = {name: value for name, value in given.items() if value is not None}
    return f"?{urlencode(named)}" if named else ""


def _as_json(value: Any) -> str | float:
    """Moments and lengths of time, as the broker reads them."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that the broker knows")


# Clock


class ClockControl:
    """Every call returns the clock as it is then: `now`, `now_ms`, `frozen`, `speed`, `offset_ms`, `dates`, …"""

    def __init__(self, control: Control) -> None:
        self._control = control

    def show(self) -> dict[str, Any]:
        return self._control.ask("GET", "/_sidebus/clock")

    def now(self) -> datetime:
        """The broker's time, in UTC."""
        return datetime.fromtimestamp(self.show()["now_ms"] / 1000, UTC)

    def freeze(self) -> dict[str, Any]:
        return self._post("freeze", True)

    def resume(self) -> dict[str, Any]:
        """Goes on from where it stands, at the speed of real time."""
        return self._post("resume", True)

    def set(self, when: datetime | str | int) -> dict[str, Any]:
        """A moment: a datetime (UTC unless it says otherwise), ISO 8601, or milliseconds since 1970. Returns when
        everything due on the way has happened."""
        if isinstance(when, datetime):
            when = (when if when.tzinfo else when.replace(tzinfo=UTC)).isoformat()
        return self._post("set", when)

    def advance(self, by: timedelta | str | float) -> dict[str, Any]:
        """`"14d"`, a timedelta, or seconds. Returns when everything due on the way has happened, in order."""
        return self._post("advance", by.total_seconds() if isinstance(by, timedelta) else by)

    def speed(self, times: float) -> dict[str, Any]:
        """60 makes a minute of every second."""
        return self._post("speed", times)

    def dates(self, whose: str) -> dict[str, Any]:
        """Whose time the Date headers have: `broker`, or `machine` for clients that correct their clocks by them."""
        return self._post("dates", whose)

    def restore(self) -> dict[str, Any]:
        """Back to the machine's time and speed."""
        return self._post("restore", True)

    def _post(self, name: str, value: object) -> dict[str, Any]:
        return self._control.ask("POST", "/_sidebus/clock", {name: value})


# Faults


class Plan(dict[str, Any]):
    """The plan in force, as the page has it: `plan`, `seed`, `rules`. As a context manager it ends with the block."""

    def __init__(self, faults: FaultsControl, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self._faults = faults

    @property
    def seed(self) -> int | str | None:
        return self.get("seed")

    @property
    def struck(self) -> dict[str, int]:
        """How often each rule had struck, by name."""
        return {rule["name"]: rule["struck"] for rule in self.get("rules", ())}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._faults.clear()

    def __str__(self) -> str:
        if self.get("plan") is None:
            return "no fault plan"
        lines = [f"fault plan, seed {self.seed}"]
        lines += (
            f"  {rule['name']}: {rule['kind']}, struck {rule['struck']} of {rule['matched']} that matched"
            f"{' (exhausted)' if rule['exhausted'] else ''}"
            for rule in self["rules"]
        )
        return "\n".join(lines)


class AddedRule:
    """A rule that was added. As a context manager it is taken away with the end of the block."""

    def __init__(self, faults: FaultsControl, name: str) -> None:
        self._faults = faults
        self.name = name

    @property
    def struck(self) -> int:
        """How often it has, so far. Raises ControlError if it is no longer in force."""
        return self._of("struck")

    @property
    def matched(self) -> int:
        return self._of("matched")

    def remove(self) -> None:
        """Raises ControlError if it is no longer in force."""
        self._faults.remove(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.remove()
        except ControlError as error:
            if error.status != 404:  # another plan has come since
                raise

    def _of(self, count: str) -> int:
        for rule in self._faults.show().get("rules", ()):
            if rule["name"] == self.name:
                return int(rule[count])
        raise ControlError(f"The rule {self.name!r} is no longer in force.", 404)


class FaultsControl:
    def __init__(self, control: Control) -> None:
        self._control = control

    def load(self, plan: Mapping[str, Any] | str | os.PathLike[str], seed: int | str | None = None) -> Plan:
        """Puts a plan (`{"rule": [{"fault": "throttle"}]}`) or the file of one in force. Raises ControlError, with
        the reason, or PlanFileError."""
        document = dict(plan) if isinstance(plan, Mapping) else read_plan_file(plan)
        if seed is not None:
            document["seed"] = seed
        return self._plan("PUT", "/_sidebus/faults", document)

    def profile(self, name: str, seed: int | str | None = None) -> Plan:
        """Puts one of `profiles()` in force."""
        return self.load({"profile": name}, seed)

    def add(self, rule: Mapping[str, Any] | None = None, /, **more: Any) -> AddedRule:
        """Adds a rule to the plan in force, or begins one: `add(fault="late", delay="5s", resource="orders-*")`."""
        given = {**(rule or {}), **{name.removesuffix("_"): value for name, value in more.items()}}
        return AddedRule(self, self._control.ask("POST", "/_sidebus/faults/rules", given)["added"])

    def remove(self, name: str) -> Plan:
        return self._plan("DELETE", f"/_sidebus/faults/rules?name={quote(name, safe='')}")

    def clear(self) -> None:
        self._control.ask("DELETE", "/_sidebus/faults")

    def show(self) -> Plan:
        return self._plan("GET", "/_sidebus/faults")

    def kinds(self) -> dict[str, Any]:
        """Everything that can go wrong, with its parameters."""
        return self._control.ask("GET", "/_sidebus/faults/kinds")

    def profiles(self) -> dict[str, Any]:
        found: dict[str, Any] = self._control.ask("GET", "/_sidebus/faults/profiles")["profiles"]
        return found

    def _plan(self, method: str, target: str, document: object = None) -> Plan:
        return Plan(self, self._control.ask(method, target, document))


# Ledger


@dataclass(frozen=True, slots=True)
class Defect:
    name: str
    explanation: str
    count: int
    message_ids: list[str]

    def __str__(self) -> str:
        return f"{self.count} × {self.name}: {self.explanation}"


class Verdict:
    """What became of everything that was sent to a queue, a stream or a topic. `document` has all of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.passed: bool = document["passed"]
        self.counts: dict[str, Any] = document["counts"]
        self.defects = [
            Defect(found["name"], found["explanation"], found["count"], found["message_ids"])
            for found in document["defects"]
        ]

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return str(self.document["text"])

    def __repr__(self) -> str:  # what pytest shows of `assert verdict.passed`
        return str(self)


class LedgerControl:
    def __init__(self, control: Control, whose: Mapping[str, str | None]) -> None:
        self._control = control
        self._whose = whose

    def state(self) -> dict[str, Any]:
        """`enabled`, `entries`, `capacity`, `dropped`."""
        return self._control.ask("GET", "/_sidebus/ledger")

    def on(self, capacity: int | None = None) -> dict[str, Any]:
        """From now on; `capacity` in entries, the oldest go."""
        given = {"enabled": True} if capacity is None else {"enabled": True, "capacity": capacity}
        return self._control.ask("POST", "/_sidebus/ledger", given)

    def off(self) -> dict[str, Any]:
        """What is in it stays."""
        return self._control.ask("POST", "/_sidebus/ledger", {"enabled": False})

    def clear(self, account: str | None = None) -> dict[str, Any]:
        """Empties it, or forgets one account: this one, or the one that this client is for."""
        return self._control.ask("DELETE", "/_sidebus/ledger" + query({"account": account or self._whose["account"]}))

    def show(self, message_id: str) -> str:
        """One message's life as a time line; also of a record's sequence number or an event's id."""
        return self.life(message_id, "text").decode()

    def life(self, message_id: str, format: str = "json") -> bytes:
        target = f"/_sidebus/ledger/messages/{quote(message_id, safe='')}"
        return self._control.read("GET", target + query({"format": format}))

    def verdict(
        self,
        queue: str | None = None,
        *,
        stream: str | None = None,
        topic: str | None = None,
        account: str | None = None,
        region: str | None = None,
    ) -> Verdict:
        """Of a queue, a stream or a topic, by its name."""
        asked = {"queue": queue, "stream": stream, "topic": topic, "account": account, "region": region}
        return Verdict(self._control.ask("GET", self._verdict({**asked, "format": "json"})))

    def judge(self, asked: Mapping[str, str | None]) -> bytes:
        """The verdict in the `format` that is asked for: json, text or junit."""
        return self._control.read("GET", self._verdict(asked))

    def entries(self, *, limit: int | None = None, **asked: Any) -> Iterator[dict[str, Any]]:
        """What happened, the oldest first: by `queue`, `stream`, `topic`, `message`, `event`, after an `after`."""
        left = limit
        asked = self._of(asked)
        while left is None or left > 0:
            page = self._control.ask(
                "GET", "/_sidebus/ledger/entries" + query({**asked, "limit": min(left or PAGE, PAGE)})
            )
            yield from page["entries"]
            if page["next"] is None:
                return
            asked["after"] = page["next"]
            left = None if left is None else left - len(page["entries"])

    def effect(
        self,
        message_id: str,
        queue: str | None = None,
        *,
        stream: str | None = None,
        key: str | None = None,
        account: str | None = None,
        region: str | None = None,
    ) -> dict[str, Any]:
        """A consumer says that it did the work for a message, which the broker cannot see. `key` tells effects apart
        where a message has several."""
        asked = {"queue": queue, "stream": stream, "account": account, "region": region}
        given = {"message_id": message_id, "key": key, **self._of(asked)}
        stated = {name: value for name, value in given.items() if value is not None}
        return self._control.ask("POST", "/_sidebus/ledger/effects", stated)

    def _verdict(self, asked: Mapping[str, str | None]) -> str:
        return "/_sidebus/ledger/verdict" + query(self._of(asked))

    def _of(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if not any(asked.get(name) for name in ("queue", "stream", "topic")):
            return dict(asked)
        return {**asked, **{name: asked.get(name) or default for name, default in self._whose.items()}}
