"""The services by their signing names, and each one's operations.

The rule: a service's module, and what of the engine only it needs, is imported with the first request for it. A start
waits for none of them, and most programs use one or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module

from protocols.aws.call import Operation


class Operations(Mapping[str, Operation]):
    """What the module's OPERATIONS has."""

    def __init__(self, module: str) -> None:
        self._module = module

    @cached_property
    def _operations(self) -> Mapping[str, Operation]:
        operations: Mapping[str, Operation] = import_module(self._module).OPERATIONS
        return operations

    def __getitem__(self, name: str) -> Operation:
        return self._operations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)


SERVICES: dict[str, Mapping[str, Operation]] = {
    name: Operations(f"protocols.aws.{name}") for name in ("dynamodb", "events", "kinesis", "sns", "sqs", "sts")
}
