"""The pytest plugin: fixtures `sidebus`, `sidebus_instance`, `sidebus_in_process`, and the mark and options for them.

The rule: whoever asks for no fixture pays next to nothing, so only pytest is imported here. The broker starts with
the first test that wants it, in a thread of its own, and serves all tests of this process: each is an account of its
own. Every test's chance comes from the run's seed and its name, so `--sidebus-seed` replays one test as well as all.

Ugly: pytest rewrites the asserts of all modules of a distribution that has a plugin. Ours has hundreds without a test
among them, so they are imported past its hook: see `_starting`.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from protocols.testing.control import ClockControl, FaultsControl, LedgerControl
    from protocols.testing.in_process import SidebusInProcess
    from protocols.testing.sidebus import Sidebus
    from protocols.testing.thread import BrokerThread

MARK = (
    "sidebus(instance=False, data=None, limits='relaxed', seed=None, plan=None, ledger=True, region='us-east-1'): "
    "what kind of broker the test wants. instance: one of its own; data: a directory, or True for a temporary one; "
    "plan: the faults, as a dict or a file. Asking for data or limits is asking for an instance."
)


class Options(NamedTuple):
    """What the mark and the ini file say."""

    instance: bool = False
    data: Path | bool | None = None
    limits: str = "relaxed"
    seed: int | str | None = None  # None: of the run and the test's name
    plan: Any = None  # a dict, or a file
    ledger: bool = True
    region: str = "us-east-1"


_run_seed: pytest.StashKey[int] = pytest.StashKey()
_brokers: pytest.StashKey[Brokers] = pytest.StashKey()
_of_test: pytest.StashKey[Sidebus | None] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sidebus")
    group.addoption(
        "--sidebus-seed", type=int, metavar="N", help="all chance comes from it; a failed test names that of its run"
    )
    parser.addini("sidebus_instance", "true: each test has a broker of its own", "bool", False)
    parser.addini("sidebus_data", "a directory to keep the broker's data in, or true for a temporary one", default="")
    parser.addini("sidebus_limits", "aws or relaxed", default="relaxed")
    parser.addini("sidebus_seed", "as --sidebus-seed", default="")
    parser.addini("sidebus_plan", "a file with the faults of all tests", default="")
    parser.addini("sidebus_ledger", "false: nothing is written down of what happens to messages", "bool", True)
    parser.addini("sidebus_region", "the region of clients", default="us-east-1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
    seed = _worker_input(config).get("sidebus_seed")
    if seed is None:
        seed = config.getoption("sidebus_seed")
    if seed is None:
        text = str(config.getini("sidebus_seed"))
        if text and not text.isdecimal():
            raise pytest.UsageError(f"sidebus_seed takes a whole number, not {text}")
        seed = int(text) if text else random.SystemRandom().getrandbits(32)
    config.stash[_run_seed] = seed
    config.stash[_brokers] = Brokers(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _brokers in config.stash:
        config.stash[_brokers].close()


def pytest_report_header(config: pytest.Config) -> str | None:
    asked = config.getoption("sidebus_seed") is not None or config.getini("sidebus_seed")
    return f"sidebus: seed {config.stash[_run_seed]}" if asked or config.get_verbosity() > 0 else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: all workers have the seed of the run."""
    node.workerinput["sidebus_seed"] = node.config.stash[_run_seed]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    sidebus = item.stash.get(_of_test, None)
    if sidebus is not None and report.failed:
        with _starting():
            from protocols.testing.report import account_of_failure
        again = f"pytest --sidebus-seed={item.config.stash[_run_seed]} '{_from_here(item)}'"
        report.sections.append(("sidebus", account_of_failure(sidebus, again)))
    return report


def _from_here(item: pytest.Item) -> str:
    """The test's name for a run from where this one was started, within quotation marks of a shell."""
    here, rest = item.config.invocation_params.dir, item.nodeid.partition("::")[2]
    path = item.path.relative_to(here) if item.path.is_relative_to(here) else item.path
    return f"{path.as_posix()}::{rest}".replace("'", "'\"'\"'")


# fixtures -----------------------------------------------------------------------------------------


@pytest.fixture
def sidebus(request: pytest.FixtureRequest) -> Iterator[Sidebus]:
    """An account of its own on a running broker; AWS_ENDPOINT_URL and credentials are set for code under test."""
    yield from _sidebus(request, options_of(request))


@pytest.fixture
def sidebus_instance(request: pytest.FixtureRequest) -> Iterator[Sidebus]:
    """As `sidebus`, on a broker of its own."""
    yield from _sidebus(request, options_of(request)._replace(instance=True))


@pytest.fixture
def sidebus_in_process(request: pytest.FixtureRequest) -> Iterator[SidebusInProcess]:
    """As `sidebus`, without a socket or a thread: boto3 calls the broker, whose clock jumps where somebody waits."""
    with _starting():
        from protocols.testing.in_process import in_process
    options = options_of(request)
    if options.data is not None:
        raise pytest.UsageError("sidebus_in_process keeps nothing in a directory: use sidebus")
    name, seed = _name_and_seed(request.node, options)
    with in_process(
        name, seed=seed, limits=options.limits, region=options.region, plan=options.plan, ledger=options.ledger
    ) as sidebus:
        request.node.stash[_of_test] = sidebus
        yield sidebus
        request.node.stash[_of_test] = None


