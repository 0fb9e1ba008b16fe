from __future__ import annotations

import boto3
import pytest
from shop.infrastructure import ATTEMPTS, VISIBILITY_S


def test_an_order_is_charged(orders, billing, bank, sidebus_ledger):
    orders.place("ann", 1250)
    assert billing.work() == 1
    assert bank.charged == [("ann", 1250)]
    assert sidebus_ledger.verdict(queue="billing").passed


def test_every_test_begins_with_nothing(orders, billing, bank):
    assert billing.work() == 0
    assert boto3.client("sqs").list_queues()["QueueUrls"][0].endswith("/billing")


def test_an_order_that_comes_twice_is_charged_once(orders, billing, bank, sidebus):
    with sidebus.faults.add(fault="duplicate", when="after-delete", delay="5s", resource="billing"):
        orders.place("ann", 1250)
        assert billing.work() == 1
        sidebus.clock.advance("5s")
        assert billing.work() == 1, "it has come again"
    assert bank.charged == [("ann", 1250)]


def test_a_declined_charge_is_tried_again_later(orders, billing, bank, sidebus_clock):
    bank.declines = 1
    orders.place("bob", 300)
    assert billing.work() == 0
    assert billing.work() == 0, "not at once"
    sidebus_clock.advance(VISIBILITY_S)
    assert billing.work() == 1
    assert bank.charged == [("bob", 300)]


def test_what_is_declined_too_often_is_put_aside(shop, orders, billing, bank, sidebus):
    bank.declines = 100
    orders.place("eve", 999)
    for _ in range(ATTEMPTS + 1):
        billing.work()
        sidebus.clock.advance(f"{VISIBILITY_S}s")
    failed = sidebus.client("sqs").receive_message(QueueUrl=shop.failed_url)["Messages"]
    assert "eve" in failed[0]["Body"]
    assert bank.charged == []


def test_an_order_survives_a_throttled_topic(orders, billing, bank, sidebus_faults):
    sidebus_faults.add(fault="throttle", service="sns", operation="Publish", count=1)
    orders.place("ann", 1)
    assert billing.work() == 1


@pytest.mark.sidebus(plan={"profile": "aws-like"})
def test_a_hundred_orders_with_what_aws_permits(orders, billing, bank, sidebus):
    for cents in range(100):
        orders.place("ann", cents)
    for _ in range(200):
        if len(bank.charged) == 100:
            break
        billing.work()
        sidebus.clock.advance(VISIBILITY_S)
    assert sorted(cents for _, cents in bank.charged) == list(range(100))


def test_without_a_socket(sidebus_in_process):
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="billing")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=15)
    message = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]  # at once
    assert message["Body"] == "later"
