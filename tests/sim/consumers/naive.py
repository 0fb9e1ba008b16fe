"""A consumer as it must not be: it deletes before it works, does not know a message again, ignores failed entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class NaiveConsumer:
    """`work` does what a message asks for; it raises where the consumer dies."""

    def __init__(self, sqs: Any, url: str, work: Callable[[dict[str, Any]], None]) -> None:
        self._sqs = sqs
        self._url = url
        self._work = work

    def take(self) -> int:
        """Receives some messages and processes them; how many there were."""
        messages = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        if messages:
            self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)],
            )
        for message in messages:
            self._work(message)
        return len(messages)
