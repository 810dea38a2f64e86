"""What a remote ledger's server answers instead of doing its work (FAULTS: R1, R2, R5, R9), under a
whole gateway: nothing is sent, the client may repeat under the same key and is told of no other,
and all goes on when the server does."""

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import redis

from gateway.ledger import LedgerUnavailable
from gateway.orders.claiming import Replay
from gateway.orders.states import Status
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop, open_shop
from tests.scenarios.shop import Answer, Shop
from tests.stores.making import answered, ended, fresh, submission
from tests.stores.servers import Server, running

from .remote import durable, need_waitaof, opened, unsynced, until

__all__ = ["open_shop"]

BEFORE, DURING = "before-0123456789-abcd", "during-0123456789-abcd"

Fault = Callable[[Server], AbstractAsyncContextManager[None]]


@pytest.fixture
def server() -> Iterator[Server]:
    """It answers BUSY early."""
    with running(durable("--lua-time-limit", "50")) as (one,):
        yield one


# --- what can befall it ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def busy(server: Server) -> AsyncIterator[None]:
    """A stranger's script does not end."""
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(b"EVAL 'while true do end' 0\r\n")
        await until(lambda: _is_busy(server))
        yield
        server.run("SCRIPT", "KILL")


def _is_busy(server: Server) -> bool:
    try:
        server.run("PING")
    except redis.RedisError as error:
        return "BUSY" in str(error) or "busy" in str(error)
    return False


@contextlib.asynccontextmanager
async def out_of_memory(server: Server) -> AsyncIterator[None]:
    server.run("CONFIG", "SET", "maxmemory", 1)
    yield
    server.run("CONFIG", "SET", "maxmemory", 0)


@contextlib.asynccontextmanager
async def too_few_replicas(server: Server) -> AsyncIterator[None]:
    """NOREPLICAS."""
    if server.run("INFO", "server")["redis_version"].startswith("6."):
        pytest.skip("Redis before 7 lets scripts write all the same")
    server.run("CONFIG", "SET", "min-replicas-to-write", 1)
    yield
    server.run("CONFIG", "SET", "min-replicas-to-write", 0)


