"""The pytest plugin, as pytester's runs of small test files see it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

import protocols.testing.in_process
import protocols.testing.thread  # noqa: F401  # before pytester, which forgets what its runs import

pytest_plugins = ["pytester"]

ASYNCIO = "asyncio_default_fixture_loop_scope = function"  # or pytest-asyncio warns
QUIET = ["-p", "no:cacheprovider", "-p", "no:randomly"]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a file of tests in this process and returns the result."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.DEFAULT_SESSION)  # what a test puts there goes with it
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)

    def run(tests: str, *arguments: str, ini: str = "", subprocess: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_it="import os, boto3, pytest\n" + tests)
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ASYNCIO}\n{ini}")
        start = pytester.runpytest_subprocess if subprocess else pytester.runpytest
        return start(*QUIET, *arguments)

    return run


def printed(result: pytest.RunResult, word: str) -> list[str]:
    """What tests printed after a word, with -s."""
    return re.findall(rf"\b{word}: (.*)$", result.stdout.str(), re.MULTILINE)


# what a test gets ---------------------------------------------------------------------------------


def test_clients_and_code_under_test_meet_at_one_broker(run: Any) -> None:
    result = run("""
def test_one(sidebus):
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    assert url == f"{sidebus.endpoint}/{sidebus.account}/q"
    sidebus.client("sqs").send_message(QueueUrl=url, MessageBody="m")
    queue = sidebus.resource("sqs").get_queue_by_name(QueueName="q")
    assert [message.body for message in queue.receive_messages()] == ["m"]
    assert sidebus.session().client("sqs").list_queues()["QueueUrls"] == [url]
    assert boto3.client("sts").get_caller_identity()["Account"] == sidebus.account
    assert sidebus.region == "us-east-1"
""")
    result.assert_outcomes(passed=1)


def test_the_environment_is_as_before_after_each_test(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    result = run("""
def aws():
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

before = aws()
boto3.DEFAULT_SESSION = session = object()

def test_within(sidebus):
    assert aws()["AWS_ENDPOINT_URL"] == sidebus.endpoint
    assert aws()["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:2"
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_SQS"} & aws().keys()
    boto3.client("sqs").list_queues()

def test_after():
    assert aws() == before
    assert boto3.DEFAULT_SESSION is session
""")
    result.assert_outcomes(passed=2)


def test_arguments_for_sessions_made_elsewhere(run: Any) -> None:
    result = run("""
import botocore.session

def test_it(sidebus):
    client = botocore.session.get_session().create_client("sqs", **sidebus.client_arguments)
    client.create_queue(QueueName="q")
    client.close()
    assert len(boto3.Session(**sidebus.session_arguments).client("sqs").list_queues()["QueueUrls"]) == 1
""")
    result.assert_outcomes(passed=1)


# isolation ----------------------------------------------------------------------------------------

ALONE = """
@pytest.mark.parametrize("n", range(3))
def test_alone({fixture}, n):
    sqs = boto3.client("sqs")
    assert "QueueUrls" not in sqs.list_queues()
    sqs.create_queue(QueueName="q")
    print("port:", {fixture}.endpoint)
    print("account:", {fixture}.account)
"""


def test_each_test_is_an_account_of_one_broker(run: Any) -> None:
    result = run(ALONE.format(fixture="sidebus"), "-s")
    result.assert_outcomes(passed=3)
    assert len(set(printed(result, "port"))) == 1
    assert len(set(printed(result, "account"))) == 3


@pytest.mark.parametrize(
    ("fixture", "mark", "ini"),
    [
        ("sidebus", "pytestmark = pytest.mark.sidebus(instance=True)\n", ""),
        ("sidebus", "", "sidebus_instance = true"),
        ("sidebus_instance", "", ""),
        ("sidebus", "pytestmark = pytest.mark.sidebus(data=True)\n", ""),
    ],
    ids=["mark", "ini", "fixture", "data"],
)
def test_or_has_a_broker_of_its_own(run: Any, fixture: str, mark: str, ini: str) -> None:
    result = run(mark + ALONE.format(fixture=fixture), "-s", ini=ini)
    result.assert_outcomes(passed=3)
    assert len(set(printed(result, "port"))) == 3


def test_what_a_test_leaves_behind_is_gone(run: Any) -> None:
    result = run(
        """
import time

def test_first(sidebus):
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    sidebus.clock.freeze()
    sidebus.clock.advance("14d")
    sidebus.faults.add(fault="error", service="sqs", code="InternalError")
    with pytest.raises(Exception):
        boto3.client("sqs", config=boto3.session.Config(retries={"total_max_attempts": 1})).list_queues()

def test_second(sidebus):
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert abs(int(attributes["CreatedTimestamp"]) - time.time()) < 60
    assert sidebus.faults.show()["plan"] is None
""".replace("boto3.session.Config", "__import__('botocore.config').config.Config")
    )
    result.assert_outcomes(passed=2)


# options ------------------------------------------------------------------------------------------

PURGES = """
def test_purges(sidebus):
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.purge_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.PurgeQueueInProgress):
        sqs.purge_queue(QueueUrl=url)
