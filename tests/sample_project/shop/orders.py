"""Where orders are placed."""

from __future__ import annotations

import json
from uuid import uuid4

import boto3


class Orders:
    def __init__(self, topic_arn: str) -> None:
        self._topic_arn = topic_arn
        self._sns = boto3.client("sns")

    def place(self, customer: str, cents: int) -> str:
        """Announces the order and returns its number."""
        number = str(uuid4())
        order = {"number": number, "customer": customer, "cents": cents}
        self._sns.publish(TopicArn=self._topic_arn, Message=json.dumps(order))
        return number
