"""What the error faults say: AWS's code for too many requests, and AWS's words for a code.

The rule: the codes are those that AWS's models give an operation, and that AWS's SDKs take for throttling
(`_retry.json` in botocore, `THROTTLING_ERROR_CODES` elsewhere). The words are those that the broker itself has of AWS
where it raises the same error; else the first sentence of AWS's documentation.
"""

from __future__ import annotations

from typing import NamedTuple

from broker import errors
from broker.names import parse_arn
from protocols.faults.documented import SENTENCES
from protocols.shapes.model import Operation, Service

_EXCEEDED = "ProvisionedThroughputExceededException"
_RATE_EXCEEDED = "Rate exceeded"
_UNKNOWN = "The request was refused by a fault plan."  # of a code that is none of AWS's

# Not of the models, but of the front ends: status and words. "Common Errors" in each API reference, such as
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
_COMMON: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "You do not have sufficient access to perform this action."),
    "AccessDeniedException": (400, "You do not have sufficient access to perform this action."),
    "ExpiredToken": (403, "The security token included in the request is expired."),
    "ExpiredTokenException": (403, "The security token included in the request is expired."),
    "IncompleteSignature": (403, "The request signature does not conform to AWS standards."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InternalFailure": (500, "The request processing has failed because of an unknown error, exception or failure."),
    "InternalServerError": (500, "An error occurred on the server side."),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "NotAuthorized": (400, "You do not have permission to perform this action."),
    "OptInRequired": (403, "The AWS access key ID needs a subscription for the service."),
    "RequestExpired": (
        400,
        "The request reached the service more than 15 minutes after the date stamp on the request.",
    ),
    "RequestLimitExceeded": (503, "Request limit exceeded."),
    "RequestThrottledException": (400, _RATE_EXCEEDED),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
    "ServiceUnavailableException": (503, "The request has failed due to a temporary failure of the server."),
    "SlowDown": (503, "Please reduce your request rate."),
    "Throttling": (400, _RATE_EXCEEDED),
    "ThrottlingException": (400, _RATE_EXCEEDED),
    "TooManyRequestsException": (429, _RATE_EXCEEDED),
    "UnrecognizedClientException": (400, "The security token included in the request is invalid."),
    "ValidationError": (400, "The input fails to satisfy the constraints specified by an AWS service."),
}


class Refusal(NamedTuple):
    """An error as it is answered: `status` None is the one of the model."""

    code: str
    message: str
    status: int | None


def error(service: Service, code: str, message: str | None, status: int | None) -> Refusal:
    """An `error` fault's. The code may be the model's name or the query protocol's, or any other."""
    code = _name(service, code)
    of_model = service.errors.get(code)
    common = None if of_model is not None else _COMMON.get(code)
    if status is None and common is not None:
        status = common[0]
    elif status is None and of_model is not None and not of_model.sender_fault:
        status = of_model.status
    if message is None:
        message = (_words(service, code) or _UNKNOWN) if common is None else common[1]
    return Refusal(code, message, status)


def _name(service: Service, code: str) -> str:
    if code not in service.errors:
        for known in service.errors.values():
            if known.query_code == code:
                return known.name
    return code


def _words(service: Service, code: str) -> str:
    own = getattr(errors, code, None)
    if isinstance(own, type) and issubclass(own, errors.DomainError) and own.default:
        return own.default
    return SENTENCES[service.name].get(code, "")


def throttled(operation: Operation, resource: str) -> Refusal:
    """A `throttle` fault's, for a resource by its ARN."""
    match operation.service.name:
        case "sqs":
            return Refusal("RequestThrottled", errors.Throttled.default, None)
        case "sns":
            return Refusal("ThrottledException", _RATE_EXCEEDED, None)
        case "events":
            return Refusal("ThrottlingException", _RATE_EXCEEDED, None)
        case "kinesis":
            code = next(
                (code for code in (_EXCEEDED, "LimitExceededException") if code in operation.errors),
                "ThrottlingException",
            )
            return Refusal(code, _of_stream(resource), None)
        case "dynamodb" if _EXCEEDED in operation.errors:
            return Refusal(
                _EXCEEDED,
                "The level of configured provisioned throughput for the table was exceeded. "
                "Consider increasing your provisioning level with the UpdateTable API.",
                None,
            )
        case "dynamodb":
            return Refusal("ThrottlingException", _RATE_EXCEEDED, None)
    return Refusal("Throttling", _RATE_EXCEEDED, 400)


def _of_stream(resource: str) -> str:
    arn = parse_arn(resource)
    if arn is None or not arn.resource.startswith("stream/"):
        return "Rate exceeded."
    return f"Rate exceeded for stream {arn.resource.partition('/')[2]} under account {arn.account}."


def failure(service: Service) -> Refusal:
    """A 500 of the service's own."""
    own = next((known.name for known in service.errors.values() if known.status == 500), "InternalFailure")
    return error(service, own, None, None)


ENTRY_FAILURES = {
    "sqs": ("InternalError", "We encountered an internal error. Please try again."),
    "sns": ("InternalError", "We encountered an internal error. Please try again."),
    "events": (
        "InternalFailure",
        "The request processing has failed because of an unknown error, exception or failure.",
    ),
    "kinesis": ("InternalFailure", "Internal Service Failure"),
}
"""What AWS says of an entry of a batch that it could not do, without it being the sender's fault.

SQS: aws-sdk-java#2562; EventBridge: PutEventsResultEntry; Kinesis: PutRecordsResultEntry in the API references.
"""
