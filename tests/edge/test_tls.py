"""A whole gateway in front of an upstream that speaks TLS."""

import ssl
from pathlib import Path

import trustme

from tests.edge.stage import get, post, staged


async def test_reads_and_orders_reach_an_upstream_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    async with staged(
        tmp_path,
        url="https://127.0.0.1:{port}",
        upstream='ca_file = "ca.pem"',
        backend_listen={"ssl": server},
    ) as stage:
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