@pytest.fixture
def sidebus_clock(sidebus: Sidebus) -> ClockControl:
    """The broker's clock: now, freeze, resume, set, advance, speed. It is put right after the test."""
    return sidebus.clock


@pytest.fixture
def sidebus_faults(sidebus: Sidebus) -> FaultsControl:
    """What goes wrong in the broker: load, profile, add, remove, clear, show. Nothing of it outlives the test."""
    return sidebus.faults


@pytest.fixture
def sidebus_ledger(sidebus: Sidebus) -> LedgerControl:
    """What happened to each message of the test: show, verdict, entries, effect."""
    return sidebus.ledger


def _sidebus(request: pytest.FixtureRequest, options: Options) -> Iterator[Sidebus]:
    with ExitStack() as stack:
        broker = request.config.stash[_brokers].get(options, stack)
        with _starting():
            from protocols.testing.sidebus import isolated
        name, seed = _name_and_seed(request.node, options)
        sidebus = stack.enter_context(
            isolated(broker, name, seed=seed, region=options.region, plan=options.plan, ledger=options.ledger)
        )
        request.node.stash[_of_test] = sidebus
        yield sidebus
        request.node.stash[_of_test] = None


def _name_and_seed(item: pytest.Item, options: Options) -> tuple[str, int | str]:
    runs = item.config.stash[_brokers].runs
    runs[item.nodeid] = number = runs.get(item.nodeid, 0) + 1
    name = f"{item.config.stash[_run_seed]}/{item.nodeid}" + (f"/{number}" if number > 1 else "")  # by a rerun
    return name, name if options.seed is None else options.seed


# options ------------------------------------------------------------------------------------------


def options_of(request: pytest.FixtureRequest) -> Options:
    """The ini file's, and over them those of the marks, the closest last."""
    config = request.config
    plan = str(config.getini("sidebus_plan"))
    options = _ini_options(config)._replace(plan=config.rootpath / plan if plan else None)
    for mark in reversed(list(request.node.iter_markers("sidebus"))):
        unknown = sorted(mark.kwargs.keys() - set(Options._fields))
        if mark.args or unknown:
            wrong = f"{unknown[0]}=" if unknown else "positional arguments"
            raise pytest.UsageError(f"pytest.mark.sidebus takes {', '.join(Options._fields)} by name, not {wrong}")
        options = options._replace(**mark.kwargs)
    return options._replace(data=_data(options.data), plan=_plan(options.plan, request))


def _ini_options(config: pytest.Config) -> Options:
    return Options(
        instance=bool(config.getini("sidebus_instance")),
        data=_data(config.getini("sidebus_data")),
        limits=str(config.getini("sidebus_limits")),
        ledger=bool(config.getini("sidebus_ledger")),
        region=str(config.getini("sidebus_region")),
    )


def _data(value: object) -> Path | bool | None:
    if not value or value == "false":
        return None
    return True if value is True or value == "true" else Path(str(value))


def _plan(value: Any, request: pytest.FixtureRequest) -> Any:
    """A file that a mark names lies beside its test."""
    return request.path.parent / value if isinstance(value, str) else value


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    """What xdist tells a worker; empty elsewhere."""
    return getattr(config, "workerinput", {})


# brokers ------------------------------------------------------------------------------------------


class Brokers:
    """The one that tests share, started when the first asks for it, and those of single tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._options = _ini_options(config)
        self._for_all: BrokerThread | None = None
        self._stack = ExitStack()
        self.runs: dict[str, int] = {}  # of each test

    def get(self, options: Options, of_test: ExitStack) -> BrokerThread:
        shared = self._options
        if options.instance or (options.data, options.limits) != (shared.data, shared.limits):
            return of_test.enter_context(self._made(options, of_test))
        if self._for_all is None:
            with _starting():
                self._for_all = self._stack.enter_context(self._made(options, self._stack))
        return self._for_all

    def close(self) -> None:
        self._stack.close()
        self._for_all = None

    def _made(self, options: Options, stack: ExitStack) -> BrokerThread:
        with _starting():
            from protocols.testing.thread import BrokerThread
        if options.limits not in ("aws", "relaxed"):
            raise pytest.UsageError(f"sidebus: limits takes aws or relaxed, not {options.limits}")
        data = options.data
        if data is True:
            from tempfile import TemporaryDirectory

            data = Path(stack.enter_context(TemporaryDirectory(prefix="sidebus-")))
        elif data:
            data = self._config.rootpath / data / _worker_input(self._config).get("workerid", "")
        return BrokerThread(data or None, limits=options.limits)


@contextmanager
def _starting() -> Iterator[None]:
    """Imports within do not go through pytest's hook, which would compile all of it once more (0.7 s the first time).
    And no garbage is collected: there is none, and looking for it in what pytest and boto3 hold takes 40 ms."""
    collecting = gc.isenabled()
    gc.disable()
    sys.meta_path.insert(0, PathFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(PathFinder)
        if collecting:
            gc.enable()
