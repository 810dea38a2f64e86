"""A storefront's side of one gateway: orders in, answers out."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.app import Gateway
from gateway.orders.entry import Entry

KEY = "key-0123456789-abcdefghij"


@dataclass(frozen=True)
class Answer:
    """What the storefront was told."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def order(self) -> str:
        return self.headers["Gateway-Order"]


class Shop:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._session: aiohttp.ClientSession | None = None
        self._started = False

    async def start(self) -> None:
        await self.gateway.start()
        self._started = True
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._started:
            await self.gateway.stop(1.0)
            self._started = False

    @property
    def url(self) -> str:
        host, port = self.gateway.storefront_address
        return f"http://{host}:{port}"

    @property
    def admin_url(self) -> str:
        host, port = self.gateway.admin_address
        return f"http://{host}:{port}"

    @property
    def admin_headers(self) -> dict[str, str]:
        token = self.gateway.settings.admin_token_file.read_text().strip()
        return {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, url: str, **more: Any) -> Answer:
        assert self._session is not None
        async with self._session.request(method, url, **more) as response:
            body = await response.read()
            return Answer(response.status, dict(response.headers), body)

    async def order(
        self,
        key: str | None = KEY,
        body: object = None,
        *,
        who: str | None = "Bearer anna",
        path: str = "/orders",
        **headers: str,
    ) -> Answer:
        sent = {"Content-Type": "application/json"} | headers
        if key is not None:
            sent["Idempotency-Key"] = key
        if who is not None:
            sent["Authorization"] = who
        data = body if isinstance(body, bytes) else json.dumps(body or {"sku": 7}).encode()
        return await self.ask("POST", self.url + path, data=data, headers=sent)

    async def taken(self, key: str = KEY, **more: Any) -> Answer:
        """The answer once the order was taken: where that waits for some tenths of a second only, a
        machine that stands still for as long has claimed nothing yet, and the customer repeats."""
        async with asyncio.timeout(20):
            while (told := await self.order(key, **more)).status == 503:
                pass
        return told

    async def entry(self, order: str) -> Entry:
        entry = await self.gateway.ledger.find(order)
        assert entry is not None
        return entry

    async def settled(self, order: str) -> Entry:
        """The order once it no longer moves by itself."""
        return await self.once(order, lambda entry: not entry.pending)

    async def once(self, order: str, true: Callable[[Entry], bool]) -> Entry:
        """The order as soon as ``true`` of it."""
        watch = self.gateway.ledger.watchers.add(order)
        try:
            entry = await self.entry(order)
            while not true(entry):
                entry = await watch.next()
            return entry
        finally:
            self.gateway.ledger.watchers.remove(order, watch)
