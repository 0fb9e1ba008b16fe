"""`POST /_sidebus/sns/opted-out?phoneNumber=%2B15550100`: a phone's owner answers STOP; SNS has no operation for it.

`account` and `region` say whose messages are no longer wanted; without them, the defaults of the server.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from broker.core import Broker
from broker.errors import DomainError
from broker.names import World, is_account
from protocols.http.message import Request


class OptedOutPage:
    def __init__(self, broker: Broker, default: World) -> None:
        self._broker = broker
        self._default = default

    def post(self, request: Request) -> tuple[int, dict[str, Any]]:
        given = {
            name: values[0] for name, values in parse_qs(request.target.partition(b"?")[2].decode("latin-1")).items()
        }
        world = World(given.get("account", self._default.account), given.get("region", self._default.region))
        number = given.get("phoneNumber", "")
        if not is_account(world.account):
            return 400, {"error": f"{world.account} is not an account: give twelve digits."}
        try:
            self._broker.notifications.sms.opt_out(world, number)
        except DomainError:
            return 400, {"error": "phoneNumber takes a number like +15550100 (a + is %2B in a URL)."}
        return 200, {"opted_out": number, "account": world.account, "region": world.region}
