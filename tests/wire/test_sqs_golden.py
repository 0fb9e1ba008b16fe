"""Golden bytes: the conversations in test_sqs_golden.txt, each answer compared byte for byte.

Their form is AWS's: the examples in the API reference of SQS (the JSON ones, and of 2022 the XML ones).
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

import botocore.session
import pytest

FORMS = {
    "date": r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    "request-id": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "message": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "handle": r"AQEB[A-Za-z0-9+/]+={0,2}",
    "task": r"[A-Za-z0-9+/]+={0,2}",
    "sender": r"AIDA[0-9A-Z]{17}",
    "number": r"\d{20}",
    "s": r"\d{10}",
    "ms": r"\d{13}",
    "moved": r"\d",
}
PLACEHOLDER = re.compile(r"\{([a-z-]+)(\d*)(%?)\}")


class Exchange(NamedTuple):
    title: str
    request: str
    answer: str


def conversations() -> dict[str, list[Exchange]]:
    """By the account they are signed with."""
    found: dict[str, list[Exchange]] = {}
    text = Path(__file__).with_suffix(".txt").read_text()
    for section in text.split("\n## ")[1:]:
        title, *lines = section.strip().split("\n")
        request = [line[2:] for line in lines if line.startswith(">")]
        answer = [line[2:] for line in lines if line.startswith("<")]
        if request[-1] == "":
            request.append("")  # no body
        account = re.search(r"Credential=(\d+)", section)
        assert account
        found.setdefault(account[1], []).append(Exchange(title, "\r\n".join(request), "\r\n".join(answer)))
    return found


CONVERSATIONS = conversations()


def test_every_operation_is_there_in_both_protocols() -> None:
    operations = set(botocore.session.Session().get_service_model("sqs").operation_names)
    for marker in ("X-Amz-Target: AmazonSQS.", "Action="):
        asked = {
            match[1]
            for conversation in CONVERSATIONS.values()
            for exchange in conversation
            if (match := re.search(re.escape(marker) + r"(\w+)", exchange.request)) and " 200 OK" in exchange.answer
        }
        assert asked == operations


@pytest.mark.parametrize("account", CONVERSATIONS)
def test_conversation(sidebus: Any, account: str) -> None:
    sidebus.request("POST", f"/_sidebus/reset?account={account}")
    known: dict[str, str] = {}
    address = urlsplit(sidebus.url)
    with (
        socket.create_connection((address.hostname, address.port), 20) as connection,
        connection.makefile("rb") as file,
    ):
        for exchange in CONVERSATIONS[account]:
            connection.sendall(filled(exchange.request, known))
            compare(exchange, read_answer(file), known)


def filled(request: str, known: dict[str, str]) -> bytes:
    def value(match: re.Match[str]) -> str:
        name, number, percent = match.groups()
        if name == "length":
            return match[0]
        return quote(known[name + number], safe="") if percent else known[name + number]

    head, _, body = PLACEHOLDER.sub(value, request).partition("\r\n\r\n")
    return f"{head.replace('{length}', str(len(body.encode())))}\r\n\r\n{body}".encode()


def read_answer(file: BinaryIO) -> str:
    lines = list(iter(file.readline, b"\r\n"))
    length = next(int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length:"))
    return (b"".join(lines) + b"\r\n" + file.read(length)).decode()


def compare(exchange: Exchange, answer: str, known: dict[str, str]) -> None:
    here: dict[str, str] = {}

    def pieces() -> Iterator[str]:
        end = 0
        for match in PLACEHOLDER.finditer(exchange.answer):
            yield re.escape(exchange.answer[end : match.start()])
            end = match.end()
            name, key = match[1], match[1] + match[2]
            if key in known:
                yield re.escape(known[key])
            elif key in here:
                yield f"(?P={here[key]})"
            elif match[2] or name == "request-id":
                here[key] = key.replace("-", "_")
                yield f"(?P<{here[key]}>{FORMS[name]})"
            else:
                yield f"(?:{FORMS[name]})"
        yield re.escape(exchange.answer[end:])

    match = re.fullmatch("".join(pieces()), answer)
    if match is None:
        lines = difflib.ndiff(exchange.answer.split("\r\n"), answer.split("\r\n"))
        pytest.fail(f"{exchange.title}:\n" + "\n".join(lines))
    known.update((key, match[group]) for key, group in here.items() if key != "request-id")
