"""Every way an operation can be refused, once, under AWS's own name.

The class name is the error's name in AWS's model where it has one. HTTP statuses and wire codes belong to
`protocols`. An operation that raises one of these has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping


class DomainError(Exception):
    """A refusal that the caller is told about. `message` is AWS's text, `members` what AWS says beside it."""

    default = ""
    members: Mapping[str, object] = {}

    def __init__(self, message: str | None = None) -> None:
        self.message = message if message is not None else self.default
        super().__init__(self.message)


class BrokerFailure(Exception):
    """Ours, not the caller's: the disk is full, the file is damaged. The message says what to do."""


# Common to all services -------------------------------------------------------------------------


class MissingParameter(DomainError):
    pass


class InvalidParameterValue(DomainError):
    pass


class AccessDenied(DomainError):
    pass


class Throttled(DomainError):
    default = "Request is throttled."


# SQS --------------------------------------------------------------------------------------------


class QueueDoesNotExist(DomainError):
    default = "The specified queue does not exist."


class QueueNameExists(DomainError):
    pass


class QueueDeletedRecently(DomainError):
    default = "You must wait 60 seconds after deleting a queue before you can create another with the same name."


class PurgeQueueInProgress(DomainError):
    pass


class InvalidAttributeName(DomainError):
    pass


class InvalidAttributeValue(DomainError):
    pass


class InvalidMessageContents(DomainError):
    pass


class ReceiptHandleIsInvalid(DomainError):
    pass


class MessageNotInflight(DomainError):
    default = "The message referred to is not in flight."


class OverLimit(DomainError):
    pass


class EmptyBatchRequest(DomainError):
    pass


class TooManyEntriesInBatchRequest(DomainError):
    pass


class BatchEntryIdsNotDistinct(DomainError):
    pass


class InvalidBatchEntryId(DomainError):
    default = (
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        "It can be at most 80 letters long."
    )


class BatchRequestTooLong(DomainError):
    pass


class ResourceNotFoundException(DomainError):
    pass


class UnsupportedOperation(DomainError):
    pass


class InvalidAddress(DomainError):
    default = "The specified ID is invalid."


# SNS --------------------------------------------------------------------------------------------


class InvalidParameterException(DomainError):
    pass


class InvalidParameterValueException(DomainError):
    pass


class NotFoundException(DomainError):
    default = "Topic does not exist"


class AuthorizationErrorException(DomainError):
    pass


class InvalidStateException(DomainError):
    pass


class TopicLimitExceededException(DomainError):
    pass


class SubscriptionLimitExceededException(DomainError):
    pass


class FilterPolicyLimitExceededException(DomainError):
    pass


class ReplayLimitExceededException(DomainError):
    pass


class TagLimitExceededException(DomainError):
    default = "Could not complete request: tag quota of per resource exceeded"


class EmptyBatchRequestException(DomainError):
    default = "The batch request doesn't contain any entries."


class TooManyEntriesInBatchRequestException(DomainError):
    default = "The batch request contains more entries than permissible."


class BatchEntryIdsNotDistinctException(DomainError):
    default = "Two or more batch entries in the request have the same Id."


class BatchRequestTooLongException(DomainError):
    default = "The length of all the batch messages put together is more than the limit."


class InvalidBatchEntryIdException(DomainError):
    default = "The Id of a batch entry in a batch request doesn't abide by the specification."


class EndpointDisabledException(DomainError):
    default = "Endpoint is disabled"


class PlatformApplicationDisabledException(DomainError):
    default = "Platform application is disabled"


class OptedOutException(DomainError):
    default = "The phone number is opted out of receiving SMS messages."


class UserErrorException(DomainError):
    pass


class VerificationException(DomainError):
    default = "The one-time password does not match."


# EventBridge ------------------------------------------------------------------------------------


class ValidationException(DomainError):
    pass


class ResourceAlreadyExistsException(DomainError):
    pass


class InvalidEventPatternException(DomainError):
    pass


class ConcurrentModificationException(DomainError):
    pass


class LimitExceededException(DomainError):
    pass


class ManagedRuleException(DomainError):
    pass


class PolicyLengthExceededException(DomainError):
    pass


class IllegalStatusException(DomainError):
    pass


class OperationDisabledException(DomainError):
    pass


class AccessDeniedException(DomainError):
    pass


# Kinesis ----------------------------------------------------------------------------------------


class InvalidArgumentException(DomainError):
    pass


class ResourceInUseException(DomainError):
    pass


class ProvisionedThroughputExceededException(DomainError):
    pass


class ExpiredIteratorException(DomainError):
    pass


class ExpiredNextTokenException(DomainError):
    pass


class DryRunOperationException(DomainError):
    pass


class InternalFailureException(DomainError):
    pass


# DynamoDB ---------------------------------------------------------------------------------------


class ConditionalCheckFailedException(DomainError):
    """`item` is what did not satisfy the condition, if there is one."""

    default = "The conditional request failed"

    def __init__(self, item: dict[str, object] | None = None) -> None:
        super().__init__()
        self.item = item


class TableNotFoundException(DomainError):
    pass
