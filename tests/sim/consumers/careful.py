"""A consumer as it should be: it works first and deletes then, knows a message again, and repeats what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TRIES = 20


class CarefulConsumer:
    """`work` does what a message asks for; it raises where the consumer dies. `done` is its database, which does not:
    the ids of messages whose work was done."""

    def __init__(self, sqs: Any, url: str, work: Callable[[dict[str, Any]], None], done: set[str]) -> None:
        self._sqs = sqs
        self._url = url
        self._work = work
        self._done = done

    def take(self) -> int:
        """Receives some messages and processes them; how many there were."""
        messages = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            if message["MessageId"] not in self._done:
                self._work(message)
                self._done.add(message["MessageId"])
        self._delete({str(at): message["ReceiptHandle"] for at, message in enumerate(messages)})
        return len(messages)

    def _delete(self, handles: dict[str, str]) -> None:
        for _ in range(TRIES):
            if not handles:
                return
            answer = self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[{"Id": id, "ReceiptHandle": handle} for id, handle in handles.items()],
            )
            # What is the sender's own fault does not get better: its handle has expired, and the message comes again.
            handles = {f["Id"]: handles[f["Id"]] for f in answer.get("Failed", []) if not f["SenderFault"]}
        raise AssertionError(f"{len(handles)} deletes failed {TRIES} times")
