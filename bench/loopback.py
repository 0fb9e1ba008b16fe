"""Runs another package's command with its sockets bound to 127.0.0.1, where the command has no option for it.

`PYTHON bench/loopback.py COMMAND [ARGUMENT ...]`, with the Python of that package's environment.
"""

import importlib.metadata
import socket
import sys
from typing import Any

_bind = socket.socket.bind


def _bind_loopback(self: socket.socket, address: Any) -> None:
    if self.family == socket.AF_INET and address[0] in ("", "0.0.0.0"):
        address = ("127.0.0.1", *address[1:])
    _bind(self, address)


if __name__ == "__main__":
    socket.socket.bind = _bind_loopback  # type: ignore[method-assign, assignment]
    sys.argv = sys.argv[1:]
    (command,) = importlib.metadata.entry_points(group="console_scripts", name=sys.argv[0])
    sys.exit(command.load()())
