"""The flaky backend on real sockets: each fault does what it says, and the books never lie."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from gateway.demo import backend as backend_module
from gateway.demo.backend import Backend
from gateway.demo.faults import COURSES, Ending, Fault, LookupFault, Ordeal
from gateway.demo.intents import SOLD_OUT_SKU
from gateway.demo.wire import (
    Address,
    Outcome,
    Reply,
    Request,
    Silence,
    SilenceReason,
    encode_request,
    exchange,
)
from gateway.orders.promise import Capability

DEDUP = frozenset({Capability.DEDUP})
LOOKUP = frozenset({Capability.LOOKUP})
BOTH = DEDUP | LOOKUP
NONE: frozenset[Capability] = frozenset()

Serving: TypeAlias = tuple[Backend, Address]
Serve: TypeAlias = Callable[..., Awaitable[Serving]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(
            capabilities: frozenset[Capability] = NONE,
            *ordeals: Ordeal,
            lookup: LookupFault = LookupFault.NONE,
        ) -> Serving:
            script = iter(ordeals)
            backend = Backend(
                capabilities, lambda _r, _n: next(script, Ordeal()), lambda _k, _n: lookup
            )
            address = await backend.start()
            stack.push_async_callback(backend.stop)
            return backend, address

        yield start


def order(
    reference: str = "i-1", key: str | None = "k-1", who: str = "ann", **more: str
) -> Request:
    headers = [(b"Authorization", who.encode())]
    if key is not None:
        headers.append((b"Idempotency-Key", key.encode()))
    body = json.dumps({"reference": reference, "sku": "tea", **more}).encode()
    return Request("POST", "/orders", tuple(headers), body)


async def submit(address: Address, request: Request, patience_s: float = 5.0) -> Outcome:
    return await exchange(address, request, patience_s)


async def look_up(address: Address, key: str) -> Outcome:
    return await exchange(address, Request("GET", f"/orders?idempotency_key={key}"), 5.0)


async def raw(address: Address, request: Request) -> bytes:
    """All bytes until the connection ends. Raises ConnectionResetError at a reset."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(encode_request(request, str(address)))
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.transport.abort()


async def test_an_order_is_made_and_shown(serve: Serve) -> None:
    backend, address = await serve()
    reply = await submit(address, order())
    assert isinstance(reply, Reply)
    made = json.loads(reply.body)
    assert (reply.status, made["reference"]) == (201, "i-1")
    assert [held.order_id for held in backend.books.orders] == [made["id"]]
    shown = await exchange(address, Request("GET", f"/orders/{made['id']}"), 5.0)
    assert isinstance(shown, Reply)
    assert shown.body == reply.body


async def test_what_is_sold_out_is_refused_with_the_same_bytes_each_time(serve: Serve) -> None:
    backend, address = await serve()
    replies = [await submit(address, order(sku=SOLD_OUT_SKU)) for _ in range(2)]
    assert replies[0] == replies[1]
    assert isinstance(replies[0], Reply)
    assert replies[0].status == 422
    assert backend.books.orders == []


async def test_a_connection_serves_several_requests(serve: Serve) -> None:
    _, address = await serve()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for _ in range(2):
        writer.write(b"GET /catalog HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b"}")
    writer.transport.abort()


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.RESET_AFTER, Fault.RESET_BEFORE])
async def test_a_lost_reply_or_reset_brings_no_byte_of_an_answer(
    serve: Serve, fault: Fault
) -> None:
    backend, address = await serve(NONE, Ordeal(fault))
    course = COURSES[fault]
    if course.ending is Ending.RESET:
        with pytest.raises(ConnectionResetError):
            await raw(address, order())
    else:
        assert await raw(address, order()) == b""
    assert len(backend.books.orders) == course.processes
    assert backend.observed.doubts == 1


@pytest.mark.parametrize("fault", [Fault.HANG_BEFORE, Fault.HANG_AFTER])
async def test_a_hang_answers_nothing_until_the_caller_leaves(serve: Serve, fault: Fault) -> None:
    backend, address = await serve(NONE, Ordeal(fault))
    outcome = await submit(address, order(), patience_s=0.1)
    assert outcome == Silence(SilenceReason.OUT_OF_PATIENCE)
    assert len(backend.books.orders) == COURSES[fault].processes
    assert backend.observed.doubts == 1


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.ERROR_AFTER])
async def test_a_5xx_proves_nothing_about_the_order(serve: Serve, fault: Fault) -> None:
    backend, address = await serve(NONE, Ordeal(fault, error_status=502))
    reply = await submit(address, order())
    assert isinstance(reply, Reply)
    assert reply.status == 502
    assert len(backend.books.orders) == COURSES[fault].processes
    assert backend.observed.doubts == 1


async def test_a_429_was_not_processed_and_says_when_to_come_back(serve: Serve) -> None:
    backend, address = await serve(NONE, Ordeal(Fault.NOT_PROCESSED))
    reply = await submit(address, order())
    assert isinstance(reply, Reply)
    assert reply.status == 429
    assert (b"Retry-After", b"1") in reply.headers
    assert (backend.books.orders, backend.observed.doubts) == ([], 0)


async def test_a_truncated_answer_is_shorter_than_its_length_says(serve: Serve) -> None:
    backend, address = await serve(NONE, Ordeal(Fault.TRUNCATED))
    head, _, body = (await raw(address, order())).partition(b"\r\n\r\n")
    announced = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    assert head.startswith(b"HTTP/1.1 201 ")
    assert 0 < len(body) < announced
    assert len(backend.books.orders) == 1


