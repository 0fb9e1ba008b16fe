"""From a request to its answer: route, decode, call the engine, wait for the commit, encode.

The rule: whatever comes in, something in AWS's form goes out, and only after the group commit that it belongs to. An
exception that is not a refusal is ours: the group is rolled back and all who took part get a 500 that says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from broker.core import Broker
from broker.errors import BrokerFailure, DomainError, Throttled
from broker.names import World
from protocols import sigv4
from protocols.aws import sqs, sts
from protocols.aws.call import Call, Later, Operation, Result
from protocols.control.pages import Control
from protocols.http.message import Cancel, Reply, Request, Response
from protocols.routing import Route, Router, parse_queue_url
from protocols.shapes.model import Operation as OperationShape
from protocols.shapes.model import Service, load
from protocols.wire import aws_json, query
from protocols.wire.errors import WireError, find_error, unknown_operation

log = logging.getLogger("sidebus")

SERVICES: dict[str, dict[str, Operation]] = {"sqs": sqs.OPERATIONS, "sts": sts.OPERATIONS}

_CONTROL = b"/_sidebus/"
_USERS_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides about the edge. With `keys` (access key to secret) signatures must hold."""

    region: str = "us-east-1"
    account: str = "000000000000"
    keys: Mapping[str, str] | None = None
    key_accounts: Mapping[str, str] = field(default_factory=dict)


class Application:
    """A `Handler`: answers every request of every service."""

    def __init__(self, broker: Broker, settings: Settings | None = None) -> None:
        self.broker = broker
        self.settings = settings or Settings()
        self._router = Router(self.settings.region, self.settings.account)
        self._control = Control(broker, sorted(SERVICES))
        self._callers: dict[tuple[str | None, str, str], tuple[World, str]] = {}

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        if request.target.startswith(_CONTROL):
            self._control(request, reply)
            return None
        route = self._router.route(request)
        exchange = Exchange(self.broker, request, route, reply)
        try:
            outcome = self._perform(exchange, request, route)
        except (WireError, sigv4.AuthError) as error:
            exchange.refuse(error.code, error.message, error.status)
        except DomainError as error:
            exchange.refuse(_code(error), error.message)
        except Exception as error:
            if not isinstance(error, BrokerFailure) and self.broker.store.failure(error) is None:
                log.exception("%s.%s failed", route.service, route.operation)
            exchange.finish(exchange.failed(self.broker.failed(error)))
        else:
            if isinstance(outcome, Later):
                return outcome.start(exchange.answer)
            exchange.answer(outcome)
        return None

    def _perform(self, exchange: Exchange, request: Request, route: Route) -> Result | Later:
        service, functions = exchange.service, SERVICES.get(route.service or "")
        if service is None or functions is None:
            raise WireError("UnknownOperationException", "", 404)
        if self.settings.keys is not None:
            sigv4.verify(request, self.settings.keys, self.broker.clock.now_ms() / 1000, service=route.service)
        name = route.operation or ""
        shape = service.operation(name)
        function = functions.get(name)
        is_query = route.protocol == "query"
        if shape is None or function is None:
            if not name and is_query:
                raise WireError("MissingAction", "The request must contain the parameter Action.")
            raise unknown_operation(service, name, query=is_query)
        exchange.shape = shape
        parameters = _form(request, route) if is_query else None
        given = aws_json.decode(shape, request.body) if parameters is None else query.decode(shape, parameters)
        world, user_id = self._caller(route)
        return function(Call(self.broker, world, user_id, self.settings.keys is not None, given, request, route))

    def _caller(self, route: Route) -> tuple[World, str]:
        key = (route.access_key, route.account, route.region)
        caller = self._callers.get(key)
        if caller is None:
            account = self.settings.key_accounts.get(route.access_key or "", route.account)
            user_id = "AIDA" + sha256(f"{account} {route.access_key}".encode()).hexdigest()[:17].upper()
            caller = (World(account, route.region), user_id)
            if len(self._callers) >= _USERS_REMEMBERED:
                self._callers.clear()
            self._callers[key] = caller
        return caller


def _form(request: Request, route: Route) -> dict[str, str]:
    path, _, in_url = request.target.partition(b"?")
    parameters = query.parse_form(in_url) if in_url else {}
    if request.body:
        parameters |= query.parse_form(request.body)
    if route.service == "sqs" and "QueueUrl" not in parameters:
        url = path.decode("latin-1")
        if parse_queue_url(url) is not None:  # old clients address the queue and do not name it again
            parameters["QueueUrl"] = url
    return parameters


def _code(error: DomainError) -> str:
    return "RequestThrottled" if isinstance(error, Throttled) else type(error).__name__


class Exchange:
    """One request on its way to its answer, in the form the client speaks."""

    __slots__ = ("_broker", "_reply", "_request", "_request_id", "_route", "service", "shape")

    def __init__(self, broker: Broker, request: Request, route: Route, reply: Reply) -> None:
        self._broker = broker
        self._request = request
        self._route = route
        self._reply = reply
        self._request_id = broker.entropy.uuid()
        self.service: Service | None = load(route.service) if route.service in SERVICES else None
        self.shape: OperationShape | None = None

    def answer(self, result: Result) -> None:
        assert self.shape is not None
        if self._route.protocol != "query":
            headers = [(b"content-type", aws_json.content_type(self.shape.service))]
            body = aws_json.encode(self.shape, result)
        elif self._wants_json():
            headers = [(b"content-type", b"application/json")]
            body = query.encode_as_json(self.shape, result, self._request_id)
        else:
            headers = [(b"content-type", b"text/xml")]
            body = query.encode(self.shape, result, self._request_id)
        self.finish(self._response(200, headers, body))

    def finish(self, response: Response) -> None:
        """Lets the answer go with the commit of what it saw or made."""
        reply = self._reply

        def after_commit(failure: BrokerFailure | None) -> None:
            reply(response if failure is None else self.failed(failure))

        self._broker.commit.then(after_commit)

    def refuse(self, code: str, message: str, status: int | None = None) -> None:
        self.finish(self._error(code, message, status))

    def failed(self, failure: BrokerFailure) -> Response:
        """What the client is told when it is our fault: try again, and what the operator must do."""
        return self._error("ServiceUnavailable", str(failure), 503)

    def _error(self, code: str, message: str, status: int | None) -> Response:
        service = self.service
        if service is None:
            # Nothing said which service it was for; the JSON protocols' form is what most clients can read.
            body = b'{"__type":"UnknownOperationException"}'
            return self._response(status or 404, [(b"content-type", b"application/x-amz-json-1.0")], body)
        known = find_error(service, code).status
        if self._route.protocol != "query" and service.json_version is not None:
            headers, body = aws_json.encode_error(service, code, message)
            # SQS in JSON answers 400 where the query protocol had 403, 404 and 409.
            return self._response(status or (400 if known < 500 else known), headers, body)
        status = known if status in (None, 400) else status
        if self._wants_json():
            body = query.encode_error_as_json(service, code, message, self._request_id)
            return self._response(status, [(b"content-type", b"application/json")], body)
        body = query.encode_error(service, code, message, self._request_id)
        return self._response(status, [(b"content-type", b"text/xml")], body)

    def _wants_json(self) -> bool:
        return "application/json" in (self._request.header(b"accept") or "")

    def _response(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
        headers.append((b"x-amzn-requestid", self._request_id.encode()))
        return Response(status, headers, body)
