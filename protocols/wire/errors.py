"""The one exception of the decoders, the errors every AWS service has, and AWS's sentences for bad input.

What AWS says is not documented. It was taken from what users of AWS show in public: the answers quoted in the issues
of AWS's SDKs and in AWS's samples. Where nothing was found, the nearest relative was followed, and a comment says so.
"""

from __future__ import annotations

from typing import Any

from protocols.shapes.constraints import Violation, violations
from protocols.shapes.model import Error, List, Map, Operation, Scalar, Service, Shape, Structure


class WireError(Exception):
    """Input that is refused before it reaches an engine. `message` is empty where AWS says nothing."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status


# Query code: name in JSON (of com.amazon.coral.service), HTTP status, the sender's fault. AWS shows AccessDenied and
# InvalidParameterValue so; MissingRequiredParameterException is called that at CloudWatch, which moved as SQS did.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
COMMON_ERRORS = {
    "AccessDenied": ("AccessDeniedException", 403, True),
    "IncompleteSignature": ("IncompleteSignatureException", 400, True),
    "InternalFailure": ("InternalFailure", 500, False),
    "InvalidAction": ("UnknownOperationException", 400, True),
    "InvalidClientTokenId": ("UnrecognizedClientException", 403, True),
    "InvalidParameterValue": ("InvalidParameterValueException", 400, True),
    "MissingAuthenticationToken": ("MissingAuthenticationTokenException", 403, True),
    "MissingParameter": ("MissingRequiredParameterException", 400, True),
    "RequestExpired": ("RequestExpiredException", 400, True),
    "ServiceUnavailable": ("ServiceUnavailableException", 503, False),
    "SignatureDoesNotMatch": ("InvalidSignatureException", 403, True),
}

# What SQS calls a member when it misses it: https://github.com/aws/aws-sdk-js-v3/issues/5478
_SQS_OLD_NAMES = {("DeleteMessage", "ReceiptHandle"): "MessageHandle"}


def find_error(service: Service, code: str) -> Error:
    """The error of this name in the service's model, or of this query code among the common ones, or a plain 400."""
    found = service.errors.get(code)
    if found is not None:
        return found
    name, status, sender_fault = COMMON_ERRORS.get(code, (code, 400, True))
    return Error(name, code, status, sender_fault)


def unknown_operation(service: Service, name: str, *, query: bool) -> WireError:
    """No such operation, or none named. `query` tells the protocol: JSON services have no sentence for it."""
    if not query:
        return WireError("InvalidAction" if service.query_compatible else "UnknownOperationException")
    if service.front_end == "sqs":
        return WireError("InvalidAction", f"The action {name} is not valid for this endpoint.")
    return WireError("InvalidAction", f"Could not find operation {name} for version {service.api_version}")


def refusal(operation: Operation, value: dict[str, Any]) -> WireError:
    """The error for a decoded input that fails its check."""
    found = violations(operation, value)
    if operation.service.front_end == "sqs":
        name = _SQS_OLD_NAMES.get((operation.name, found[0].path), found[0].path)
        return WireError("MissingParameter", f"The request must contain the parameter {name}.")
    sentences = "; ".join(_sentence(violation) for violation in found)
    plural = "" if len(found) == 1 else "s"
    code = "ValidationException" if operation.service.target_prefix else "ValidationError"
    return WireError(code, f"{len(found)} validation error{plural} detected: {sentences}")


def _sentence(violation: Violation) -> str:
    if violation.shape.sensitive:
        value = "Value"
    elif violation.value is None:
        value = "Value null"
    else:
        value = f"Value '{_java(violation.value, violation.shape)}'"
    return f"{value} at '{violation.path}' failed to satisfy constraint: {violation.constraint}"


def _java(value: Any, shape: Shape) -> str:
    """A value as Java prints it, which is how AWS quotes it."""
    match shape:
        case Scalar(kind="blob"):
            return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
        case Scalar(kind="boolean"):
            return "true" if value else "false"
        case List():
            return f"[{', '.join(_java_member(item, shape.member.shape) for item in value)}]"
        case Map():
            pairs = (f"{key}={_java_member(item, shape.value.shape)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case Structure():
            members = (
                f"{name[:1].lower()}{name[1:]}={_java_member(value.get(name), member.shape)}"
                for name, member in shape.members.items()
            )
            return f"{shape.name}({', '.join(members)})"
    return str(value)


def _java_member(value: Any, shape: Shape) -> str:
    if value is None:
        return "null"
    return "***Sensitive Data Redacted***" if shape.sensitive else _java(value, shape)
