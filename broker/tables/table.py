"""A table in RAM: its definition and its totals. Its items are in the store.

`document` is what a restart must know. A global secondary index is a key schema and a projection: what is in it is
found out when somebody asks, by reading the table.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from broker.clock import Timer
from broker.names import World, partition_of
from broker.store.port import TableRecord
from broker.tables.keys import KeyAttribute, KeySchema

PROVISIONED, PAY_PER_REQUEST = "PROVISIONED", "PAY_PER_REQUEST"
ALL, KEYS_ONLY, INCLUDE = "ALL", "KEYS_ONLY", "INCLUDE"


def table_arn(world: World, name: str) -> str:
    return f"arn:{partition_of(world.region)}:dynamodb:{world.region}:{world.account}:table/{name}"


class Throughput(NamedTuple):
    read_units: int = 0
    write_units: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "NumberOfDecreasesToday": 0,
            "ReadCapacityUnits": self.read_units,
            "WriteCapacityUnits": self.write_units,
        }


class Index(NamedTuple):
    """A global secondary index."""

    name: str
    schema: KeySchema
    projection: str  # ALL, KEYS_ONLY or INCLUDE
    included: list[str]
    throughput: Throughput

    def projected(self, table: Table) -> set[str] | None:
        """The names of the attributes that it has; None for all."""
        if self.projection == ALL:
            return None
        return {*table.schema.names, *self.schema.names, *self.included}


class Table:
    def __init__(self, world: World, name: str, table_no: int, document: dict[str, Any]) -> None:
        self.world = world
        self.name = name
        self.table_no = table_no
        self.arn = table_arn(world, name)
        self.item_count = 0
        self.size_bytes = 0
        self.timer: Timer | None = None
        self.id: str = document["id"]
        self.created_ms: int = document["created_ms"]
        self.schema = _schema(document["schema"])
        self.attribute_types: dict[str, str] = document["attribute_types"]
        self.indexes: dict[str, Index] = {
            name: Index(name, _schema(schema), projection, included, Throughput(*throughput))
            for name, schema, projection, included, throughput in document["indexes"]
        }
        self.billing_mode: str = document["billing_mode"]
        self.throughput = Throughput(*document["throughput"])
        self.is_protected: bool = document["is_protected"]
        self.table_class: str | None = document["table_class"]
        self.has_backups: bool = document["has_backups"]
        self.recovery_days: int = document["recovery_days"]
        self.ttl_attribute: str | None = document["ttl_attribute"]
        self.tags: dict[str, str] = document["tags"]

    def record(self) -> TableRecord:
        document = {
            "id": self.id,
            "created_ms": self.created_ms,
            "schema": self.schema,
            "attribute_types": self.attribute_types,
            "indexes": list(self.indexes.values()),
            "billing_mode": self.billing_mode,
            "throughput": self.throughput,
            "is_protected": self.is_protected,
            "table_class": self.table_class,
            "has_backups": self.has_backups,
            "recovery_days": self.recovery_days,
            "ttl_attribute": self.ttl_attribute,
            "tags": self.tags,
        }
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return TableRecord(self.table_no, *self.world, self.name, text, self.item_count, self.size_bytes)

    @classmethod
    def from_record(cls, record: TableRecord) -> Table:
        table = cls(World(record.account, record.region), record.name, record.table_no, json.loads(record.document))
        table.item_count, table.size_bytes = record.item_count, record.size_bytes
        return table


def _schema(parts: Any) -> KeySchema:
    hash, range = parts
    return KeySchema(KeyAttribute(*hash), None if range is None else KeyAttribute(*range))
