"""Contracts: what is written is valid, what is read becomes the latest, what nobody knows yet does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import broker, run_virtually

from patterns import (
    AioSqs,
    BatchConsumer,
    BatchProducer,
    ConsumerPolicy,
    Contract,
    ContractViolation,
    Document,
    Message,
    SqsTarget,
    narrow,
    with_fastjsonschema,
    with_jsonschema,
)
from patterns.contracts import Compile, Schema, Upcaster, Validate

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
LINE = {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"], "additionalProperties": False}
ORDER_1: Schema = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
ORDER_2: Schema = {
    "type": "object",
    "properties": {"cents": {"type": "integer"}, "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
    "required": ["cents", "lines"],
    "additionalProperties": False,
    "$defs": {"line": LINE},
}
ORDER_3: Schema = {
    **ORDER_2,
    "properties": {**ORDER_2["properties"], "currency": {"type": "string"}},
    "required": ["cents", "lines", "currency"],
}


def in_cents(old: Document) -> Document:
    return {"cents": round(old["sum"] * 100), "lines": []}


def in_euros(old: Document) -> Document:
    return {**old, "currency": "EUR"}


def required_only(schema: Schema) -> Validate:
    """What is needed of JSON Schema to test what is ours."""

    def validate(document: Any) -> None:
        missing = [name for name in schema.get("required", ()) if name not in document]
        if missing:
            raise ContractViolation(f"missing {missing}")

    return validate


def orders(latest: int = 3, *, compile: Compile = required_only, **options: Any) -> Contract:
    schemas = {1: ORDER_1, 2: ORDER_2, 3: ORDER_3}
    upcasters = {1: in_cents, 2: in_euros}
    return Contract(
        "order",
        {version: schema for version, schema in schemas.items() if version <= latest},
        {version: upcaster for version, upcaster in upcasters.items() if version < latest},
        compile=compile,
        **options,
    )


GOOD = {"cents": 5, "lines": [{"sku": "tea"}], "currency": "CHF"}


def test_what_is_written_is_the_latest_and_knows_no_strange_members() -> None:
    assert orders().write(GOOD) == '{"cents":5,"lines":[{"sku":"tea"}],"currency":"CHF","version":3}'
    bad: list[tuple[dict[str, Any], str]] = [
        ({**GOOD, "curency": "CHF"}, r"unknown: \$.curency"),
        ({**GOOD, "lines": [{"sku": "tea"}, {"sku": "x", "Sku": 1}]}, r"unknown: \$.lines\[1\].Sku"),
        ({**GOOD, "version": 2}, "not written any more"),
        ({"cents": 5, "lines": []}, "missing"),
        ({**GOOD, "cents": float("nan")}, "NaN|nan|range"),
        ({**GOOD, "cents": object()}, "object"),
    ]
    for document, why in bad:
        with pytest.raises(ContractViolation, match=why):
            orders().write(document)


def test_old_versions_become_the_latest() -> None:
    latest = {"cents": 250, "lines": [], "currency": "EUR", "version": 3}
    assert orders().read('{"sum": 2.5}') == latest
    assert orders().read(orders(1).write({"sum": 2.5})) == latest
    assert orders().read(orders(2).write({"cents": 250, "lines": []})) == latest
    assert orders().read(orders().write(GOOD)) == {**GOOD, "version": 3}


def test_newer_versions_are_read_as_far_as_they_are_known() -> None:
    newer = orders().write(GOOD)
    assert orders(2).read(newer) == {"cents": 5, "lines": [{"sku": "tea"}], "version": 2}
    assert orders(2, keep_unknown=True).read(newer)["currency"] == "CHF"
    with pytest.raises(ContractViolation, match="missing"):
        orders(1).read(newer)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"),
        ('{"sum": NaN}', "no JSON"),
        (b"\xff", "no JSON"),
        ("[]", "not an object"),
        ('{"version": 0, "sum": 1}', "not read any more"),
        ('{"version": "3"}', "not read any more"),
        ('{"version": true, "sum": 1}', "not read any more"),
        ('{"sum": "much"}', "from version 1"),
        ('{"version": 3, "cents": 1}', "missing"),
    ],
)
def test_what_breaks_the_contract(text: str | bytes, why: str) -> None:
    with pytest.raises(ContractViolation, match=why):
        orders().read(text)


def test_a_contract_has_all_its_versions() -> None:
    def same(old: Document) -> Document:
        return old

    wrong: list[tuple[dict[int, Schema], dict[int, Upcaster]]] = [
        ({}, {}),
        ({1: {}, 3: {}}, {1: same}),
        ({1: {}, 2: {}}, {}),
        ({1: {}}, {1: same}),
    ]
    for schemas, upcasters in wrong:
        with pytest.raises(ValueError, match="version"):
            Contract("x", schemas, upcasters, compile=required_only)


def test_a_schema_may_speak_of_the_version_or_not() -> None:
    def exact(schema: Schema) -> Validate:
        def validate(document: Any) -> None:
            if set(document) != set(schema["exactly"]) or document.get("v", 7) != 7:
                raise ContractViolation(str(document))

        return validate

    silent: Schema = {"allOf": [{"properties": {"a": {}}}], "exactly": ["a"]}
    speaking: Schema = {"properties": {"a": {}, "v": {"const": 7}}, "exactly": ["a", "v"]}
    for schema in (silent, speaking):
        contract = Contract("x", {7: schema}, compile=exact, version_member="v")
        assert contract.write({"a": 1}) == '{"a":1,"v":7}'
        assert contract.read('{"v": 9, "a": 1, "b": 2}') == {"a": 1, "v": 7}


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abxy"), inner, max_size=4),
    max_leaves=12,
)
SCHEMAS: list[Schema] = [
    {},
    {"properties": {"a": {}, "b": {"properties": {"a": {}}}}},
    {"properties": {"a": {"$ref": "#"}, "b": {"type": "array", "items": {"$ref": "#"}}}},
    {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
    {"anyOf": [{"$ref": "#/$defs/a~1"}, {"properties": {"x": {}}}], "$defs": {"a/": {"properties": {"a": {}}}}},
    {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
]


@given(st.sampled_from(SCHEMAS), JSON)
def test_narrowing_only_leaves_out_and_once_is_enough(schema: Schema, document: Any) -> None:
    before = json.dumps(document)
    narrowed = narrow(document, schema)
    assert json.dumps(document) == before
    assert narrow(narrowed, schema) == narrowed

    def is_within(part: Any, whole: Any) -> bool:
        if isinstance(whole, dict):
            return all(name in whole and is_within(value, whole[name]) for name, value in part.items())
        if isinstance(whole, list):
            return len(part) == len(whole) and all(map(is_within, part, whole))
        return bool(part == whole)

    assert is_within(narrowed, document)


def test_what_is_left_out() -> None:
    document = {"a": {"a": 1, "x": 2}, "b": [{"a": 3, "x": {"y": 4}}, 5], "x": 6}
    assert [narrow(document, schema) for schema in SCHEMAS] == [
        document,
        {"a": {"a": 1, "x": 2}, "b": document["b"]},
        {"a": {"a": 1}, "b": [{"a": 3}, 5]},
        {"a": document["a"], "b": document["b"]},
        {"a": document["a"], "x": 6},
        document,
    ]


@pytest.mark.parametrize(
    ("library", "compile"), [("jsonschema", with_jsonschema), ("fastjsonschema", with_fastjsonschema)]
)
def test_json_schema_by_the_libraries(library: str, compile: Callable[[Schema], Validate]) -> None:
    pytest.importorskip(library)
    contract = orders(compile=compile)
    assert contract.read(contract.write(GOOD)) == {**GOOD, "version": 3}
    assert contract.read('{"sum": 2.5, "new": 1}')["cents"] == 250
    newer = {**GOOD, "version": 9, "lines": [{"sku": "tea", "new": 1}], "new": {}}
    assert contract.read(json.dumps(newer)) == {**GOOD, "version": 3}
    changes: list[dict[str, Any]] = [{"cents": "5"}, {"lines": [{}]}, {"currency": None}]
    for change in changes:
        with pytest.raises(ContractViolation, match="order: version 3"):
            contract.write({**GOOD, **change})
        with pytest.raises(ContractViolation, match="order: version 3"):
            contract.read(json.dumps({**GOOD, **change, "version": 3}))
    with pytest.raises(Exception, match=r"nothing|Unknown type"):
        compile({"type": "nothing"})


@BACKENDS
def test_what_breaks_the_contract_is_quarantined_at_once(backend: str) -> None:
    done: list[Document] = []
    put_aside: list[tuple[str, str]] = []

    async def program() -> None:
        contract = orders()
        async with broker() as sqs:
            url = await sqs.create("q")
            async with BatchProducer(SqsTarget(sqs, url)) as producer:
                for body in ('{"sum": 1}', "{", contract.write(GOOD)):
                    await producer.put({"MessageBody": body})

            async def handle(order: Document, message: Message) -> None:
                done.append(order)

            async def quarantine(message: Message, error: Exception) -> None:
                put_aside.append((message.body, type(error).__name__))

            policy = ConsumerPolicy(wait_s=1)
            consumer = BatchConsumer(AioSqs(sqs, url), contract.handler(handle), policy, quarantine=quarantine)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.run)
                await sqs.until_empty(url)
                consumer.stop()

    run_virtually(backend, program)
    assert sorted(order["currency"] for order in done) == ["CHF", "EUR"]
    assert put_aside == [("{", "ContractViolation")]
