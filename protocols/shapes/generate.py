"""Writes `tables/`: AWS's service models, cut down to what a server needs. Run `python -m protocols.shapes.generate`.

The models come from the botocore that is installed, so a table names the version it was made from. SQS is the ugly
one: since 2023 its model is JSON only, and says neither the names of its query parameters nor its query error codes.
The names stand in `tables/sqs_query.py`, taken once from botocore 1.29.165, the last series that had them
(`--query-model PATH` with its wheel or its service-2.json writes that file anew; `--query-model download` has pip
fetch the wheel first). The error codes of the newer errors are in `SQS_QUERY_ERRORS` below.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

Model = dict[str, Any]

SERVICES = ("sqs", "sns", "sts", "events", "kinesis", "dynamodb")
ONLY = {
    "sts": ("GetCallerIdentity",),
    "dynamodb": (
        "BatchGetItem",
        "BatchWriteItem",
        "CreateTable",
        "DeleteItem",
        "DeleteTable",
        "DescribeContinuousBackups",
        "DescribeTable",
        "DescribeTimeToLive",
        "GetItem",
        "ListTables",
        "ListTagsOfResource",
        "PutItem",
        "Query",
        "Scan",
        "TagResource",
        "UntagResource",
        "UpdateContinuousBackups",
        "UpdateItem",
        "UpdateTable",
        "UpdateTimeToLive",
    ),
}
# A shape that contains itself: the codecs pass it through, and the engine reads it.
DOCUMENTS = {"dynamodb": ("AttributeValue",)}
QUERY_BOTOCORE = "1.29.165"
TABLES = Path(__file__).parent / "tables"

SQS_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"

CONSTRAINTS = ("min", "max", "pattern", "enum", "sensitive", "flattened", "eventstream", "event")

# From AWS's SDK for JavaScript v3 (@aws-sdk/client-sqs 3.1169.0), whose generated schemas still carry the trait
# awsQueryError: code and HTTP status. An error that is absent has its own name as its code, and status 400.
SQS_QUERY_ERRORS = {
    "BatchEntryIdsNotDistinct": ("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400),
    "BatchRequestTooLong": ("AWS.SimpleQueueService.BatchRequestTooLong", 400),
    "EmptyBatchRequest": ("AWS.SimpleQueueService.EmptyBatchRequest", 400),
    "InvalidAddress": ("InvalidAddress", 404),
    "InvalidBatchEntryId": ("AWS.SimpleQueueService.InvalidBatchEntryId", 400),
    "InvalidSecurity": ("InvalidSecurity", 403),
    "KmsAccessDenied": ("KMS.AccessDeniedException", 400),
    "KmsDisabled": ("KMS.DisabledException", 400),
    "KmsInvalidKeyUsage": ("KMS.InvalidKeyUsageException", 400),
    "KmsInvalidState": ("KMS.InvalidStateException", 400),
    "KmsNotFound": ("KMS.NotFoundException", 400),
    "KmsOptInRequired": ("KMS.OptInRequired", 403),
    "KmsThrottled": ("KMS.ThrottlingException", 400),
    "MessageNotInflight": ("AWS.SimpleQueueService.MessageNotInflight", 400),
    "OverLimit": ("OverLimit", 403),
    "PurgeQueueInProgress": ("AWS.SimpleQueueService.PurgeQueueInProgress", 403),
    "QueueDeletedRecently": ("AWS.SimpleQueueService.QueueDeletedRecently", 400),
    "QueueDoesNotExist": ("AWS.SimpleQueueService.NonExistentQueue", 400),
    "QueueNameExists": ("QueueAlreadyExists", 400),
    "ReceiptHandleIsInvalid": ("ReceiptHandleIsInvalid", 404),
    "RequestThrottled": ("RequestThrottled", 403),
    "ResourceNotFoundException": ("ResourceNotFoundException", 404),
    "TooManyEntriesInBatchRequest": ("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400),
    "UnsupportedOperation": ("AWS.SimpleQueueService.UnsupportedOperation", 400),
}

# Younger than the query model; named as its neighbours AttributeNameList and MessageAttributeNameList are.
SQS_QUERY_NAMES_SINCE = {"MessageSystemAttributeList": {"member": "MessageSystemAttributeName"}}

# These two patterns of EventBridge take exponential time in a backtracking matcher; the same language, linear.
SAFE_PATTERNS = {
    r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$": r"\t*[^\x00-\x1F:\x7F][^\x00-\x08\x0A-\x1F:\x7F]*",
    r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$": r"\t*[\x20-\x7E][\t\x20-\x7E]*",
}


def botocore_version() -> str:
    return str(importlib.import_module("botocore").__version__)


def botocore_model(service: str) -> Model:
    """The newest service-2 model of the installed botocore."""
    data = Path(str(importlib.import_module("botocore").__file__)).parent / "data"
    newest = max(path for path in (data / service).iterdir() if path.is_dir())
    return _read_model(next(newest.glob("service-2.json*")).read_bytes())


def query_model(path: Path) -> Model:
    """SQS's query model, from a botocore wheel or a service-2.json(.gz)."""
    if path.suffix != ".whl":
        return _read_model(path.read_bytes())
    with zipfile.ZipFile(path) as wheel:
        name = next(n for n in wheel.namelist() if "/data/sqs/2012-11-05/service-2.json" in n)
        return _read_model(wheel.read(name))


