"""Fetches the servers that the benchmark compares with, each into its own folder under `.venvs/`.

`python -m bench.install [NAME ...]` does it ahead of time; the benchmarks do it on demand. Versions are
pinned, so that two runs compare the same programs: raise them here. A missing toolchain or package costs one line.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".venvs"
INSTALL_TIMEOUT_S = 600

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bench</groupId><artifactId>elasticmq</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.elasticmq</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"""


class Missing(Exception):
    """What stops an installation, as one sentence."""


def folder(name: str) -> Path:
    return CACHE / f"bench-{name}"


def ensure(name: str) -> None:
    """Install this peer unless it is there; raises `Missing` with the reason."""
    package, version, install = PEERS[name]
    target = folder(name)
    stamp = target / f"installed-{version}"
    if stamp.exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    print(f"installing {package} {version} …", file=sys.stderr, flush=True)
    try:
        install(target, package, version)
    except Missing:
        shutil.rmtree(target, ignore_errors=True)
        raise
    stamp.touch()


def _pip(target: Path, package: str, version: str) -> None:
    _run([sys.executable, "-m", "venv", str(target)], target)
    _run([str(target / "bin/python"), "-m", "pip", "install", "--quiet", f"{package}=={version}"], target)


def _npm(target: Path, package: str, version: str) -> None:
    _need("node")
    _run([_need("npm"), "install", "--no-audit", "--no-fund", "--prefix", ".", f"{package}@{version}"], target)


def _maven(target: Path, package: str, version: str) -> None:
    _need("java")
    (target / "pom.xml").write_text(POM.format(artifact=package, version=version))
    _run([_need("mvn"), "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"], target)


def _need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Missing(f"`{program}` is not on this machine")
    return path


def _run(command: list[str], cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"`{Path(command[0]).name}` took longer than {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if "error" in line.lower()] or said or ["no output"]
        raise Missing(f"`{Path(command[0]).name}` failed: {errors[0][:200]}")


PEERS: dict[str, tuple[str, str, Callable[[Path, str, str], None]]] = {
    "moto": ("moto[server]", "5.2.5", _pip),
    "ministack": ("ministack", "1.5.33", _pip),
    "fauxqs": ("fauxqs", "1.9.2", _npm),
    "elasticmq": ("elasticmq-server_2.13", "1.7.1", _maven),
    "kinesis-local": ("kinesis-local", "0.6.2", _npm),
    "kinesalite": ("kinesalite", "3.3.3", _npm),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(PEERS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or PEERS:
        try:
            ensure(name)
            print(f"{name}: ready")
        except Missing as reason:
            failed = 1
            print(f"{name}: skipped, {reason}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
