from __future__ import annotations

import pytest
from shop import infrastructure
from shop.billing import Billing, Declined
from shop.orders import Orders


class Bank:
    """Stands in for the real one."""

    def __init__(self) -> None:
        self.charged: list[tuple[str, int]] = []
        self.declines = 0

    def charge(self, customer: str, cents: int) -> None:
        if self.declines:
            self.declines -= 1
            raise Declined(customer)
        self.charged.append((customer, cents))


@pytest.fixture
def shop(sidebus) -> infrastructure.Infrastructure:
    """Topic and queues, in this test's own account."""
    return infrastructure.create()


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def orders(shop) -> Orders:
    return Orders(shop.topic_arn)


@pytest.fixture
def billing(shop, bank) -> Billing:
    return Billing(shop.billing_url, bank.charge)
