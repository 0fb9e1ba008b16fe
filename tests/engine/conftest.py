"""Brokers on virtual time, closed when the test is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.limits import AWS
from engine.support import Engine

NewEngine = Callable[..., Engine]


@pytest.fixture
def new_engine() -> Iterator[NewEngine]:
    """Opens engines: `new_engine(directory, limits=…, seed=…)`."""
    with contextlib.ExitStack() as opened:

        def new(*arguments: Path, **options: object) -> Engine:
            engine = Engine(*arguments, **options)  # type: ignore[arg-type]
            opened.callback(lambda: engine.close())
            return engine

        yield new


@pytest.fixture
def engine(new_engine: NewEngine) -> Engine:
    """In memory, relaxed."""
    return new_engine()


@pytest.fixture
def aws(new_engine: NewEngine) -> Engine:
    """In memory, with AWS's quotas and waiting times."""
    return new_engine(limits=AWS)


@pytest.fixture
def on_disk(new_engine: NewEngine, tmp_path: Path) -> Engine:
    """In a directory, relaxed."""
    return new_engine(tmp_path / "data")
