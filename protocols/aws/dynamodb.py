"""DynamoDB, as much of it as lease tables need: each operation's input becomes a call on the engine.

Every operation that is not in OPERATIONS answers UnknownOperationException: this is no database.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from broker.errors import ConditionalCheckFailedException, ValidationException
from broker.tables import Index, Table, legacy
from broker.tables.conditions import Condition
from broker.tables.expressions import (
    CONDITION,
    FILTER,
    KEY_CONDITION,
    PROJECTION,
    UPDATE,
    Placeholders,
    parse_condition,
    parse_projection,
    parse_update,
)
from broker.tables.items import Write
from broker.tables.key_conditions import check_filter, key_range
from broker.tables.paths import Path, pick
from broker.tables.queries import Page
from broker.tables.updates import Update
from broker.tables.values import Item, from_document, item_bytes, item_from_document, item_to_document
from protocols.aws.call import Call, Operation, Result

READ_UNIT_BYTES, WRITE_UNIT_BYTES = 4_096, 1_024
MAX_BATCH_GETS, MAX_BATCH_WRITES = 100, 25
MAX_BATCH_BYTES = 16 * 1024 * 1024

# tables -------------------------------------------------------------------------------------------


def create_table(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    return {"TableDescription": definitions.describe(definitions.create(call.world, call.parameters))}


def describe_table(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    return {"Table": definitions.describe(definitions.get(call.world, call.parameters["TableName"]))}


def update_table(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    table = definitions.get(call.world, call.parameters["TableName"])
    definitions.update(table, call.parameters)
    return {"TableDescription": definitions.describe(table)}


def delete_table(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    table = definitions.get(call.world, call.parameters["TableName"])
    definitions.delete(table)
    return {"TableDescription": {**definitions.describe(table), "TableStatus": "DELETING"}}


def list_tables(call: Call) -> Result:
    given = call.parameters
    names, last = call.broker.tables.definitions.list(
        call.world, given.get("ExclusiveStartTableName"), given.get("Limit")
    )
    return {"TableNames": names} | ({} if last is None else {"LastEvaluatedTableName": last})


def update_time_to_live(call: Call) -> Result:
    asked = call.parameters["TimeToLiveSpecification"]
    call.broker.tables.definitions.set_ttl(_table(call), asked["AttributeName"], enabled=asked["Enabled"])
    return {"TimeToLiveSpecification": asked}


def describe_time_to_live(call: Call) -> Result:
    attribute = _table(call).ttl_attribute
    if attribute is None:
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
    return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}}


def update_continuous_backups(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    table = definitions.get_for_backups(call.world, call.parameters["TableName"])
    asked = call.parameters["PointInTimeRecoverySpecification"]
    definitions.set_backups(
        table, enabled=asked["PointInTimeRecoveryEnabled"], recovery_days=asked.get("RecoveryPeriodInDays")
    )
    return {"ContinuousBackupsDescription": definitions.describe_backups(table)}


def describe_continuous_backups(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    table = definitions.get_for_backups(call.world, call.parameters["TableName"])
    return {"ContinuousBackupsDescription": definitions.describe_backups(table)}


def tag_resource(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    definitions.add_tags(definitions.find_resource(call.world, call.parameters["ResourceArn"]), call.parameters["Tags"])
    return {}


def untag_resource(call: Call) -> Result:
    definitions = call.broker.tables.definitions
    table = definitions.find_resource(call.world, call.parameters["ResourceArn"])
    definitions.remove_tags(table, call.parameters["TagKeys"])
    return {}


def list_tags_of_resource(call: Call) -> Result:
    table = call.broker.tables.definitions.find_resource(call.world, call.parameters["ResourceArn"])
    return {"Tags": [{"Key": key, "Value": value} for key, value in table.tags.items()]}


def _table(call: Call) -> Table:
    return call.broker.tables.find(call.world, call.parameters["TableName"])


# one item -----------------------------------------------------------------------------------------


def get_item(call: Call) -> Result:
    asked = _Asked(call, ("AttributesToGet",), (PROJECTION,))
    paths = asked.projection()
    asked.check_used()
    table = _table(call)
    item = call.broker.tables.items.get(table, item_from_document(call.parameters["Key"]))
    result: Result = {}
    if item is not None:
        result["Item"] = item_to_document(item if paths is None else pick(item, paths))
    return result | _read_capacity(call.parameters, table, item_bytes(item or {}))


def put_item(call: Call) -> Result:
    asked = _Asked(call, ("Expected",), (CONDITION,))
    condition = asked.condition()
    asked.check_used()
    item = item_from_document(call.parameters["Item"])
    _check_return_values(call, ("NONE", "ALL_OLD"))
    table = _table(call)
    with _telling(call):
        old = call.broker.tables.items.put(table, item, condition)
    return _old(call, old) | _write_capacity(call.parameters, table, [old, item])


def delete_item(call: Call) -> Result:
    asked = _Asked(call, ("Expected",), (CONDITION,))
    condition = asked.condition()
    asked.check_used()
    key = item_from_document(call.parameters["Key"])
    _check_return_values(call, ("NONE", "ALL_OLD"))
    table = _table(call)
    with _telling(call):
        old = call.broker.tables.items.delete(table, key, condition)
    return _old(call, old) | _write_capacity(call.parameters, table, [old])


def update_item(call: Call) -> Result:
    asked = _Asked(call, ("AttributeUpdates", "Expected"), (UPDATE, CONDITION))
    update, condition = asked.update(), asked.condition()
    asked.check_used()
    key = item_from_document(call.parameters["Key"])
    table = _table(call)
    with _telling(call):
        old, new = call.broker.tables.items.update(table, key, update, condition)
    shown: Item | None = None
    match call.parameters.get("ReturnValues", "NONE"):
        case "ALL_OLD":
            shown = old
        case "ALL_NEW":
            shown = new
        case "UPDATED_OLD":
            shown = pick(old or {}, update.paths)
        case "UPDATED_NEW":
            shown = pick(new or {}, update.paths)
    result: Result = {"Attributes": item_to_document(shown)} if shown else {}
    return result | _write_capacity(call.parameters, table, [old, new])


@contextmanager
def _telling(call: Call) -> Iterator[None]:
    """Says with a condition's failure what was found instead, if that was asked for."""
    try:
        yield
    except ConditionalCheckFailedException as error:
        if error.item is not None and call.parameters.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            error.members = {"Item": item_to_document(error.item)}
        raise


