"""Hypothesis strategies that make values for any shape of a service, and what the other tests need around them.

They make values of the right types, near the constraints rather than within them: whether an input is also valid is
the check's business, and the tests ask it.
"""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.shapes.constraints import compile_check, violations
from protocols.shapes.model import List, Map, Operation, Scalar, Shape, Structure, load

SERVICES = ("sqs", "sns", "sts", "events", "kinesis")
EARLY = {"PutEvents", "PutRule", "PutTargets", "CreateConnection", "PutRecords", "GetRecords", "GetShardIterator"}


def operations(*services: str) -> pytest.MarkDecorator:
    """One test an operation; those of the services that are not served yet are slow, but for a few."""
    return pytest.mark.parametrize(
        ("service", "name"),
        [
            pytest.param(service, name, marks=[pytest.mark.slow] if late and name not in EARLY else [])
            for service, late in ((service, service in ("events", "kinesis")) for service in services)
            for name in sorted(load(service).operation_names)
        ],
    )


few = settings(max_examples=5, deadline=None)  # of each operation

XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, {*range(32)} - {9, 10, 13})) + "￾￿")
)


def operation(service: str, name: str) -> Operation:
    found = load(service).operation(name)
    assert found is not None
    return found


@cache
def botocore_service(service: str) -> ServiceModel:
    newest = max(p for p in (Path(botocore.__file__).parent / "data" / service).iterdir() if p.is_dir())
    return ServiceModel(json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes())), service)


def values(shape: Shape, *, text: st.SearchStrategy[str] | None = None, filled: bool = False) -> st.SearchStrategy[Any]:
    """Values of a shape. `filled`: nothing empty, since the query protocol does not write what is empty."""
    text = XML_TEXT if text is None else text
    least = 1 if filled else 0
    match shape:
        case Structure():
            members = {n: values(m.shape, text=text, filled=filled) for n, m in shape.members.items()}
            required = {n: s for n, s in members.items() if n in shape.required}
            optional = {n: s for n, s in members.items() if n not in shape.required}
            whole = st.fixed_dictionaries(required, optional=optional)
            return whole.filter(bool) if filled and members else whole
        case List():
            return st.lists(values(shape.member.shape, text=text, filled=filled), min_size=least, max_size=3)
        case Map():
            keys = values(shape.key.shape, text=text)
            items = values(shape.value.shape, text=text, filled=filled)
            return st.dictionaries(keys, items, min_size=least, max_size=3)
        case Scalar(kind="string"):
            likely = ["", "a", "0" * (shape.min or 1), "arn:aws:x", *shape.enum]
            return st.sampled_from(likely) | text
        case Scalar(kind="integer" | "long"):
            bits = 31 if shape.kind == "integer" else 63
            near = [n for n in (shape.min, shape.max) if n is not None]
            return st.sampled_from([0, 1, *near]) | st.integers(-(2**bits), 2**bits - 1)
        case Scalar(kind="boolean"):
            return st.booleans()
        case Scalar(kind="blob"):
            return st.binary(max_size=50)
        case Scalar(kind="timestamp"):
            return st.integers(0, 4_000_000_000)
        case _:
            return st.floats(allow_nan=False, allow_infinity=False)


def to_botocore(shape: Shape, value: Any) -> Any:
    """The same value as boto3's users give it: timestamps as datetime."""
    match shape:
        case Structure():
            return {n: to_botocore(shape.members[n].shape, v) for n, v in value.items()}
        case List():
            return [to_botocore(shape.member.shape, v) for v in value]
        case Map():
            return {k: to_botocore(shape.value.shape, v) for k, v in value.items()}
        case Scalar(kind="timestamp"):
            return datetime.fromtimestamp(value, UTC)
    return value


@operations(*SERVICES)
@few
@given(data=st.data())
def test_botocore_takes_what_is_generated(service: str, name: str, data: st.DataObject) -> None:
    shape = operation(service, name).input
    assert shape is not None
    value = to_botocore(shape, data.draw(values(shape)))
    model = botocore_service(service).operation_model(name).input_shape
    errors = ParamValidator().validate(value, model)._errors  # botocore looks at types and at min, not at the rest
    assert [e for e in errors if e[0] != "invalid range" and e[0] != "invalid length"] == []


@operations(*SERVICES)
@few
@given(data=st.data())
def test_the_quick_check_and_the_violations_agree(service: str, name: str, data: st.DataObject) -> None:
    op = operation(service, name)
    value = data.draw(values(op.input))
    if data.draw(st.booleans()) and value:
        del value[data.draw(st.sampled_from(sorted(value)))]
    assert compile_check(op)(value) is (violations(op, value) == [])
