"""TLS, users and passwords, as the documentation says to set them up, on real servers: alone, under
Sentinel, in a cluster."""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from gateway.ledger import LedgerUnavailable
from gateway.orders.claiming import Replay
from gateway.settings.ledger import LedgerSettings
from gateway.stores.remote import remote_ledger
from gateway.stores.valkey_nodes import Access
from middleware.clock import SystemClock
from tests.stores.making import answered, ended, fresh, submission
from tests.stores.servers import (
    Server,
    cluster,
    running,
    sentinel,
    sentinel_of,
    valkey_binary,
)

from .remote import DURABLE, durable, make, opened, until

PASSWORD = "s3cret"
"""The gateway's."""

SENTINELS = "w4tch"
"""What Sentinels ask whoever asks them."""

SERVERS = "b3tween"
"""What servers ask of each other, of the Sentinels and of operators."""

RIGHTS = (
    *("~{ordergate:*", "resetchannels", "&ordergate:*"),
    *("+@all", "-@dangerous", "+info", "+config|get", "+client|setname"),
)
"""Those of docs/remote-ledger.md."""


def written(folder: Path, name: str, password: str) -> str:
    file = folder / name
    file.write_text(f"{password}\n")
    return str(file)


def lock(server: Server) -> None:
    """Who is in already has to come again, with a password."""
    server.run("ACL", "SETUSER", "shop", "on", f">{PASSWORD}", *RIGHTS)
    server.run("CONFIG", "SET", "masterauth", SERVERS)
    server.run("CONFIG", "SET", "requirepass", SERVERS)
    for kind in ("normal", "pubsub", "replica"):
        server.run_as(SERVERS, "CLIENT", "KILL", "TYPE", kind)


def follows_again(replica: Server) -> bool:
    told = replica.run_as(SERVERS, "INFO", "replication")
    return bool(told["master_link_status"] == "up")


async def settle(settings: LedgerSettings) -> None:
    """An order is claimed, settled and replayed on the ledger of these settings."""
    ledger = remote_ledger(
        settings,
        clock=SystemClock(),
        who="replica-1",
        new_holder=lambda: secrets.token_hex(8),
        event=lambda *_, **__: None,
    )
    await ledger.open()
    try:
        after = await ended(ledger, *await fresh(ledger), answered(201))
        assert (await ledger.claim(submission())).claimed == Replay(after)
    finally:
        await ledger.close()


# --- TLS -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def behind_tls(server: Server, authority: trustme.CA) -> AsyncIterator[int]:
    """The port of a TLS listener in front of ``server``, which has no TLS of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", server.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(copy(reader, outer), copy(inner, writer))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def with_tls(url: str, ca_file: Path) -> LedgerSettings:
    return LedgerSettings(url=url, ca_file=str(ca_file), folder=str(ca_file.parent))


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    right, wrong = tmp_path / "right.pem", tmp_path / "wrong.pem"
    authority.cert_pem.write_to_path(right)
    stranger.cert_pem.write_to_path(wrong)
    with running(durable()) as (server,):
        async with behind_tls(server, authority) as port:
            url = f"valkeys://127.0.0.1:{port}"
            async with opened(url, access=Access(tls=True, ca_file=right)) as ledger:
                await fresh(ledger)
            with pytest.raises(LedgerUnavailable, match="certificate"):
                await make(url, access=Access(tls=True, ca_file=wrong)).open()


async def test_tls_is_spoken_with_sentinels_too(tmp_path: Path) -> None:
    """The Sentinel names a port where its master speaks TLS."""
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with running(durable()) as (master,):
        async with behind_tls(master, authority) as port:
            watcher = sentinel_of(valkey_binary(), port, 1, down_after_ms=60_000)
            with running(watcher):
                async with behind_tls(watcher, authority) as asked:
                    url = f"valkeys+sentinel://127.0.0.1:{asked}/shop"
                    await settle(with_tls(url, ca_file))


async def test_tls_is_spoken_with_every_node_of_a_cluster(tmp_path: Path) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    group = cluster(valkey_binary(), 3, *DURABLE)
    with contextlib.closing(group):
        async with contextlib.AsyncExitStack() as stack:
            ports = set()
            for node in group.servers:
                port = await stack.enter_async_context(behind_tls(node, authority))
                node.run("CONFIG", "SET", "cluster-announce-port", port)
                ports.add(port)
            await until(lambda: all(set(node.replicas()) == ports for node in group.servers))
            url = f"valkeys+cluster://127.0.0.1:{port}"
            await settle(with_tls(url, ca_file))


# --- users and passwords ---------------------------------------------------------------------


async def test_a_user_with_a_password_from_a_file_that_may_do_what_it_must(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    with running(durable()) as (server,):
        server.run("ACL", "SETUSER", "shop", "on", f">{PASSWORD}", *RIGHTS)
        server.run("ACL", "SETUSER", "default", "off")
        url = server.url.replace("//", "//shop@")
        access = Access(username="shop", password_file=secret)
        async with opened(url, access=access) as ledger:
            entry, lease = await fresh(ledger)
            watch = ledger.watchers.add(entry.id)
            await ended(ledger, entry, lease, answered(201))
            ledger.watchers.remove(entry.id, watch)
        secret.write_text("wrong\n")
        with pytest.raises(LedgerUnavailable, match="password"):
            await make(url, access=access).open()


async def test_sentinels_and_their_servers_each_want_a_password(tmp_path: Path) -> None:
    group = sentinel(valkey_binary(), 1, 1)
    master, replica, watcher = group.servers
    with contextlib.closing(group):
        watcher.run("SENTINEL", "SET", "shop", "auth-pass", SERVERS)
        watcher.run("ACL", "SETUSER", "default", "resetpass", f">{SENTINELS}")
        for server in (master, replica):
            lock(server)
        settings = LedgerSettings(
            url=group.url.replace("//", "//shop@"),
            durability="replicated",
            replicas=1,
            password_file=written(tmp_path, "password", PASSWORD),
            sentinel_password_file=written(tmp_path, "sentinels", SENTINELS),
            folder=str(tmp_path),
        )
        await until(lambda: follows_again(replica))
        await settle(settings)
        written(tmp_path, "sentinels", PASSWORD)
        with pytest.raises(LedgerUnavailable, match=r"Sentinel.*password"):
            await settle(settings)


async def test_a_cluster_whose_nodes_each_want_a_password(tmp_path: Path) -> None:
    group = cluster(valkey_binary(), 3, *DURABLE)
    with contextlib.closing(group):
        for node in group.servers:
            lock(node)
        settings = LedgerSettings(
            url=group.url.replace("//", "//shop@"),
            password_file=written(tmp_path, "password", PASSWORD),
            folder=str(tmp_path),
        )
        await settle(settings)
        written(tmp_path, "password", SERVERS)
        with pytest.raises(LedgerUnavailable, match=r"no node.*password"):
            await settle(settings)
