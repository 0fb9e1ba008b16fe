"""From a request to its answer: route, decode, call the engine, wait for the commit, encode.

The rule: whatever comes in, something in AWS's form goes out, and only after the group commit that it belongs to. An
exception that is not a refusal is ours: the group is rolled back and all who took part get a 503 that says so. While a
fault plan is in force, requests pass the gate in faults/ first; without one that costs a look into an empty set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from typing import NamedTuple
from zlib import crc32

import orjson

from broker.commit import Undone
from broker.core import Broker
from broker.errors import BrokerFailure, DomainError
from broker.names import World
from protocols import sigv4
from protocols.aws.call import Call, Later, Operation, Result, Streaming, error_code
from protocols.aws.services import SERVICES
from protocols.aws.streaming import EventStream
from protocols.control.certificate import PREFIX as CERTIFICATE
from protocols.control.certificate import CertificatePage
from protocols.control.pages import Control
from protocols.faults.gate import Around, Gate
from protocols.faults.occasions import client_of
from protocols.http.message import Cancel, Reply, Request, Response, StreamingResponse
from protocols.routing import Route, Router
from protocols.shapes.model import Operation as OperationShape
from protocols.shapes.model import load
from protocols.signing import MessageSigner
from protocols.wire import aws_json, cbor, eventstream, query
from protocols.wire.errors import WireError, find_error, unknown_operation

log = logging.getLogger("sidebus")

_CONTROL = b"/_sidebus/"
_PLANS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides about the edge. With `keys` (access key to secret) signatures must hold."""

    region: str = "us-east-1"
    account: str = "000000000000"
    keys: Mapping[str, str] | None = None
    key_accounts: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)  # URL of the Invoke API by function name or ARN
    state_machines: Mapping[str, str] = field(default_factory=dict)  # URL of Step Functions by name or ARN, or *
    sns_cert_host: str | None = None  # what SigningCertURL names; None is the broker's own address
    verify_endpoints: bool = True  # whether the certificates of HTTPS endpoints must be good


class Plan(NamedTuple):
    """What a route leads to, and who asks: worked out once for all requests of that route."""

    shape: OperationShape
    function: Operation
    decode: Callable[[OperationShape, bytes], Result] | None  # of a body; None for the query protocol
    world: World
    user_id: str


