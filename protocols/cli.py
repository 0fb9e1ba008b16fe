"""The command `sidebus`: finds the subcommand, and says what went wrong in one sentence on stderr.

The rule: only the subcommand that is asked for is imported, so that `serve` answers within 300 ms. Each is a module of
protocols/commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from broker import __version__
from protocols.commands import CommandError

_COMMANDS = {
    "serve": "run the broker",
    "clock": "show and bend the broker's time",
    "faults": "say what goes wrong, where and how often",
    "ledger": "see what happened to each message, and judge a consumer by it",
}


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """Knows the options of the chosen command, and of the others that they exist."""
    parser = argparse.ArgumentParser(
        prog="sidebus",
        description="A messaging broker that speaks the wire protocols of Amazon SQS, SNS, EventBridge and Kinesis.",
    )
    parser.add_argument("--version", action="version", version=f"sidebus {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = import_module(f"protocols.commands.{name}")
            command.description, command.epilog = f"{text[0].upper()}{text[1:]}.", module.EPILOG
            module.options(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in given if not word.startswith("-")), None)
    options = _parser(chosen).parse_args(given)
    try:
        exit_code: int = options.run(options)
        sys.stdout.flush()
    except CommandError as error:
        print(f"sidebus: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
