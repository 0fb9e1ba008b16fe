"""The outbox of patterns/ on a PostgreSQL of its own, which ends with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_S = 60


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a fresh cluster behind a Unix socket. It does not run as root, so it may have another user."""
    programs = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL is not on this machine")
    initdb, pg_ctl = map(str, programs)
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)

        def run(*command: str) -> None:
            subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL, timeout=START_S)

        run(initdb, "-D", f"{folder}/data", "-U", "sidebus", "-A", "trust", "-N")
        run(pg_ctl, "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -h ''", "start")
        try:
            yield f"postgresql:///postgres?host={folder}&user=sidebus"
        finally:
            run(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "stop")


def test_asyncpg_and_psycopg(postgresql: str, python_with: Callable[..., Path], run_client: Callable[..., str]) -> None:
    binaries = python_with("postgresql", "anyio>=4.6", "asyncpg~=0.30", "psycopg[binary]~=3.2")
    printed = run_client(binaries / "python", "outbox_postgresql.py", postgresql, PYTHONPATH=str(ROOT))
    assert printed.count("192 rows sent in order per key") == 2, printed
