"""The port that all workers listen on, held for them."""

import asyncio
import errno
import socket

from gateway.settings.values import split_address

PREDECESSOR_S = 2.0
"""Workers whose supervisor was killed leave the port when they notice: within milliseconds."""

LOOK_AGAIN_S = 0.05


async def reserve(address: str) -> tuple[socket.socket, str]:
    """Bind the port without listening, so that it stays ours while workers come and go.

    Returns the socket and the address with its port, which may have been 0. Raises OSError where
    anybody else listens there, also with SO_REUSEPORT: two gateways that get every other
    connection are never meant.
    """
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, place = found[0]
    if port:
        await _until_nobody_listens(family, place)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(held, family, place)
    except BaseException:
        held.close()
        raise
    bound = held.getsockname()[1]
    return held, f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"


async def _until_nobody_listens(family: socket.AddressFamily, place: tuple[object, ...]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PREDECESSOR_S
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                _bind(probe, family, place)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() >= end:
                    raise
        await asyncio.sleep(LOOK_AGAIN_S)


def _bind(sock: socket.socket, family: socket.AddressFamily, place: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(place)
