"""Lease tables: keys and their order, conditions in one step, pages, indexes, totals, what a restart finds.

The property test has a naive model: a dict a table, sorted and filtered by Python. Expressions have tests of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from broker.errors import (
    BrokerFailure,
    ConditionalCheckFailedException,
    ResourceInUseException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.tables import Table, legacy
from broker.tables.conditions import Condition
from broker.tables.expressions import Placeholders, parse_condition, parse_update
from broker.tables.key_conditions import key_range
from broker.tables.keys import ordered_bytes
from broker.tables.queries import Page
from broker.tables.values import (
    Item,
    from_document,
    item_bytes,
    item_from_document,
    item_to_document,
    number,
    number_text,
    to_document,
)
from engine.support import WORLD, Engine

HASH_ONLY = {
    "TableName": "leases",
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
BY_HOLDER = {
    "IndexName": "by_holder",
    "KeySchema": [{"AttributeName": "holder", "KeyType": "HASH"}, {"AttributeName": "since", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
RANGED = {
    "TableName": "ranged",
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}, {"AttributeName": "r", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "k", "AttributeType": "S"},
        {"AttributeName": "r", "AttributeType": "N"},
        {"AttributeName": "holder", "AttributeType": "S"},
        {"AttributeName": "since", "AttributeType": "N"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
    "GlobalSecondaryIndexes": [BY_HOLDER],
}


class Tables:
    """The engine's operations, with expressions as text and values as plain Python."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.all = engine.broker.tables

    def create(self, given: dict[str, Any]) -> Table:
        return self.all.definitions.create(WORLD, given)

    def find(self, name: str) -> Table:
        return self.all.find(WORLD, name)

    def put(self, table: Table, condition: str | None = None, /, **attributes: Any) -> Item | None:
        return self.all.items.put(table, item(**attributes), self._condition(condition))

    def get(self, table: Table, **key: Any) -> Item | None:
        return self.all.items.get(table, item(**key))

    def delete(self, table: Table, condition: str | None = None, /, **key: Any) -> Item | None:
        return self.all.items.delete(table, item(**key), self._condition(condition))

    def update(
        self,
        table: Table,
        text: str,
        condition: str | None = None,
        /,
        *,
        values: dict[str, Any] | None = None,
        **key: Any,
    ) -> tuple[Item | None, Item | None]:
        found = parse_update(text, Placeholders(None, item(**(values or {})) or None))
        return self.all.items.update(table, item(**key), found, self._condition(condition))

    @staticmethod
    def _condition(text: str | None) -> Condition | None:
        return None if text is None else parse_condition(text, Placeholders(None, {":0": Decimal(0), ":1": Decimal(1)}))

    def scan(self, table: Table, index: str | None = None, **given: Any) -> Page:
        return self.all.reader.scan(table, table.indexes[index] if index else None, **given)

    def query(self, table: Table, text: str, index: str | None = None, /, **given: Any) -> Page:
        values = {f":{name}": item(v=given.pop(name))["v"] for name in list(given) if len(name) == 1}
        found = table.indexes[index] if index else None
        asked = key_range(found.schema if found else table.schema, parse_condition(text, Placeholders(None, values)))
        return self.all.reader.query(table, found, asked, **given)


def item(**attributes: Any) -> Item:
    """Numbers may be ints."""
    return {name: Decimal(v) if type(v) is int else v for name, v in attributes.items()}


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def tables(engine: Engine) -> Tables:
    return Tables(engine)


def refusal(call: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(ValidationException) as caught:
        call(*arguments, **given)
    return caught.value.message


# values

texts = st.text(max_size=6)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6)


@given(st.lists(texts, min_size=2, max_size=2) | st.lists(decimals, min_size=2, max_size=2))
def test_keys_sort_as_bytes_as_they_do_as_values(pair: list[Any]) -> None:
    one, other = (number(str(value)) if isinstance(value, Decimal) else value for value in pair)
    as_values = (one.encode(), other.encode()) if isinstance(one, str) else (one, other)
    assert (ordered_bytes(one) < ordered_bytes(other)) == (as_values[0] < as_values[1])
    assert (ordered_bytes(one) == ordered_bytes(other)) == (one == other)


