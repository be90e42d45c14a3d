"""Runs commands of the program, one after the other, in a process that can reach this machine alone.

python offline.py '[["methods"], ...]'
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from typing import Any


def _near(address: Any) -> bool:
    if not isinstance(address, tuple):  # a socket of the file system
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


class Local(socket.socket):
    """Connects to nothing but this machine."""

    def connect(self, address: Any) -> None:
        if not _near(address):
            raise AssertionError(f"the program connects to {address}")
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        if not _near(address):
            raise AssertionError(f"the program connects to {address}")
        return super().connect_ex(address)

    def sendto(self, *arguments: Any) -> int:
        if not _near(arguments[-1]):
            raise AssertionError(f"the program sends to {arguments[-1]}")
        return super().sendto(*arguments)


def _resolve(host: Any, *arguments: Any, **options: Any) -> Any:
    if host not in (None, "", "localhost") and not _near((host,)):
        raise AssertionError(f"the program asks for the address of {host}")
    return _real(host, *arguments, **options)


_real = socket.getaddrinfo


def main(commands: list[list[str]]) -> None:
    socket.socket = Local  # type: ignore[misc]
    socket.getaddrinfo = _resolve
    for far in (("192.0.2.1", 80), ("example.invalid", 80)):
        try:
            socket.create_connection(far, timeout=1)
        except AssertionError:
            continue
        sys.exit("the guard does not hold")
    from bench.cli import app

    for command in commands:
        sys.stdout.write(f"$ {' '.join(command)}\n")
        sys.stdout.flush()
        code = app(command, standalone_mode=False)
        if code:
            sys.exit(f"{command} ended with {code}")
    sys.stdout.write("all done\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
