"""What a consumer or producer needs on top of the services, ready to use against any AWS endpoint."""

from patterns.batch_consumer import (
    AioSqs,
    BatchConsumer,
    Boto3Sqs,
    ConsumerPolicy,
    Happening,
    LeaseLost,
    Message,
    Poison,
    Refusal,
    SqsClient,
    TooManyReceives,
)
from patterns.bulkhead import Bulkhead, BulkheadFull, BulkheadPolicy
from patterns.circuit_breaker import CircuitBreaker, CircuitOpen, CircuitPolicy
from patterns.retry import (
    Backoff,
    DecorrelatedJitter,
    Exponential,
    Fixed,
    FullJitter,
    RetryBudget,
    RetryPolicy,
    retry,
)
from patterns.token_bucket import RateLimiter, TokenBucket

__all__ = [
    "AioSqs",
    "Backoff",
    "BatchConsumer",
    "Boto3Sqs",
    "Bulkhead",
    "BulkheadFull",
    "BulkheadPolicy",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitPolicy",
    "ConsumerPolicy",
    "DecorrelatedJitter",
    "Exponential",
    "Fixed",
    "FullJitter",
    "Happening",
    "LeaseLost",
    "Message",
    "Poison",
    "RateLimiter",
    "Refusal",
    "RetryBudget",
    "RetryPolicy",
    "SqsClient",
    "TokenBucket",
    "TooManyReceives",
    "retry",
]