@pytest.mark.parametrize("pair", [("-1e125", "-9.9e124"), ("1e-130", "2e-130"), ("-1e-130", "0"), ("9e125", "9.9e125")])
def test_the_ends_of_the_range_of_numbers(pair: tuple[str, str]) -> None:
    one, other = map(number, pair)
    assert ordered_bytes(one) < ordered_bytes(other)


documents = st.recursive(
    st.sampled_from(
        [{"NULL": True}, {"BOOL": False}, {"SS": ["a", "b"]}, {"NS": ["-1", "2"]}, {"BS": ["AA==", "AQ=="]}]
    )
    | texts.map(lambda text: {"S": text})
    | decimals.map(lambda value: {"N": number_text(number(str(value)))})
    | st.binary(max_size=3).map(to_document),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: {"L": found})
        | st.dictionaries(texts, inner, max_size=3).map(lambda found: {"M": found})
    ),
)


@given(documents)
def test_values_come_back_as_they_were(document: dict[str, Any]) -> None:
    assert to_document(from_document(document)) == document


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("1.50", "1.5"),
        ("-0", "0"),
        ("0.00", "0"),
        ("1e3", "1000"),
        ("00012", "12"),
        ("1E-3", "0.001"),
        ("9" * 38, "9" * 38),
    ],
)
def test_numbers_have_one_form(given_text: str, kept: str) -> None:
    assert number_text(number(given_text)) == kept


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        ("x", "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        (
            {"S": "x", "N": "1"},
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported "
            "datatypes",
        ),
        ({"N": "one"}, "The parameter cannot be converted to a numeric value: one"),
        ({"N": "NaN"}, "The parameter cannot be converted to a numeric value: NaN"),
        ({"N": "1_0"}, "The parameter cannot be converted to a numeric value: 1_0"),
        ({"N": "1" * 39}, "Attempting to store more than 38 significant digits in a Number"),
        ({"N": "1e126"}, "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ({"N": "1e-131"}, "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
        ({"SS": []}, "One or more parameter values were invalid: An string set  may not be empty"),
        (
            {"NS": ["1", "1.0"]},
            "One or more parameter values were invalid: Input collection [1, 1.0] contains duplicates.",
        ),
        (
            {"NULL": False},
            "One or more parameter values were invalid: Null attribute value types must have the value of true",
        ),
        ({"B": "?"}, "'?' can not be converted to a Blob: Invalid Base64 content"),
        ({"S": 1}, "The value of the datatype S is not a str"),
        ({"SS": [1]}, "The value of the datatype S is not a str"),
    ],
)
def test_what_is_no_value(document: Any, message: str) -> None:
    assert refusal(from_document, document) == message


def test_values_nest_32_deep() -> None:
    document: dict[str, Any] = {"S": "x"}
    for _ in range(32):
        document = {"L": [document]}
    assert to_document(from_document(document)) == document
    assert refusal(from_document, {"L": [document]}) == "Nesting Levels have exceeded supported limits"


# conditions and what hangs on them


