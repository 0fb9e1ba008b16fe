"""The environment in which code under test finds the broker, as every AWS SDK reads it.

The rule: nothing of the machine's own AWS configuration counts as long as the block lasts, and all is as before after
it. An endpoint that is set for a service which Sidebus does not serve, S3 for one, stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SECRET = "sidebus"  # the broker asks nobody for it

_CLEARED = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    # What goes before AWS_ENDPOINT_URL.
    "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "AWS_ENDPOINT_URL_KINESIS",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
)


@contextmanager
def environment(endpoint: str, account: str, region: str) -> Iterator[None]:
    """AWS_ENDPOINT_URL, credentials and region for what runs within, subprocesses too."""
    wanted: dict[str, str | None] = dict.fromkeys(_CLEARED)
    wanted |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,  # all SDKs but Python's
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, ("127.0.0.1", os.environ.get("NO_PROXY")))),
    }
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    session = _put_default_session(None)
    try:
        yield
    finally:
        _put_default_session(session)
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _put_default_session(session: object) -> object:
    """The session behind `boto3.client(…)` keeps the credentials it once found. Returns the one there was."""
    boto3 = sys.modules.get("boto3")
    if boto3 is None:
        return None
    before: object = getattr(boto3, "DEFAULT_SESSION", None)
    boto3.DEFAULT_SESSION = session  # type: ignore[attr-defined]
    return before