def download_query_wheel(directory: str) -> Path:
    pinned = f"botocore=={QUERY_BOTOCORE}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, pinned]
    subprocess.run(pip, check=True)
    return next(Path(directory).glob("botocore-*.whl"))


def _read_model(raw: bytes) -> Model:
    model: Model = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    return model


def render(service: str) -> str:
    """The text of `tables/<service>.py`."""
    model = botocore_model(service)
    meta = model["metadata"]
    shapes = model["shapes"]
    query: dict[str, Any] = {}
    protocols = tuple(meta["protocols"])
    if service == "sqs":
        protocols = (*protocols, "query")
        query = importlib.import_module("protocols.shapes.tables.sqs_query").NAMES | SQS_QUERY_NAMES_SINCE
    operations = {}
    for name, operation in sorted(model["operations"].items()):
        if service not in ONLY or name in ONLY[service]:
            output = operation.get("output", {})
            if output.get("resultWrapper", name + "Result") != name + "Result":
                raise ValueError(f"{service} {name}: the result element is not {name}Result")
            failures = tuple(error["shape"] for error in operation.get("errors", ()))
            operations[name] = (operation.get("input", {}).get("shape"), output.get("shape"), failures)
    shapes |= {name: {"type": "document"} for name in DOCUMENTS.get(service, ())}
    wanted: set[str] = set()
    for input_name, output_name, _ in operations.values():
        for root in (input_name, output_name):
            if root is not None:
                _reach(shapes, root, wanted, ())
    entries = {name: _shape(shapes[name], query.get(name, {})) for name in sorted(wanted)}
    if "query" not in protocols and "query_name" in repr(entries):
        raise ValueError(f"{service}: a member has another name on the wire; the JSON codec knows no such thing")
    facts = {
        "name": service,
        "api_version": meta["apiVersion"],
        "protocols": protocols,
        "json_version": meta.get("jsonVersion"),
        "target_prefix": meta.get("targetPrefix"),
        "xml_namespace": SQS_NAMESPACE if service == "sqs" else meta.get("xmlNamespace"),
        "signing_name": meta.get("signingName", meta["endpointPrefix"]),
        "query_compatible": "awsQueryCompatible" in meta,
    }
    lines = [
        '"""Written by `python -m protocols.shapes.generate` from AWS\'s model in botocore. Do not edit."""',
        "",
        "from typing import Any",
        "",
        f"MADE_FROM = {botocore_version()!r}",
        "",
        f"SERVICE: dict[str, Any] = {facts!r}",
        "",
        "# name: (input, output, errors)",
        "OPERATIONS: dict[str, tuple[str | None, str | None, tuple[str, ...]]] = {",
        *(f"    {name!r}: {entry!r}," for name, entry in operations.items()),
        "}",
        "",
        "# name: (query code, HTTP status, is it the sender's fault)",
        "ERRORS: dict[str, tuple[str, int, bool]] = {",
        *(
            f"    {name!r}: {_error(service, name, shape)!r},"
            for name, shape in sorted(shapes.items())
            if shape.get("exception")
        ),
        "}",
        "",
        "SHAPES: dict[str, dict[str, Any]] = {",
        *(f"    {name!r}: {entry!r}," for name, entry in entries.items()),
        "}",
        "",
    ]
    return "\n".join(lines)