@contextlib.asynccontextmanager
async def read_only(server: Server) -> AsyncIterator[None]:
    """READONLY: somebody made it a replica."""
    server.run("REPLICAOF", "127.0.0.1", 1)
    yield
    server.run("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def without_its_master(server: Server) -> AsyncIterator[None]:
    """MASTERDOWN: a replica that does not tell what may be stale."""
    server.run("CONFIG", "SET", "replica-serve-stale-data", "no")
    async with read_only(server):
        yield
    server.run("CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextlib.asynccontextmanager
async def loading(server: Server) -> AsyncIterator[None]:
    """LOADING: it is started again, and reads its file, which would take it 40 s."""
    for number in range(800):
        server.run("SET", f"ballast:{number}", secrets.token_hex(25_000))
    server.run("BGREWRITEAOF")
    await until(lambda: not server.run("INFO", "persistence")["aof_rewrite_in_progress"])
    server.kill()
    server.launch("--key-load-delay", "50000")
    await until(lambda: _is_loading(server))
    yield
    server.kill()
    server.start()


def _is_loading(server: Server) -> bool:
    try:
        server.run("PING")
    except redis.BusyLoadingError:
        return True
    except redis.RedisError:
        return False
    return False


@contextlib.asynccontextmanager
async def standing_still(server: Server) -> AsyncIterator[None]:
    server.send(signal.SIGSTOP)
    yield
    server.send(signal.SIGCONT)


@contextlib.asynccontextmanager
async def gone(server: Server) -> AsyncIterator[None]:
    server.kill()
    yield
    server.start()


@contextlib.asynccontextmanager
async def locked(server: Server) -> AsyncIterator[None]:
    """NOAUTH: it wants a password that the gateway does not know."""
    server.run("CONFIG", "SET", "requirepass", "secret")
    server.run_as("secret", "CLIENT", "KILL", "TYPE", "normal")
    yield
    server.run_as("secret", "CONFIG", "SET", "requirepass", "")


@contextlib.asynccontextmanager
async def late_to_sync(server: Server) -> AsyncIterator[None]:
    """WAITAOF comes back short."""
    need_waitaof(server)
    async with unsynced(server):
        yield


FAULTS: list[Fault] = [
    busy,
    out_of_memory,
    too_few_replicas,
    read_only,
    without_its_master,
    loading,
    standing_still,
    gone,
    locked,
    late_to_sync,
]


# --- what the gateway makes of it ------------------------------------------------------------


async def shop_on(open_shop: OpenShop, server: Server, folder: Path) -> Shop:
    ledger = f'url = "{server.url}"\nfolder = "{folder}"'
    return await open_shop(edits={'url = "sqlite:///ledger.db"': ledger})


async def once_taken(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """What is told when the gateway takes orders again."""
    async with asyncio.timeout(60):
        while (told := await ask()).status in (202, 503):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.1)
    return told


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_is_sent_and_all_goes_on_afterwards(
    backend: Backend, open_shop: OpenShop, server: Server, tmp_path: Path, fault: Fault
) -> None:
    shop = await shop_on(open_shop, server, tmp_path)
    before = await shop.order(BEFORE)
    assert before.status == 201
    async with fault(server):
        refused = await shop.order(DURING)
        assert refused.status == 503
        assert refused.json["type"].endswith("ledger-unavailable")
        assert refused.json["safe_new_key"] is False
        assert (refused.json["order"], refused.json["order_status"]) == (None, None)
        assert refused.headers["Idempotency-Key"] == DURING
        assert "Retry-After" in refused.headers
        repeat = await shop.order(BEFORE)
        assert repeat.status == 503 or repeat.body == before.body
        ready = await shop.ask("GET", f"{shop.admin_url}/readyz")
        assert ready.status == 503
        assert any(each.startswith("ledger: ") for each in ready.json["reasons"])
        assert len(backend.posts) == 1
    after = await once_taken(lambda: shop.order(DURING))
    assert after.status == 201
    assert (await once_taken(lambda: shop.order(BEFORE))).body == before.body
    assert len(backend.orders) == len(backend.posts) == 2
    assert shop.gateway.ledger.distrusted is None
    counts = await shop.gateway.ledger.counts()
    assert counts.conserved
    assert counts.by_status[Status.CONFIRMED] == 2


# --- a file that was cut off -----------------------------------------------------------------


def log_of(server: Server) -> Path:
    """The file that the server appends to."""
    found = sorted(server.folder.glob("appendonlydir/*.incr.aof"))
    return found[-1] if found else server.folder / "appendonly.aof"


def cut_off(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def overwrite(path: Path, at: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)


async def test_a_log_whose_end_is_gone_is_noticed_and_not_trusted(server: Server) -> None:
    """The server starts with what it can read (aof-load-truncated yes, its default)."""
    async with opened(server.url) as ledger:
        early = await ended(ledger, *await fresh(ledger, submission("early")), answered(201))
        size = log_of(server).stat().st_size
        await ended(ledger, *await fresh(ledger, submission("late")), answered(201))
        server.kill()
        cut_off(log_of(server), size + 20)
        server.start()
        async with asyncio.timeout(20):
            while ledger.distrusted is None or ledger.trouble is not None:
                with contextlib.suppress(LedgerUnavailable):
                    await ledger.renew_hold()
                await asyncio.sleep(0.05)
        assert await ledger.find_by_key("scope", "late") is None
        assert (await ledger.claim(submission("early"))).claimed == Replay(early)
        assert (await fresh(ledger, submission("late")))[0].status is Status.IN_DOUBT


async def test_a_damaged_log_is_not_loaded_and_nothing_is_sent(
    backend: Backend, open_shop: OpenShop, server: Server, tmp_path: Path
) -> None:
    shop = await shop_on(open_shop, server, tmp_path)
    before = await shop.order(BEFORE)
    server.kill()
    log = log_of(server)
    whole = log.read_bytes()
    overwrite(log, whole.rindex(b"\n*", 0, len(whole) // 2) + 1, b"?")
    with pytest.raises(RuntimeError):  # it refuses to start
        server.start()
    assert (await shop.order(DURING)).status == 503
    assert len(backend.posts) == 1
    log.write_bytes(whole)
    server.start()
    assert (await once_taken(lambda: shop.order(DURING))).status == 201
    assert (await once_taken(lambda: shop.order(BEFORE))).body == before.body
    assert len(backend.posts) == 2
