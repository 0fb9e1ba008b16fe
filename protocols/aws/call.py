"""What an operation's function is given, and how it says that its answer comes later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from broker.core import Broker
from broker.names import World, partition_of
from protocols.http.message import Cancel, Request
from protocols.routing import Route

Result = dict[str, Any]


class Call(NamedTuple):
    """One request, understood. `parameters` is the operation's validated input under the model's names."""

    broker: Broker
    world: World  # the caller's account, in the region asked
    user_id: str  # the caller's unique id, as `aws:userid` has it
    enforce_policies: bool
    parameters: Result
    request: Request
    route: Route


class Later(NamedTuple):
    """An answer that is not there yet. `start` is given what takes it, and returns what gives up on it."""

    start: Callable[[Callable[[Result], None]], Cancel]


Operation = Callable[[Call], Result | Later]


def user_arn(world: World) -> str:
    """Who a caller is to AWS: a sidecar has no users, so each account has one."""
    return f"arn:{partition_of(world.region)}:iam::{world.account}:user/sidebus"
