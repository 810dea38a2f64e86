"""TLS to the upstream: verified both ways, and a handshake that fails is proof of not sent."""

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.orders.attempts import Lost, LostReason, NotSentReason
from gateway.settings import UpstreamSettings
from gateway.settings.certificates import (
    CertificatesInvalid,
    client_context,
    load_client_certificate,
)
from gateway.upstream import ConnectFailed, Origin, Pool, Tls, UpstreamBroke
from tests.upstream.asking import CREATED, OK, SOON_S, answered_body, attempt, get, put, read
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire, always, answering, hang

NAME = "backend.test"


class Authority:
    """An authority, and servers and clients that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str, **more: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(*(names or (NAME,)), **more).configure_cert(context)
        return context

    def demanding_server(self, newest: ssl.TLSVersion) -> ssl.SSLContext:
        """One that wants a client certificate of this authority."""
        context = self.server()
        context.maximum_version = newest
        context.verify_mode = ssl.CERT_REQUIRED
        self.ca.configure_trust(context)
        return context

    def client_files(self, stem: str = "client") -> dict[str, str]:
        pair = self.ca.issue_cert("gateway.test")
        certificate, key = self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem"
        pair.cert_chain_pems[0].write_to_path(str(certificate))
        pair.private_key_pem.write_to_path(str(key))
        return {"client_cert_file": str(certificate), "client_key_file": str(key)}

    def settings(self, **more: Any) -> UpstreamSettings:
        known = {"ca_file": str(self.file), "server_name": NAME, **more}
        return UpstreamSettings(name="backend", urls=("https://127.0.0.1:1",), **known)

    def trust(self, **more: Any) -> Tls:
        settings = self.settings(**more)
        context = client_context(settings)
        assert context is not None
        return Tls(context, settings.server_name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def why_not(pool: Pool, timeout_s: float = SOON_S) -> NotSentReason:
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(timeout_s)
    assert failed.value.repeat_is_safe
    assert pool.stats.places == 0
    return failed.value.reason


async def test_orders_and_streams_go_over_one_verified_connection(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(always(CREATED), authority.server())
    pool = stage.pool(upstream, authority.trust())
    for _ in range(5):
        assert answered_body(await attempt(pool)) == b'{"id":1}'
        assert await read(await get(pool)) == b'{"id":1}'
    assert len(upstream.wires) == 1, "a session ticket was taken for an answer"


async def test_the_name_is_asked_for_and_the_protocol_agreed(
    stage: Stage, authority: Authority
) -> None:
    asked: list[str | None] = []
    server = authority.server()
    server.set_alpn_protocols(["h2", "http/1.1"])
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    upstream = await stage.upstream(always(CREATED), server)
    await attempt(stage.pool(upstream, authority.trust()))
    agreed = upstream.wires[0].writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert (asked, agreed) == ([NAME], "http/1.1")


async def test_an_address_can_be_what_the_certificate_names(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(always(CREATED), authority.server("127.0.0.1"))
    await attempt(stage.pool(upstream, authority.trust(server_name=None)))


async def test_who_cannot_be_verified_is_sent_nothing(
    stage: Stage, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    servers = {
        "another authority": stranger.server(),
        "another name": authority.server("bank.test"),
        "expired": authority.server(not_after=yesterday),
    }
    for why, server in servers.items():
        upstream = await stage.upstream(always(CREATED), server)
        reason = await why_not(stage.pool(upstream, authority.trust()))
        assert (why, reason) == (why, NotSentReason.TLS_FAILED)
        assert upstream.requests == []


async def test_the_systems_authorities_are_trusted_only_where_no_file_says_otherwise(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(always(CREATED), authority.server())
    pool = stage.pool(upstream, authority.trust(ca_file=None))
    assert await why_not(pool) is NotSentReason.TLS_FAILED
    named = authority.trust()
    assert named.context.cert_store_stats()["x509_ca"] == 1


async def test_old_tls_is_refused(stage: Stage, authority: Authority) -> None:
    server = authority.server()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_1
    upstream = await stage.upstream(always(CREATED), server)
    reason = await why_not(stage.pool(upstream, authority.trust()))
    assert reason in (NotSentReason.TLS_FAILED, NotSentReason.CONNECT_FAILED)


async def test_an_upstream_without_tls_is_sent_nothing(stage: Stage, authority: Authority) -> None:
    async def plain(wire: Wire) -> None:
        await wire.reader.read(1)
        await wire.send(CREATED)

    upstream = await stage.upstream(plain)
    origin = Origin("127.0.0.1", upstream.origin.port, "https")
    assert await why_not(stage.pool_to(origin, authority.trust())) is NotSentReason.TLS_FAILED


async def test_a_handshake_that_hangs_is_a_connect_that_timed_out(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(hang)
    origin = Origin("127.0.0.1", upstream.origin.port, "https")
    pool = stage.pool_to(origin, authority.trust())
    assert await why_not(pool, 0.1) is NotSentReason.CONNECT_TIMEOUT


async def test_the_client_certificate_is_shown(stage: Stage, authority: Authority) -> None:
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        upstream = await stage.upstream(always(CREATED), authority.demanding_server(newest))
        pool = stage.pool(upstream, authority.trust(**authority.client_files()))
        assert answered_body(await attempt(pool)) == b'{"id":1}'
        shown = upstream.wires[0].writer.get_extra_info("peercert")
        assert ("DNS", "gateway.test") in shown["subjectAltName"]


async def test_a_certificate_that_is_missing_fails_the_handshake(
    stage: Stage, authority: Authority
) -> None:
    server = authority.demanding_server(ssl.TLSVersion.TLSv1_2)
    upstream = await stage.upstream(always(CREATED), server)
    assert await why_not(stage.pool(upstream, authority.trust())) in (
        NotSentReason.TLS_FAILED,
        NotSentReason.CONNECT_FAILED,
    )


async def test_in_tls_1_3_a_missing_certificate_shows_after_the_handshake_and_leaves_doubt(
    stage: Stage, authority: Authority
) -> None:
    """The client's part of the handshake is over before the server has looked at it."""
    server = authority.demanding_server(ssl.TLSVersion.TLSv1_3)
    upstream = await stage.upstream(always(CREATED), server)
    pool = stage.pool(upstream, authority.trust())
    assert isinstance(await attempt(pool), Lost)
    assert upstream.requests == []


