"""AWS Signature Version 4 at the receiving end: whose signature is on a request, and does it hold?

`credential_scope` reads what a signature claims and believes it. It is on the path of every request, takes any bytes
and never raises. `verify` is strict mode: it computes the signature again and refuses with AWS's code, status and
text. Pure: no clock (now comes in), no I/O.

The rules: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. S3 alone has other
ones (its path is not encoded twice) and is not served here.
Ugly: AWS documents neither its texts nor its skew limits. They are what AWS's servers answered to people who reported
it to the SDKs; each table entry names the report.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from protocols.http.message import Request


class Scope(NamedTuple):
    """What a signature says of itself. A part that the signature does not name is empty."""

    access_key: str
    date: str  # YYYYMMDD
    region: str
    service: str  # the signing name: "sqs", "sns", "events", "kinesis", "sts"
    session_token: bool


class AuthError(Exception):
    """A request that strict mode refuses: AWS's error code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


# --- What a request claims ---

_CREDENTIAL_MAX = 300  # an access key is 128 characters at most; what is longer would only fill caches


def credential_scope(request: Request) -> Scope | None:
    """Access key, date, region and service by the request's own word; None where it is not signed at all.

    Reads the Authorization header (AWS4-HMAC-SHA256, AWS4-ECDSA-P256-SHA256, and `AWS key:signature` of version 2),
    else presigned query parameters, else the `AWSAccessKeyId` parameter of version 2.
    """
    credential = credential_of(request.fields.get(b"authorization", b""))
    session_token = b"x-amz-security-token" in request.fields
    if not credential:
        query = request.target.partition(b"?")[2]
        encoded = form_field(query, b"X-Amz-Credential=") or form_field(query, b"AWSAccessKeyId=")
        if not encoded and "form" in (request.header(b"content-type") or ""):
            encoded = form_field(request.body, b"AWSAccessKeyId=")
        if not encoded:
            return None
        credential = unquote_to_bytes(encoded[:_CREDENTIAL_MAX])
        session_token = session_token or b"Security-Token=" in query
    scope = claimed_scope(credential, session_token)
    if scope.service and not scope.region:  # version 4A signs for a set of regions, named in a header of its own
        regions = request.header(b"x-amz-region-set") or ""
        return scope._replace(region=regions.partition(",")[0].strip().replace("*", ""))
    return scope


def credential_of(authorization: bytes) -> bytes:
    """The credential in an Authorization header, as it stands there; empty where there is none."""
    start = authorization.find(b"Credential=")
    if start >= 0:
        limit = start + _CREDENTIAL_MAX
        end = authorization.find(b",", start, limit)
        return authorization[start + 11 : limit if end < 0 else end]
    if authorization.startswith(b"AWS "):
        return authorization[4:_CREDENTIAL_MAX].partition(b":")[0]
    return b""


@lru_cache(maxsize=1024)
def claimed_scope(credential: bytes, session_token: bool = False) -> Scope:
    """The parts of `key/date/region/service/aws4_request`; a credential of another form is all access key."""
    text = credential.decode("latin-1").strip().partition(" ")[0]
    parts = text.rsplit("/", 4)
    if len(parts) == 5:
        return Scope(parts[0], parts[1], parts[2], parts[3], session_token)
    if len(parts) == 4 and parts[3] == "aws4_request":  # version 4A has no region in its credential
        return Scope(parts[0], parts[1], "", parts[2], session_token)
    return Scope(parts[0], "", "", "", session_token)


def form_field(form: bytes, name: bytes) -> bytes | None:
    """The first value of a form or query string, still percent-encoded. The name comes with its `=`."""
    if form.startswith(name):
        start = len(name)
    else:
        start = form.find(b"&" + name)
        if start < 0:
            return None
        start += len(name) + 1
    end = form.find(b"&", start)
    return form[start:] if end < 0 else form[start:end]


# --- Does the signature hold? ---


class _Refusals(NamedTuple):
    """How a family of services refuses: (code, HTTP status) for each cause, a text, and its tolerance of skew."""

    missing: tuple[str, int]
    incomplete: tuple[str, int]
    unknown_key: tuple[str, int]
    mismatch: tuple[str, int]
    missing_message: str
    skew_min: int


