"""CORS: what a browser asks before it calls, and what it needs in an answer to show it to the page."""

from __future__ import annotations

import pytest

from protocols.http.cors import with_cors
from protocols.http.message import Cancel, Reply, Request, Response

HEADERS = [(b"content-type", b"application/x-amz-json-1.0")]


def gone() -> None:
    pass


def handler(request: Request, reply: Reply) -> Cancel | None:
    reply(Response(200, HEADERS, b"answer"))
    return gone


def ask(method: str, *headers: tuple[bytes, bytes]) -> Response:
    answers: list[Response] = []
    with_cors(handler)(Request(method, b"/", [(b"host", b"a"), *headers]), answers.append)
    (answer,) = answers
    return answer


ORIGIN = (b"origin", b"http://localhost:3000")


def test_without_an_origin_nothing_is_touched() -> None:
    reply_seen: list[Reply] = []

    def inner(request: Request, reply: Reply) -> Cancel | None:
        reply_seen.append(reply)
        return gone

    answers: list[Response] = []
    reply = answers.append
    assert with_cors(inner)(Request("POST", b"/", [(b"host", b"a")]), reply) is gone
    assert reply_seen == [reply]


def test_a_preflight_is_answered() -> None:
    asked = b"authorization,content-type,x-amz-date,x-amz-target,amz-sdk-invocation-id"
    answer = ask(
        "OPTIONS",
        ORIGIN,
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", asked),
    )
    assert (answer.status, answer.body) == (204, b"")
    assert dict(answer.headers) == {
        b"access-control-allow-origin": b"*",
        b"access-control-allow-methods": b"GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS",
        b"access-control-allow-headers": asked,
        b"access-control-max-age": b"172800",
        b"vary": b"access-control-request-headers",
    }


def test_a_preflight_that_names_no_headers() -> None:
    answer = ask("OPTIONS", ORIGIN, (b"access-control-request-method", b"POST"))
    allowed = dict(answer.headers)[b"access-control-allow-headers"].split(b",")
    assert {b"authorization", b"content-type", b"x-amz-target", b"amz-sdk-request"} <= set(allowed)


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", ()), ("OPTIONS", ()), ("POST", ((b"access-control-request-method", b"POST"),))],
)
def test_an_answer_is_opened_to_the_page(method: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    before = HEADERS.copy()
    answer = ask(method, ORIGIN, *headers)
    assert (answer.status, answer.body) == (200, b"answer")
    assert answer.headers[:1] == HEADERS
    fields = dict(answer.headers)
    assert fields[b"access-control-allow-origin"] == b"*"
    exposed = fields[b"access-control-expose-headers"].split(b",")
    assert {b"x-amzn-requestid", b"x-amzn-query-error", b"x-amz-crc32", b"x-amzn-errortype"} <= set(exposed)
    assert before == HEADERS, "the handler's own list is left alone"


def test_the_cancel_is_passed_on() -> None:
    def inner(request: Request, reply: Reply) -> Cancel | None:
        return gone

    assert with_cors(inner)(Request("POST", b"/", [ORIGIN]), lambda response: None) is gone


def test_an_options_request_that_is_no_preflight_reaches_the_handler() -> None:
    assert ask("OPTIONS", (b"access-control-request-method", b"POST")).body == b"answer"