def _old(call: Call, old: Item | None) -> Result:
    if old is None or call.parameters.get("ReturnValues") != "ALL_OLD":
        return {}
    return {"Attributes": item_to_document(old)}


def _check_return_values(call: Call, allowed: tuple[str, ...]) -> None:
    if call.parameters.get("ReturnValues", "NONE") not in allowed:
        raise ValidationException("ReturnValues can only be ALL_OLD or NONE")


# many items ---------------------------------------------------------------------------------------


def query(call: Call) -> Result:
    given = call.parameters
    asked = _Asked(call, ("AttributesToGet", "KeyConditions", "QueryFilter"), (KEY_CONDITION, FILTER, PROJECTION))
    keys, condition, paths = asked.keys(), asked.filter("QueryFilter"), asked.projection()
    asked.check_used()
    table = _table(call)
    index = _index(given, table)
    schema = table.schema if index is None else index.schema
    check_filter(schema, condition)
    page = call.broker.tables.reader.query(
        table,
        index,
        key_range(schema, keys),
        start=_start(given),
        forward=given.get("ScanIndexForward", True),
        limit=given.get("Limit"),
        condition=condition,
    )
    return _shown(given, table, index, page, paths)


def scan(call: Call) -> Result:
    given = call.parameters
    asked = _Asked(call, ("AttributesToGet", "ScanFilter"), (FILTER, PROJECTION))
    condition, paths = asked.filter("ScanFilter"), asked.projection()
    asked.check_used()
    segment = _segment(given)
    table = _table(call)
    index = _index(given, table)
    page = call.broker.tables.reader.scan(
        table, index, start=_start(given), segment=segment, limit=given.get("Limit"), condition=condition
    )
    return _shown(given, table, index, page, paths)


def _segment(given: Result) -> tuple[int, int]:
    if ("Segment" in given) != ("TotalSegments" in given):
        missing = "Segment" if "TotalSegments" in given else "TotalSegments"
        raise ValidationException(
            f"The {missing} parameter is required but was not present in the request when parameter "
            f"{'TotalSegments' if missing == 'Segment' else 'Segment'} is present"
        )
    number, of = given.get("Segment", 0), given.get("TotalSegments", 1)
    if number >= of:
        raise ValidationException(
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
            f"Segment: {number} is not less than TotalSegments: {of}"
        )
    return number, of


