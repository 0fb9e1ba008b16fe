"""`sidebus serve`: runs the broker until it is told to stop."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.commands import CommandError, seed

if TYPE_CHECKING:
    from protocols.start_plan import StartPlan

EPILOG = """\
examples:
  sidebus serve                                    in memory, on http://127.0.0.1:4566
  sidebus serve --data ./data                      keeps everything in ./data, safe against kill -9
  sidebus serve --port 0                           on a free port, printed when it answers
  sidebus serve --limits aws                       with AWS's quotas and waiting times
  sidebus serve --tls-cert c.pem --tls-key k.pem   https, HTTP/2 and HTTP/1.1
  sidebus serve --auth strict --key AKIDEXAMPLE=secret
  sidebus serve --plan start.toml --ledger         clock, faults and ledger from the first request on (FAULTS.md)
  sidebus serve --function thumbnails=http://127.0.0.1:9000 --state-machine '*=http://127.0.0.1:8083'

then, in your program's environment:
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

every option is also an environment variable: --log-format is SIDEBUS_LOG_FORMAT
"""


def _option(parser: argparse.ArgumentParser, name: str, default: str | None, help: str, **more: object) -> None:
    """An option whose default may come from the environment."""
    variable = "SIDEBUS_" + name.strip("-").replace("-", "_").upper()
    shown = f" (default: {default})" if default else ""
    parser.add_argument(name, default=os.environ.get(variable, default), help=f"{help}{shown}", **more)  # type: ignore[arg-type]


def options(parser: argparse.ArgumentParser) -> None:
    _option(parser, "--host", "127.0.0.1", "address to listen on")
    _option(parser, "--port", "4566", "port to listen on; 0 picks a free one")
    _option(parser, "--data", None, "directory to keep everything in (default: none, in memory)", metavar="DIR")
    _option(
        parser,
        "--sync",
        "full",
        "with --data: full answers after an fsync, normal leaves that to the system (a power cut may cost the last "
        "moments, kill -9 costs nothing)",
        metavar="full|normal",
    )
    _option(
        parser,
        "--limits",
        "relaxed",
        "aws: AWS's quotas of scale and its waiting times; relaxed: without them",
        metavar="relaxed|aws",
    )
    _option(
        parser,
        "--stream-wait",
        None,
        "how long a stream or a consumer is CREATING, UPDATING or DELETING (default: 0; with --limits aws 5 to 30)",
        metavar="SECONDS",
    )
    _option(parser, "--account", "000000000000", "account of callers whose access key is not twelve digits")
    _option(parser, "--region", "us-east-1", "region of requests that name none")
    _option(parser, "--log-format", "text", "how to log, on stderr", metavar="text|json")
    _option(parser, "--tls-cert", None, "certificate (PEM): the port then speaks TLS", metavar="FILE")
    _option(parser, "--tls-key", None, "its private key (PEM), if not in the same file", metavar="FILE")
    _option(parser, "--auth", "none", "strict: requests must be signed by a configured key", metavar="none|strict")
    parser.add_argument(
        "--key",
        action="append",
        metavar="ID=SECRET[@ACCOUNT]",
        help="with --auth strict: a key that may sign, several times or separated by commas in SIDEBUS_KEY",
    )
    parser.add_argument(
        "--function",
        action="append",
        metavar="NAME=URL",
        help="where a Lambda function (its name or ARN) can be invoked: the runtime interface emulator, sam local; "
        "several times or separated by commas in SIDEBUS_FUNCTION",
    )
    parser.add_argument(
        "--state-machine",
        action="append",
        metavar="NAME=URL",
        help="where StartExecution of a state machine (its name or ARN, or * for all) can be asked, such as Step "
        "Functions Local; several times or separated by commas in SIDEBUS_STATE_MACHINE",
    )
    _option(
        parser,
        "--sns-cert-host",
        None,
        "host or URL that SigningCertURL names in SNS's messages (default: the address the subscriber uses)",
        metavar="HOST",
    )
    _option(
        parser,
        "--verify-endpoints",
        "yes",
        "whether HTTPS endpoints that are delivered to must have a good certificate",
        metavar="yes|no",
    )
    _option(parser, "--plan", None, "what to begin with: clock, faults, ledger (TOML or JSON)", metavar="FILE")
    _option(parser, "--seed", None, "the same seed and the same requests give the same run", metavar="N|TEXT")
    parser.add_argument(
        "--ledger",
        action="store_true",
        default=os.environ.get("SIDEBUS_LEDGER", "").lower() in ("1", "true", "yes"),
        help="keep what happens to each message",
    )


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise CommandError(f"--{name} takes {' or '.join(choices)}, not {value}.")
    return value


def _keys(listed: Sequence[str] | None) -> tuple[dict[str, str], dict[str, str]]:
    keys, accounts = {}, {}
    for entry in listed or [part for part in os.environ.get("SIDEBUS_KEY", "").split(",") if part]:
        match = re.fullmatch(r"([^=@]+)=(.+?)(?:@([0-9]{12}))?", entry)
        if match is None:
            raise CommandError("--key takes ID=SECRET or ID=SECRET@ACCOUNT, an account being twelve digits.")
        keys[match[1]] = match[2]
        if match[3]:
            accounts[match[1]] = match[3]
    return keys, accounts


def _endpoints(option: str, listed: Sequence[str] | None, example: str) -> dict[str, str]:
    """URL by name, of an option that may be given several times."""
    variable = "SIDEBUS_" + option.upper().replace("-", "_")
    endpoints = {}
    for entry in listed or [part for part in os.environ.get(variable, "").split(",") if part]:
        match = re.fullmatch(r"([^=\s]+)=(https?://[^/?#\s]+[^\s]*)", entry)
        if match is None:
            raise CommandError(f"--{option} takes NAME=URL, such as {example}, not {entry}.")
        endpoints[match[1]] = match[2]
    return endpoints


def _seed(text: str) -> int | str:
    from broker.faults.reading import check_seed

    return check_seed(seed(text))


def run(options: argparse.Namespace) -> int:
    from broker.errors import BrokerFailure
    from broker.faults import PlanError
    from broker.names import is_account
    from protocols.application import Settings
    from protocols.http.listener import ListenError
    from protocols.plan_file import PlanFileError
    from protocols.server import ServeOptions, serve

    try:
        keys, accounts = _keys(options.key)
        strict = _choice("auth", options.auth, ("none", "strict")) == "strict"
        if strict and not keys:
            raise CommandError("--auth strict needs at least one --key ID=SECRET.")
        if not re.fullmatch("[0-9]{1,5}", options.port) or int(options.port) > 65535:
            raise CommandError(f"--port takes a number from 0 to 65535, not {options.port}.")
        if options.tls_key and not options.tls_cert:
            raise CommandError("--tls-key needs --tls-cert with the certificate of that key.")
        if not is_account(options.account):
            raise CommandError(f"--account takes twelve digits, not {options.account}.")
        if not re.fullmatch(r"[a-z0-9-]{1,64}", options.region):
            raise CommandError(f"--region takes a region such as us-east-1, not {options.region}.")
        if options.stream_wait and not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", options.stream_wait):
            raise CommandError(f"--stream-wait takes seconds such as 2 or 0.5, not {options.stream_wait}.")
        serve(
            ServeOptions(
                host=options.host,
                port=int(options.port),
                data=Path(options.data) if options.data else None,
                sync=_choice("sync", options.sync, ("full", "normal")),
                limits=_choice("limits", options.limits, ("relaxed", "aws")),
                stream_wait_ms=round(float(options.stream_wait) * 1000) if options.stream_wait else None,
                log_format=_choice("log-format", options.log_format, ("text", "json")),
                tls_cert=options.tls_cert,
                tls_key=options.tls_key,
                seed=_seed(options.seed) if options.seed else None,
                plan=_plan(options.plan, options.ledger),
                settings=Settings(
                    options.region,
                    options.account,
                    keys if strict else None,
                    accounts,
                    functions=_endpoints("function", options.function, "thumbnails=http://127.0.0.1:9000"),
                    state_machines=_endpoints("state-machine", options.state_machine, "orders=http://127.0.0.1:8083"),
                    sns_cert_host=options.sns_cert_host or None,
                    verify_endpoints=_choice("verify-endpoints", options.verify_endpoints, ("yes", "no")) == "yes",
                ),
            )
        )
    except (BrokerFailure, ListenError, PlanError, PlanFileError) as error:
        raise CommandError(str(error)) from None
    return 0


def _plan(path: str | None, ledger: bool) -> StartPlan | None:
    if not path and not ledger:
        return None
    from protocols.start_plan import StartPlan, read_start_plan

    plan = read_start_plan(path) if path else StartPlan()
    return plan.with_ledger() if ledger else plan
