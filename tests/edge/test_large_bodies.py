"""10 MiB both ways through a gateway in a process of its own: its memory hardly moves."""

import asyncio
import contextlib
import hashlib
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edge.stage import DEFAULTS, PATIENCE_S, TEMPLATE
from tests.ports import free_port

SIZE = 10 * 1024 * 1024
AT_ONCE = 8
GROWTH_BYTES_MAX = 24 * 1024 * 1024
"""A third of what the bodies under way hold together: they are never in memory whole."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it gets, as it gets it, in chunks or by length as it came."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        while length:
            data = await reader.read(65_536)
            length -= len(data)
            writer.write(data)
            await writer.drain()
    writer.close()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextlib.asynccontextmanager
async def gateway_process(folder: Path, backend: int) -> AsyncIterator[tuple[int, int]]:
    port = free_port()
    text = TEMPLATE.format(url=f"http://127.0.0.1:{backend}", **DEFAULTS).replace(
        'address = "127.0.0.1:0"', f'address = "127.0.0.1:{port}"'
    )
    file = folder / "gateway.toml"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "--config", str(file),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(4 * PATIENCE_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield port, process.pid
    finally:
        process.kill()
        await process.wait()


async def there_and_back(port: int) -> str:
    """Sends 10 MiB slowly enough that it is read back meanwhile; the digest of what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /file HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % SIZE)
    block = bytes(range(256)) * 256

    async def send() -> None:
        for _ in range(SIZE // len(block)):
            writer.write(block)
            await writer.drain()

    sending = asyncio.create_task(send())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    digest, left = hashlib.sha256(), SIZE
    while left:
        data = await reader.read(262_144)
        assert data, f"{left} bytes are missing"
        digest.update(data)
        left -= len(data)
    await sending
    writer.close()
    return digest.hexdigest()


@pytest.mark.timeout(120)
async def test_ten_mebibytes_pass_both_ways_at_bounded_memory(tmp_path: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    backend = server.sockets[0].getsockname()[1]
    expected = hashlib.sha256(bytes(range(256)) * (SIZE // 256)).hexdigest()
    async with gateway_process(tmp_path, backend) as (port, pid):
        assert await there_and_back(port) == expected
        before = resident_bytes(pid)
        most = before
        bodies = [asyncio.create_task(there_and_back(port)) for _ in range(AT_ONCE)]
        while not all(body.done() for body in bodies):
            most = max(most, resident_bytes(pid))
            await asyncio.sleep(0.01)
        assert [body.result() for body in bodies] == [expected] * AT_ONCE
    server.close()
    print(f"{AT_ONCE} bodies of 10 MiB both ways: {(most - before) / 2**20:.1f} MiB more")
    assert most - before < GROWTH_BYTES_MAX