def _reach(shapes: Model, name: str, wanted: set[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"{name} contains itself: the codecs are compiled without a knot for that")
    if name in wanted:
        return
    for reference in _references(shapes[name]).values():
        _reach(shapes, reference["shape"], wanted, (*above, name))
    wanted.add(name)


def _references(shape: Model) -> dict[str, Model]:
    named = {part: shape[part] for part in ("member", "key", "value") if part in shape}
    return {**named, **shape.get("members", {})}


def _shape(shape: Model, query: dict[str, str]) -> Model:
    """A table entry. Members are `name: shape`, or `name: (shape, traits)` where the reference has traits."""
    entry: Model = {"type": shape["type"]}
    entry.update((key, shape[key]) for key in CONSTRAINTS if shape.get(key) is not None)
    if entry.get("pattern") in SAFE_PATTERNS:
        entry["matcher"] = SAFE_PATTERNS[entry["pattern"]]
    if "enum" in entry:
        entry["enum"] = tuple(entry["enum"])
    if shape.get("required"):
        entry["required"] = tuple(shape["required"])
    members: Model = {}
    for name, reference in _references(shape).items():
        traits: Model = {}
        if reference.get("flattened"):
            traits["flattened"] = True
        wire_name = query.get(name, reference.get("locationName"))
        if wire_name:
            traits["query_name"] = wire_name
        members[name] = (reference["shape"], traits) if traits else reference["shape"]
    if shape["type"] == "structure":
        entry["members"] = members
    else:
        entry.update(members)
    if "" in query:
        entry["query_name"] = query[""]
    return entry


def _error(service: str, name: str, shape: Model) -> tuple[str, int, bool]:
    if service == "sqs":
        code, status = SQS_QUERY_ERRORS.get(name, (name, 400))
        return code, status, True
    fault = bool(shape.get("fault"))
    error = shape.get("error", {})
    status = error.get("httpStatusCode", 500 if fault else 400)
    return error.get("code", name), status, error.get("senderFault", not fault)


def render_query_names(model: Model) -> str:
    """The text of `tables/sqs_query.py`: shape to its names in the query protocol; "" is the shape's own."""
    names: dict[str, dict[str, str]] = {}
    for name, shape in sorted(model["shapes"].items()):
        found = {part: ref["locationName"] for part, ref in _references(shape).items() if "locationName" in ref}
        if "locationName" in shape:
            found[""] = shape["locationName"]
        if found:
            names[name] = found
        error = shape.get("error")
        if error and (error["code"], error["httpStatusCode"]) != SQS_QUERY_ERRORS[name]:
            raise ValueError(f"{name}: {error} is not what SQS_QUERY_ERRORS says")
    lines = [
        '"""Written by `python -m protocols.shapes.generate --query-model` from botocore '
        f'{QUERY_BOTOCORE}. Do not edit."""',
        "",
        "NAMES: dict[str, dict[str, str]] = {",
        *(f"    {name!r}: {found!r}," for name, found in names.items()),
        "}",
        "",
    ]
    return "\n".join(lines)


def compare(service: str, model: Model) -> tuple[list[str], list[str]]:
    """What our table has and `model` has not, and what is new in `model`: operations and `Shape.Member` names."""
    table = importlib.import_module(f"protocols.shapes.tables.{service}")

    def names(operations: Model, shapes: Model) -> set[str]:
        kept = (name for name in operations if service not in ONLY or name in ONLY[service])
        opaque = DOCUMENTS.get(service, ())
        members = (
            f"{name}.{m}"
            for name, s in shapes.items()
            for m in s.get("members", ())
            if name in table.SHAPES and name not in opaque
        )
        return {*kept, *members}

    ours = names(table.OPERATIONS, table.SHAPES)
    theirs = names(model["operations"], model["shapes"])
    return sorted(ours - theirs), sorted(theirs - ours)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m protocols.shapes.generate", description=__doc__)
    parser.add_argument("--query-model", metavar="PATH", help="also renew tables/sqs_query.py; or 'download'")
    parser.add_argument("services", nargs="*", default=SERVICES)
    arguments = parser.parse_args()
    if arguments.query_model:
        with tempfile.TemporaryDirectory() as directory:
            fetch = arguments.query_model == "download"
            path = download_query_wheel(directory) if fetch else Path(arguments.query_model)
            (TABLES / "sqs_query.py").write_text(render_query_names(query_model(path)))
    for service in arguments.services:
        (TABLES / f"{service}.py").write_text(render(service))


if __name__ == "__main__":
    main()
