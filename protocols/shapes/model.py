"""Services, operations and shapes at run time, built from `tables/` as they are first asked for.

A shape says what a value may be; a `Member` says how a structure, list or map refers to it: by which name in the
query protocol, and whether flattened. Codecs keep what they compiled for an operation on the operation itself.
`front_end` is which of AWS's two manners of refusing input a service has: see `protocols.wire.errors`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple


class Scalar:
    """A leaf. `kind` is string, integer, long, float, double, boolean, blob, timestamp, or document: any JSON."""

    __slots__ = ("enum", "kind", "matcher", "max", "min", "name", "pattern", "sensitive")

    def __init__(self, name: str, entry: dict[str, Any]) -> None:
        self.name = name
        self.kind: str = entry["type"]
        self.min: int | None = entry.get("min")
        self.max: int | None = entry.get("max")
        self.enum: tuple[str, ...] = entry.get("enum", ())
        self.pattern: str | None = entry.get("pattern")  # as AWS prints it
        self.matcher: str | None = entry.get("matcher", self.pattern)  # as it is safe to match
        self.sensitive: bool = entry.get("sensitive", False)


class Member:
    """A reference to a shape. `query_name` names it in parameters and in XML, resolved as AWS's SDKs do."""

    __slots__ = ("alias", "flattened", "name", "query_name", "shape")

    def __init__(self, name: str, shape: Shape, traits: dict[str, Any], entry: dict[str, Any]) -> None:
        own = traits.get("query_name")
        self.name = name
        self.shape = shape
        self.flattened: bool = traits.get("flattened", entry.get("flattened", False))
        self.query_name: str = own or entry.get("query_name") or name
        # TagQueue's Tags: the SDK for Java v1 overlooks the name that stands at the map and not at the member.
        self.alias = name if own is None and self.query_name != name else ""
        if self.flattened and isinstance(shape, List) and shape.member.query_name != "member":
            self.query_name = shape.member.query_name


class List:
    __slots__ = ("max", "member", "min", "name", "sensitive")

    def __init__(self, name: str, entry: dict[str, Any], member: Member) -> None:
        self.name = name
        self.min: int | None = entry.get("min")
        self.max: int | None = entry.get("max")
        self.sensitive: bool = entry.get("sensitive", False)
        self.member = member


class Map:
    __slots__ = ("key", "max", "min", "name", "sensitive", "value")

    def __init__(self, name: str, entry: dict[str, Any], key: Member, value: Member) -> None:
        self.name = name
        self.min: int | None = entry.get("min")
        self.max: int | None = entry.get("max")
        self.sensitive: bool = entry.get("sensitive", False)
        self.key = key
        self.value = value


class Structure:
    __slots__ = ("event_stream", "members", "name", "required", "sensitive")

    def __init__(self, name: str, entry: dict[str, Any], members: dict[str, Member]) -> None:
        self.name = name
        self.members = members
        self.required: tuple[str, ...] = entry.get("required", ())
        self.sensitive: bool = entry.get("sensitive", False)
        self.event_stream: bool = entry.get("eventstream", False)


Shape = Scalar | List | Map | Structure


class Error(NamedTuple):
    """An error of the model: its name in JSON, its code in the query protocol, its HTTP status, and whose fault."""

    name: str
    query_code: str
    status: int
    sender_fault: bool


class Operation:
    """One operation. The slots at the end belong to the codecs: what each compiled, None until its first use."""

    __slots__ = ("errors", "input", "name", "output", "read_cbor", "read_json", "read_query", "service", "write_xml")

    def __init__(
        self,
        service: Service,
        name: str,
        input_shape: Structure | None,
        output_shape: Structure | None,
        errors: tuple[str, ...],
    ) -> None:
        self.service = service
        self.name = name
        self.input = input_shape
        self.output = output_shape
        self.errors = errors
        self.read_cbor: Callable[[bytes], Any] | None = None
        self.read_json: Callable[[Any], Any] | None = None
        self.read_query: Callable[[Any], Any] | None = None
        self.write_xml: Callable[[Any, list[str]], None] | None = None


class Service:
    """One service of AWS. `load` it; there is one of each."""

    def __init__(self, table: Any) -> None:
        facts = table.SERVICE
        self.name: str = facts["name"]
        self.api_version: str = facts["api_version"]
        self.protocols: tuple[str, ...] = facts["protocols"]
        self.json_version: str | None = facts["json_version"]
        self.target_prefix: str | None = facts["target_prefix"]
        self.xml_namespace: str | None = facts["xml_namespace"]
        self.signing_name: str = facts["signing_name"]
        self.query_compatible: bool = facts["query_compatible"]
        self.front_end: Literal["sqs", "coral"] = "sqs" if self.name == "sqs" else "coral"
        self.errors = {name: Error(name, *rest) for name, rest in table.ERRORS.items()}
        self.operation_names: frozenset[str] = frozenset(table.OPERATIONS)
        self._table = table
        self._operations: dict[str, Operation] = {}
        self._shapes: dict[str, Shape] = {}

    def operation(self, name: str) -> Operation | None:
        """The operation of this name, or None if the service has none such."""
        found = self._operations.get(name)
        if found is None and name in self.operation_names:
            input_name, output_name, errors = self._table.OPERATIONS[name]
            shapes = [None if n is None else self._structure(n) for n in (input_name, output_name)]
            found = self._operations[name] = Operation(self, name, shapes[0], shapes[1], errors)
        return found

    def _structure(self, name: str) -> Structure:
        shape = self._shape(name)
        assert isinstance(shape, Structure)
        return shape

    def _shape(self, name: str) -> Shape:
        shape = self._shapes.get(name)
        if shape is None:
            shape = self._shapes[name] = self._build(name, self._table.SHAPES[name])
        return shape

    def _build(self, name: str, entry: dict[str, Any]) -> Shape:
        match entry["type"]:
            case "structure":
                members = {member: self._member(member, ref) for member, ref in entry["members"].items()}
                return Structure(name, entry, members)
            case "list":
                return List(name, entry, self._member("member", entry["member"]))
            case "map":
                key, value = self._member("key", entry["key"]), self._member("value", entry["value"])
                return Map(name, entry, key, value)
            case _:
                return Scalar(name, entry)

    def _member(self, name: str, reference: str | tuple[str, dict[str, Any]]) -> Member:
        target, traits = (reference, {}) if isinstance(reference, str) else reference
        return Member(name, self._shape(target), traits, self._table.SHAPES[target])


@cache
def load(name: str) -> Service:
    """The service called `sqs`, `sns`, `sts`, `events`, `kinesis` or `dynamodb`; its table is imported here."""
    return Service(importlib.import_module(f"protocols.shapes.tables.{name}"))
