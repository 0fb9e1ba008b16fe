"""What AWS says of each error: the first sentence of its documentation in botocore's models. A test compares them.

It is the message of an `error` fault where the rule gives none and the broker has no words of AWS's own for it.
"""

SENTENCES: dict[str, dict[str, str]] = {
    "sqs": {
        "BatchEntryIdsNotDistinct": "Two or more batch entries in the request have the same Id.",
        "BatchRequestTooLong": "The length of all the messages put together is more than the limit.",
        "EmptyBatchRequest": "The batch request doesn't contain any entries.",
        "InvalidAddress": "The specified ID is invalid.",
        "InvalidAttributeName": "The specified attribute doesn't exist.",
        "InvalidAttributeValue": "A queue attribute value is invalid.",
        "InvalidBatchEntryId": "The Id of a batch entry in a batch request doesn't abide by the specification.",
        "InvalidIdFormat": "The specified receipt handle isn't valid for the current version.",
        "InvalidMessageContents": "The message contains characters outside the allowed set.",
        "InvalidSecurity": "The request was not made over HTTPS or did not use SigV4 for signing.",
        "KmsAccessDenied": "The caller doesn't have the required KMS access.",
        "KmsDisabled": "The request was denied due to request throttling.",
        "KmsInvalidKeyUsage": "The request was rejected for one of the following reasons:",
        "KmsInvalidState": (
            "The request was rejected because the state of the specified resource is not valid for this request."
        ),
        "KmsNotFound": "The request was rejected because the specified entity or resource could not be found.",
        "KmsOptInRequired": (
            "The request was rejected because the specified key policy isn't syntactically or semantically correct."
        ),
        "KmsThrottled": "Amazon Web Services KMS throttles requests for the following conditions.",
        "MessageNotInflight": "The specified message isn't in flight.",
        "OverLimit": "The specified action violates a limit.",
        "PurgeQueueInProgress": (
            "Indicates that the specified queue previously received a PurgeQueue request within the last 60 "
            "seconds (the time it can take to delete the messages in the queue)."
        ),
        "QueueDeletedRecently": (
            "You must wait 60 seconds after deleting a queue before you can create another queue with the same name."
        ),
        "QueueDoesNotExist": "Ensure that the QueueUrl is correct and that the queue has not been deleted.",
        "QueueNameExists": "A queue with this name already exists.",
        "ReceiptHandleIsInvalid": "The specified receipt handle isn't valid.",
        "RequestThrottled": "The request was denied due to request throttling.",
        "ResourceNotFoundException": "One or more specified resources don't exist.",
        "TooManyEntriesInBatchRequest": "The batch request contains more entries than permissible.",
        "UnsupportedOperation": "Unsupported operation.",
    },
    "sns": {
        "AuthorizationErrorException": "Indicates that the user has been denied access to the requested resource.",
        "BatchEntryIdsNotDistinctException": "Two or more batch entries in the request have the same Id.",
        "BatchRequestTooLongException": "The length of all the batch messages put together is more than the limit.",
        "ConcurrentAccessException": "Can't perform multiple operations on a tag simultaneously.",
        "EmptyBatchRequestException": "The batch request doesn't contain any entries.",
        "EndpointDisabledException": "Exception error indicating endpoint disabled.",
        "FilterPolicyLimitExceededException": (
            "Indicates that the number of filter polices in your Amazon Web Services account exceeds the limit."
        ),
        "InternalErrorException": "Indicates an internal service error.",
        "InvalidBatchEntryIdException": (
            "The Id of a batch entry in a batch request doesn't abide by the specification."
        ),
        "InvalidParameterException": (
            "Indicates that a request parameter does not comply with the associated constraints."
        ),
        "InvalidParameterValueException": (
            "Indicates that a request parameter does not comply with the associated constraints."
        ),
        "InvalidSecurityException": "The credential signature isn't valid.",
        "InvalidStateException": "Indicates that the specified state is not a valid state for an event source.",
        "KMSAccessDeniedException": (
            "The ciphertext references a key that doesn't exist or that you don't have access to."
        ),
        "KMSDisabledException": (
            "The request was rejected because the specified Amazon Web Services KMS key isn't enabled."
        ),
        "KMSInvalidStateException": (
            "The request was rejected because the state of the specified resource isn't valid for this request."
        ),
        "KMSNotFoundException": "The request was rejected because the specified entity or resource can't be found.",
        "KMSOptInRequired": "The Amazon Web Services access key ID needs a subscription for the service.",
        "KMSThrottlingException": "The request was denied due to request throttling.",
        "NotFoundException": "Indicates that the requested resource does not exist.",
        "OptedOutException": (
            "Indicates that the specified phone number opted out of receiving SMS messages from your Amazon Web "
            "Services account."
        ),
        "PlatformApplicationDisabledException": "Exception error indicating platform application disabled.",
        "ReplayLimitExceededException": (
            "Indicates that the request parameter has exceeded the maximum number of concurrent message replays."
        ),
        "ResourceNotFoundException": "Can't perform the action on the specified resource.",
        "StaleTagException": "A tag has been added to a resource with the same ARN as a deleted resource.",
        "SubscriptionLimitExceededException": (
            "Indicates that the customer already owns the maximum allowed number of subscriptions."
        ),
        "TagLimitExceededException": "Can't add more than 50 tags to a topic.",
        "TagPolicyException": "The request doesn't comply with the IAM tag policy.",
        "ThrottledException": (
            "Indicates that the rate at which requests have been submitted for this action exceeds the limit for "
            "your Amazon Web Services account."
        ),
        "TooManyEntriesInBatchRequestException": (
            "The batch request contains more entries than permissible (more than 10)."
        ),
        "TopicLimitExceededException": (
            "Indicates that the customer already owns the maximum allowed number of topics."
        ),
        "UserErrorException": "Indicates that a request parameter does not comply with the associated constraints.",
        "ValidationException": "Indicates that a parameter in the request is invalid.",
        "VerificationException": "Indicates that the one-time password (OTP) used for verification is invalid.",
    },
    "events": {
        "AccessDeniedException": "You do not have the necessary permissions for this action.",
        "ConcurrentModificationException": "There is concurrent modification on a rule, target, archive, or replay.",
        "IllegalStatusException": (
            "An error occurred because a replay can be canceled only when the state is Running or Starting."
        ),
        "InternalException": "This exception occurs due to unexpected causes.",
        "InvalidEventPatternException": "The event pattern is not valid.",
        "InvalidStateException": "The specified state is not a valid state for an event source.",
        "LimitExceededException": (
            "The request failed because it attempted to create resource beyond the allowed service quota."
        ),
        "ManagedRuleException": "This rule was created by an Amazon Web Services service on behalf of your account.",
        "OperationDisabledException": "The operation you are attempting is not available in this region.",
        "PolicyLengthExceededException": "The event bus policy is too long.",
        "ResourceAlreadyExistsException": "The resource you are trying to create already exists.",
        "ResourceNotFoundException": "An entity that you specified does not exist.",
        "ThrottlingException": "This request cannot be completed due to throttling issues.",
    },
    "kinesis": {
        "AccessDeniedException": "Specifies that you do not have the permissions required to perform this operation.",
        "DryRunOperationException": "The request was rejected because the DryRun parameter was specified.",
        "ExpiredIteratorException": "The provided iterator exceeds the maximum age allowed.",
        "ExpiredNextTokenException": "The pagination token passed to the operation is expired.",
        "InternalFailureException": (
            "The processing of the request failed because of an unknown error, exception, or failure."
        ),
        "InvalidArgumentException": (
            "A specified parameter exceeds its restrictions, is not supported, or can't be used."
        ),
        "KMSAccessDeniedException": (
            "The ciphertext references a key that doesn't exist or that you don't have access to."
        ),
        "KMSDisabledException": "The request was rejected because the specified KMS key isn't enabled.",
        "KMSInvalidStateException": (
            "The request was rejected because the state of the specified resource isn't valid for this request."
        ),
        "KMSNotFoundException": "The request was rejected because the specified entity or resource can't be found.",
        "KMSOptInRequired": "The Amazon Web Services access key ID needs a subscription for the service.",
        "KMSThrottlingException": "The request was denied due to request throttling.",
        "LimitExceededException": (
            "The requested resource exceeds the maximum number allowed, or the number of concurrent stream "
            "requests exceeds the maximum number allowed."
        ),
        "ProvisionedThroughputExceededException": (
            "The request rate for the stream is too high, or the requested data is too large for the available "
            "throughput."
        ),
        "ResourceInUseException": "The resource is not available for this operation.",
        "ResourceNotFoundException": "The requested resource could not be found.",
        "ThrottlingException": "The request was denied because the request rate is too high.",
        "ValidationException": "The request failed validation.",
    },
    "dynamodb": {
        "BackupInUseException": "There is another ongoing conflicting backup control plane operation on the table.",
        "BackupNotFoundException": "Backup not found for the given BackupARN.",
        "ConditionalCheckFailedException": "A condition specified in the operation failed to be evaluated.",
        "ContinuousBackupsUnavailableException": "Backups have not yet been enabled for this table.",
        "DuplicateItemException": (
            "There was an attempt to insert an item with the same primary key as an item that already exists in "
            "the DynamoDB table."
        ),
        "ExportConflictException": "There was a conflict when writing to the specified S3 bucket.",
        "ExportNotFoundException": "The specified export was not found.",
        "GlobalTableAlreadyExistsException": "The specified global table already exists.",
        "GlobalTableNotFoundException": "The specified global table does not exist.",
        "IdempotentParameterMismatchException": (
            "DynamoDB rejected the request because you retried a request with a different payload but with an "
            "idempotent token that was already used."
        ),
        "ImportConflictException": "There was a conflict when importing from the specified S3 source.",
        "ImportNotFoundException": "The specified import was not found.",
        "IndexNotFoundException": "The operation tried to access a nonexistent index.",
        "InternalServerError": "An error occurred on the server side.",
        "InvalidExportTimeException": "The specified ExportTime is outside of the point in time recovery window.",
        "InvalidRestoreTimeException": "An invalid restore time was specified.",
        "ItemCollectionSizeLimitExceededException": "An item collection is too large.",
        "LimitExceededException": "There is no limit to the number of daily on-demand backups that can be taken.",
        "PointInTimeRecoveryUnavailableException": (
            "Point in time recovery has not yet been enabled for this source table."
        ),
        "PolicyNotFoundException": "The operation tried to access a nonexistent resource-based policy.",
        "ProvisionedThroughputExceededException": "The request was denied due to request throttling.",
        "ReplicaAlreadyExistsException": "The specified replica is already part of the global table.",
        "ReplicaNotFoundException": "The specified replica is no longer part of the global table.",
        "ReplicatedWriteConflictException": (
            "The request was rejected because one or more items in the request are being modified by a request "
            "in another Region."
        ),
        "RequestLimitExceeded": "Throughput exceeds the current throughput quota for your account.",
        "ResourceInUseException": "The operation conflicts with the resource's availability.",
        "ResourceNotFoundException": "The operation tried to access a nonexistent table or index.",
        "TableAlreadyExistsException": "A target table with the specified name already exists.",
        "TableInUseException": "A target table with the specified name is either being created or deleted.",
        "TableNotFoundException": (
            "A source table with the name TableName does not currently exist within the subscriber's account or "
            "the subscriber is operating in the wrong Amazon Web Services Region."
        ),
        "ThrottlingException": "The request was denied due to request throttling.",
        "TransactionCanceledException": "The entire transaction request was canceled.",
        "TransactionConflictException": (
            "Operation was rejected because there is an ongoing transaction for the item."
        ),
        "TransactionInProgressException": "The transaction with the given request token is already in progress.",
    },
    "sts": {
        "ExpiredTokenException": "The web identity token that was passed is expired or is not valid.",
        "ExpiredTradeInTokenException": (
            "The trade-in token provided in the request has expired and can no longer be exchanged for credentials."
        ),
        "IDPCommunicationErrorException": (
            "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the "
            "incoming identity token could not be reached."
        ),
        "IDPRejectedClaimException": "The identity provider (IdP) reported that authentication failed.",
        "InvalidAuthorizationMessageException": (
            "The error returned if the message passed to DecodeAuthorizationMessage was invalid."
        ),
        "InvalidIdentityTokenException": (
            "The web identity token that was passed could not be validated by Amazon Web Services."
        ),
        "JWTPayloadSizeExceededException": "The requested token payload size exceeds the maximum allowed size.",
        "MalformedPolicyDocumentException": "The request was rejected because the policy document was malformed.",
        "OutboundWebIdentityFederationDisabledException": (
            "The outbound web identity federation feature is not enabled for this account."
        ),
        "PackedPolicyTooLargeException": (
            "The request was rejected because the total packed size of the session policies and session tags "
            "combined was too large."
        ),
        "RegionDisabledException": (
            "STS is not activated in the requested region for the account that is being asked to generate credentials."
        ),
        "SessionDurationEscalationException": (
            "The requested token duration would extend the session beyond its original expiration time."
        ),
    },
}
"""By service and by the error's name in the model."""
