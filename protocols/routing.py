"""Which operation of which service, in which world, a request is for; and queue URLs, both ways.

On AWS the host name alone decides. Here one address serves all, so whatever a client says counts, in this order: the
X-Amz-Target header, the Action and its Version, the host name, the signature's scope, a queue's path. Nothing is
refused: what cannot be told is None in the Route, and the dispatcher answers for it.

Region: a host or path that names one, else the signature's, else the default. Account: an access key of twelve digits,
else the default.
Ugly: hosts that were never AWS's (`sqs.eu-west-1.localhost`) count as AWS's do.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from broker.names import is_account
from protocols.http.message import Request
from protocols.sigv4 import (
    REST_JSON_SERVICES,
    Scope,
    claimed_scope,
    credential_of,
    credential_scope,
    form_field,
)


class Route(NamedTuple):
    """Where a request goes. The same value is handed out for many requests."""

    service: str | None  # the signing name: "sqs", "sns", "events", "kinesis", "sts", …
    region: str
    account: str
    operation: str | None
    protocol: str | None  # "json1.0", "json1.1", "cbor", "query", or "rest-json": method and path are the operation
    access_key: str | None


class QueueAddress(NamedTuple):
    """A queue by its URL. The region is None where neither host nor path names one."""

    region: str | None
    account: str
    name: str


# The prefixes of X-Amz-Target, `targetPrefix` in botocore's models, with the protocol of the model.
_TARGETS = {
    "AmazonSQS": ("sqs", "json1.0"),
    "AWSEvents": ("events", "json1.1"),
    "Kinesis_20131202": ("kinesis", "json1.1"),
    "DynamoDB_20120810": ("dynamodb", "json1.0"),
}
_JSON_TYPES = {
    b"application/x-amz-json-1.0": "json1.0",
    b"application/x-amz-json-1.1": "json1.1",
    b"application/x-amz-cbor-1.1": "cbor",
}
_VERSIONS = {b"2012-11-05": "sqs", b"2010-03-31": "sns", b"2011-06-15": "sts"}
_SERVICES = frozenset({"sqs", "sns", "sts", "events", "kinesis", "dynamodb"}) | REST_JSON_SERVICES
_HOST_LABELS = {name: name for name in _SERVICES} | {
    "queue": "sqs",
    "data-kinesis": "kinesis",
    "control-kinesis": "kinesis",
}

# The query services' operations, from botocore's models, without the names that several services have (AddPermission,
# TagResource and the like: there the Version decides). The links in SNS's messages carry no Version and no signature.
_ACTIONS = {
    action.encode(): service
    for service, actions in {
        "sqs": """
            CancelMessageMoveTask ChangeMessageVisibility ChangeMessageVisibilityBatch CreateQueue DeleteMessage
            DeleteMessageBatch DeleteQueue GetQueueAttributes GetQueueUrl ListDeadLetterSourceQueues
            ListMessageMoveTasks ListQueueTags ListQueues PurgeQueue ReceiveMessage SendMessage SendMessageBatch
            SetQueueAttributes StartMessageMoveTask TagQueue UntagQueue
        """,
        "sns": """
            CheckIfPhoneNumberIsOptedOut ConfirmSubscription CreatePlatformApplication CreatePlatformEndpoint
            CreateSMSSandboxPhoneNumber CreateTopic DeleteEndpoint DeletePlatformApplication
            DeleteSMSSandboxPhoneNumber DeleteTopic GetDataProtectionPolicy GetEndpointAttributes
            GetPlatformApplicationAttributes GetSMSAttributes GetSMSSandboxAccountStatus GetSubscriptionAttributes
            GetTopicAttributes ListEndpointsByPlatformApplication ListOriginationNumbers ListPhoneNumbersOptedOut
            ListPlatformApplications ListSMSSandboxPhoneNumbers ListSubscriptions ListSubscriptionsByTopic ListTopics
            OptInPhoneNumber Publish PublishBatch PutDataProtectionPolicy SetEndpointAttributes
            SetPlatformApplicationAttributes SetSMSAttributes SetSubscriptionAttributes SetTopicAttributes Subscribe
            Unsubscribe VerifySMSSandboxPhoneNumber
        """,
        "sts": """
            AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot DecodeAuthorizationMessage
            GetAccessKeyInfo GetCallerIdentity GetDelegatedAccessToken GetFederationToken GetSessionToken
            GetWebIdentityToken
        """,
    }.items()
    for action in actions.split()
}

# The first parts of regions' names: `regionRegex` in botocore's partitions.json.
_REGION = re.compile(r"(?:us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov|us-iso[a-f]?|eu-isoe|eusc-de)-[a-z]+-[0-9]+")
_SCOPED_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")  # a signature or a path may name whatever can stand in an ARN

_CACHED_ROUTES = 4096
_CACHED_BYTES = 1024  # of one key


class Router:
    """Routes requests. Holds nothing but a cache: a route is a function of the request and the two defaults."""

    def __init__(self, default_region: str, default_account: str) -> None:
        self._default_region = default_region
        self._default_account = default_account
        self._routes: dict[tuple[bytes, ...], Route] = {}

    def route(self, request: Request) -> Route:
        """Never raises, whatever the bytes."""
        field = request.fields.get
        target = field(b"x-amz-target", b"")
        authorization = field(b"authorization", b"")
        host = field(b"host", b"")
        content_type = field(b"content-type", b"")
        url = request.target
        credential = credential_of(authorization)
        if b"?" in url or not (credential or (target and b"form" not in content_type)):
            # Presigned, unsigned or signed in the old way: what tells may stand anywhere.
            return self._resolve(request, target, content_type, host)
        action = version = b""
        if not target and _is_form(content_type):
            action = form_field(request.body, b"Action=") or b""
            if action not in _ACTIONS:
                version = form_field(request.body, b"Version=") or b""
        key = (target, content_type, credential, host, url, action, version)
        route = self._routes.get(key)
        if route is None:
            route = self._resolve(request, target, content_type, host)
            # Not for version 4A: it has its regions in a header that is not in the key.
            if sum(map(len, key)) <= _CACHED_BYTES and (not credential or claimed_scope(credential).region):
                if len(self._routes) >= _CACHED_ROUTES:
                    self._routes.clear()
                self._routes[key] = route
        return route

    def _resolve(self, request: Request, target: bytes, content_type: bytes, host: bytes) -> Route:
        scope = credential_scope(request)
        path, _, query = request.target.partition(b"?")
        address = None if path == b"/" else parse_queue_url(path.decode("latin-1"))
        host_service, host_region = _names_in_host(host[:256].decode("latin-1"))
        service = operation = None
        media_type = content_type.partition(b";")[0].strip().lower()
        protocol = _JSON_TYPES.get(media_type)
        if target:
            prefix, _, operation = target.decode("latin-1").strip().rpartition(".")
            service, model_protocol = _TARGETS.get(prefix, (None, "json1.1"))
            protocol = protocol or model_protocol
        else:
            form = request.body if _is_form(content_type) else b""
            action = form_field(form, b"Action=") or form_field(query, b"Action=")
            if action:
                version = form_field(form, b"Version=") or form_field(query, b"Version=") or b""
                operation = unquote_plus(action.decode("latin-1"))
                service = _ACTIONS.get(action) or _VERSIONS.get(version)
            if action or b"form" in media_type:
                protocol = "query"
        service = service or host_service or _service_by_scope(scope, address)
        if service in REST_JSON_SERVICES and operation is None:
            protocol = "rest-json"

        region = address.region if address and service == "sqs" else None
        region = region or host_region
        if not region and scope and _SCOPED_REGION.fullmatch(scope.region):
            region = scope.region
        access_key = scope.access_key if scope else ""
        account = access_key if is_account(access_key) else self._default_account
        return Route(service, region or self._default_region, account, operation or None, protocol, access_key or None)


def _is_form(content_type: bytes) -> bool:
    """Some clients send a form and do not call it one; JSON and CBOR are called what they are."""
    return b"json" not in content_type and b"cbor" not in content_type


def _service_by_scope(scope: Scope | None, address: QueueAddress | None) -> str | None:
    if scope and scope.service in _SERVICES:
        return scope.service
    if address:
        return "sqs"
    return (scope.service or None) if scope else None


@lru_cache(maxsize=1024)
def _names_in_host(host: str) -> tuple[str | None, str | None]:
    """Service and region as a host names them, with or without AWS's domain behind them.

    `sqs.eu-west-1.localhost`, `us-east-2.queue.amazonaws.com`, `sqs-fips.us-west-1.amazonaws.com`,
    `vpce-1a-2b.sqs.us-east-1.vpce.amazonaws.com`, `111122223333.data-kinesis.us-east-1.amazonaws.com`.
    """
    labels = host.rpartition("@")[2].partition(":")[0].lower().split(".")
    for at, label in enumerate(labels[:-1]):
        service = _HOST_LABELS.get(label.removesuffix("-fips"))
        if service is None:
            continue
        region = labels[at - 1 if label == "queue" else at + 1]
        if _REGION.fullmatch(region):
            return service, region
        if labels[1:] == ["amazonaws", "com"]:  # `queue.amazonaws.com` and its like are the oldest region's
            return service, "us-east-1"
        return service, None
    return None, None


def parse_queue_url(url: str, host: str = "") -> QueueAddress | None:
    """The queue that a URL, or a path sent to `host`, is the address of; None where it is the address of none.

    `http://host:port/account/name`, `https://sqs.region.amazonaws.com/account/name`,
    `https://region.queue.amazonaws.com/account/name`, `http://host:port/queue/region/account/name`, `/account/name`.
    A region in the path goes before one in the host. The name is not checked against AWS's rule for names.
    """
    return _queue_address(url, host[:256]) if len(url) <= _CACHED_BYTES else None


@lru_cache(maxsize=4096)
def _queue_address(url: str, host: str) -> QueueAddress | None:
    _, absolute, rest = url.partition("://")
    if absolute:
        host, _, url = rest.partition("/")
    segments = [unquote(segment) for segment in re.split("[?#]", url, maxsplit=1)[0].split("/") if segment]
    if len(segments) < 2 or not is_account(segments[-2]):
        return None
    if len(segments) >= 4 and segments[-4] == "queue" and _SCOPED_REGION.fullmatch(segments[-3]):
        return QueueAddress(segments[-3], segments[-2], segments[-1])
    return QueueAddress(_names_in_host(host[:256])[1], segments[-2], segments[-1])


def queue_url(scheme: str, host: str, region: str, account: str, name: str) -> str:
    """The URL to hand out for a queue, from the Host header of the request that asked.

    A plain host gives `scheme://host/account/name`: whoever uses it is told apart by the region of the signature.
    Only where the host names another region than the queue's does the path name it.
    """
    named = _names_in_host(host[:256])[1]
    where = f"/queue/{region}" if named and named != region else ""
    return f"{scheme}://{host}{where}/{account}/{name}"
