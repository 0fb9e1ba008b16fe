"""The mixin for unittest, in a process of its own as its users have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import os, unittest, boto3
from protocols.testing.unittest import SidebusMixin

class Orders(SidebusMixin, unittest.TestCase):
    def test_a_queue(self):
        boto3.client("sqs").create_queue(QueueName="q")
        self.assertEqual(os.environ["AWS_ENDPOINT_URL"], self.sidebus.endpoint)

    def test_alone(self):
        self.assertNotIn("QueueUrls", self.sidebus.client("sqs").list_queues())
        self.sidebus.clock.advance("14d")

    def test_skipped(self):
        self.skipTest("why not")

class Strict(SidebusMixin, unittest.TestCase):
    sidebus_limits = "aws"
    sidebus_region = "eu-west-1"

    def test_purges(self):
        sqs = boto3.client("sqs")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        sqs.purge_queue(QueueUrl=url)
        with self.assertRaises(sqs.exceptions.PurgeQueueInProgress):
            sqs.purge_queue(QueueUrl=url)

class Faulty(SidebusMixin, unittest.TestCase):
    sidebus_plan = {"rule": [{"fault": "error", "service": "sqs", "code": "OverLimit", "count": 1}]}

    def test_plan(self):
        sqs = boto3.client("sqs")
        with self.assertRaisesRegex(sqs.exceptions.ClientError, "OverLimit"):
            sqs.list_queues()

class Async(SidebusMixin, unittest.IsolatedAsyncioTestCase):
    async def test_works(self):
        boto3.client("sqs").create_queue(QueueName="q")

class Failing(SidebusMixin, unittest.TestCase):
    def test_fails(self):
        boto3.client("sqs").create_queue(QueueName="orders")
        self.fail("as it should")

class FailingAsync(SidebusMixin, unittest.IsolatedAsyncioTestCase):
    async def test_fails(self):
        self.fail("as it should")

class After(unittest.TestCase):
    def test_environment(self):
        self.assertNotIn("AWS_ENDPOINT_URL", os.environ)

unittest.main()
"""


def test_the_mixin(tmp_path: Path) -> None:
    path = tmp_path / "tests.py"
    path.write_text(TESTS)
    run = subprocess.run([sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60)
    assert run.stderr.splitlines()[-1] == "FAILED (failures=2, skipped=1)", run.stderr
    assert "Ran 9 tests" in run.stderr
    assert run.stderr.count("as it should\nsidebus: account ") == 2
    assert "seed '/__main__.Failing.test_fails'" in run.stderr
