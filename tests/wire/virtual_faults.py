"""A real `sidebus serve` whose time stands still until a test moves it, and whose plan a test makes: over its pages."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Sidebus


class Chaos:
    """`sidebus` under a plan. Rules strike in the account of the test only."""

    def __init__(self, sidebus: Sidebus, account: str) -> None:
        self.sidebus = sidebus
        self._account = account
        self._call("POST", "clock", {"freeze": True})
        self._call("POST", "ledger", {"enabled": True})

    def plan(self, *rules: dict[str, Any], seed: int = 1) -> None:
        """Puts these rules in force in place of those that were."""
        self._call("DELETE", "ledger")
        own = [{"account": self._account, **rule} for rule in rules]
        self._call("PUT", "faults", {"seed": seed, "rule": own})

    def profile(self, name: str, seed: int) -> None:
        self._call("DELETE", "ledger")
        self._call("PUT", "faults", {"profile": name, "seed": seed})

    def clear(self) -> None:
        self._call("DELETE", "faults")

    def struck(self) -> dict[str, int]:
        """How often each rule has struck, by its name."""
        return {rule["name"]: rule["struck"] for rule in self._call("GET", "faults").get("rules", ())}

    def noted(self) -> dict[str, int]:
        """The same by the ledger, of those that have struck."""
        entries = self._call("GET", "ledger/entries?event=fault&limit=1000")["entries"]
        return Counter(entry["detail"]["rule"] for entry in entries)

    def end(self) -> None:
        """After a test: each strike stands in the ledger, and no rule is left."""
        struck = {name: count for name, count in self.struck().items() if count}
        noted = self.noted()
        self.clear()
        assert not struck or noted == struck

    def advance(self, by: str) -> None:
        self._call("POST", "clock", {"advance": by})

    @property
    def now_ms(self) -> int:
        return int(self._call("GET", "clock")["now_ms"])

    def refusal(self, *rules: dict[str, Any]) -> str:
        """Why a plan is refused."""
        answer = self.sidebus.request("PUT", "/_sidebus/faults", body=json.dumps({"seed": 1, "rule": rules}))
        assert answer.status == 400, answer.body
        return str(json.loads(answer.body)["error"])

    def _call(self, method: str, page: str, document: dict[str, Any] | None = None) -> Any:
        body = b"" if document is None else json.dumps(document)
        answer = self.sidebus.request(method, f"/_sidebus/{page}", body=body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)