def test_of_two_who_take_a_lease_one_gets_it(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    tables.put(leases, "attribute_not_exists(k)", k="shard", counter=0, holder="nobody")
    with pytest.raises(ConditionalCheckFailedException) as caught:
        tables.put(leases, "attribute_not_exists(k)", k="shard", counter=9)
    assert caught.value.item == item(k="shard", counter=0, holder="nobody")

    take = "SET leaseOwner = :w, leaseCounter = leaseCounter + :one"
    tables.put(leases, k="shard", leaseCounter=0)
    for worker in ("a", "b"):
        values = {":w": worker, ":one": 1}
        if worker == "a":
            tables.update(leases, take, "leaseCounter = :0", values=values, k="shard")
        else:
            with pytest.raises(ConditionalCheckFailedException):
                tables.update(leases, take, "leaseCounter = :0", values=values, k="shard")
    assert tables.get(leases, k="shard") == item(k="shard", leaseOwner="a", leaseCounter=1)
    with pytest.raises(ConditionalCheckFailedException):
        tables.delete(leases, "leaseCounter = :0", k="shard")
    assert tables.delete(leases, "leaseCounter = :1", k="shard") is not None
    assert tables.delete(leases, k="shard") is None


def test_an_update_that_is_refused_has_changed_nothing(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    tables.put(leases, k="a", word="w")
    before = leases.size_bytes
    refusal(tables.update, leases, "SET n = :v ADD word :v", values={":v": 1}, k="a")
    refusal(tables.update, leases, "SET n = :v", values={":v": "x" * 400 * 1024}, k="a")
    assert tables.get(leases, k="a") == {"k": "a", "word": "w"}
    assert (leases.item_count, leases.size_bytes) == (1, before)


def test_an_update_makes_an_item_unless_it_only_takes_away(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    assert tables.update(leases, "REMOVE a", k="x") == (None, None)
    assert tables.get(leases, k="x") is None
    assert tables.update(leases, "ADD n :one", values={":one": 1}, k="x") == (None, item(k="x", n=1))
    assert tables.update(leases, "REMOVE n", k="x") == (item(k="x", n=1), {"k": "x"})


def test_a_lost_group_takes_its_items_and_totals_with_it(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    tables.put(leases, k="a", n=1)
    tables.engine.settle()
    tables.put(leases, k="a", n=2)
    tables.put(leases, k="b", n=1)
    other = tables.create({**HASH_ONLY, "TableName": "other"})
    tables.engine.broker.commit.abort(BrokerFailure("the disk is full"))
    leases = tables.find("leases")
    assert [dict(found) for found in tables.scan(leases).items] == [item(k="a", n=1)]
    assert (leases.item_count, leases.size_bytes) == (1, item_bytes(item(k="a", n=1)))
    with pytest.raises(ResourceNotFoundException):
        tables.find(other.name)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"a": 1}, "One or more parameter values were invalid: Missing the key k in the item"),
        ({"k": 1}, "One or more parameter values were invalid: Type mismatch for key k expected: S actual: N"),
        (
            {"k": ""},
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
            "empty string value. Key: k",
        ),
        (
            {"k": "x" * 2049},
            "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit "
            "of2048 bytes",
        ),
        ({"k": "x", "big": "x" * 400 * 1024}, "Item size has exceeded the maximum allowed size"),
    ],
)
def test_an_item_that_cannot_be_put(tables: Tables, attributes: dict[str, Any], message: str) -> None:
    leases = tables.create(HASH_ONLY)
    assert refusal(tables.put, leases, **attributes) == message


def test_a_key_is_all_of_the_key_and_nothing_else(tables: Tables) -> None:
    ranged = tables.create(RANGED)
    for key in ({"k": "a"}, {"k": "a", "r": "1"}, {"k": "a", "r": 1, "x": 1}, {}):
        assert refusal(tables.get, ranged, **key) == "The provided key element does not match the schema"
    assert refusal(tables.update, ranged, "SET r = :v", values={":v": 1}, k="a", r=1) == (
        "One or more parameter values were invalid: Cannot update attribute r. This attribute is part of the key"
    )


def test_what_an_index_is_made_of_has_its_type(tables: Tables) -> None:
    ranged = tables.create(RANGED)
    assert refusal(tables.put, ranged, k="a", r=1, holder=1) == (
        "One or more parameter values were invalid: Type mismatch for Index Key holder Expected: S Actual: N "
        "IndexName: by_holder"
    )
    assert "cannot contain an empty string value. IndexName: by_holder, IndexKey: holder" in refusal(
        tables.update, ranged, "SET holder = :v", values={":v": ""}, k="a", r=1
    )


# the old parameters