async def test_a_late_commit_comes_after_the_reset(serve: Serve) -> None:
    backend, address = await serve(NONE, Ordeal(Fault.LATE, work_s=0.2))
    with pytest.raises(ConnectionResetError):
        await raw(address, order())
    assert backend.books.orders == []
    await backend.quiet()
    assert len(backend.books.orders) == 1


async def test_work_goes_on_when_the_caller_has_hung_up(serve: Serve) -> None:
    backend, address = await serve(NONE, Ordeal(Fault.SLOW, work_s=0.2))
    outcome = await submit(address, order(), patience_s=0.05)
    assert outcome == Silence(SilenceReason.OUT_OF_PATIENCE)
    await backend.quiet()
    assert len(backend.books.orders) == 1


async def test_work_that_would_take_too_long_is_dropped(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "WORK_S_MAX", 0.01)
    backend, address = await serve(DEDUP, Ordeal(work_s=0.05), Ordeal())
    reply = await submit(address, order())
    assert isinstance(reply, Reply)
    assert (reply.status, backend.books.orders, backend.observed.doubts) == (500, [], 1)
    monkeypatch.setattr(backend_module, "WORK_S_MAX", 2.0)
    again = await submit(address, order())
    assert isinstance(again, Reply)
    assert again.status == 201


async def test_dedup_makes_one_order_of_simultaneous_submissions(serve: Serve) -> None:
    backend, address = await serve(DEDUP, *[Ordeal(work_s=0.05)] * 30)
    replies = await asyncio.gather(*(submit(address, order()) for _ in range(30)))
    assert len(set(replies)) == 1
    assert isinstance(replies[0], Reply)
    assert len(backend.books.orders) == 1
    assert backend.observed.replays == 29


async def test_dedup_replays_a_refusal_too(serve: Serve) -> None:
    backend, address = await serve(DEDUP)
    first = await submit(address, order(sku=SOLD_OUT_SKU))
    assert first == await submit(address, order(sku="tea"))
    assert backend.books.orders == []


async def test_dedup_counts_keys_for_each_customer_and_with_or_without_quotes(
    serve: Serve,
) -> None:
    backend, address = await serve(DEDUP)
    for request in (order(key="k"), order(key='"k"'), order("i-2", key="k", who="bob")):
        await submit(address, request)
    assert [(held.who, held.key) for held in backend.books.orders] == [("ann", "k"), ("bob", "k")]


async def test_dedup_remembers_an_order_whose_reply_was_lost(serve: Serve) -> None:
    backend, address = await serve(DEDUP, Ordeal(Fault.RESET_AFTER))
    assert await submit(address, order()) == Silence(SilenceReason.CLOSED)
    reply = await submit(address, order())
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["id"] == backend.books.orders[0].order_id
    assert len(backend.books.orders) == 1


@pytest.mark.parametrize("capabilities", [NONE, LOOKUP])
async def test_without_dedup_every_submission_is_one_more_order(
    serve: Serve, capabilities: frozenset[Capability]
) -> None:
    backend, address = await serve(capabilities)
    await submit(address, order())
    await submit(address, order())
    assert len(backend.books.orders) == 2


@pytest.mark.parametrize("capabilities", [LOOKUP, BOTH])
async def test_a_lookup_finds_the_order_at_once_and_nothing_for_another_key(
    serve: Serve, capabilities: frozenset[Capability]
) -> None:
    backend, address = await serve(capabilities)
    await submit(address, order(key="abc"))
    found, absent = await look_up(address, "abc"), await look_up(address, "xyz")
    assert isinstance(found, Reply)
    assert isinstance(absent, Reply)
    assert [item["id"] for item in json.loads(found.body)] == [backend.books.orders[0].order_id]
    assert (found.status, absent.status, absent.body) == (200, 200, b"[]")


@pytest.mark.parametrize("capabilities", [NONE, DEDUP])
async def test_without_lookup_there_is_no_such_page(
    serve: Serve, capabilities: frozenset[Capability]
) -> None:
    _, address = await serve(capabilities)
    await submit(address, order(key="abc"))
    reply = await look_up(address, "abc")
    assert isinstance(reply, Reply)
    assert reply.status == 404


async def test_a_lookup_that_fails_says_nothing(serve: Serve) -> None:
    _, closing = await serve(LOOKUP, lookup=LookupFault.CLOSE)
    assert await look_up(closing, "abc") == Silence(SilenceReason.CLOSED)
    _, failing = await serve(LOOKUP, lookup=LookupFault.ERROR)
    reply = await look_up(failing, "abc")
    assert isinstance(reply, Reply)
    assert reply.status == 503


async def test_a_chunked_order_is_read_and_rubbish_is_not_answered(serve: Serve) -> None:
    backend, address = await serve()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    body = order().body
    writer.write(b"POST /orders HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
    writer.transport.abort()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"rubbish\r\n\r\n")
    assert await reader.read() == b""
    writer.transport.abort()
    assert len(backend.books.orders) == 1
    assert backend.observed.bugs == []


async def test_nobody_listening_is_told_apart_from_a_closed_connection() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    outcome = await exchange(Address(host, port), order(), 5.0)
    assert outcome == Silence(SilenceReason.NOT_CONNECTED)
