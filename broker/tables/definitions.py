"""Tables: create, update, delete, describe; their indexes, tags, time to live and backup flag.

A table is ACTIVE at once, and so is an index. What DynamoDB has and these tables have not is refused by its name:
they are for leases, locks and checkpoints, and no database.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker.errors import (
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
    TableNotFoundException,
    ValidationException,
)
from broker.names import World
from broker.tables.expiry import Expiry
from broker.tables.keys import KeyAttribute, KeySchema
from broker.tables.registry import Registry
from broker.tables.table import (
    ALL,
    INCLUDE,
    PAY_PER_REQUEST,
    PROVISIONED,
    Index,
    Table,
    Throughput,
    table_arn,
)

Given = Mapping[str, Any]

MAX_TABLES_LISTED = 100
MAX_INDEXES = 20
MAX_TAGS = 50
RECOVERY_DAYS = 35

_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_ACTIVE = "ACTIVE"

# Members of inputs that would change what a table does, and that nothing here does.
_NOT_SERVED = (
    "LocalSecondaryIndexes",
    "VectorIndexes",
    "VectorIndexUpdates",
    "ReplicaUpdates",
    "GlobalTableWitnessUpdates",
    "GlobalTableSourceArn",
    "GlobalTableSettingsReplicationMode",
    "MultiRegionConsistency",
    "DisassociationProtectionEnabled",
    "ResourcePolicy",
    "SSESpecification",
    "OnDemandThroughput",
    "WarmThroughput",
)


class Definitions:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._expiry = Expiry(registry)

    # tables

    def create(self, world: World, given: Given) -> Table:
        """`given` is as CreateTable's input. Raises ValidationException, ResourceInUseException."""
        name = _checked_name(given["TableName"])
        _check_served(given)
        types = _types(given.get("AttributeDefinitions", ()))
        schema = _schema(given.get("KeySchema", ()), types)
        mode = given.get("BillingMode", PROVISIONED)
        indexes = {index.name: index for index in self._indexes(given.get("GlobalSecondaryIndexes"), types, mode)}
        _check_all_used(types, schema, indexes.values())
        throughput = _throughput(given, mode)
        self._registry.commit.enter()
        if table_arn(world, name) in self._registry.tables:
            raise ResourceInUseException(f"Table already exists: {name}")
        document = {
            "id": self._registry.entropy.uuid(),
            "created_ms": self._registry.clock.now_ms(),
            "schema": schema,
            "attribute_types": types,
            "indexes": list(indexes.values()),
            "billing_mode": mode,
            "throughput": throughput,
            "is_protected": given.get("DeletionProtectionEnabled", False),
            "table_class": given.get("TableClass"),
            "has_backups": False,
            "recovery_days": RECOVERY_DAYS,
            "ttl_attribute": None,
            "tags": _checked_tags({}, given.get("Tags", ())),
        }
        table = Table(world, name, self._registry.next_no(), document)
        self._registry.put(table)
        return table

    def update(self, table: Table, given: Given) -> None:
        """`given` is as UpdateTable's input. Raises ValidationException, ResourceInUse…, LimitExceededException."""
        _check_served(given)
        updates = given.get("GlobalSecondaryIndexUpdates", [])
        changes = ("BillingMode", "ProvisionedThroughput", "DeletionProtectionEnabled", "TableClass")
        if not updates and not any(name in given for name in changes):
            raise ValidationException(
                "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates "
                "or SSESpecification or ReplicaUpdates is required"
            )
        types = table.attribute_types | _types(given.get("AttributeDefinitions", ()))
        mode = given.get("BillingMode", table.billing_mode)
        throughput = table.throughput
        if "ProvisionedThroughput" in given or mode != table.billing_mode:
            throughput = _throughput(given, mode)
        indexes = dict(table.indexes)
        for update in updates:
            self._update_index(indexes, update, types, mode)
        self._registry.commit.enter()
        table.attribute_types = _used(types, table.schema, indexes.values())
        table.billing_mode, table.throughput, table.indexes = mode, throughput, indexes
        table.is_protected = given.get("DeletionProtectionEnabled", table.is_protected)
        table.table_class = given.get("TableClass", table.table_class)
        self._registry.put(table)

    def _update_index(self, indexes: dict[str, Index], update: Given, types: dict[str, str], mode: str) -> None:
        if len(update) != 1:
            raise ValidationException("One of GlobalSecondaryIndexUpdate Update, Create, Delete must be specified")
        ((action, given),) = update.items()
        name = given["IndexName"]
        if action == "Create":
            if name in indexes:
                raise ValidationException(f"Attempting to create an index which already exists: {name}")
            if len(indexes) == MAX_INDEXES:
                raise LimitExceededException(f"A table cannot have more than {MAX_INDEXES} global secondary indexes")
            (indexes[name],) = self._indexes([given], types, mode)
        elif name not in indexes:
            raise ResourceNotFoundException("Requested resource not found")
        elif action == "Delete":
            del indexes[name]
        else:
            indexes[name] = indexes[name]._replace(throughput=_throughput(given, mode))

    def delete(self, table: Table) -> None:
        """Raises ValidationException where the table is protected."""
        if table.is_protected:
            raise ValidationException(
                "Resource cannot be deleted as it is currently protected against deletion. "
                "Disable deletion protection first."
            )
        self._registry.commit.enter()
        self._registry.remove(table)

    def get(self, world: World, name: str) -> Table:
        """Raises ResourceNotFoundException."""
        table = self._registry.find(world, name)
        if table is None:
            raise ResourceNotFoundException(f"Requested resource not found: Table: {name} not found")
        return table

    def list(self, world: World, after: str | None, limit: int | None) -> tuple[list[str], str | None]:
        """Names, and the one after which the next page begins."""
        names = [table.name for table in self._registry.of_world(world) if after is None or table.name > after]
        page = names[: limit or MAX_TABLES_LISTED]
        return page, page[-1] if len(page) < len(names) else None

    def describe(self, table: Table) -> dict[str, Any]:
        """A TableDescription. Totals are exact, where AWS's are some hours old."""
        description: dict[str, Any] = {
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in table.attribute_types.items()
            ],
            "TableName": table.name,
            "KeySchema": table.schema.describe(),
            "TableStatus": _ACTIVE,
            "CreationDateTime": table.created_ms / 1000,
            "ProvisionedThroughput": table.throughput.describe(),
            "TableSizeBytes": table.size_bytes,
            "ItemCount": table.item_count,
            "TableArn": table.arn,
            "TableId": table.id,
            "DeletionProtectionEnabled": table.is_protected,
        }
        if table.billing_mode == PAY_PER_REQUEST:
            description["BillingModeSummary"] = {"BillingMode": PAY_PER_REQUEST}
        if table.table_class is not None:
            description["TableClassSummary"] = {"TableClass": table.table_class}
        if table.indexes:
            description["GlobalSecondaryIndexes"] = [
                self._describe_index(table, index) for index in table.indexes.values()
            ]
        return description

    def _describe_index(self, table: Table, index: Index) -> dict[str, Any]:
        projection: dict[str, Any] = {"ProjectionType": index.projection}
        if index.projection == INCLUDE:
            projection["NonKeyAttributes"] = index.included
        return {
            "IndexName": index.name,
            "KeySchema": index.schema.describe(),
            "Projection": projection,
            "IndexStatus": _ACTIVE,
            "ProvisionedThroughput": index.throughput.describe(),
            "IndexArn": f"{table.arn}/index/{index.name}",
        }

    def _indexes(self, given: Sequence[Given] | None, types: dict[str, str], mode: str) -> Iterable[Index]:
        if given is not None and not given:
            raise ValidationException(
                "One or more parameter values were invalid: List of GlobalSecondaryIndexes is empty"
            )
        seen = set()
        for asked in given or ():
            name = asked["IndexName"]
            if name in seen:
                raise ValidationException(f"One or more parameter values were invalid: Duplicate index name: {name}")
            seen.add(name)
            projection = asked["Projection"]
            kind, included = projection.get("ProjectionType", ALL), projection.get("NonKeyAttributes", [])
            if (kind == INCLUDE) != bool(included):
                how = "but" if included else "and no"
                raise ValidationException(
                    f"One or more parameter values were invalid: ProjectionType is {kind}, {how} NonKeyAttributes given"
                )
            yield Index(name, _schema(asked["KeySchema"], types), kind, included, _throughput(asked, mode))

    # time to live

    def set_ttl(self, table: Table, attribute: str, *, enabled: bool) -> None:
        """Raises ValidationException."""
        if enabled == (table.ttl_attribute is not None):
            raise ValidationException(f"TimeToLive is already {'enabled' if enabled else 'disabled'}")
        if not enabled and attribute != table.ttl_attribute:
            raise ValidationException(
                f"TimeToLive is active on a different AttributeName: current AttributeName is {table.ttl_attribute}"
            )
        self._registry.commit.enter()
        table.ttl_attribute = attribute if enabled else None
        self._registry.put(table)
        self._expiry.appoint(table)

    # backups, of which there are none: the flag is kept and shown

    def get_for_backups(self, world: World, name: str) -> Table:
        """Raises TableNotFoundException."""
        table = self._registry.find(world, name)
        if table is None:
            raise TableNotFoundException(f"Table not found: {name}")
        return table

    def set_backups(self, table: Table, *, enabled: bool, recovery_days: int | None) -> None:
        self._registry.commit.enter()
        table.has_backups, table.recovery_days = enabled, recovery_days or RECOVERY_DAYS
        self._registry.put(table)

    def describe_backups(self, table: Table) -> dict[str, Any]:
        """A ContinuousBackupsDescription."""
        recovery: dict[str, Any] = {"PointInTimeRecoveryStatus": "ENABLED" if table.has_backups else "DISABLED"}
        if table.has_backups:
            recovery["RecoveryPeriodInDays"] = table.recovery_days
        return {"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery}

    # tags

    def find_resource(self, world: World, arn: str) -> Table:
        """Raises ResourceNotFoundException, ValidationException."""
        if not arn.startswith("arn:"):
            raise ValidationException("Invalid TableArn: Invalid ResourceArn provided as input " + arn)
        table = self._registry.find(world, arn)
        if table is None:
            raise ResourceNotFoundException(f"Requested resource not found: ResourcArn: {arn} not found")
        return table

    def add_tags(self, table: Table, tags: Iterable[Given]) -> None:
        """Raises ValidationException."""
        checked = _checked_tags(table.tags, tags)
        self._registry.commit.enter()
        table.tags = checked
        self._registry.put(table)

    def remove_tags(self, table: Table, keys: Sequence[str]) -> None:
        self._registry.commit.enter()
        table.tags = {key: value for key, value in table.tags.items() if key not in keys}
        self._registry.put(table)


def _checked_name(name: str) -> str:
    name = name.rpartition("/")[2] if name.startswith("arn:") else name
    if not _NAME.fullmatch(name):
        raise ValidationException(
            "Invalid table/index name.  Table/index names must be between 3 and 255 characters long, and may contain "
            "only the characters a-z, A-Z, 0-9, '_', '-', and '.'"
        )
    return name


def _check_served(given: Given) -> None:
    asked = [name for name in _NOT_SERVED if name in given]
    if given.get("StreamSpecification", {}).get("StreamEnabled"):
        asked.append("StreamSpecification")
    if asked:
        raise ValidationException(f"Sidebus's tables are for leases and checkpoints: they have no {asked[0]}")


def _types(definitions: Iterable[Given]) -> dict[str, str]:
    types: dict[str, str] = {}
    for definition in definitions:
        name, kind = definition["AttributeName"], definition["AttributeType"]
        if types.setdefault(name, kind) != kind:
            raise ValidationException(
                f"One or more parameter values were invalid: AttributeDefinitions has several types for {name}"
            )
    return types


def _schema(elements: Sequence[Given], types: Mapping[str, str]) -> KeySchema:
    kinds = [element["KeyType"] for element in elements]
    names = [element["AttributeName"] for element in elements]
    if kinds not in (["HASH"], ["HASH", "RANGE"]):
        if not kinds or kinds[0] != "HASH":
            raise ValidationException("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
        raise ValidationException("Invalid KeySchema: there can be one HASH key and one RANGE key")
    if len(set(names)) != len(names):
        raise ValidationException("Both the Hash Key and the Range Key element in the KeySchema have the same name")
    missing = [name for name in names if name not in types]
    if missing:
        raise ValidationException(
            "One or more parameter values were invalid: Some index key attributes are not defined in "
            f"AttributeDefinitions. Keys: [{', '.join(missing)}], AttributeDefinitions: [{', '.join(types)}]"
        )
    attributes = [KeyAttribute(name, types[name]) for name in names]
    return KeySchema(attributes[0], attributes[1] if len(attributes) > 1 else None)


def _used(types: Mapping[str, str], schema: KeySchema, indexes: Iterable[Index]) -> dict[str, str]:
    used = {name for each in (schema, *(index.schema for index in indexes)) for name in each.names}
    return {name: kind for name, kind in types.items() if name in used}


def _check_all_used(types: Mapping[str, str], schema: KeySchema, indexes: Iterable[Index]) -> None:
    used = _used(types, schema, indexes)
    if len(used) < len(types):
        raise ValidationException(
            "One or more parameter values were invalid: Some AttributeDefinitions are not used. "
            f"AttributeDefinitions: [{', '.join(types)}], keys used: [{', '.join(used)}]"
        )


def _throughput(given: Given, mode: str) -> Throughput:
    asked = given.get("ProvisionedThroughput")
    if mode == PAY_PER_REQUEST:
        if asked is not None:
            raise ValidationException(
                "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be "
                "specified when BillingMode is PAY_PER_REQUEST"
            )
        return Throughput()
    if asked is None:
        raise ValidationException(
            "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be "
            "specified when BillingMode is PROVISIONED"
        )
    return Throughput(asked["ReadCapacityUnits"], asked["WriteCapacityUnits"])


def _checked_tags(has: Mapping[str, str], tags: Iterable[Given]) -> dict[str, str]:
    given = {tag["Key"]: tag["Value"] for tag in tags}
    if any(key.lower().startswith("aws:") for key in given):
        raise ValidationException("One or more parameter values were invalid: Tag keys cannot begin with aws:")
    if len({**has, **given}) > MAX_TAGS:
        raise ValidationException(f"One or more parameter values were invalid: Too many tags: at most {MAX_TAGS}")
    return {**has, **given}
