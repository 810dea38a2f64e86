"""HTTP/1.1 on bare streams, for both sides of the demo.

The backend needs to break the wire in its own ways and the customers to hang up when they like,
so neither uses a library that would mend it. Reads what HTTP/1.1 needs here (RFC 9112): lengths,
chunks, and bodies that end with the connection.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from middleware.messages import RawHeaders, first

HEAD_BYTES_MAX = 65_536
"""asyncio's own stream limit; no head of the demo comes near it."""

BODY_BYTES_MAX = 4_194_304
"""Four times the gateway's limit for an order, so that it is the gateway that refuses."""


class Malformed(Exception):
    """The other side's bytes are no HTTP/1.1 message within the limits."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read whole or to be sent."""

    method: str
    target: str
    headers: RawHeaders = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole."""

    status: int
    headers: RawHeaders
    body: bytes


class SilenceReason(StrEnum):
    """Why an exchange brought no answer."""

    NOT_CONNECTED = "not_connected"
    CLOSED = "closed"
    OUT_OF_PATIENCE = "out_of_patience"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer came. Only NOT_CONNECTED says that nothing was asked."""

    reason: SilenceReason


@dataclass(frozen=True, slots=True)
class Address:
    """Where somebody listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


Outcome: TypeAlias = Reply | Silence


async def exchange(address: Address, request: Request, patience_s: float) -> Outcome:
    """Send one request on a connection of its own; hang up after ``patience_s`` seconds."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(encode_request(request, str(address)))
            await writer.drain()
            return await read_reply(reader)
    except TimeoutError:
        return Silence(SilenceReason.OUT_OF_PATIENCE)
    except Malformed:
        return Silence(SilenceReason.MALFORMED)
    except (OSError, asyncio.IncompleteReadError):
        connected = writer is not None
        return Silence(SilenceReason.CLOSED if connected else SilenceReason.NOT_CONNECTED)
    finally:
        if writer is not None:
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close in the ordinary way (FIN)."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset (RST), dropping whatever is unsent."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def encode_request(request: Request, host: str) -> bytes:
    """The request's bytes, asking that the connection be closed after the answer."""
    lines = [f"{request.method} {request.target} HTTP/1.1".encode(), b"Host: " + host.encode()]
    lines += [name + b": " + value for name, value in request.headers]
    if request.body or request.method == "POST":
        lines.append(b"Content-Length: %d" % len(request.body))
    lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


def encode_reply(status: int, body: bytes, headers: RawHeaders = (), missing: int = 0) -> bytes:
    """The answer's bytes; with ``missing``, so many fewer bytes of body than its length says."""
    lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES.get(status, b"Status"))]
    lines += [name + b": " + value for name, value in headers]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body[: len(body) - missing]


_PHRASES = {
    200: b"OK",
    201: b"Created",
    400: b"Bad Request",
    404: b"Not Found",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request, or None at a clean end of the connection."""
    try:
        start, headers = await _read_head(reader)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Malformed("the connection ended inside a head") from None
        return None
    parts = start.decode("latin-1").split(" ")
    if len(parts) != 3:
        raise Malformed("no request line")
    body = await _read_body(reader, headers, until_closed=False)
    return Request(parts[0], parts[1], headers, body)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """The final answer; interim ones (1xx) are passed over.

    Raises IncompleteReadError where the connection ends too early, Malformed otherwise.
    """
    while True:
        start, headers = await _read_head(reader)
        parts = start.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
            raise Malformed("no status line")
        status = int(parts[1])
        if status >= 200:
            break
    bodiless = status in (204, 304)
    body = b"" if bodiless else await _read_body(reader, headers, until_closed=True)
    return Reply(status, headers, body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, RawHeaders]:
    head = await _read_until(reader, b"\r\n\r\n")
    start, *lines = head[:-4].split(b"\r\n")
    fields = (line.partition(b":") for line in lines)
    return start, tuple((name, value.strip(b" \t")) for name, _, value in fields)


async def _read_until(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    try:
        return await reader.readuntil(mark)
    except asyncio.LimitOverrunError:
        raise Malformed("a line or a head is too long") from None


async def _read_body(
    reader: asyncio.StreamReader, headers: RawHeaders, *, until_closed: bool
) -> bytes:
    if (first(headers, b"transfer-encoding") or b"").lower() == b"chunked":
        return await _read_chunks(reader)
    length = first(headers, b"content-length")
    if length is not None:
        return await reader.readexactly(_size(length, 10))
    return await _read_to_end(reader) if until_closed else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await _read_until(reader, b"\r\n")
        size = _size(line.split(b";")[0].strip(), 16)
        if size == 0:
            break
        body += (await reader.readexactly(size + 2))[:-2]
        if len(body) > BODY_BYTES_MAX:
            raise Malformed("the body is too large")
    while await _read_until(reader, b"\r\n") != b"\r\n":
        pass
    return bytes(body)


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while part := await reader.read(HEAD_BYTES_MAX):
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Malformed("the body is too large")
    return bytes(body)


def _size(digits: bytes, base: int) -> int:
    try:
        size = int(digits, base)
    except ValueError:
        raise Malformed("no length") from None
    if not 0 <= size <= BODY_BYTES_MAX:
        raise Malformed("the body is too large")
    return size
