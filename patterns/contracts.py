"""What a message must look like, by JSON Schema and version: strict for who writes it, tolerant for who reads it.

Pure: a `Contract` is told documents and says what they are. The rule: only the latest version is written, with members
that its schema knows; what is read is of any version, may have members nobody knows yet, and comes out as the latest.
Ugly: JSON Schema cannot say "ignore what you do not know", so `narrow` leaves it out before a document is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from patterns.batch_consumer import Handler, Message, Poison

Schema = Mapping[str, Any]
Document = dict[str, Any]
Upcaster = Callable[[Document], Document]
Validate = Callable[[Any], None]  # raises ContractViolation
Compile = Callable[[Schema], Validate]


class ContractViolation(Poison):
    """The document is not what the contract says: trying again will not help."""


def with_jsonschema(schema: Schema) -> Validate:
    """By `jsonschema`, which tells all that is wrong and where. Raises its SchemaError for a bad schema."""
    import jsonschema  # type: ignore[import-not-found, import-untyped, unused-ignore]

    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)

    def validate(document: Any) -> None:
        errors = sorted(validator.iter_errors(document), key=lambda error: error.json_path)
        if errors:
            raise ContractViolation("; ".join(f"{error.json_path}: {error.message}" for error in errors[:5]))

    return validate


def with_fastjsonschema(schema: Schema) -> Validate:
    """By `fastjsonschema`: the schema becomes Python code, quicker by far, up to draft 7; it tells the first error."""
    import fastjsonschema  # type: ignore[import-not-found, import-untyped, unused-ignore]

    compiled = fastjsonschema.compile(dict(schema), use_default=False)

    def validate(document: Any) -> None:
        try:
            compiled(document)
        except fastjsonschema.JsonSchemaValueException as error:
            raise ContractViolation(str(error)) from error

    return validate


def narrow(document: Any, schema: Schema, root: Schema | None = None) -> Any:
    """The document without the members its schema does not know.

    Everything is known where the schema names no properties, or has an `additionalProperties` that is not false. With
    allOf, anyOf, oneOf, then and else what any of the branches knows is known. References lead within the schema.
    """
    root = schema if root is None else root
    parts = _parts(schema, root)
    if isinstance(document, dict):
        properties = [part["properties"] for part in parts if "properties" in part]
        is_open = not properties or any(
            part.get("additionalProperties", False) is not False or "patternProperties" in part for part in parts
        )
        narrowed = {}
        for name, value in document.items():
            known = [one[name] for one in properties if name in one]
            if known:
                narrowed[name] = narrow(value, {"allOf": known}, root)
            elif is_open:
                narrowed[name] = value
        return narrowed
    if isinstance(document, list):
        items = [part["items"] for part in parts if isinstance(part.get("items"), dict) and "prefixItems" not in part]
        return [narrow(value, {"allOf": items}, root) for value in document] if items else document
    return document


def _parts(schema: Any, root: Schema) -> list[Schema]:
    """A schema and those it is made of, references followed once each."""
    parts: list[Schema] = []
    seen: set[str] = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        parts.append(part)
        for word in ("allOf", "anyOf", "oneOf"):
            waiting.extend(part.get(word, ()))
        waiting.extend(part[word] for word in ("if", "then", "else") if word in part)
        reference = part.get("$ref", "")
        if reference.startswith("#") and reference not in seen:
            seen.add(reference)
            waiting.append(_at(root, reference))
    return parts


def _at(root: Schema, reference: str) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


class Contract:
    """The versions of one kind of document. `schemas` are by version, `upcasters[n]` makes n + 1 of n.

    A document says its version in `version_member`; without one it is of the oldest. `with_jsonschema` and
    `with_fastjsonschema` compile schemas; anything else that does may be given.
    """

    def __init__(
        self,
        name: str,
        schemas: Mapping[int, Schema],
        upcasters: Mapping[int, Upcaster] | None = None,
        *,
        compile: Compile = with_jsonschema,
        version_member: str = "version",
        keep_unknown: bool = False,
    ) -> None:
        """`keep_unknown` gives readers also the members that no schema knows, unchecked, to pass them on."""
        upcasters = upcasters or {}
        versions = sorted(schemas)
        if not versions or versions != list(range(versions[0], versions[-1] + 1)):
            raise ValueError("there is a schema for each version from the oldest to the latest")
        if sorted(upcasters) != versions[:-1]:
            raise ValueError(f"there is an upcaster for each version but the latest: {versions[:-1]}")
        self.name = name
        self.oldest, self.latest = versions[0], versions[-1]
        self._schemas = schemas
        self._names_version = {
            version: any(version_member in part.get("properties", ()) for part in _parts(schema, schema))
            for version, schema in schemas.items()
        }
        self._validate = {version: compile(schema) for version, schema in schemas.items()}
        self._upcasters = upcasters
        self._version_member = version_member
        self._keep_unknown = keep_unknown

    def write(self, document: Mapping[str, Any]) -> str:
        """The document as JSON, with its version. Raises ContractViolation, also for members that no schema knows."""
        if document.get(self._version_member, self.latest) != self.latest:
            raise self._violation(f"version {document[self._version_member]} is not written any more")
        stamped = {**document, self._version_member: self.latest}
        seen = self._seen(self.latest, stamped)
        unknown = _left_out(seen, narrow(seen, self._schemas[self.latest]))
        if unknown:
            raise self._violation(f"unknown: {', '.join(unknown)}")
        self._check(self.latest, seen)
        try:
            return json.dumps(stamped, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self._violation(str(error)) from error

    def read(self, text: str | bytes) -> Document:
        """A document of any version as one of the latest. Raises ContractViolation.

        One of a version that is not known yet is read as the latest, if without what is new it is one.
        """
        try:
            document = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise self._violation(f"no JSON: {error}") from error
        if not isinstance(document, dict):
            raise self._violation("not an object")
        version = document.get(self._version_member, self.oldest)
        if not isinstance(version, int) or isinstance(version, bool) or version < self.oldest:
            raise self._violation(f"version {version!r} is not read any more")
        for known in range(min(version, self.latest), self.latest):
            document = self._checked(known, document)
            try:
                document = {**self._upcasters[known](document), self._version_member: known + 1}
            except Exception as error:
                raise self._violation(f"from version {known}: {error!r}") from error
        return {**self._checked(self.latest, document), self._version_member: self.latest}

    def handler(self, handle: Callable[[Document, Message], Awaitable[None]]) -> Handler:
        """For BatchConsumer: `handle` is given the latest version; what breaks the contract is quarantined at once."""

        async def checked(message: Message) -> None:
            await handle(self.read(message.body), message)

        return checked

    def _checked(self, version: int, document: Document) -> Document:
        narrowed: Document = narrow(self._seen(version, document), self._schemas[version])
        self._check(version, narrowed)
        return document if self._keep_unknown else narrowed

    def _seen(self, version: int, document: Document) -> Document:
        """What the schema is shown: it may say something of the version, or know nothing of it."""
        seen = {**document, self._version_member: version}
        if not self._names_version[version]:
            del seen[self._version_member]
        return seen

    def _check(self, version: int, document: Document) -> None:
        try:
            self._validate[version](document)
        except ContractViolation as error:
            raise self._violation(f"version {version}: {error}") from error

    def _violation(self, what: str) -> ContractViolation:
        return ContractViolation(f"{self.name}: {what}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _left_out(whole: Any, narrowed: Any, path: str = "$") -> list[str]:
    if isinstance(whole, dict):
        gone = [f"{path}.{name}" for name in whole if name not in narrowed]
        return gone + [one for name in narrowed for one in _left_out(whole[name], narrowed[name], f"{path}.{name}")]
    if isinstance(whole, list):
        pairs = enumerate(zip(whole, narrowed, strict=True))
        return [one for place, (ours, theirs) in pairs for one in _left_out(ours, theirs, f"{path}[{place}]")]
    return []
