"""What the commands share that ask a running broker: where it is, how answers look."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from protocols.commands import CommandError

if TYPE_CHECKING:
    from protocols.testing.control import Control

Subparsers = Any  # argparse's own type of them is private


def actions(parser: argparse.ArgumentParser) -> Subparsers:
    """The actions of a command, and the options that all of them have, before the action or behind it."""
    _shared(parser)
    return parser.add_subparsers(dest="action", metavar="ACTION")


def action(subparsers: Subparsers, name: str, help: str, **more: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=help, formatter_class=argparse.RawDescriptionHelpFormatter, **more
    )
    _shared(parser)
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: what was given before the action is not put back to a default behind it.
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="where Sidebus is (default: SIDEBUS_ENDPOINT, else AWS_ENDPOINT_URL, else http://127.0.0.1:4566)",
    )
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="the answer as JSON")


@contextmanager
def control(options: argparse.Namespace) -> Iterator[Control]:
    """The broker that is asked; what it refuses, or cannot be read here, is a CommandError."""
    from protocols.plan_file import PlanFileError
    from protocols.testing.control import Control, ControlError

    try:
        yield Control(getattr(options, "endpoint", None))
    except (ControlError, PlanFileError) as error:
        raise CommandError(str(error)) from None


def show(options: argparse.Namespace, document: Any, as_text: Callable[[Any], str]) -> None:
    if getattr(options, "json", False):
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(as_text(document))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they must be; numbers to the right."""
    texts = [list(heads)] + [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    )