# The query services; SQS answers like one over JSON too (its model is awsQueryCompatible). Reports, all of AWS's own
# servers: 403 InvalidClientTokenId ex-aws/ex_aws#220 and, over JSON, argoproj/notifications-engine#382; 403
# SignatureDoesNotMatch and 15 minutes aws/aws-sdk-php#642 (SQS), aws/aws-sdk-js#265 (SNS), aws/aws-cli#6676 (STS);
# 400 IncompleteSignature brendanhay/amazonka#5; 403 MissingAuthenticationToken amzn/selling-partner-api-docs#3081.
_QUERY = _Refusals(
    missing=("MissingAuthenticationToken", 403),
    incomplete=("IncompleteSignature", 400),
    unknown_key=("InvalidClientTokenId", 403),
    mismatch=("SignatureDoesNotMatch", 403),
    missing_message="Request is missing Authentication Token",
    skew_min=15,
)
# Kinesis, EventBridge and the other services with an X-Amz-Target: 400 and 5 minutes aws-amplify/aws-sdk-android#88,
# s12v/awsbeats#48 (Kinesis), paws-r/paws#426 (EventBridge); 400 UnrecognizedClientException
# awslabs/amazon-kinesis-scaling-utils#46; 400 IncompleteSignatureException iann0036/cloud9-sync#10;
# MissingAuthenticationTokenException: the DynamoDB guide's table of errors (Programming.Errors.html).
_JSON = _Refusals(
    missing=("MissingAuthenticationTokenException", 400),
    incomplete=("IncompleteSignatureException", 400),
    unknown_key=("UnrecognizedClientException", 400),
    mismatch=("InvalidSignatureException", 400),
    missing_message="Missing Authentication Token",
    skew_min=5,
)
# The REST services have the codes of the JSON ones with status 403: cognitect-labs/aws-api#255.
_REST_JSON = _Refusals(
    missing=("MissingAuthenticationTokenException", 403),
    incomplete=("IncompleteSignatureException", 403),
    unknown_key=("UnrecognizedClientException", 403),
    mismatch=("InvalidSignatureException", 403),
    missing_message="Missing Authentication Token",
    skew_min=5,
)
REST_JSON_SERVICES = frozenset({"pipes", "scheduler", "schemas"})

_Headers = Mapping[str, list[bytes]]

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_BASIC_ISO_8601 = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_TOKEN_INVALID = "The security token included in the request is invalid."
_TWO_SIGNATURES = "Credential must be given once."  # our words: what AWS says here nobody has reported
_HOST_UNSIGNED = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.\n\n"
    "The Canonical String for this request should have been\n'{canonical}'\n\n"
    "The String-to-Sign should have been\n'{to_sign}'\n"
)


class _Claim(NamedTuple):
    """A signature and what it needs to be checked, from the header or from a presigned query."""

    credential: str
    signed_headers: list[str]
    signature: str
    instant: str  # the time of signing, YYYYMMDD'T'HHMMSS'Z'
    presigned: bool