class Application:
    """A `Handler`: answers every request of every service.

    `on_cut` are called with a length of time in milliseconds when the broker plays a restart: whoever holds the
    connections cuts them, and lets nobody in so long.
    """

    def __init__(self, broker: Broker, settings: Settings | None = None, signer: MessageSigner | None = None) -> None:
        self.broker = broker
        self.settings = settings or Settings()
        if self.settings.keys is not None:
            broker.notifications.enforce_policies()
            broker.events.enforce_policies()
        self._router = Router(self.settings.region, self.settings.account)
        self._control = Control(broker, sorted(SERVICES), World(self.settings.account, self.settings.region))
        self._certificate = None if signer is None else CertificatePage(broker, signer)
        self._plans: dict[Route, Plan] = {}
        self.on_cut: list[Callable[[int], None]] = []
        self._faults, self._ledger = broker.faults, broker.ledger
        self._gate = Gate(self)

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        if request.target.startswith(_CONTROL):
            self._control(request, reply)
            return None
        if self._certificate is not None and request.target.startswith(CERTIFICATE):
            self._certificate(request, reply)
            return None
        route = self._router.route(request)
        if self._faults.points or self._ledger.is_on:
            return self._watched(request, route, reply)
        return self.perform(request, route, reply)

    def _watched(self, request: Request, route: Route, reply: Reply) -> Cancel | None:
        """Where faults and the ledger want to know who asks."""
        self._ledger.by = client_of(request, route)
        try:
            if "request" in self._faults.points:
                return self._gate(request, route, reply)
            return self.perform(request, route, reply)
        finally:
            self._ledger.by = ""

    def perform(
        self, request: Request, route: Route, reply: Reply, given: Result | None = None, around: Around | None = None
    ) -> Cancel | None:
        """Does what is asked and answers it. `given` is the input where it is decoded already; `around` is given the
        operation's function and its call, and does with them what it likes."""
        exchange = Exchange(self.broker, request, route, reply)
        try:
            outcome = self._perform(exchange, request, route, given, around)
            if isinstance(outcome, Streaming):
                return exchange.stream(outcome)
        except (WireError, sigv4.AuthError) as error:
            exchange.refuse(error.code, error.message, error.status)
        except DomainError as error:
            exchange.refuse(error_code(error), error.message, members=error.members)
        except Exception as error:
            if not isinstance(error, BrokerFailure) and self.broker.store.failure(error) is None:
                log.exception("%s.%s failed", route.service, route.operation)
            exchange.finish(exchange.failed(self.broker.failed(error)))
        else:
            if isinstance(outcome, Later):
                return outcome.start(exchange.answer)
            exchange.answer(outcome)
        return None

    def _perform(
        self, exchange: Exchange, request: Request, route: Route, given: Result | None, around: Around | None
    ) -> Result | Later | Streaming:
        keys = self.settings.keys
        if keys is not None and route.service in SERVICES and not _is_open(route):
            self._authenticate(request, route, keys)
        plan = self._plans.get(route) or self._plan(route)
        exchange.shape = plan.shape
        if given is None:
            given = _decode(plan, request, route)
        call = Call(self.broker, plan.world, plan.user_id, keys is not None, given, request, route)
        return plan.function(call) if around is None else around(plan.function, call)

    def read(self, request: Request, route: Route) -> tuple[OperationShape, World, Result]:
        """What a request asks, who for, and its input. Raises WireError."""
        plan = self._plans.get(route) or self._plan(route)
        return plan.shape, plan.world, _decode(plan, request, route)

    def exchange(self, request: Request, route: Route, reply: Reply) -> Exchange:
        return Exchange(self.broker, request, route, reply)

    def _authenticate(self, request: Request, route: Route, keys: Mapping[str, str]) -> None:
        if route.service == "sqs" and _is_signed_by_version_2(request):
            raise WireError("InvalidSecurity", "The request was not made over HTTPS or did not use SigV4 for signing.")
        sigv4.verify(request, keys, self.broker.clock.dates_ms() / 1000, service=route.service)

    def _plan(self, route: Route) -> Plan:
        functions = SERVICES.get(route.service or "")
        if route.service is None or functions is None:
            asked = route.service or "what this request asks for"
            raise WireError("UnknownOperationException", f"Sidebus serves {', '.join(SERVICES)}, not {asked}.", 404)
        service, name, is_query = load(route.service), route.operation or "", route.protocol == "query"
        shape, function = service.operation(name), functions.get(name)
        if shape is None or function is None:
            if not name and is_query:
                raise WireError("MissingAction", "The request must contain the parameter Action.")
            raise unknown_operation(service, name, query=is_query)
        account = self.settings.key_accounts.get(route.access_key or "", route.account)
        user_id = "AIDA" + sha256(f"{account} {route.access_key}".encode()).hexdigest()[:17].upper()
        if len(self._plans) >= _PLANS_REMEMBERED:
            self._plans.clear()
        decode = None if is_query else cbor.decode if route.protocol == "cbor" else aws_json.decode
        plan = self._plans[route] = Plan(shape, function, decode, World(account, route.region), user_id)
        return plan


def _decode(plan: Plan, request: Request, route: Route) -> Result:
    if plan.decode is not None:
        return plan.decode(plan.shape, request.body)
    return query.decode(plan.shape, _form(request, route))


def _form(request: Request, route: Route) -> dict[str, str]:
    path, _, in_url = request.target.partition(b"?")
    parameters = query.parse_form(in_url) if in_url else {}
    if request.body:
        parameters |= query.parse_form(request.body)
    if route.service == "sqs" and not parameters.get("QueueUrl"):
        # Old clients address the queue and do not name it again; an address that is none is refused as such.
        host = request.header(b"host") or "localhost"
        parameters["QueueUrl"] = f"{request.scheme}://{host}{path.decode('latin-1')}"
    return parameters


def _is_open(route: Route) -> bool:
    """Whether nobody need have signed it, and nobody has."""
    if route.service != "sns" or route.access_key is not None:
        return False
    from protocols.aws import sns

    return sns.is_open(route.operation)


def _is_signed_by_version_2(request: Request) -> bool:
    scope = sigv4.credential_scope(request)
    header = request.header(b"authorization") or ""
    return scope is not None and not header.startswith("AWS4") and b"X-Amz-Algorithm=" not in request.target


