"""Other people's SDKs, each in an environment of its own under .venvs/, made when a test first asks for it.

Without the toolchain or the network a test is skipped and says why; it never fails for that. A program of the tests
stands beside them, knows nothing of pytest, finds the broker through the usual environment variables, and fails by its
exit code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venvs"
INSTALL_S = 300
RUN_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


def _install(what: str, command: list[str | Path], where: Path) -> None:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what}: not installed after {INSTALL_S} s")
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if re.search("error", line, re.IGNORECASE)]
        pytest.skip(f"{what} cannot be installed: {said[0].strip() if said else f'exit code {done.returncode}'}")


def _fresh(name: str, wanted: str) -> tuple[Path, bool]:
    """An environment's directory, and whether it is as wanted. The stamp is written when it is complete."""
    directory = ENVIRONMENTS / name
    stamp = directory / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return directory, True
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory, False


@pytest.fixture(scope="session")
def python_with() -> Callable[..., Path]:
    """`python_with(name, *requirements)`: the `bin` directory of a virtual environment that has them."""

    def make(name: str, *requirements: str) -> Path:
        wanted = f"{sys.version}\n{' '.join(requirements)}"
        directory, ready = _fresh(f"sdk-{name}", wanted)
        if not ready:
            venv.create(directory, with_pip=False, symlinks=True)
            python = directory / "bin" / "python"
            pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
            _install(" ".join(requirements), [*pip, "--disable-pip-version-check", *requirements], directory)
            (directory / "installed").write_text(wanted)
        return directory / "bin"

    return make


@pytest.fixture(scope="session")
def node_with() -> Callable[..., Path]:
    """`node_with(name, least_node, **packages)`: a directory whose node_modules has them."""

    def make(name: str, least_node: int, packages: dict[str, str]) -> Path:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            pytest.skip("Node and npm are not on this machine")
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(version.lstrip("v").partition(".")[0]) < least_node:
            pytest.skip(f"Node {least_node} or newer is needed, this machine has {version}")
        manifest = json.dumps({"private": True, "type": "module", "dependencies": packages})
        wanted = f"{version}\n{manifest}"
        directory, ready = _fresh(f"sdk-{name}", wanted)
        if not ready:
            (directory / "package.json").write_text(manifest)
            install: list[str | Path] = [npm, "install", "--no-audit", "--no-fund", "--no-progress", "--ignore-scripts"]
            _install(", ".join(packages), install, directory)
            (directory / "installed").write_text(wanted)
        return directory

    return make


@pytest.fixture(scope="session")
def java_with() -> Callable[..., str]:
    """`java_with(name, least_java, *artifacts)`: a class path that has them, each `group:name:version`, by Maven."""

    def make(name: str, least_java: int, *artifacts: str) -> str:
        java, maven = shutil.which("java"), shutil.which("mvn")
        if java is None or maven is None:
            pytest.skip("Java and Maven are not on this machine")
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
        version = re.search(r'"([0-9]+)', said)
        if version is None or int(version[1]) < least_java:
            pytest.skip(f"Java {least_java} or newer is needed, this machine has {said.splitlines()[0]}")
        directory, ready = _fresh(f"sdk-{name}", " ".join(artifacts))
        if not ready:
            (directory / "pom.xml").write_text(_pom(artifacts))
            command: list[str | Path] = [maven, "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=classpath"]
            _install(", ".join(artifacts), command, directory)
            (directory / "installed").write_text(" ".join(artifacts))
        return (directory / "classpath").read_text()

    return make


def _pom(artifacts: tuple[str, ...]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *artifact.split(":")
        )
        for artifact in artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>sidebus</groupId><artifactId>client</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


@pytest.fixture
def client_environment(sidebus: Any, account: str) -> dict[str, str]:
    """What a user sets, and nothing of this machine's own AWS configuration."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    return {
        **inherited,
        "AWS_ENDPOINT_URL": sidebus.url,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost," + os.environ.get("NO_PROXY", ""),
    }


@pytest.fixture
def run_client(client_environment: dict[str, str]) -> Callable[..., str]:
    """Runs a program against the broker and returns what it printed; what it said when it failed is in the report."""

    def run(*command: str | Path, where: Path = HERE, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=where,
            env={**client_environment, **environment},
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