@pytest.mark.parametrize(
    ("expected", "holds"),
    [
        ({"k": {"Exists": False}}, False),
        ({"gone": {"Exists": False}}, True),
        ({"n": {"Value": {"N": "1"}}}, True),
        ({"n": {"Exists": True, "Value": {"N": "1.0"}}}, True),
        ({"n": {"Value": {"S": "1"}}}, False),
        ({"n": {"ComparisonOperator": "GE", "AttributeValueList": [{"N": "2"}]}}, False),
        ({"n": {"ComparisonOperator": "NE", "Value": {"N": "2"}}}, True),
        ({"n": {"ComparisonOperator": "BETWEEN", "AttributeValueList": [{"N": "0"}, {"N": "1"}]}}, True),
        ({"s": {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [{"S": "wo"}]}}, True),
        ({"s": {"ComparisonOperator": "NOT_CONTAINS", "AttributeValueList": [{"S": "or"}]}}, False),
        ({"gone": {"ComparisonOperator": "NULL"}, "n": {"ComparisonOperator": "NOT_NULL"}}, True),
        ({"s": {"ComparisonOperator": "IN", "AttributeValueList": [{"S": "a"}, {"S": "word"}]}}, True),
        ({"n": {"Value": {"N": "1"}}, "s": {"Value": {"S": "x"}}}, False),
    ],
)
def test_expectations_from_before_there_were_expressions(expected: dict[str, Any], holds: bool) -> None:
    assert legacy.expected(expected).holds(item(k="a", n=1, s="word")) is holds
    assert legacy.expected({}).holds({})
    if len(expected) > 1 and not holds:
        assert legacy.expected(expected, "OR").holds(item(k="a", n=1, s="word"))


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({"Exists": True}, "Value must be provided when Exists is true for Attribute: a"),
        ({}, "Value must be provided when Exists is null for Attribute: a"),
        ({"Exists": False, "Value": {"S": "x"}}, "Value cannot be used when Exists is false for Attribute: a"),
        ({"ComparisonOperator": "EQ"}, "Invalid number of argument(s) for the EQ ComparisonOperator"),
        (
            {"ComparisonOperator": "LT", "AttributeValueList": [{"BOOL": True}]},
            "ComparisonOperator LT is not valid for BOOL AttributeValue type",
        ),
        (
            {"ComparisonOperator": "NULL", "Exists": False},
            "Exists and ComparisonOperator cannot be used together for Attribute: a",
        ),
    ],
)
def test_expectations_that_make_no_sense(expected: dict[str, Any], reason: str) -> None:
    assert refusal(legacy.expected, {"a": expected}) == f"One or more parameter values were invalid: {reason}"


def test_updates_from_before_there_were_expressions() -> None:
    update = legacy.attribute_updates(
        {
            "holder": {"Value": {"S": "me"}},
            "counter": {"Action": "ADD", "Value": {"N": "1"}},
            "gone": {"Action": "DELETE"},
            "children": {"Action": "DELETE", "Value": {"SS": ["a"]}},
            "parents": {"Action": "ADD", "Value": {"SS": ["p"]}},
        }
    )
    before = item(k="x", counter=4, gone=True, children=frozenset("ab"))
    assert update.apply(before) == item(k="x", holder="me", counter=5, children=frozenset("b"), parents=frozenset("p"))
    assert refusal(legacy.attribute_updates, {"a": {"Action": "PUT"}}) == (
        "One or more parameter values were invalid: Only DELETE action is allowed when no attribute value is specified"
    )


# queries


def test_what_a_key_condition_may_say(tables: Tables) -> None:
    ranged = tables.create(RANGED)
    asked: dict[str, str] = {
        "r = :a": "Query condition missed key schema element: k",
        "k > :a": "Query key condition not supported",
        "k = :a AND x = :b": "Query condition missed key schema element: r",
        "k = :a AND k = :b": "KeyConditionExpressions must only contain one condition per key",
        "k = :a OR k = :b": "Invalid operator used in KeyConditionExpression: OR",
        "k = :a AND r <> :b": "Invalid operator used in KeyConditionExpression: <>",
        "k = :a AND r IN (:b)": "Invalid operator used in KeyConditionExpression: IN",
        "k = :a AND attribute_exists(r)": "Query key condition not supported",
        "k = :b": "One or more parameter values were invalid: Condition parameter type does not match schema type",
    }
    for text, message in asked.items():
        assert refusal(tables.query, ranged, text, a="x", b=1) == message, text
    leases = tables.create(HASH_ONLY)
    assert refusal(tables.query, leases, "k = :a AND r = :b", a="x", b=1) == "Query key condition not supported"