class Exchange:
    """One request on its way to its answer, in the form the client speaks."""

    __slots__ = ("_broker", "_reply", "_request", "_request_id", "_route", "shape")

    def __init__(self, broker: Broker, request: Request, route: Route, reply: Reply) -> None:
        self._broker = broker
        self._request = request
        self._route = route
        self._reply = reply
        self._request_id = broker.entropy.uuid()
        self.shape: OperationShape | None = None

    def answer(self, result: Result) -> None:
        assert self.shape is not None
        if self._route.protocol == "cbor":
            headers = [(b"content-type", cbor.CONTENT_TYPE)]
            body = cbor.encode(self.shape, result)
        elif self._route.protocol != "query":
            headers = [(b"content-type", aws_json.content_type(self.shape.service))]
            body = aws_json.encode(self.shape, result)
        elif self._wants_json():
            headers = [(b"content-type", b"application/json")]
            body = query.encode_as_json(self.shape, result, self._request_id)
        else:
            headers = [(b"content-type", b"text/xml")]
            body = query.encode(self.shape, result, self._request_id)
        self.finish(self._response(200, headers, body))

    def stream(self, streaming: Streaming) -> Cancel:
        """Lets events go, each with the commit of what it saw. Returns what to call if the client leaves before."""
        assert self.shape is not None
        events = EventStream(self._broker.commit, self.shape, is_cbor=self._route.protocol == "cbor")
        events.start(streaming.start)
        headers = [(b"content-type", eventstream.CONTENT_TYPE), self._request_id_header()]
        reply = self._reply

        def after_commit(failure: BrokerFailure | None) -> None:
            if failure is None:
                reply(StreamingResponse(200, headers, events.attach))
            else:
                events.leave()
                reply(self.failed(failure))

        self._broker.commit.then(after_commit)
        return events.leave

    def finish(self, response: Response) -> None:
        """Lets the answer go with the commit of what it saw or made."""
        reply = self._reply

        def after_commit(failure: BrokerFailure | None) -> None:
            reply(response if failure is None or isinstance(failure, Undone) else self.failed(failure))

        self._broker.commit.then(after_commit)

    def refuse(
        self, code: str, message: str, status: int | None = None, members: Mapping[str, object] | None = None
    ) -> None:
        self.finish(self.refusal(code, message, status, members))

    def failed(self, failure: BrokerFailure) -> Response:
        """What the client is told when it is our fault: try again, and what the operator must do."""
        return self.refusal("ServiceUnavailable", str(failure), 503)

    def refusal(
        self, code: str, message: str, status: int | None, members: Mapping[str, object] | None = None
    ) -> Response:
        """An error in the form that the client speaks. Without a status it is the model's."""
        if self._route.service not in SERVICES:
            return self._unserved(message, status or 404)
        service = load(self._route.service)
        known = find_error(service, code).status
        sender_fault = None if status is None else status < 500
        if self._route.protocol != "query" and service.json_version is not None:
            if self._route.protocol == "cbor":
                headers, body = cbor.encode_error(service, code, message)
            else:
                headers, body = aws_json.encode_error(
                    service, code, message, sender_fault=sender_fault, members=members
                )
            if status is None:  # SQS in JSON answers 400 where its own errors had 403 and 404 in the query protocol
                status = 400 if code in service.errors else known
            return self._response(status, headers, body)
        status = known if status in (None, 400) else status
        if self._wants_json():
            body = query.encode_error_as_json(service, code, message, self._request_id, sender_fault)
            return self._response(status, [(b"content-type", b"application/json")], body)
        body = query.encode_error(service, code, message, self._request_id, sender_fault)
        return self._response(status, [(b"content-type", b"text/xml")], body)

    def _unserved(self, message: str, status: int) -> Response:
        """No model says how this service refuses: the way of the query protocol, or that of the JSON ones."""
        if self._route.protocol == "query":
            error = f"<Type>Sender</Type><Code>InvalidAction</Code><Message>{escape(message, quote=False)}</Message>"
            text = f"<ErrorResponse><Error>{error}</Error><RequestId>{self._request_id}</RequestId></ErrorResponse>"
            return self._response(status, [(b"content-type", b"text/xml")], text.encode())
        body = orjson.dumps({"__type": "UnknownOperationException", "message": message})
        return self._response(status, [(b"content-type", b"application/x-amz-json-1.0")], body)

    def _wants_json(self) -> bool:
        return "application/json" in (self._request.header(b"accept") or "")

    def _response(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
        headers.append(self._request_id_header())
        if self._route.service == "dynamodb":
            headers.append((b"x-amz-crc32", str(crc32(body)).encode()))
        return Response(status, headers, body)

    def _request_id_header(self) -> tuple[bytes, bytes]:
        return b"x-amzn-requestid", self._request_id.encode()
