"""Amazon SQS's semantics: standard and FIFO queues, dead letters, long polls, move tasks."""

from broker.queues.definitions import Queues
from broker.queues.messaging import Messaging, Sending, Sent
from broker.queues.queue import Queue
from broker.waiters import Waiter

__all__ = ["Messaging", "Queue", "Queues", "Sending", "Sent", "Waiter"]