def _index(given: Result, table: Table) -> Index | None:
    name = given.get("IndexName")
    if name is None:
        return None
    index = table.indexes.get(name)
    if index is None:
        raise ValidationException(f"The table does not have the specified index: {name}")
    if given.get("ConsistentRead"):
        raise ValidationException("Consistent reads are not supported on global secondary indexes")
    if given.get("Select") == "ALL_ATTRIBUTES" and index.projection != "ALL":
        raise ValidationException(
            "One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global "
            f"secondary index {name} because its projection type is not ALL"
        )
    return index


def _start(given: Result) -> Item | None:
    start = given.get("ExclusiveStartKey")
    return None if start is None else item_from_document(start)


def _shown(given: Result, table: Table, index: Index | None, page: Page, paths: list[Path] | None) -> Result:
    select = given.get("Select")
    if select == "ALL_PROJECTED_ATTRIBUTES" and index is None:
        raise ValidationException(
            "One or more parameter values were invalid: ALL_PROJECTED_ATTRIBUTES can be used only when Querying or "
            "Scanning an index"
        )
    if paths is not None and select not in (None, "SPECIFIC_ATTRIBUTES"):
        raise ValidationException(f"Cannot specify the AttributesToGet when choosing to get {select}")
    result: Result = {"Count": len(page.items), "ScannedCount": page.scanned_count}
    if select != "COUNT":
        result["Items"] = [item_to_document(item if paths is None else pick(item, paths)) for item in page.items]
    if page.last_key is not None:
        result["LastEvaluatedKey"] = item_to_document(page.last_key)
    return result | _read_capacity(given, table, page.scanned_bytes)


# batches ------------------------------------------------------------------------------------------


def batch_get_item(call: Call) -> Result:
    given = call.parameters["RequestItems"]
    if sum(len(asked["Keys"]) for asked in given.values()) > MAX_BATCH_GETS:
        raise ValidationException("Too many items requested for the BatchGetItem call")
    responses: Result = {}
    unprocessed: Result = {}
    capacity: list[Result] = []
    left_bytes = MAX_BATCH_BYTES
    for name, asked in given.items():
        options = _Asked(call, ("AttributesToGet",), (PROJECTION,), asked)
        paths = options.projection()
        options.check_used()
        table = call.broker.tables.find(call.world, name)
        keys = [item_from_document(key) for key in asked["Keys"]]
        call.broker.tables.items.check_distinct(table, keys)
        found: list[Result] = []
        read_bytes = 0
        for at, key in enumerate(keys):
            if left_bytes <= 0:
                unprocessed[name] = {**asked, "Keys": asked["Keys"][at:]}
                break
            item = call.broker.tables.items.get(table, key)
            if item is not None:
                found.append(item_to_document(item if paths is None else pick(item, paths)))
                read_bytes += item_bytes(item)
                left_bytes -= item_bytes(item)
        responses[name] = found
        consistent = {**call.parameters, "ConsistentRead": asked.get("ConsistentRead", False)}
        capacity += _read_capacity(consistent, table, read_bytes).values()
    result: Result = {"Responses": responses, "UnprocessedKeys": unprocessed}
    return result | ({"ConsumedCapacity": capacity} if capacity else {})


def batch_write_item(call: Call) -> Result:
    given = call.parameters["RequestItems"]
    if sum(map(len, given.values())) > MAX_BATCH_WRITES:
        raise ValidationException("Too many items requested for the BatchWriteItem call")
    writes: list[Write] = []
    for name, requests in given.items():
        table = call.broker.tables.find(call.world, name)
        for request in requests:
            if len(request) != 1:
                raise ValidationException(
                    "Supplied WriteRequest must contain exactly one of PutRequest and DeleteRequest"
                )
            is_put = "PutRequest" in request
            item = item_from_document(request["PutRequest"]["Item"] if is_put else request["DeleteRequest"]["Key"])
            writes.append(Write(table, item, is_put))
    replaced = call.broker.tables.items.write(writes)
    capacity: list[Result] = []
    for write, old in zip(writes, replaced, strict=True):
        items = [old, write.item] if write.is_put else [old]
        capacity += _write_capacity(call.parameters, write.table, items).values()
    result: Result = {"UnprocessedItems": {}}
    return result | ({"ConsumedCapacity": capacity} if capacity else {})


