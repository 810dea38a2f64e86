"""Ports for processes that a test starts, kills and starts again at the same place."""

import contextlib
import errno
import random
import socket
from collections import deque

PORTS = range(10_000, 18_000)
"""These and those 10,000 above are below what the kernel gives to connections, and the demo's are
others."""

CLUSTER_BUS = 10_000
"""A cluster node also listens on its port + 10000."""

HELD_MAX = 256
"""The oldest are given free: long before, their servers listen, or are gone."""

TRIES = 1000

_held: deque[contextlib.ExitStack] = deque()


def free_port() -> int:
    """One that nothing listens on, nor on its cluster port, and that no other test gets meanwhile.

    It stays bound here, by a socket that does not listen. Linux lets a server listen beside it that
    sets SO_REUSEADDR, as all do, but nobody bind it who doesn't, as this one when it chooses.
    """
    for _ in range(TRIES):
        port = random.choice(PORTS)
        try:
            _hold(port, port + CLUSTER_BUS)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port
    raise RuntimeError(f"no port of {PORTS} was free, {TRIES} times")


def _hold(*ports: int) -> None:
    with contextlib.ExitStack() as stack:
        for port in ports:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", port))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if len(_held) == HELD_MAX:
            _held.popleft().close()
        _held.append(stack.pop_all())