"""


@pytest.mark.parametrize(
    ("mark", "ini"), [("@pytest.mark.sidebus(limits='aws')", ""), ("", "sidebus_limits = aws")], ids=["mark", "ini"]
)
def test_limits(run: Any, mark: str, ini: str) -> None:
    run(mark + PURGES, ini=ini).assert_outcomes(passed=1)


def test_data_lies_where_it_is_asked_for(run: Any, pytester: pytest.Pytester) -> None:
    run("def test_it(sidebus): boto3.client('sqs').create_queue(QueueName='q')", ini="sidebus_data = kept")
    assert any((pytester.path / "kept").iterdir())


def test_the_closest_mark_counts(run: Any) -> None:
    result = run("""
pytestmark = pytest.mark.sidebus(region="eu-west-1", limits="aws")

@pytest.mark.sidebus(region="eu-north-1")
def test_it(sidebus):
    assert os.environ["AWS_DEFAULT_REGION"] == sidebus.region == "eu-north-1"
    assert "eu-north-1" in boto3.client("sns").create_topic(Name="t")["TopicArn"]
""")
    result.assert_outcomes(passed=1)


def test_a_plan_by_the_mark_a_file_and_the_ini(run: Any, pytester: pytest.Pytester) -> None:
    rule = {"fault": "error", "service": "sqs", "operation": "ListQueues", "code": "OverLimit", "count": 1}
    lines = "".join(f"{name} = {str(value) if name == 'count' else repr(value)}\n" for name, value in rule.items())
    pytester.path.joinpath("plan.toml").write_text(f"[[rule]]\n{lines}".replace("'", '"'))
    body = """
    sqs = boto3.client("sqs")
    with pytest.raises(sqs.exceptions.ClientError, match="OverLimit"):
        sqs.list_queues()
    sqs.list_queues()
    assert sidebus.faults.show()["rules"][0]["struck"] == 1
"""
    tests = f"""
@pytest.mark.sidebus(plan={{"rule": [{rule}]}})
def test_mark(sidebus):{body}
@pytest.mark.sidebus(plan="plan.toml")
def test_file(sidebus):{body}
"""
    run(tests).assert_outcomes(passed=2)
    run(f"def test_ini(sidebus):{body}", ini="sidebus_plan = plan.toml").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("limit='aws'", "*sidebus takes instance, data, limits, seed, plan, ledger, region by name, not limit=*"),
        ("'aws'", "*by name, not positional arguments*"),
        ("limits='none'", "*limits takes aws or relaxed, not none*"),
    ],
)
def test_a_wrong_mark_is_refused(run: Any, mark: str, complaint: str) -> None:
    result = run(f"@pytest.mark.sidebus({mark})\ndef test_it(sidebus): pass")
    result.stdout.fnmatch_lines([complaint])
    assert result.ret != 0


# chance -------------------------------------------------------------------------------------------

CHANCE = """
@pytest.mark.parametrize("n", range(2))
def test_chance(sidebus, n):
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    sent = boto3.client("sqs").send_message(QueueUrl=url, MessageBody="m")
    with open(f"{os.environ['OUT']}/{n}", "w") as out:
        out.write(f"{sidebus.account} {sent['MessageId']}")
"""


def test_a_seed_replays_a_run_and_each_test_of_it(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*arguments: str) -> dict[str, str]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        monkeypatch.setenv("OUT", str(out))
        result = run(CHANCE, *arguments)
        assert result.ret == 0
        return {file.name: file.read_text() for file in out.iterdir()}

    whole = chosen("--sidebus-seed=5")
    assert len(set(whole.values())) == 2
    assert chosen("--sidebus-seed=5") == whole
    assert chosen("--sidebus-seed=5", "-k", "chance and 1") == {"1": whole["1"]}
    assert chosen("--sidebus-seed=6").items().isdisjoint(whole.items())
    assert chosen().items().isdisjoint(chosen().items())


def test_the_seed_of_a_mark(run: Any) -> None:
    result = run(
        """
@pytest.mark.sidebus(seed=7)
@pytest.mark.parametrize("n", range(2))
def test_it(sidebus, n):
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    print("id:", boto3.client("sqs").send_message(QueueUrl=url, MessageBody="m")["MessageId"])
""",
        "-s",
    )
    result.assert_outcomes(passed=2)
    assert len(set(printed(result, "id"))) == 1


# a failure ----------------------------------------------------------------------------------------


def test_a_failed_test_says_how_to_run_it_again_and_what_became_of_its_messages(run: Any) -> None:
    result = run(
        """
