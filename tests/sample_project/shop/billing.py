"""Charges for orders, once for each, however often a queue may deliver it."""

from __future__ import annotations

import json
from collections.abc import Callable

import boto3


class Declined(Exception):
    """The customer's bank says no, this time."""


class Billing:
    def __init__(self, queue_url: str, charge: Callable[[str, int], None]) -> None:
        self._queue_url = queue_url
        self._charge = charge
        self._charged: set[str] = set()  # a table, in a shop with more than one process
        self._sqs = boto3.client("sqs")

    def work(self, wait_s: int = 0) -> int:
        """Takes up to ten orders and returns how many are settled. An order whose charge fails comes again."""
        settled = 0
        answer = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s)
        for message in answer.get("Messages", []):
            order = json.loads(message["Body"])
            try:
                self._settle(order)
            except Declined:
                continue
            self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
            settled += 1
        return settled

    def _settle(self, order: dict) -> None:
        if order["number"] not in self._charged:
            self._charge(order["customer"], order["cents"])
            self._charged.add(order["number"])
