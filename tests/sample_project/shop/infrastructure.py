"""The topic and the queues, as the shop's deployment makes them."""

from __future__ import annotations

import json
from typing import NamedTuple

import boto3

ATTEMPTS = 3
VISIBILITY_S = 30


class Infrastructure(NamedTuple):
    topic_arn: str
    billing_url: str
    failed_url: str


def create() -> Infrastructure:
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    failed_url = sqs.create_queue(QueueName="billing-failed")["QueueUrl"]
    redrive = {"deadLetterTargetArn": _arn(sqs, failed_url), "maxReceiveCount": ATTEMPTS}
    billing_url = sqs.create_queue(
        QueueName="billing",
        Attributes={"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": json.dumps(redrive)},
    )["QueueUrl"]
    topic_arn = sns.create_topic(Name="orders")["TopicArn"]
    sns.subscribe(
        TopicArn=topic_arn,
        Protocol="sqs",
        Endpoint=_arn(sqs, billing_url),
        Attributes={"RawMessageDelivery": "true"},
    )
    return Infrastructure(topic_arn, billing_url, failed_url)


def _arn(sqs, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
