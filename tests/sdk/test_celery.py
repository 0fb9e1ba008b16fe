"""Celery with kombu's SQS transport: a thousand tasks, some of which fail and are tried again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = 1000
HERE = Path(__file__).parent
WORK_S = 90


def test_a_thousand_tasks_with_retries(
    python_with: Callable[..., Path],
    run_client: Callable[..., str],
    client_environment: dict[str, str],
    sqs: Any,
    tmp_path: Path,
) -> None:
    binaries = python_with("celery", "celery[sqs]~=5.5")
    done, log = tmp_path / "done", tmp_path / "worker.log"
    done.touch()
    run_client(binaries / "python", "celery_tasks.py", str(TASKS), DONE=str(done))
    url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]

    command = [binaries / "celery", "--app", "celery_tasks", "worker", "--pool", "threads", "--concurrency", "4"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [*command, "--loglevel", "INFO", "--without-mingle", "--without-gossip"],
            cwd=HERE,
            env={**client_environment, "DONE": str(done)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + WORK_S
        while len(done.read_text().splitlines()) < TASKS:
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()[-5000:]
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)

    retries = dict(map(int, line.split()) for line in done.read_text().splitlines())
    assert retries == {n: 0 if n % 10 else 2 for n in range(TASKS)}
    assert len(done.read_text().splitlines()) == TASKS  # each once
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert {left[name] for name in left if name.startswith("Approximate")} == {"0"}
