"""SQS through AWS's SDK for JavaScript and sqs-consumer, under Node."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

PACKAGES = {"@aws-sdk/client-sqs": "^3.1018.0", "sqs-consumer": "^14.2.8"}


def test_sqs_consumer(node_with: Callable[..., Path], run_client: Callable[..., str]) -> None:
    directory = node_with("node", 20, PACKAGES)
    program = Path(__file__).with_name("sqs_consumer.mjs")
    shutil.copy(program, directory)  # beside its node_modules
    run_client("node", program.name, where=directory)
