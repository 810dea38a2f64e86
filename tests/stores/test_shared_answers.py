"""Answers that gateways share, on real servers: bounded, forgotten in time, and never late."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.settings.ledger_urls import parse_remote
from gateway.stores.valkey_keys import BUCKETS
from gateway.stores.valkey_nodes import Access
from gateway.stores.valkey_shared import FIELDS_MAX, ValkeySharedStore
from middleware.caching.sharing import StoreAway
from tests.stores.servers import REMOTE, Server, store_url, valkey_binary

MIB = 1024**2
A, B = b"a" * 32, b"b" * 32
Make = Callable[..., ValkeySharedStore]


@pytest.fixture(params=REMOTE)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    made = []

    def make(bytes_max: int = 64 * MIB, late_s: float = 5.0) -> ValkeySharedStore:
        url = parse_remote(f"{store_url(request.param)}?prefix={tmp_path.name}")
        made.append(ValkeySharedStore(url, access=Access(), bytes_max=bytes_max, late_s=late_s))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def data(store: ValkeySharedStore, resource: bytes, *names: bytes) -> list[bytes]:
    return [each for _, each in (await store.find(resource, names or (b"p",))).answers]


async def test_what_one_puts_another_finds(make: Make) -> None:
    here, there = make(), make()
    assert await data(here, A) == []
    await here.put(A, b"p", b"", b"answer", 60)
    await here.put(A, b"v1", b"x-a", b"one", 60)
    await here.put(A, b"v2", b"x-a", b"two", 60)
    await here.put(A, b"v3", b"x-a\0x-b", b"three", 60)
    found = await there.find(A, (b"p", b"v1", b"v3", b"v9"))
    assert sorted(found.names) == [b"x-a", b"x-a\0x-b"]
    assert [each for _, each in found.answers] == [b"answer", b"one", b"three"]
    assert all(0 <= stored_s < 30 for stored_s, _ in found.answers)
    assert await data(there, B) == []
    await there.put(A, b"p", b"", b"another", 60)
    assert await data(here, A) == [b"another"]


async def test_an_answer_is_forgotten_in_time(make: Make) -> None:
    store = make()
    await store.find(A, ())
    await store.put(A, b"p", b"", b"answer", 0.05)
    async with asyncio.timeout(20):
        while await data(store, A):  # noqa: ASYNC110 - the server's clock
            await asyncio.sleep(0.02)
    await store.put(A, b"p", b"", b"again", 60)
    assert await data(store, A) == [b"again"]


async def test_there_is_a_bound_and_the_least_used_goes_first(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(bytes_max=BUCKETS * 4000)
    monkeypatch.setattr(store, "_bucket", lambda _resource: store._layout.buckets[0])
    body = b"x" * 1000
    for resource in (b"1", b"2", b"3"):
        await store.find(resource, ())
        await store.put(resource, b"p", b"", body, 60)
    assert await data(store, b"1") == [body]
    await store.put(b"4", b"p", b"", body, 60)
    assert [await data(store, each) for each in (b"1", b"2", b"3", b"4")] == [
        [body],
        [],
        [body],
        [body],
    ]
    await store.put(b"5", b"p", b"", b"y" * 4001, 60)
    assert await data(store, b"5") == []
    for number in range(50):
        await store.put(b"%d" % number, b"p", b"", body, 60)
    kept = [await data(store, b"%d" % number) for number in range(50)]
    assert sum(map(bool, kept)) == 3


async def test_one_resource_has_a_bound_too(make: Make) -> None:
    store = make()
    await store.find(A, ())
    for number in range(FIELDS_MAX):
        await store.put(A, b"v%d" % number, b"x-a", b"one", 60)
    names = [b"v%d" % number for number in range(FIELDS_MAX)]
    assert 0 < len(await data(store, A, *names)) <= FIELDS_MAX / 2
    assert await data(store, A, names[-1]) == [b"one"]


async def test_a_put_that_comes_too_late_is_not_done(make: Make) -> None:
    store = make(late_s=-1.0)
    await store.find(A, ())
    await store.put(A, b"p", b"", b"late", 60)
    assert await data(store, A) == []


async def test_nothing_is_put_before_the_servers_time_is_known(make: Make) -> None:
    await make().put(A, b"p", b"", b"answer", 60)
    assert await data(make(), A) == []


async def test_a_server_that_is_away_is_said_to_be() -> None:
    server = Server(valkey_binary())
    url = parse_remote(server.url)
    store = ValkeySharedStore(url, access=Access(), bytes_max=MIB * 64, late_s=1.0)
    with pytest.raises(StoreAway):
        await store.find(A, ())
    with server:
        await store.find(A, ())
        await store.put(A, b"p", b"", b"answer", 60)
        assert await data(store, A) == [b"answer"]
        server.send(signal.SIGKILL)
        with pytest.raises(StoreAway):
            await store.find(A, ())
        with pytest.raises(StoreAway):
            await store.put(A, b"p", b"", b"answer", 60)
    await store.close()
