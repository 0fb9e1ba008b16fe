"""`/_sidebus/faults`: the fault plan in force.

    GET                                        the plan, its seed, and how often each rule has matched and struck
    PUT     {"profile": "aws-like", "seed": 42} or {"rule": [{"fault": "throttle", …}]}    puts a plan in force
    DELETE                                     no plan any more
    POST    /rules        {"fault": …}         adds one rule;  DELETE /rules?name=…  takes one away
    GET     /profiles                          plans to start from
    GET     /kinds                             everything that can go wrong, with its parameters

A plan that cannot be in force is a 400 with one sentence that says why, and what was in force stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson

from broker.faults import Faults, PlanError
from protocols.control.answer import Answer
from protocols.http.message import Request
from protocols.shapes.model import load


class FaultsPage:
    def __init__(self, faults: Faults, services: Sequence[str]) -> None:
        self._faults = faults
        faults.operations = lambda: operations(services)

    def get(self, _request: Request) -> Answer:
        return 200, self._faults.show()

    def put(self, request: Request) -> Answer:
        try:
            self._faults.load(_document(request))
        except PlanError as error:
            return 400, {"error": str(error)}
        return 200, self._faults.show()

    def delete(self, _request: Request) -> Answer:
        self._faults.clear()
        return 200, self._faults.show()

    def add(self, request: Request) -> Answer:
        try:
            name = self._faults.add(_document(request))
        except PlanError as error:
            return 400, {"error": str(error)}
        return 200, {"added": name, **self._faults.show()}

    def remove(self, request: Request) -> Answer:
        query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
        try:
            self._faults.remove(query.get("name", [""])[0])
        except PlanError as error:
            return 404, {"error": str(error)}
        return 200, self._faults.show()

    def profiles(self, _request: Request) -> Answer:
        from broker.faults import profiles

        return 200, {"profiles": profiles.describe()}

    def kinds(self, _request: Request) -> Answer:
        from broker.faults import kinds

        return 200, kinds.describe()


def operations(services: Sequence[str]) -> Mapping[str, Collection[str]]:
    """What each service has, from AWS's models."""
    return {name: load(name).operation_names for name in services}


def _document(request: Request) -> Any:
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise PlanError(f"The body is not JSON: {error}.") from None
