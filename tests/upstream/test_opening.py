"""Names with several addresses: tried beside each other, and nothing is left open."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.orders.attempts import NotSentReason
from gateway.upstream import ConnectFailed, Origin
from tests.upstream.asking import CREATED, SOON_S, answered_body, attempt
from tests.upstream.conftest import Stage
from tests.upstream.faulty import always

NAME = "backend.test"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    loop = asyncio.get_running_loop()
    really = loop.getaddrinfo

    async def found(host: Any, port: Any, **options: Any) -> Sequence[Any]:
        if host != NAME:
            return await really(host, port, **options)
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", found)


async def test_an_address_that_refuses_gives_way_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = await stage.upstream(always(CREATED))
    resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1")
    pool = stage.pool_to(Origin(NAME, upstream.origin.port))
    assert answered_body(await attempt(pool)) == b'{"id":1}'


async def test_an_address_that_is_silent_is_not_waited_for(
    stage: Stage, unanswered: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both addresses have the silent listener's port: the good one listens on another address."""
    server = await asyncio.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.2", unanswered.port
    )
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    pool = stage.pool_to(Origin(NAME, unanswered.port))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await pool.connect(SOON_S)
    assert loop.time() - began < 1.0
    server.close()


async def test_where_every_address_refuses_the_reason_is_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.8", "127.0.0.9")
    with socket.create_server(("127.0.0.1", 0)) as free:
        pool = stage.pool_to(Origin(NAME, free.getsockname()[1]))
        with pytest.raises(ConnectFailed) as failed:
            await pool.connect(SOON_S)
    assert failed.value.reason is NotSentReason.CONNECT_REFUSED
    assert pool.stats.places == 0


async def test_one_address_needs_no_race(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = await stage.upstream(always(CREATED))
    resolve_to(monkeypatch, "127.0.0.1")
    pool = stage.pool_to(Origin(NAME, upstream.origin.port))
    assert answered_body(await attempt(pool)) == b'{"id":1}'


async def test_a_race_that_is_cancelled_leaves_nothing_open(
    stage: Stage, unanswered: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings of sockets that were never closed are errors here."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1")
    pool = stage.pool_to(Origin(NAME, unanswered.port))
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(0.05)
    assert failed.value.reason is NotSentReason.CONNECT_TIMEOUT
    assert pool.stats.places == 0


async def test_a_name_that_leads_elsewhere_is_followed_once_connections_are_old(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await stage.upstream(always(CREATED))
    taken: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        taken.append(writer.get_extra_info("sockname")[0])
        writer.write(CREATED)
        writer.close()

    after = await asyncio.start_server(serve, "127.0.0.2", before.origin.port)
    resolve_to(monkeypatch, "127.0.0.1")
    pool = stage.pool_to(Origin(NAME, before.origin.port), age_s=0.2)
    await attempt(pool)
    resolve_to(monkeypatch, "127.0.0.2")
    await attempt(pool)
    assert (len(before.requests), taken) == (2, [])  # on the connection that there was
    await asyncio.sleep(0.25)  # what is waited for is its age
    await attempt(pool)
    assert (len(before.requests), taken) == (2, ["127.0.0.2"])
    after.close()
    await after.wait_closed()
