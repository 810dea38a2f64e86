"""Which rates a request counts against: by the client's address, and by who it shows to be."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage, Storage

from gateway.api.scopes import SourceOf
from gateway.settings import RouteSettings, Settings
from gateway.telemetry import Telemetry
from middleware.idempotency.gate import Shows
from middleware.idempotency.rules import scope_digest
from middleware.peers import peer_of
from middleware.rates import Rate, RateLimiter

STORE_S_MAX = 0.25
CONNECTIONS_MAX = 16


@dataclass(frozen=True, slots=True)
class RouteRates:
    """What is set for one route."""

    address: RateLimitItem | None
    client: RateLimitItem | None
    scope: tuple[Shows, ...]


def route_rates(routes: Sequence[RouteSettings], source_of: SourceOf) -> dict[str, RouteRates]:
    return {
        route.name: RouteRates(
            address=_item(route.rate_per_address),
            client=_item(route.rate_per_client),
            scope=tuple(source_of(text) for text in route.scope),
        )
        for route in routes
        if route.rate_per_address is not None or route.rate_per_client is not None
    }


class RatesOf:
    """A request's rates. Anonymous clients are told apart by their address alone."""

    def __init__(
        self,
        rates: Mapping[str, RouteRates],
        route_of: Callable[[web.BaseRequest], str | None],
        address_of: Callable[[web.BaseRequest], str],
    ) -> None:
        self._rates = rates
        self._route_of = route_of
        self._address_of = address_of

    def __call__(self, request: web.BaseRequest) -> tuple[Rate, ...]:
        route = self._route_of(request) if self._rates else None
        rates = None if route is None else self._rates.get(route)
        if rates is None:
            return ()
        found = []
        if rates.address is not None:
            who = f"{route}/{peer_of(self._address_of(request))}"
            found.append(Rate("address", rates.address, who))
        client = None if rates.client is None else _client(request, rates.scope)
        if rates.client is not None and client is not None:
            found.append(Rate("client", rates.client, f"{route}/{client}"))
        return tuple(found)


def rate_limiter(settings: Settings, telemetry: Telemetry) -> RateLimiter:
    """Counts in this process, or in the store that several share."""
    log = telemetry.log_of("requests")
    storage, close = (None, None) if settings.rates.url is None else _shared(settings.rates.url)
    return RateLimiter(
        storage,
        close_storage=close,
        refused=telemetry.rate_exceeded,
        trouble=lambda why: log.warning("rates are not counted as they should be", reason=why),
    )


def _shared(url: str) -> tuple[Storage, Callable[[], Awaitable[None]]]:
    """A store of several processes, and how to let go of it. Its connections open at the first
    request. Nothing is tried twice: a request would be counted twice."""
    from redis.asyncio import BlockingConnectionPool  # slow to import, and rarely wanted
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    scheme, _, rest = url.partition("://")
    plain = "rediss" if scheme in ("valkeys", "rediss") else "redis"
    pool: Any = BlockingConnectionPool.from_url(
        f"{plain}://{rest}",
        max_connections=CONNECTIONS_MAX,
        timeout=STORE_S_MAX,
        socket_timeout=STORE_S_MAX,
        socket_connect_timeout=STORE_S_MAX,
        retry=Retry(NoBackoff(), 0),
    )
    storage = RedisStorage(
        "async+redis://",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="ordergate:rate",
        connection_pool=pool,
    )
    return storage, pool.disconnect


def _client(request: web.BaseRequest, scope: tuple[Shows, ...]) -> str | None:
    """As the gate reads it; what it would refuse counts for nobody, and is refused there."""
    for source in scope:
        shown = source.read(request.raw_headers)
        if shown:
            return scope_digest(source.kind, shown[0]) if len(shown) == 1 else None
    return None


def _item(text: str | None) -> RateLimitItem | None:
    return None if text is None else parse(text)
