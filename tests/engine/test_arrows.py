"""Who may import whom. Arrows run protocols -> broker -> store; time, chance and the network have their places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OUTSIDE = {
    "time",
    "random",
    "uuid",
    "secrets",
    "datetime",
    "asyncio",
    "trio",
    "socket",
    "http",
    "urllib",
    "ssl",
    "select",
}
ALLOWED_OUTSIDE = {"broker/clock.py": {"time", "datetime"}, "broker/entropy.py": {"random"}}


@cache
def modules(folder: str) -> list[tuple[str, set[str]]]:
    """Each file of a folder, and the dotted names of all it imports, wherever it does."""
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py"))]
    return [(path.as_posix(), set(imports(path))) for path in paths]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: -node.level] if node.level else ()
            module = ".".join([*package, node.module] if node.module else package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offenders(folder: str, *forbidden: str) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, names in modules(folder)
        for imported in sorted(names)
        if any(imported == module or imported.startswith(f"{module}.") for module in forbidden)
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(modules("broker")) > 20
    assert len(modules("protocols")) > 10
    assert "broker.clock.Clock" in dict(modules("broker"))["broker/core.py"]


def test_the_engine_knows_no_clock_no_chance_and_no_network() -> None:
    found = [
        f"{name} imports {imported}"
        for name, names in modules("broker")
        for imported in sorted(names)
        if imported.split(".")[0] in OUTSIDE - ALLOWED_OUTSIDE.get(name, set())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("broker", ["protocols", "patterns"]),
        ("broker/store", ["broker.queues", "broker.topics", "broker.core", "broker.clock", "broker.entropy"]),
        ("protocols", ["patterns", "sqlite3", "broker.store.sqlite_queues", "broker.store.schema"]),
        ("patterns", ["broker", "protocols"]),
    ],
)
def test_arrows_run_one_way(folder: str, forbidden: list[str]) -> None:
    assert offenders(folder, *forbidden) == []


def test_only_the_store_knows_sqlite() -> None:
    assert [line for line in offenders("broker", "sqlite3") if not line.startswith("broker/store/")] == []
