"""Where leases are kept: in memory, or for processes that share them in a table, SQLite through aiosqlite or DynamoDB.

The rule is the protocol's: one compare-and-set a call, by the lease's version. Reads of DynamoDB are consistent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from patterns.aws_errors import error_code
from patterns.lease import Lease

if TYPE_CHECKING:
    import aiosqlite

_COLUMNS = "key, parents, owner, fence, version, checkpoint, is_done, wanted_by"


class MemoryLeases:
    """A `LeaseStore` for the workers of one process, and for tests."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    async def all(self) -> Sequence[Lease]:
        await anyio.lowlevel.checkpoint()
        return list(self._leases.values())

    async def get(self, key: str) -> Lease | None:
        await anyio.lowlevel.checkpoint()
        return self._leases.get(key)

    async def create(self, lease: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._leases.setdefault(lease.key, lease) is lease

    async def replace(self, old: Lease, new: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        found = self._leases.get(old.key)
        if found is None or found.version != old.version:
            return False
        self._leases[new.key] = new
        return True

    async def delete(self, lease: Lease) -> bool:
        await anyio.lowlevel.checkpoint()
        found = self._leases.get(lease.key)
        if found is None or found.version != lease.version:
            return False
        del self._leases[lease.key]
        return True


class SqliteLeases:
    """A `LeaseStore` in a table of the user's own database. `connection` is aiosqlite's (which runs under asyncio).

    Each call commits: do not share the connection with a transaction of yours. Processes may share the file.
    """

    def __init__(self, connection: aiosqlite.Connection, table: str = "lease") -> None:
        if not table.isidentifier():
            raise ValueError(f"{table} cannot be a table's name")
        self._connection = connection
        self._table = table

    async def create_table(self) -> None:
        """Makes it if it is not there."""
        await self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key TEXT PRIMARY KEY, parents TEXT NOT NULL, owner TEXT, "
            "fence INTEGER NOT NULL, version INTEGER NOT NULL, checkpoint TEXT, is_done INTEGER NOT NULL, "
            "wanted_by TEXT)"
        )
        await self._connection.commit()

    async def all(self) -> Sequence[Lease]:
        rows = await self._connection.execute_fetchall(f"SELECT {_COLUMNS} FROM {self._table}")
        return [_from_row(row) for row in rows]

    async def get(self, key: str) -> Lease | None:
        rows = await self._connection.execute_fetchall(f"SELECT {_COLUMNS} FROM {self._table} WHERE key = ?", (key,))
        return next(map(_from_row, rows), None)

    async def create(self, lease: Lease) -> bool:
        return await self._changed(
            f"INSERT INTO {self._table} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            _row(lease),
        )

    async def replace(self, old: Lease, new: Lease) -> bool:
        return await self._changed(
            f"UPDATE {self._table} SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?) WHERE key = ? AND version = ?",
            (*_row(new), old.key, old.version),
        )

    async def delete(self, lease: Lease) -> bool:
        return await self._changed(
            f"DELETE FROM {self._table} WHERE key = ? AND version = ?", (lease.key, lease.version)
        )

    async def _changed(self, statement: str, parameters: tuple[Any, ...]) -> bool:
        try:
            cursor = await self._connection.execute(statement, parameters)
        finally:
            await self._connection.commit()
        return cursor.rowcount == 1


def _row(lease: Lease) -> tuple[Any, ...]:
    return (
        lease.key,
        json.dumps(lease.parents),
        lease.owner,
        lease.fence,
        lease.version,
        lease.checkpoint,
        int(lease.is_done),
        lease.wanted_by,
    )


def _from_row(row: Any) -> Lease:
    key, parents, owner, fence, version, checkpoint, is_done, wanted_by = row
    return Lease(key, tuple(json.loads(parents)), owner, fence, version, checkpoint, bool(is_done), wanted_by)


class DynamoDbLeases:
    """A `LeaseStore` in a table of DynamoDB whose key is the string `leaseKey`.

    `client` is one of aiobotocore or aioboto3, or boto3's through patterns.threads.InThreads.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    async def create_table(self, poll_s: float = 1.0) -> None:
        """Makes it if it is not there, and waits until it is ACTIVE."""
        try:
            await self._client.create_table(
                TableName=self._table,
                KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        except Exception as error:
            if error_code(error) != "ResourceInUseException":
                raise
        while True:
            answer = await self._client.describe_table(TableName=self._table)
            if answer["Table"]["TableStatus"] == "ACTIVE":
                return
            await anyio.sleep(poll_s)

    async def all(self) -> Sequence[Lease]:
        asked: dict[str, Any] = {"TableName": self._table, "ConsistentRead": True}
        found: list[Lease] = []
        while True:
            answer = await self._client.scan(**asked)
            found += map(_from_item, answer["Items"])
            if not answer.get("LastEvaluatedKey"):
                return found
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def get(self, key: str) -> Lease | None:
        answer = await self._client.get_item(TableName=self._table, Key={"leaseKey": {"S": key}}, ConsistentRead=True)
        return _from_item(answer["Item"]) if answer.get("Item") else None

    async def create(self, lease: Lease) -> bool:
        return await self._if_so(
            self._client.put_item(
                TableName=self._table, Item=_item(lease), ConditionExpression="attribute_not_exists(leaseKey)"
            )
        )

    async def replace(self, old: Lease, new: Lease) -> bool:
        return await self._if_so(
            self._client.put_item(TableName=self._table, Item=_item(new), **_at_version(old.version))
        )

    async def delete(self, lease: Lease) -> bool:
        return await self._if_so(
            self._client.delete_item(
                TableName=self._table, Key={"leaseKey": {"S": lease.key}}, **_at_version(lease.version)
            )
        )

    @staticmethod
    async def _if_so(call: Any) -> bool:
        try:
            await call
        except Exception as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _at_version(version: int) -> dict[str, Any]:
    return {
        "ConditionExpression": "leaseVersion = :version",
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }


def _item(lease: Lease) -> dict[str, Any]:
    item: dict[str, Any] = {
        "leaseKey": {"S": lease.key},
        "fence": {"N": str(lease.fence)},
        "leaseVersion": {"N": str(lease.version)},
        "isDone": {"BOOL": lease.is_done},
        "parents": {"L": [{"S": parent} for parent in lease.parents]},
    }
    for name, value in (("leaseOwner", lease.owner), ("checkpoint", lease.checkpoint), ("wantedBy", lease.wanted_by)):
        if value is not None:
            item[name] = {"S": value}
    return item


def _from_item(item: Mapping[str, Any]) -> Lease:
    def text(name: str) -> str | None:
        return item[name]["S"] if name in item else None

    return Lease(
        item["leaseKey"]["S"],
        tuple(parent["S"] for parent in item["parents"]["L"]),
        text("leaseOwner"),
        int(item["fence"]["N"]),
        int(item["leaseVersion"]["N"]),
        text("checkpoint"),
        item["isDone"]["BOOL"],
        text("wantedBy"),
    )