def verify(
    request: Request,
    keys: Mapping[str, str],
    now_s: float,
    *,
    service: str | None = None,
    region: str | None = None,
) -> None:
    """Return if the request carries a good signature by one of `keys` (access key to secret); else raise AuthError.

    With a service or region given, the signature must be scoped to it. Session tokens are signed over, not checked.
    A presigned URL lives as long as a signed request whatever its X-Amz-Expires says: only S3 heeds that
    (aws/aws-sdk-ruby#2498 for SQS, aws/aws-sdk-go#2167 for STS). UNSIGNED-PAYLOAD is taken from anyone.
    """
    headers: dict[str, list[bytes]] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode("latin-1"), []).append(value)
    path, _, query = request.target.partition(b"?")
    parameters = _parameters(query)

    claimed = credential_scope(request)
    refusals = _refusals(headers, service or (claimed.service if claimed else ""))
    claim = _header_claim(headers, refusals) if _first(headers, "authorization") else _query_claim(parameters, refusals)
    parts = claim.credential.split("/")
    if len(parts) != 5:
        elements = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"
        raise _refusal(refusals.incomplete, f"{elements}, got '{claim.credential}'")
    if claimed is None or list(claimed[:4]) != parts[:4]:  # two signatures: the one believed is not the one checked
        raise _refusal(refusals.incomplete, _TWO_SIGNATURES)
    _check_time(claim.instant, now_s, refusals)
    if "host" not in claim.signed_headers and ":authority" not in claim.signed_headers:
        raise _refusal(refusals.mismatch, _HOST_UNSIGNED)
    if faults := _scope_faults(parts, claim.instant, service, region):
        raise _refusal(refusals.mismatch, faults)
    secret = keys.get(parts[0])
    if secret is None:
        raise _refusal(refusals.unknown_key, _TOKEN_INVALID)

    canonical = "\n".join(
        (
            request.method,
            _canonical_path(path),
            _canonical_query(parameters, claim.presigned),
            _canonical_headers(headers, claim.signed_headers),
            ";".join(claim.signed_headers),
            _payload_hash(headers, parameters, claim.presigned, request.body),
        )
    )
    digest = sha256(canonical.encode("latin-1")).hexdigest()
    to_sign = "\n".join((_ALGORITHM, claim.instant, "/".join(parts[1:]), digest))
    key = _signing_key(secret, *parts[1:4])
    expected = hmac.digest(key, to_sign.encode("latin-1"), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode("latin-1")):
        raise _refusal(refusals.mismatch, _MISMATCH.format(canonical=canonical, to_sign=to_sign))


def _refusal(cause: tuple[str, int], message: str) -> AuthError:
    code, status = cause
    return AuthError(code, message, status)


def _refusals(headers: _Headers, service: str) -> _Refusals:
    if service in REST_JSON_SERVICES:
        return _REST_JSON
    target = _first(headers, "x-amz-target")
    return _JSON if target and not target.startswith("AmazonSQS.") else _QUERY


def _first(headers: _Headers, name: str) -> str:
    values = headers.get(name)
    return values[0].decode("latin-1").strip() if values else ""


def _parameters(query: bytes) -> list[tuple[str, str]]:
    """The query's names and values in canonical encoding. A `+` is a space, as in a form."""
    pairs = []
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((_encoded(name), _encoded(value)))
    return pairs


def _encoded(text: bytes) -> str:
    return quote(unquote_to_bytes(text.replace(b"+", b" ")), safe="-_.~")


def _header_claim(headers: _Headers, refusals: _Refusals) -> _Claim:
    authorization = _first(headers, "authorization")
    digest = b64encode(sha256(authorization.encode("latin-1")).digest()).decode()
    algorithm, *pairs = re.split(r"[\s,]+", authorization)
    fields = {}
    for pair in filter(None, pairs):
        name, equals, value = pair.partition("=")
        if not equals:
            malformed = "Invalid key=value pair (missing equal-sign) in Authorization header"
            hashed = f"(hashed with SHA-256 and encoded with Base64): '{digest}'."
            raise _refusal(refusals.incomplete, f"{malformed} {hashed}")
        fields[name] = value
    wanted = ("Credential", "Signature", "SignedHeaders")
    faults = [f"Authorization header requires '{name}' parameter." for name in wanted if not fields.get(name)]
    instant = _first(headers, "x-amz-date") or _from_rfc_1123(_first(headers, "date"))
    if not instant:
        faults.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if faults:
        faults.append(f"(Hashed with SHA-256 and encoded with Base64) Authorization={digest}")
        raise _refusal(refusals.incomplete, " ".join(faults))
    _check_algorithm(algorithm, refusals)
    return _Claim(
        fields["Credential"], _header_names(fields["SignedHeaders"]), fields["Signature"], instant, presigned=False
    )


def _query_claim(parameters: Sequence[tuple[str, str]], refusals: _Refusals) -> _Claim:
    fields = {name: unquote_to_bytes(value).decode("latin-1") for name, value in parameters}
    algorithm = fields.get("X-Amz-Algorithm")
    if not algorithm:
        raise _refusal(refusals.missing, refusals.missing_message)
    wanted = ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
    faults = [f"AWS query-string parameters must include '{name}'." for name in wanted if not fields.get(name)]
    if faults:
        raise _refusal(refusals.incomplete, " ".join((*faults, "Re-examine the query-string parameters.")))
    _check_algorithm(algorithm, refusals)
    credential, signature, signed_headers, instant = (fields[name] for name in wanted)
    return _Claim(credential, _header_names(signed_headers), signature, instant, presigned=True)


