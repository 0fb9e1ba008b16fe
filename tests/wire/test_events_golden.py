"""Golden bytes: the conversation in test_events_golden.txt, each answer compared byte for byte.

Time stands still in it, so that all moments are the same one. The answers have AWS's members, in the order of its model
where the engine is not the one to write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import botocore.session
from virtual_events import VirtualEvents

from broker.limits import RELAXED

MODEL = botocore.session.Session().get_service_model("events")
FORMS = {
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "id": r"[a-z0-9]{10}\.[a-z0-9]{3}",
    "six": "[0-9a-f]{6}",
}


class Exchange(NamedTuple):
    operation: str
    account: str
    request: str
    status: int
    answer: str


def conversation() -> Iterator[Exchange]:
    lines = Path(__file__).with_suffix(".txt").read_text().splitlines()
    spoken = [line for line in lines if line[:2] in ("> ", "< ")]
    for question, answer in zip(spoken[::2], spoken[1::2], strict=True):
        account, operation, request = question[2:].split(" ", 2)
        status, _, body = answer[2:].partition(" ")
        yield Exchange(operation, account, request, int(status), body)


CONVERSATION = list(conversation())


def test_the_conversation() -> None:
    events = VirtualEvents(replace(RELAXED, replay_start_ms=0))
    known: dict[str, str] = {}
    for exchange in CONVERSATION:
        request = exchange.request
        for name, value in known.items():
            request = request.replace(f"{{{name}}}", value)
        answer = events.raw(exchange.operation, request.encode(), exchange.account)
        body = answer.body.decode()
        found = re.fullmatch(pattern(exchange.answer, known), body)
        assert found, f"{exchange.operation}: {body}"
        assert answer.status == exchange.status, exchange.operation
        known |= found.groupdict()
        headers = dict(answer.headers)
        assert re.fullmatch(FORMS["uuid"], headers.pop(b"x-amzn-requestid").decode())
        assert headers == {b"content-type": b"application/x-amz-json-1.1"}
    events.close()


def pattern(answer: str, known: dict[str, str]) -> str:
    """{uuid} is any, {uuid1} is the same from then on."""
    begun = set(known)

    def form(match: re.Match[str]) -> str:
        kind, number = match.groups()
        name = kind + number
        if not number:
            return FORMS[kind]
        if name in known:
            return re.escape(known[name])
        if name in begun:
            return f"(?P={name})"
        begun.add(name)
        return f"(?P<{name}>{FORMS[kind]})"

    return re.sub(r"\\\{([a-z]+)(\d*)\\\}", form, re.escape(answer))


def test_every_operation_is_there() -> None:
    answered = {exchange.operation for exchange in CONVERSATION if exchange.status == 200}
    running = {"CancelReplay"}  # no replay lasts as long as a turn in which nothing else happens
    assert answered | running == set(MODEL.operation_names)
