"""`python -m patterns.demo NAME`: a pattern at work against AWS_ENDPOINT_URL, told line by line.

A demo is a module of patterns/demos with `async def run(client)`, where `client("sqs")` is a boto3 client. It makes
what it needs and deletes it in the end. Without AWS_ENDPOINT_URL it refuses to start: it would be AWS.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from functools import partial

import anyio

from patterns import demos


def main(arguments: list[str]) -> int:
    names = sorted(module.name for module in pkgutil.iter_modules(demos.__path__))
    if len(arguments) != 1 or arguments[0] not in names:
        print(f"usage: python -m patterns.demo {'|'.join(names)}", file=sys.stderr)
        return 2
    if not os.environ.get("AWS_ENDPOINT_URL"):
        print("Set AWS_ENDPOINT_URL, for example to http://127.0.0.1:4566 after `sidebus serve`.", file=sys.stderr)
        return 2
    try:
        import boto3  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        print("The demos talk through boto3: pip install boto3", file=sys.stderr)
        return 2
    options = {"region_name": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        options |= {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    anyio.run(importlib.import_module(f"patterns.demos.{arguments[0]}").run, partial(boto3.client, **options))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