def _check_algorithm(algorithm: str, refusals: _Refusals) -> None:
    if algorithm != _ALGORITHM:  # 4A wants elliptic curves, which the standard library lacks; version 2 is retired
        raise _refusal(refusals.incomplete, f"Unsupported AWS 'algorithm': '{algorithm}'.")


def _header_names(signed_headers: str) -> list[str]:
    return sorted(signed_headers.lower().split(";"))


def _from_rfc_1123(date: str) -> str:
    """A Date header's time as YYYYMMDD'T'HHMMSS'Z'; a text that is no such date comes back as it is."""
    try:
        instant = parsedate_to_datetime(date)
        return _basic(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp())
    except (ValueError, TypeError, OverflowError):
        return date


def _check_time(instant: str, now_s: float, refusals: _Refusals) -> None:
    try:
        if not _BASIC_ISO_8601.fullmatch(instant):
            raise ValueError(instant)
        signed_s = datetime.fromisoformat(instant).timestamp()
    except ValueError:
        said = f"Date must be in ISO-8601 'basic format'. Got '{instant}'."
        where = "See http://en.wikipedia.org/wiki/ISO_8601"
        raise _refusal(refusals.incomplete, f"{said} {where}") from None
    minutes = refusals.skew_min
    oldest_s, newest_s = now_s - minutes * 60, now_s + minutes * 60
    if signed_s < oldest_s:
        limit = f"{_basic(oldest_s)} ({_basic(now_s)} - {minutes} min.)"
        raise _refusal(refusals.mismatch, f"Signature expired: {instant} is now earlier than {limit}")
    if signed_s > newest_s:
        limit = f"{_basic(newest_s)} ({_basic(now_s)} + {minutes} min.)"
        raise _refusal(refusals.mismatch, f"Signature not yet current: {instant} is still later than {limit}")


def _basic(instant_s: float) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def _scope_faults(parts: Sequence[str], instant: str, service: str | None, region: str | None) -> str:
    """What is wrong with a credential's scope, every sentence with AWS's trailing space (boto/boto#3688)."""
    _, date, scope_region, scope_service, term = parts
    faults = ""
    if region is not None and scope_region != region:
        faults += f"Credential should be scoped to a valid region, not '{scope_region}'. "
    if service is not None and scope_service != service:
        faults += f"Credential should be scoped to correct service: '{service}'. "
    if term != "aws4_request":
        faults += f"Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'. "
    if date != instant[:8]:
        faults += "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        faults += f"'{date}' != '{instant[:8]}', from '{instant}'. "
    return faults


def _canonical_path(path: bytes) -> str:
    """Normalised by RFC 3986 with empty segments dropped, then encoded: a second time, for it came encoded."""
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    tail = b"/" if segments and path.endswith(b"/") else b""
    return quote(b"/" + b"/".join(segments) + tail, safe="/-_.~")


def _canonical_query(parameters: Sequence[tuple[str, str]], presigned: bool) -> str:
    pairs = sorted(pair for pair in parameters if not (presigned and pair[0] == "X-Amz-Signature"))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _canonical_headers(headers: _Headers, signed: Sequence[str]) -> str:
    lines = b""
    for name in signed:
        values = [b" ".join(value.split()) for value in headers.get(name, ())]
        lines += b"%s:%s\n" % (name.encode("latin-1", "replace"), b",".join(values))
    return lines.decode("latin-1")


def _payload_hash(headers: _Headers, parameters: Sequence[tuple[str, str]], presigned: bool, body: bytes) -> str:
    """Of the body that came, whatever x-amz-content-sha256 says of it: a wrong claim is a wrong signature."""
    said = _first(headers, "x-amz-content-sha256")
    if presigned and not said:
        said = dict(parameters).get("X-Amz-Content-Sha256", "")
    return _UNSIGNED_PAYLOAD if said == _UNSIGNED_PAYLOAD else sha256(body).hexdigest()


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("latin-1", "replace"), "sha256")
    return key
