"""What a test gets: an account of a broker, clients of it, and the broker's clock, faults and ledger.

Nothing but boto3 is needed for `client`, `session` and `resource`, and boto3 is imported only by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from os import PathLike
from typing import TYPE_CHECKING, Any

from broker.clock import SystemClock
from protocols.testing.control import ClockControl, Control, FaultsControl, LedgerControl
from protocols.testing.environment import SECRET, environment

if TYPE_CHECKING:
    from broker.core import Broker
    from protocols.testing.thread import BrokerThread

Plan = dict[str, Any] | str | PathLike[str]
"""A plan of faults, or the file of one."""

REGION = "us-east-1"


class Sidebus:
    """One account in one region of a running broker."""

    def __init__(self, endpoint: str, account: str, region: str, seed: int | str, control: Control) -> None:
        self.endpoint = endpoint
        self.account = account
        self.region = region
        self.seed = seed
        self.control = control
        self._clients: list[Any] = []

    @property
    def clock(self) -> ClockControl:
        return self.control.clock

    @property
    def faults(self) -> FaultsControl:
        return self.control.faults

    @property
    def ledger(self) -> LedgerControl:
        return self.control.ledger

    @property
    def client_arguments(self) -> dict[str, str]:
        """For clients made elsewhere: `aioboto3.Session().client("sqs", **sidebus.client_arguments)`."""
        return {"endpoint_url": self.endpoint, **self.session_arguments}

    @property
    def session_arguments(self) -> dict[str, str]:
        """For sessions of boto3 or aioboto3 made elsewhere; their clients find the endpoint in AWS_ENDPOINT_URL."""
        return {
            "aws_access_key_id": self.account,
            "aws_secret_access_key": SECRET,
            "region_name": self.region,
        }

    def client(self, service: str, **more: Any) -> Any:
        """A boto3 client, closed with the test."""
        client = self._boto3().client(service, **{**self.client_arguments, **more})
        self._clients.append(client)
        return client

    def resource(self, service: str, **more: Any) -> Any:
        """A boto3 resource."""
        resource = self._boto3().resource(service, **{**self.client_arguments, **more})
        self._clients.append(resource.meta.client)
        return resource

    def session(self, **more: Any) -> Any:
        """A new boto3.Session. Its clients find the endpoint in AWS_ENDPOINT_URL."""
        import boto3  # type: ignore[import-untyped]

        return boto3.Session(**{**self.session_arguments, **more})

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _boto3(self) -> Any:
        return _session()


@cache
def _session() -> Any:
    """One for all tests, as reading the model of a service takes longer than many a test. It has no credentials."""
    import boto3

    return boto3.Session()


def account_for(name: str) -> str:
    """Twelve digits, always the same for the same name."""
    return str(int.from_bytes(sha256(name.encode()).digest()[:8]) % (9 * 10**11) + 10**11)


@contextmanager
def isolated(
    broker: BrokerThread,
    name: str,
    *,
    seed: int | str,
    region: str = REGION,
    plan: Plan | None = None,
    ledger: bool = True,
) -> Iterator[Sidebus]:
    """An account of its own on a broker that others use before and after, and the environment for it.

    The broker's chance begins anew from `seed`. At the end there is no plan, the clock shows the machine's time, and
    account and ledger are empty.
    """
    account = account_for(name)

    def begin(engine: Broker) -> None:
        engine.entropy.reseed(seed)
        if ledger:
            engine.ledger.enable()
        else:
            engine.ledger.disable()

    def end(engine: Broker) -> None:
        engine.faults.clear()
        assert isinstance(engine.clock, SystemClock)
        engine.clock.restore()
        engine.reset(account)
        engine.ledger.clear()

    control = Control(broker.url, account=account, region=region)
    sidebus = Sidebus(broker.url, account, region, seed, control)
    broker.call(begin)
    with environment(broker.url, account, region):
        try:
            if plan is not None:
                control.faults.load(plan)
            yield sidebus
        finally:
            sidebus.close()
            broker.call(end)
