"""The broker inside somebody's own program, under asyncio or trio.

    async with running() as application:
        app = asgi_app(application)     # mount it, or serve it with Hypercorn

Everything runs in the event loop that entered the block, which owns the store until it leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from broker.clock import Soon, SystemClock
from broker.core import Broker
from broker.delivery import API_DESTINATION, AUTHORIZATION, HTTP, LAMBDA, STATE_MACHINE
from broker.entropy import Entropy
from broker.errors import BrokerFailure
from broker.limits import PROFILES, with_stream_wait
from broker.store.sqlite import SqliteStore
from protocols.application import Application, Settings
from protocols.delivery.api_destination import ApiDestinationTransport
from protocols.delivery.channels import ChannelDriver
from protocols.delivery.client import Client
from protocols.delivery.driver import Driver
from protocols.delivery.functions import Functions, LambdaTransport
from protocols.delivery.http import HttpTransport
from protocols.delivery.oauth import AuthorizationTransport, Tokens
from protocols.delivery.step_functions import StateMachines, StateMachineTransport
from protocols.signing import MessageSigner

if TYPE_CHECKING:
    from protocols.start_plan import StartPlan


def soon() -> Soon:
    """How the running event loop calls a function once the work at hand is through."""
    try:
        return asyncio.get_running_loop().call_soon
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


@asynccontextmanager
async def running(
    data: Path | None = None,
    *,
    sync: str = "full",
    limits: str = "relaxed",
    stream_wait_ms: int | None = None,
    settings: Settings | None = None,
    seed: int | str | None = None,
    plan: StartPlan | None = None,
) -> AsyncIterator[Application]:
    """A broker that keeps its appointments and delivers to remote ends, and its application.

    `data`, `sync`, `limits` and `stream_wait_ms` are as for `sidebus serve`. With a `seed` the same requests at the
    same times get the same answers, byte for byte. A `plan` bends the clock, opens the ledger and has faults happen,
    as `sidebus serve --plan` does. Raises BrokerFailure where the store cannot be opened, PlanError.
    """
    settings = settings or Settings()
    if seed is None and plan is not None:
        seed = plan.seed
    profile = PROFILES[limits]
    if stream_wait_ms is not None:
        profile = with_stream_wait(profile, stream_wait_ms)
    clock = SystemClock(soon())
    store = SqliteStore(data, sync=sync)
    signer = MessageSigner(store, settings.sns_cert_host, seed)
    try:
        broker = Broker(store, clock, Entropy(seed), limits=profile, signer=signer)
    except BrokerFailure:
        store.close()
        raise
    broker.commit.after_rollback.append(signer.forget)
    client = Client(verify=settings.verify_endpoints)
    tokens = Tokens(client, clock)
    connections, api_destinations = broker.events.connections, broker.events.api_destinations
    driver = Driver(
        broker,
        {
            HTTP: HttpTransport(client),
            LAMBDA: LambdaTransport(client, Functions(settings.functions)),
            STATE_MACHINE: StateMachineTransport(client, StateMachines(settings.state_machines)),
            API_DESTINATION: ApiDestinationTransport(
                client, tokens, clock, broker.commit, connections, api_destinations
            ),
            AUTHORIZATION: AuthorizationTransport(tokens, connections),
        },
    )
    channels = ChannelDriver(broker, None if data is None else data / "channels")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.run)
            tasks.start_soon(driver.run)
            tasks.start_soon(channels.run)
            application = Application(broker, settings, signer)
            if plan is not None:
                await plan.apply(broker, clock, seed)
            yield application
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:  # the caller's own, which the task group wrapped
            raise group.exceptions[0] from None
        raise
    finally:
        broker.close()
        with anyio.CancelScope(shield=True):
            await client.close()
