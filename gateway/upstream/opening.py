"""Opening a connection: names, several addresses, TLS. Errors are translated by the caller."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohappyeyeballs import start_connection

from gateway.upstream.origins import Origin

_NEXT_ADDRESS_S = 0.25
"""RFC 8305 section 5: how long one address is waited for before the next is tried beside it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS to an origin. ``server_name``: what its certificate must say, and SNI."""

    context: ssl.SSLContext
    server_name: str | None = None


async def open_to(
    origin: Origin, tls: Tls | None, make: Callable[[], asyncio.BaseProtocol]
) -> None:
    """Connect ``make()`` to ``origin``; returns after the TLS handshake, where there is one.

    Several addresses are tried beside each other (RFC 8305). Raises OSError (ssl.SSLError among
    them) and UnicodeError; then nothing is open, nor after a cancellation.
    """
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl": tls.context, "server_hostname": tls.server_name or origin.host}
    if origin.is_address:
        await loop.create_connection(make, origin.host, origin.port, **options)
        return
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    if len(found) == 1:
        await loop.create_connection(make, str(found[0][4][0]), origin.port, **options)
        return
    sock = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop)
    try:
        await loop.create_connection(make, sock=sock, **options)
    except BaseException:
        with suppress(OSError, RuntimeError):  # the loop may own and have closed it already
            sock.close()
        raise