# what a request says ------------------------------------------------------------------------------


class _Asked:
    """Expressions, or the parameters from before there were any; a request has either the ones or the others."""

    def __init__(
        self, call: Call, old: tuple[str, ...], expressions: tuple[str, ...], given: Result | None = None
    ) -> None:
        """Raises ValidationException."""
        self._given = call.parameters if given is None else given
        names = [name for name in expressions if name in self._given]
        old_names = [name for name in (*old, "ConditionalOperator") if name in self._given]
        if names and old_names:
            raise ValidationException(
                "Can not use both expression and non-expression parameters in the same request: Non-expression "
                f"parameters: {{{', '.join(old_names)}}} Expression parameters: {{{', '.join(names)}}}"
            )
        placeholders = ("ExpressionAttributeNames", "ExpressionAttributeValues")
        for name in placeholders:
            if name in self._given and not names:
                raise ValidationException(f"{name} can only be specified when using expressions")
        attribute_names, values = map(self._given.get, placeholders)
        self._placeholders = Placeholders(
            attribute_names, None if values is None else {key: from_document(value) for key, value in values.items()}
        )
        self._together = self._given.get("ConditionalOperator", "AND")

    def check_used(self) -> None:
        """Raises ValidationException where a placeholder stands for nothing."""
        self._placeholders.check_used()

    def condition(self) -> Condition | None:
        if CONDITION in self._given:
            return parse_condition(self._given[CONDITION], self._placeholders)
        if "Expected" in self._given:
            return legacy.expected(self._given["Expected"], self._together)
        return None

    def filter(self, old: str) -> Condition | None:
        if FILTER in self._given:
            return parse_condition(self._given[FILTER], self._placeholders, FILTER)
        if old in self._given:
            return legacy.conditions(self._given[old], self._together)
        return None

    def keys(self) -> Condition:
        if KEY_CONDITION in self._given:
            return parse_condition(self._given[KEY_CONDITION], self._placeholders, KEY_CONDITION)
        if "KeyConditions" in self._given:
            return legacy.conditions(self._given["KeyConditions"])
        raise ValidationException(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
        )

    def projection(self) -> list[Path] | None:
        if PROJECTION in self._given:
            return parse_projection(self._given[PROJECTION], self._placeholders)
        names = self._given.get("AttributesToGet")
        return None if names is None else [(name,) for name in names]

    def update(self) -> Update:
        if UPDATE in self._given:
            return parse_update(self._given[UPDATE], self._placeholders)
        return legacy.attribute_updates(self._given.get("AttributeUpdates", {}))


# capacity, which is counted and never used up -----------------------------------------------------


def _read_capacity(given: Result, table: Table, size_bytes: int) -> Result:
    units = max(1, -(-size_bytes // READ_UNIT_BYTES)) * (1.0 if given.get("ConsistentRead") else 0.5)
    return _capacity(given, table, units)


def _write_capacity(given: Result, table: Table, items: Iterable[Item | None]) -> Result:
    size_bytes = max((item_bytes(item) for item in items if item is not None), default=0)
    return _capacity(given, table, float(max(1, -(-size_bytes // WRITE_UNIT_BYTES))))


def _capacity(given: Result, table: Table, units: float) -> Result:
    wanted = given.get("ReturnConsumedCapacity", "NONE")
    if wanted == "NONE":
        return {}
    capacity: Result = {"TableName": table.name, "CapacityUnits": units}
    if wanted == "INDEXES":
        capacity["Table"] = {"CapacityUnits": units}
    return {"ConsumedCapacity": capacity}


OPERATIONS: dict[str, Operation] = {
    "BatchGetItem": batch_get_item,
    "BatchWriteItem": batch_write_item,
    "CreateTable": create_table,
    "DeleteItem": delete_item,
    "DeleteTable": delete_table,
    "DescribeContinuousBackups": describe_continuous_backups,
    "DescribeTable": describe_table,
    "DescribeTimeToLive": describe_time_to_live,
    "GetItem": get_item,
    "ListTables": list_tables,
    "ListTagsOfResource": list_tags_of_resource,
    "PutItem": put_item,
    "Query": query,
    "Scan": scan,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateContinuousBackups": update_continuous_backups,
    "UpdateItem": update_item,
    "UpdateTable": update_table,
    "UpdateTimeToLive": update_time_to_live,
}