def test_fails(sidebus):
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="m")
    sidebus.faults.add(fault="empty-receive", resource="orders", name="nothing there")
    assert "Messages" in sqs.receive_message(QueueUrl=url)

def test_passes(sidebus):
    boto3.client("sqs").create_queue(QueueName="other")
""",
        "--sidebus-seed=3",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- sidebus -*",
            "account *, region us-east-1, seed '3/test_it.py::test_fails', http://127.0.0.1:*",
            "the same again: pytest --sidebus-seed=3 'test_it.py::test_fails'",
            "*nothing there*struck 1*",
            "*orders*",
        ]
    )
    assert result.stdout.str().count("the same again") == 1


def test_the_command_that_runs_it_again_is_one_for_the_shell_in_the_same_directory(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    test = pytester.mkdir("it's") / "test_it.py"
    test.write_text("""
import pytest
@pytest.mark.parametrize("name", ["ann's", "$HOME"])
def test_fails(sidebus, name): raise AssertionError(f"seed {sidebus.seed}")
""")
    for here in (pytester.path, test.parent):
        monkeypatch.chdir(here)
        first = pytester.runpytest(*QUIET).stdout.str()
        commands = re.findall("^the same again: (.*)", first, re.MULTILINE)
        assert len(commands) == 2
        for command in commands:
            again = pytester.runpytest(*QUIET, *shlex.split(command)[1:]).stdout.str()
            assert " 1 failed in " in again
            assert set(re.findall("^E .*seed .*", again, re.MULTILINE)) <= set(
                re.findall("^E .*seed .*", first, re.MULTILINE)
            )


def test_of_queues_without_a_defect_a_failure_has_the_counts_only(run: Any) -> None:
    result = run("""
def test_fails(sidebus):
    sqs = sidebus.client("sqs")
    for name in ("good", "bad"):
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="m")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    raise AssertionError
""")
    result.stdout.fnmatch_lines(["Queue good: passes.", "*1  sent", "Queue bad: 1 defect.", "FAILED  never-*"])
    assert result.stdout.str().count("passed  expired") == 1


# other plugins, other loops -----------------------------------------------------------------------


@pytest.mark.slow  # starts workers; tests/sample_project is run with some, too
def test_under_xdist_each_worker_has_a_broker_and_all_have_one_seed(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, arguments in enumerate([("-n2", "--sidebus-seed=5"), ("-n0", "--sidebus-seed=5")]):
        out = tmp_path / str(number)
        out.mkdir()
        monkeypatch.setenv("OUT", str(out))
        assert run(CHANCE, *arguments, subprocess=True).ret == 0
        found.append({file.name: file.read_text() for file in out.iterdir()})
    assert found[0] == found[1]


ASYNC = """
import anyio, functools

async def work(sidebus):
    sqs = sidebus.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    receive = functools.partial(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, functools.partial(sqs.send_message, QueueUrl=url, MessageBody="m"))
        assert (await anyio.to_thread.run_sync(receive))["Messages"][0]["Body"] == "m"
"""


def test_with_anyios_plugin(run: Any) -> None:
    result = run(f"""{ASYNC}
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it(sidebus, anyio_backend):
    await work(sidebus)
""")
    result.assert_outcomes(passed=2)


def test_with_pytest_trio(run: Any) -> None:
    run(f"{ASYNC}\n@pytest.mark.trio\nasync def test_it(sidebus): await work(sidebus)").assert_outcomes(passed=1)


def test_with_pytest_asyncio(run: Any) -> None:
    run(f"{ASYNC}\n@pytest.mark.asyncio\nasync def test_it(sidebus): await work(sidebus)").assert_outcomes(passed=1)


# what it costs ------------------------------------------------------------------------------------


def python(program: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout


def test_who_does_not_use_it_pays_nothing() -> None:
    program = "import sys, pytest; before = set(sys.modules); import protocols.pytest_plugin; "
    imported = python(program + "print(*sorted(set(sys.modules) - before))").split()
    assert [name for name in imported if name.startswith(("broker", "asyncio", "anyio", "boto"))] == []
    assert len(imported) < 8


LATER = (
    "broker.faults.reading",
    "broker.ledger.verdict",
    "broker.matching.index",
    "broker.tables.expressions",
    "cryptography",
    "hypercorn",
    "httpx",
    "protocols.aws.sqs",
)


def test_a_start_imports_nothing_that_only_some_requests_need() -> None:
    program = "import sys; from protocols.testing.thread import BrokerThread; BrokerThread().start().stop(); "
    imported = python(program + "print(*sys.modules)").split()
    assert "broker.core" in imported
    assert sorted(set(LATER) & set(imported)) == []