async def test_a_renewed_certificate_is_shown_on_new_connections(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(
        always(CREATED), authority.demanding_server(ssl.TLSVersion.TLSv1_3)
    )
    settings = authority.settings(**authority.client_files())
    context = client_context(settings)
    assert context is not None
    await attempt(stage.pool(upstream, Tls(context, NAME)))
    authority.client_files()  # writes another pair over the first
    load_client_certificate(context, settings)
    await attempt(stage.pool(upstream, Tls(context, NAME)))
    first, second = (wire.writer.get_extra_info("peercert") for wire in upstream.wires)
    assert first["serialNumber"] != second["serialNumber"]


@pytest.mark.parametrize("setting", ["ca_file", "client_cert_file"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, setting: str) -> None:
    wrong = tmp_path / "wrong.pem"
    more: dict[str, Any] = {setting: str(wrong)}
    settings = UpstreamSettings(name="b", urls=("https://127.0.0.1",), **more)
    for write in (lambda: None, lambda: wrong.write_text("nonsense")):
        write()
        with pytest.raises(CertificatesInvalid, match=r"wrong\.pem can't be") as flaw:
            client_context(settings)
        assert flaw.value.setting == setting


async def test_an_upstream_that_closes_an_idle_connection_makes_no_doubt(
    stage: Stage, authority: Authority
) -> None:
    upstream = await stage.upstream(answering(CREATED), authority.server())
    pool = stage.pool(upstream, authority.trust())
    for _ in range(30):
        assert answered_body(await attempt(pool)) == b'{"id":1}'


UNFRAMED = OK + b"\r\nall of it"


async def torn(wire: Wire) -> None:
    await wire.head()
    await wire.send(UNFRAMED)
    with socket.socket(fileno=os.dup(wire.writer.get_extra_info("socket").fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)
    await wire.until_closed()


async def test_what_only_the_end_ends_is_whole_where_tls_says_so_and_not_by_a_fin(
    stage: Stage, authority: Authority
) -> None:
    said = stage.pool(
        await stage.upstream(answering(UNFRAMED), authority.server()), authority.trust()
    )
    assert await read(await get(said)) == b"all of it"
    cut = stage.pool(await stage.upstream(torn, authority.server()), authority.trust())
    with pytest.raises(UpstreamBroke) as broke:
        await read(await get(cut))
    assert broke.value.reason is LostReason.TRUNCATED


async def test_both_bodies_are_streamed_and_held_back(stage: Stage, authority: Authority) -> None:
    size, block = 8_000_000, bytes(range(250)) * 400

    async def echo(wire: Wire) -> None:
        await wire.head()
        await wire.send(OK + b"Content-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await wire.reader.read(65_536)
            left -= len(data)
            await wire.send(data)
        await wire.until_closed()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // len(block)):
            yield block

    upstream = await stage.upstream(echo, authority.server())
    received = hashlib.sha256()
    answer = await put(stage.pool(upstream, authority.trust()), body(), size)
    async for piece in answer:
        assert len(answer._exchange._buffer) < 1_000_000
        received.update(piece)
    assert received.digest() == hashlib.sha256(block * (size // len(block))).digest()


async def test_the_pool_closes_without_waiting_for_a_silent_upstream(
    stage: Stage, authority: Authority
) -> None:
    async def silent(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(SOON_S)

    pool = stage.pool(await stage.upstream(silent, authority.server()), authority.trust())
    await pool.connect(SOON_S)
    async with asyncio.timeout(1):
        await pool.close()


def test_https_alone_has_tls() -> None:
    with pytest.raises(ValueError, match="https"):
        Pool(Origin("127.0.0.1", 1, "https"))
