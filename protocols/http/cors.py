"""CORS, so that AWS's SDK for JavaScript works from a browser.

The rule: any origin may call, as with AWS itself; a request without `Origin` passes untouched. What AWS's services
send is in https://fetch.spec.whatwg.org/#http-cors-protocol terms `*` throughout, for they use no cookies.
"""

from __future__ import annotations

from protocols.http.message import Answer, Cancel, Handler, NoResponse, Reply, Request, Response, StreamingResponse

_ALLOWED = [
    (b"access-control-allow-origin", b"*"),
    # A wildcard would not cover Authorization, nor what older browsers know.
    (
        b"access-control-expose-headers",
        b"x-amzn-requestid,x-amzn-errortype,x-amzn-errormessage,x-amzn-query-error,x-amz-request-id,x-amz-id-2,"
        b"x-amz-crc32,x-amzn-trace-id,content-length,date",
    ),
]
_PREFLIGHT = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"),
    (b"access-control-max-age", b"172800"),
    (b"vary", b"access-control-request-headers"),
]
_DEFAULT_HEADERS = (
    b"authorization,content-type,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-target,x-amz-user-agent,"
    b"x-amzn-query-mode,amz-sdk-invocation-id,amz-sdk-request"
)


def with_cors(handler: Handler) -> Handler:
    """The handler, which answers preflights and allows every origin."""

    def cors_handler(request: Request, reply: Reply) -> Cancel | None:
        if b"origin" not in request.fields:
            return handler(request, reply)

        if request.method == "OPTIONS" and request.header(b"access-control-request-method") is not None:
            reply(_preflight(request))
            return None

        def allow(answer: Answer) -> None:
            if isinstance(answer, NoResponse):
                reply(answer)
            elif isinstance(answer, StreamingResponse):
                reply(StreamingResponse(answer.status, answer.headers + _ALLOWED, answer.start, answer.length))
            else:
                reply(Response(answer.status, answer.headers + _ALLOWED, answer.body))

        return handler(request, allow)

    return cors_handler


def _preflight(request: Request) -> Response:
    asked = request.header(b"access-control-request-headers")
    allowed = _DEFAULT_HEADERS if asked is None else asked.encode("latin-1")
    return Response(204, [*_PREFLIGHT, (b"access-control-allow-headers", allowed)])
