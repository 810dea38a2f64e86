"""Ports for processes that a test starts, kills and starts again at the same place."""

import contextlib
import random
import socket
from collections import deque

PORTS = range(10_000, 18_000)
"""These and those 10,000 above are below what the kernel gives to connections, and the demo's are
others."""

CLUSTER_BUS = 10_000
"""A cluster node also listens on its port + 10000."""

_held: deque[tuple[socket.socket, socket.socket]] = deque(maxlen=256)


def free_port() -> int:
    """One that nothing listens on, nor on its cluster port, and that no other test gets meanwhile.

    It stays bound here, by a socket that does not listen. Linux lets a server listen beside it that
    sets SO_REUSEADDR, as all do, but nobody bind it who doesn't, as this one when it chooses.
    """
    while True:
        port = random.choice(PORTS)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            pair = stack.enter_context(socket.socket()), stack.enter_context(socket.socket())
            for held, each in zip(pair, (port, port + CLUSTER_BUS), strict=True):
                held.bind(("127.0.0.1", each))
            for held in pair:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stack.pop_all()
            _held.append(pair)
            return port
