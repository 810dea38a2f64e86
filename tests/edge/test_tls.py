"""A whole gateway in front of an upstream that speaks TLS."""

import socket
import ssl
from pathlib import Path

import trustme

from tests.edge.stage import Line, get, post, staged
from tests.edge.ways import over_tls


async def test_reads_and_orders_reach_an_upstream_over_tls(tmp_path: Path) -> None:
    async with staged(tmp_path, **over_tls(tmp_path)) as stage:
        await stage.still_serves()
        assert len(stage.backend.requests) == 2
        assert stage.backend.ill_formed == []


async def test_an_upstream_that_cannot_be_verified_gets_nothing_and_orders_wait(
    tmp_path: Path,
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    async with staged(
        tmp_path,
        url="https://127.0.0.1:{port}",
        order="answer_within_s = 1",
        backend_listen={"ssl": server},
    ) as stage:
        (read,) = await stage.says(get(b"/"))
        assert (read.status, b"tls_failed" in read.body) == (503, True)
        (order,) = await stage.says(post(b"{}"), b"POST")
        assert (order.status, b'"received"' in order.body) == (202, True)
        assert stage.backend.requests == []


async def test_an_answer_that_only_the_end_ends_is_cut_where_tls_does_not_say_so(
    tmp_path: Path,
) -> None:
    """Whoever is between us can send a FIN, but no close_notify (RFC 9112 section 9.8)."""

    async def torn(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        line.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await line.until_closed()

    async with staged(tmp_path, torn, **over_tls(tmp_path)) as stage:
        (read,) = await stage.says(get(b"/"))
        assert (read.status, read.whole) == (200, False)
        (order,) = await stage.says(post(b"{}"), b"POST")
        assert order.status == 202