def test_segments_share_a_table_out(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    keys = {f"shard-{n}" for n in range(50)}
    for key in keys:
        tables.put(leases, k=key)
    shares = [{found["k"] for found in tables.scan(leases, segment=(n, 4)).items} for n in range(4)]
    assert sum(map(len, shares)) == 50
    assert set().union(*shares) == keys
    assert all(shares)


def test_a_page_ends_with_the_row_that_fills_a_mebibyte(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    for n in range(4):
        tables.put(leases, k=str(n), big="x" * 390 * 1024)
    page = tables.scan(leases)
    assert [found["k"] for found in page.items] == ["0", "1", "2"]
    assert page.last_key == {"k": "2"}
    assert [found["k"] for found in tables.scan(leases, start=page.last_key).items] == ["3"]


def test_a_start_key_must_be_one(tables: Tables) -> None:
    ranged = tables.create(RANGED)
    assert refusal(tables.scan, ranged, start=item(k="a")) == "The provided starting key is invalid"
    assert refusal(tables.scan, ranged, start=item(k="a", r="x")) == (
        "The provided starting key is invalid: The provided key element does not match the schema"
    )
    assert refusal(tables.scan, ranged, "by_holder", start=item(k="a", r=1)) == "The provided starting key is invalid"
    assert refusal(tables.query, ranged, "k = :a", a="a", start=item(k="b", r=1)) == (
        "The provided starting key is invalid"
    )


# definitions


def test_tables_of_one_name_are_one_a_world(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    with pytest.raises(ResourceInUseException, match="Table already exists: leases"):
        tables.create(HASH_ONLY)
    assert tables.find(leases.arn) is leases
    definitions = tables.all.definitions
    for elsewhere in (WORLD._replace(region="eu-west-1"), WORLD._replace(account="111122223333")):
        with pytest.raises(ResourceNotFoundException):
            definitions.get(elsewhere, "leases")
        with pytest.raises(ResourceNotFoundException):
            definitions.get(elsewhere, leases.arn)


def test_a_deleted_table_leaves_nothing_behind(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    for n in range(1200):
        tables.put(leases, k=str(n))
    tables.all.definitions.delete(leases)
    assert tables.create(HASH_ONLY).item_count == 0
    assert tables.scan(tables.find("leases")).items == []
    tables.engine.settle()
    tables.engine.advance(1)
    assert tables.engine.rows("SELECT count(*) FROM item") == [(0,)]
    assert tables.engine.rows("SELECT count(*) FROM discarded_item_table") == [(0,)]


def test_a_protected_table_stays(tables: Tables) -> None:
    leases = tables.create({**HASH_ONLY, "DeletionProtectionEnabled": True})
    assert "currently protected against deletion" in refusal(tables.all.definitions.delete, leases)
    tables.all.definitions.update(leases, {"DeletionProtectionEnabled": False})
    tables.all.definitions.delete(leases)


def test_an_index_comes_and_goes(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    tables.put(leases, k="a", holder="me", since=1)
    tables.put(leases, k="b", holder=5, since=1)  # it is no index key yet, so it may be a number
    types = [{"AttributeName": "holder", "AttributeType": "S"}, {"AttributeName": "since", "AttributeType": "N"}]
    update = {"AttributeDefinitions": types, "GlobalSecondaryIndexUpdates": [{"Create": BY_HOLDER}]}
    tables.all.definitions.update(leases, update)
    assert tables.scan(leases, "by_holder").items == [item(k="a", holder="me", since=1)]
    assert "already exists: by_holder" in refusal(tables.all.definitions.update, leases, update)
    shown = tables.all.definitions.describe(leases)
    assert {entry["AttributeName"] for entry in shown["AttributeDefinitions"]} == {"k", "holder", "since"}
    delete = {"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "by_holder"}}]}
    tables.all.definitions.update(leases, delete)
    shown = tables.all.definitions.describe(leases)
    assert shown["AttributeDefinitions"] == [{"AttributeName": "k", "AttributeType": "S"}]
    with pytest.raises(ResourceNotFoundException):
        tables.all.definitions.update(leases, delete)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TableName": "ab"}, "Invalid table/index name.  Table/index names must be between 3 and 255 characters"),
        ({"KeySchema": []}, "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"),
        (
            {"AttributeDefinitions": []},
            "One or more parameter values were invalid: Some index key attributes are not defined in "
            "AttributeDefinitions. Keys: [k], AttributeDefinitions: []",
        ),
        (
            {"AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in "kx"]},
            "One or more parameter values were invalid: Some AttributeDefinitions are not used. "
            "AttributeDefinitions: [k, x], keys used: [k]",
        ),
        (
            {"BillingMode": "PROVISIONED"},
            "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be "
            "specified when BillingMode is PROVISIONED",
        ),
        (
            {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
            "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be "
            "specified when BillingMode is PAY_PER_REQUEST",
        ),
        (
            {"StreamSpecification": {"StreamEnabled": True}},
            "Sidebus's tables are for leases and checkpoints: they have no StreamSpecification",
        ),
        (
            {"LocalSecondaryIndexes": []},
            "Sidebus's tables are for leases and checkpoints: they have no LocalSecondaryIndexes",
        ),
    ],
)
def test_a_table_that_cannot_be_made(tables: Tables, change: dict[str, Any], message: str) -> None:
    assert refusal(tables.create, {**HASH_ONLY, **change}).startswith(message)


# time to live


def test_what_has_expired_goes_within_an_hour(tables: Tables) -> None:
    leases = tables.create(HASH_ONLY)
    now_s = tables.engine.clock.now_ms() // 1000
    for n in range(1100):
        tables.put(leases, k=f"{n:04}", until=now_s + (60 if n % 2 else 7200))
    tables.put(leases, k="word", until="soon")
    tables.put(leases, k="ms", until=1)  # a mistake of over five years
    tables.all.definitions.set_ttl(leases, "until", enabled=True)
    tables.engine.advance(3599)
    assert leases.item_count == 1102
    tables.engine.advance(1)
    assert leases.item_count == 552
    tables.engine.advance(2 * 3600)
    assert {found["k"] for found in tables.scan(leases).items} == {"word", "ms"}
    tables.all.definitions.set_ttl(leases, "until", enabled=False)
    assert "already disabled" in refusal(tables.all.definitions.set_ttl, leases, "until", enabled=False)


# the naive model

hashes, ranges = st.sampled_from(["a", "b", "ä"]), st.integers(-3, 3)
holders = st.sampled_from([None, "x", "y"])
flushes = st.sampled_from([True, True, False])


class Keeping(RuleBasedStateMachine):
    """A table with an index, on disk: what is committed is there after a crash, what is not is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.engine = Engine(Path(self.directory.name))
        self.tables = Tables(self.engine)
        self.model: dict[tuple[str, int], Item] = {}
        self.committed: dict[tuple[str, int], Item] = {}

    @initialize()
    def begin(self) -> None:
        self.tables.create(RANGED)
        self.engine.settle()

    @property
    def table(self) -> Table:
        return self.tables.find("ranged")

    def _after(self, flush: bool) -> None:
        if flush:
            self.engine.settle()
            self.committed = dict(self.model)

    @rule(k=hashes, r=ranges, holder=holders, since=ranges, n=ranges, flush=flushes)
    def put(self, k: str, r: int, holder: str | None, since: int, n: int, flush: bool) -> None:
        new = item(k=k, r=r, n=n) | (item(holder=holder, since=since) if holder else {})
        assert self.tables.put(self.table, **new) == self.model.get((k, r))
        self.model[k, r] = new
        self._after(flush)

    @rule(k=hashes, r=ranges, flush=flushes)
    def put_if_new(self, k: str, r: int, flush: bool) -> None:
        if (k, r) in self.model:
            with pytest.raises(ConditionalCheckFailedException) as caught:
                self.tables.put(self.table, "attribute_not_exists(k)", k=k, r=r)
            assert caught.value.item == self.model[k, r]
        else:
            self.tables.put(self.table, "attribute_not_exists(k)", k=k, r=r)
            self.model[k, r] = item(k=k, r=r)
        self._after(flush)

    @rule(k=hashes, r=ranges, by=ranges, flush=flushes)
    def count(self, k: str, r: int, by: int, flush: bool) -> None:
        old = self.model.get((k, r))
        new = {**(old or item(k=k, r=r)), "n": (old or {}).get("n", 0) + Decimal(by)}
        assert self.tables.update(self.table, "ADD n :by", values={":by": by}, k=k, r=r) == (old, new)
        self.model[k, r] = new
        self._after(flush)

    @rule(k=hashes, r=ranges, flush=flushes)
    def delete(self, k: str, r: int, flush: bool) -> None:
        assert self.tables.delete(self.table, k=k, r=r) == self.model.pop((k, r), None)
        self._after(flush)

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if crash:
            self.engine.broker.commit.stop()
            self.engine.store.rollback()
            self.engine.store.close()
            self.engine._open(self.engine.clock.now_ms())
            self.model = dict(self.committed)
        else:
            self.engine.restart()
            self.committed = dict(self.model)
        self.tables = Tables(self.engine)

    @rule(
        k=hashes,
        low=ranges,
        sign=st.sampled_from(["=", "<", "<=", ">", ">="]),
        forward=st.booleans(),
        limit=st.integers(1, 3),
    )
    def query(self, k: str, low: int, sign: str, forward: bool, limit: int) -> None:
        compare = {"=": int.__eq__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}[sign]
        expected = [self.model[key] for key in sorted(self.model) if key[0] == k and compare(key[1], low)]
        found = self._pages(f"k = :k AND r {sign} :r", None, forward=forward, limit=limit, k=k, r=low)
        assert found == (expected if forward else expected[::-1])

    @rule(holder=st.sampled_from("xy"), low=ranges, high=ranges, forward=st.booleans(), limit=st.integers(1, 3))
    def query_index(self, holder: str, low: int, high: int, forward: bool, limit: int) -> None:
        low, high = sorted((low, high))
        expected = [
            {name: value for name, value in kept.items() if name != "n"}
            for _, kept in sorted(self.model.items(), key=lambda pair: (pair[1].get("since", 0), *_as_bytes(pair[0])))
            if kept.get("holder") == holder and low <= kept["since"] <= high
        ]
        text = "holder = :o AND since BETWEEN :l AND :h"
        found = self._pages(text, "by_holder", forward=forward, limit=limit, o=holder, l=low, h=high)
        assert found == (expected if forward else expected[::-1])

    def _pages(self, text: str, index: str | None, *, forward: bool, limit: int, **values: Any) -> list[Item]:
        table = self.table
        chosen = table.indexes[index] if index else None
        placeholders = Placeholders(None, item(**{f":{name}": value for name, value in values.items()}))
        asked = key_range(chosen.schema if chosen else table.schema, parse_condition(text, placeholders))
        found: list[Item] = []
        start = None
        while True:
            page = self.tables.all.reader.query(table, chosen, asked, start=start, forward=forward, limit=limit)
            assert page.scanned_count <= limit
            found += page.items
            if page.last_key is None:
                return found
            start = page.last_key

    @invariant()
    def nothing_else_is_there(self) -> None:
        if self.engine.broker.tables.definitions.list(WORLD, None, None)[0] != ["ranged"]:
            return  # before the first step
        table = self.table
        found = {(i["k"], int(i["r"])): i for i in self.tables.scan(table).items}
        assert found == self.model
        assert table.item_count == len(self.model)
        assert table.size_bytes == sum(map(item_bytes, self.model.values()))

    def teardown(self) -> None:
        self.engine.close()
        self.directory.cleanup()


def _as_bytes(key: tuple[str, int]) -> tuple[bytes, int]:
    return key[0].encode(), key[1]


def test_a_table_against_the_naive_model() -> None:
    run_state_machine_as_test(
        Keeping,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


def test_items_survive_a_restart(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    tables = Tables(engine)
    leases = tables.create({**HASH_ONLY, "Tags": [{"Key": "team", "Value": "a"}]})
    document = {"k": {"S": "x"}, "m": {"M": {"b": {"B": "AAE="}, "l": {"L": [{"NS": ["1", "2.5"]}]}}}}
    tables.all.items.put(leases, item_from_document(document))
    shown = tables.all.definitions.describe(leases)
    engine.restart()
    tables = Tables(engine)
    leases = tables.find("leases")
    assert tables.all.definitions.describe(leases) == shown
    assert leases.tags == {"team": "a"}
    found = tables.get(leases, k="x")
    assert found is not None
    assert item_to_document(found) == document
    engine.broker.reset("somebody else")
    assert tables.find("leases") is leases
    engine.broker.reset(WORLD.account)
    with pytest.raises(ResourceNotFoundException):
        tables.find("leases")
    engine.close()
