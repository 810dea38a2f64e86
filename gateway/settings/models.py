"""The settings: what there is to set, its default, and the argument for the default."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from gateway.routes import Route, RouteKind, RouteTable
from gateway.settings.cache import CacheSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitsSettings
from gateway.settings.routes import RouteSettings
from gateway.settings.section import Section
from gateway.settings.tokens import JwtSettings
from gateway.settings.upstreams import UpstreamSettings
from gateway.settings.values import (
    Address,
    AsTuple,
    Count,
    LogLevels,
    Network,
    RateUrl,
    SecondsOrZero,
)


class ListenSettings(Section):
    """``[listen]``."""

    address: Address = "127.0.0.1:8080"
    """Host and port for storefronts."""

    admin: Address = "127.0.0.1:8081"
    """Host and port for operators, probes and metrics. Never reachable for storefronts: it holds
    the operators' API."""

    admin_token: Annotated[SecretStr, Field(min_length=22)] | None = None
    """The operators' token, for the environment (``ORDERGATE_LISTEN__ADMIN_TOKEN``). Without it,
    one is made at the first start, in a file beside the ledger that only the gateway can read."""

    workers: Annotated[Count, Field(le=64)] = 1
    """Processes of this gateway, on one port and one ledger: about one for each core. More than one
    run under a supervisor, which starts again what dies."""

    drain_s: SecondsOrZero = 30.0
    """How long what is in flight may take at a stop. Three times the default answer_within_s; less
    than the 60 to 90 s after which service managers and orchestrators kill."""

    drain_delay_s: Annotated[SecondsOrZero, Field(le=300)] = 0.0
    """From ``/readyz`` saying 503 to the listener's closing: behind a load balancer, longer than
    its health check takes to notice. Nobody to notice, nothing to wait for; it adds to drain_s."""

    trusted_proxies: Annotated[tuple[Network, ...], AsTuple] = ()
    """Addresses and networks of the balancers in front, as in ``"10.0.0.0/8"``. What they say in
    ``X-Forwarded-…`` and ``Forwarded`` is kept and appended to; what anybody else says there is
    overwritten."""

    proxy_protocol: bool = False
    """Whether the balancers in ``trusted_proxies`` send the PROXY protocol (1 or 2) in front of
    each connection. It is then required; connections from elsewhere are reset. The client is whom
    it names; where it names nobody, ``X-Forwarded-For`` says ``unknown``, whatever came in it."""

    trust_request_id: bool = False
    """Whether ``Request-Id`` of a request is kept: only behind a proxy that sets it."""

    encoded_slashes: Literal["refuse", "pass"] = "refuse"
    """``%2F`` and ``%5C`` in a path. A backend that decodes them before it looks for its route sees
    another path than the one that was routed here: refused with 400. ``pass`` is for ids such as
    ``a%2Fb``: they go on as they are; beside a dot segment, or where they may hide an order, they
    are refused all the same."""


class RatesSettings(Section):
    """``[rates]``: where requests are counted for the routes' ``rate_per_client`` and
    ``rate_per_address``."""

    url: RateUrl | None = None
    """``valkey://HOST:PORT/DB`` (or ``redis://``, with ``s`` for TLS): one count for all processes
    and machines. Without it, and while the store does not answer, each process counts for
    itself."""


class LogSettings(Section):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""

    levels: LogLevels = {}  # noqa: RUF012 - pydantic copies it
    """The least that is logged of a part, where it is not ``level``, as in
    ``{ requests = "warning" }``. Parts: process, requests, orders, upstream, reconciler, ledger."""

    format: Literal["json", "console"] = "json"
    """``json``: one object a line, for machines; ``console``: for people."""


class Settings(Section):
    """A whole configuration. Made by ``load``, which also checks what the parts say together."""

    listen: ListenSettings = ListenSettings()
    ledger: LedgerSettings = LedgerSettings()
    upstreams: Annotated[tuple[UpstreamSettings, ...], AsTuple] = ()
    routes: Annotated[tuple[RouteSettings, ...], AsTuple] = ()
    cache: CacheSettings = CacheSettings()
    jwt: JwtSettings = JwtSettings()
    rates: RatesSettings = RatesSettings()
    limits: LimitsSettings = LimitsSettings()
    log: LogSettings = LogSettings()

    @cached_property
    def order_routes(self) -> tuple[RouteSettings, ...]:
        return tuple(route for route in self.routes if route.kind == "order")

    def deadline_field(self, upstream: str) -> bytes | None:
        """The field in which that upstream is told how long it is waited for."""
        found = (each.deadline_header for each in self.upstreams if each.name == upstream)
        name = next(found, None)
        return None if name is None else name.encode("ascii")

    @property
    def admin_token(self) -> str | None:
        """The operators' token where the settings have it; else it is in ``admin_token_file``."""
        given = self.listen.admin_token
        return None if given is None else given.get_secret_value()

    @property
    def admin_token_file(self) -> Path:
        """Beside the ledger, as whoever may read the one may read the other."""
        path = self.ledger.path
        return path.with_name(path.name + ".admin-token")

    def route_table(self) -> RouteTable:
        return RouteTable(
            [
                Route(index, route.name, RouteKind(route.kind), route.pattern)
                for index, route in enumerate(self.routes)
            ]
        )
