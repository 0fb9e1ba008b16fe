"""How long the first `sidebus` fixture of a pytest run takes, with all it imports: `python -m bench.fixture`.

Each round is a pytest process of its own that has imported boto3, as a suite of somebody's has.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_CONFTEST = """
import time, pytest

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    processor_s, wall_s = time.process_time(), time.perf_counter()
    value = yield
    if fixturedef.argname == "sidebus":
        print("took", (time.process_time() - processor_s) * 1000, (time.perf_counter() - wall_s) * 1000)
    return value
"""
_TEST = "import boto3\n\ndef test_first(sidebus): pass\n\ndef test_second(sidebus): pass\n"


def _round(folder: Path) -> list[tuple[float, float]]:
    """Milliseconds of processor and of wall, of the first fixture and the second."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(folder)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout
    taken = [line.partition("took ")[2].split() for line in output.splitlines() if "took " in line]
    return [(float(processor), float(wall)) for processor, wall in taken]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: python -m bench.fixture --rounds 20"
    )
    parser.add_argument("--rounds", type=int, default=10, help="pytest processes to start (default: 10)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST)
        (folder / "test_it.py").write_text(_TEST)
        _round(folder)  # compiles
        found = [_round(folder) for _ in range(rounds)]
    for which, place in (("first fixture", 0), ("every later one", 1)):
        for what, index in (("processor", 0), ("wall", 1)):
            taken = sorted(one[place][index] for one in found)
            print(f"{which:16} {what:10} {taken[0]:7.1f} ms at best, {statistics.median(taken):7.1f} in the middle")


if __name__ == "__main__":
    main()
