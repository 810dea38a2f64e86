"""What the kernel knows of the connections on this host."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

CONNECTIONS = Path("/proc/net/tcp")
ESTABLISHED = "01"


async def all_read(port: int) -> None:
    """Wait until whatever was sent from this port is with the process that it was sent to."""
    async with asyncio.timeout(10):
        while any(_under_way(port)):  # noqa: ASYNC110, the kernel tells nobody
            await asyncio.sleep(0.005)


def _under_way(port: int) -> Iterator[int]:
    """Bytes that the sender's side has not got rid of, and that the other side has not read."""
    for line in CONNECTIONS.read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        unsent, unread = (int(each, 16) for each in queues.split(":"))
        if state == ESTABLISHED and _port(local) == port:
            yield unsent
        if state == ESTABLISHED and _port(remote) == port:
            yield unread


def _port(address: str) -> int:
    return int(address.split(":")[1], 16)
