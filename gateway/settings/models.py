"""The settings: what there is to set, its default, and the argument for the default."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr

from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.routes import Pattern, Route, RouteKind, RouteTable
from gateway.settings.cache import CacheSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.section import Section
from gateway.settings.tokens import JwtSettings
from gateway.settings.values import (
    Address,
    AsTuple,
    Bytes,
    Capabilities,
    CookieName,
    CorsOrigin,
    Count,
    FieldName,
    FilePath,
    HeaderName,
    LogLevels,
    Lookup,
    Match,
    Name,
    Network,
    OriginUrl,
    OwnFieldName,
    PathPattern,
    Pointer,
    RateText,
    RateUrl,
    SafeCall,
    ScopeText,
    Seconds,
    SecondsOrZero,
    ServerName,
    StatusText,
)

KIB, MIB, GIB = 1024, 1024**2, 1024**3
DAY_S = 86_400.0

Statuses: TypeAlias = Annotated[tuple[StatusText, ...], AsTuple]


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
    each connection. It is then required; connections from elsewhere are reset."""

    trust_request_id: bool = False
    """Whether ``Request-Id`` of a request is kept: only behind a proxy that sets it."""


class UpstreamSettings(Section):
    """``[[upstreams]]``."""

    name: Name
    """What routes and metrics call it."""

    urls: Annotated[tuple[OriginUrl, ...], AsTuple]
    """Scheme, host and port of each of its servers, ``http://`` or ``https://``. The less busy of
    two is asked. The name stands for one set of books: an order that waits is looked up at, and
    sent again to, whichever server answers, so another backend needs another name."""

    ca_file: FilePath | None = None
    """For ``https://``: the certificates (PEM) of the authorities to trust, instead of the
    system's. The upstream's certificate and name are always verified."""

    server_name: ServerName | None = None
    """For ``https://``: the name that the upstream's certificate must have, and that is asked for
    (SNI), where it is not the host in ``urls``."""

    client_cert_file: FilePath | None = None
    """For ``https://``: the certificate (PEM, with its chain) that the gateway shows. Read anew at
    each reload; new connections show the new one."""

    client_key_file: FilePath | None = None
    """Its key, unencrypted, where it is not in the same file."""

    connect_timeout_s: Annotated[Seconds, Field(le=60)] = 2.0
    """For a connection, the TLS handshake and waiting for a place in the pool included. Room for
    one SYN that was lost (it is repeated after 1 s)."""

    deadline_header: OwnFieldName | None = None
    """A field in which the upstream is told for how many milliseconds it is waited for (of an
    order: attempt_timeout_s), as in ``"X-Request-Timeout-Ms"``. A client's own is replaced."""

    connections_max: Count = 128
    """At once, in each process; more wait for a place."""

    idle_s: Annotated[Seconds, Field(le=3600)] = 1.0
    """A connection idle for longer is not used again. Half of the shortest keep-alive in common use
    (gunicorn's 2 s): a connection idle for longer may be closing while an order goes out on it."""

    connection_age_s: Annotated[Seconds, Field(ge=1)] = 300.0
    """A connection is used for no longer than this, so that a name in DNS that leads elsewhere is
    followed."""

    sticky_header: HeaderName | None = None
    """Requests with the same value of this field go to the same of several servers, while it is
    up. Orders that are sent again or looked up go to any."""

    health_check: SafeCall | None = None
    """What each server is asked every ``health_every_s``, as in ``"GET /healthz"``: 2xx or 3xx
    says that it is up. Two answers alike count. Without it only real requests tell."""

    health_every_s: Annotated[Seconds, Field(ge=0.1)] = 5.0
    """The pause between two checks of a server, and the longest that an answer may take."""

    eject_after: Count = 5
    """So many failures in a row (no connection, no answer, 5xx) put one of several servers aside;
    where all are aside, all are asked."""

    eject_s: Seconds = 10.0
    """For how long at first; each time in a row for as much longer, up to ten times that."""

    slow_start_s: SecondsOrZero = 10.0
    """A server that comes back takes its full share of requests only after this."""

    breaker_failures: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of requests that must fail for the breaker to open: nothing is sent then, orders
    are received and wait. An order that fails again and again counts once."""

    breaker_slow_s: Seconds | None = None
    """Requests that take longer are slow; where most are (``breaker_slow``), it opens too. Without
    it slowness alone opens nothing."""

    breaker_slow: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of requests that must be slow."""

    breaker_window_s: Annotated[Seconds, Field(ge=1)] = 10.0
    """What shares are counted over."""

    breaker_calls_min: Count = 20
    """With fewer requests in the window it stays closed: two of three failed says little."""

    breaker_open_s: Annotated[Seconds, Field(ge=0.1)] = 5.0
    """For how long it is open before a few requests are let through as probes."""

    breaker_probes: Annotated[Count, Field(le=1000)] = 3
    """How many: if all do well it closes, and if one fails it is open again."""

    @property
    def url(self) -> str:
        return self.urls[0]


class RouteSettings(Section):
    """``[[routes]]``. What follows ``upstream`` is for order routes, except where it says else."""

    name: Name
    """What metrics and logs call it."""

    match: Match
    """Method (``*``: any) and path: ``*`` is one segment, ``**`` any number. The query is not
    matched; the first route that matches takes the request."""

    kind: Literal["order", "cached", "plain"]
    """``order``: recorded, sent once, answered once. ``plain``: passed through. ``cached``: passed
    through, and answered from the cache where that is right (see caching.md)."""

    upstream: str
    """The name of one of ``[[upstreams]]``."""

    capability: Capabilities | None = None
    """Required: what the upstream can do about an order in doubt: ``"dedup"``, ``"lookup"``,
    ``["dedup", "lookup"]`` or ``"none"`` (see capabilities.md)."""

    dedup_for_s: Seconds | None = None
    """Required with dedup: for how long the upstream remembers a key; nothing is sent again later
    than that after its first dispatch."""

    lookup: Lookup | None = None
    """Required with lookup: how to ask for one order, with ``{key}`` where the upstream key goes.
    Found: 200 with an object or a list that is not empty; absent: 404, or 200 with an empty
    list; all else proves nothing."""

    lookup_echo: Pointer | None = None
    """A JSON pointer to the upstream key in what a lookup found: another key proves nothing."""

    lookup_headers: FilePath | None = None
    """A file with header fields for lookups, one ``Name: value`` a line, mode 0600; read anew for
    each lookup."""

    key: Literal["attach", "require"] = "attach"
    """A submission without ``Idempotency-Key``: ``attach`` one that the gateway makes, or refuse it
    and ``require`` the client's."""

    scope: Annotated[tuple[ScopeText, ...], AsTuple] = ()
    """Where a client shows who it is, the first that is there: ``jwt:CLAIM`` (of a bearer token,
    verified as ``[jwt]`` says), ``header:NAME`` or ``cookie:NAME``. Keys are counted per client, so
    it must outlive tokens; without any, every client is anonymous."""

    scope_is_static: bool = False
    """You vouch that what ``scope`` names stays the same for as long as the client does (API keys,
    Basic credentials): no warning then."""

    replay_check: SafeCall | None = None
    """A safe request that the upstream answers 2xx to whoever is logged in, as in ``"GET /me"``:
    sent with the caller's credentials before anything recorded is told to a repeat. A 401 or 403
    goes to the caller; any other answer is 503. For tokens and sessions that can be revoked."""

    rate_per_client: RateText | None = None
    """How many requests one client (as ``scope`` has it) may send, as in ``"60/minute"``; 429
    beyond. Anonymous ones are not counted here."""

    rate_per_address: RateText | None = None
    """The same for one address (an IPv6 network of 64 bits). On any kind of route."""

    in_flight: Literal["wait", "conflict"] = "wait"
    """A repeat while the order is being placed: ``wait`` for its answer, or ``conflict`` (409) at
    once."""

    upstream_key: Literal["digest", "client"] = "digest"
    """What the upstream sees as key: a ``digest`` of scope and key, or the ``client``'s own."""

    cors_origins: Annotated[tuple[CorsOrigin, ...], AsTuple] = ()
    """Whose pages may place orders here, and ask the status URL, from a browser: origins, as in
    ``https://shop.example``, or ``*`` for all. Empty: no CORS fields are added."""

    cors_credentials: bool = False
    """Whether those pages may send cookies along; a cookie's scope needs it. Not with ``*``."""

    answer_within_s: Seconds = 10.0
    """From the last byte of the order to an answer; then 202 and a status URL. Shoppers leave after
    some ten seconds, and load balancers wait for at least thirty."""

    attempt_timeout_s: Seconds = 5.0
    """How long an attempt is waited for. Its connection is read on until ``settle_s``."""

    settle_s: Seconds = 30.0
    """After the end of an attempt, when it surely takes effect no more: longer than the upstream's
    queueing, work and lookup lag together."""

    place_within_s: Seconds = 900.0
    """For so long after its claim an order may be sent, where it is sure that no earlier attempt
    took effect. A deploy or a restart of the backend is over by then; the shopper has gone."""

    doubt_within_s: Seconds = 3600.0
    """An order in doubt for longer goes to a person, as a dead letter."""

    attach_window_s: SecondsOrZero = 60.0
    """The same order of the same client without a key, again within this time, is the same order. A
    double click or a reload comes within seconds; a second, identical order later is meant."""

    retention_s: Seconds = 3 * DAY_S
    """For how long the answer is repeated; then 410. A bad Friday deploy must be repairable on
    Monday."""

    tombstone_s: Seconds = 30 * DAY_S
    """For how much longer the key is remembered, without its answer."""

    confirmed_when: Statuses = ()
    """Answers that confirm: codes or classes (``"201"``, ``"2xx"``). Default: 2xx but 202."""

    rejected_when: Statuses = ()
    """Answers that reject for good. Default: 4xx but those named below; where it is set, another
    4xx leaves doubt."""

    not_admitted_when: Statuses = ()
    """Answers that prove that no order was made, and end this try: the key may be used again.
    Default: 401, 403, 407."""

    not_processed_when: Statuses = ()
    """Answers that prove that nothing was looked at: sent again, after ``Retry-After``. Default:
    425, 429."""

    in_doubt_when: Statuses = ()
    """Answers that prove nothing. Default: 202, 3xx, 408, 5xx."""

    answer_id: Pointer | None = None
    """A JSON pointer to what a confirming answer must hold, as in ``/id``; without it there, it
    proves nothing."""

    body_bytes_max: Bytes = MIB
    """The largest order taken; 413 beyond. An order is some kilobytes; it is kept in memory and in
    the ledger."""

    answer_bytes_max: Bytes = MIB
    """The largest answer kept. Of a larger one only status, fields and digest are kept and told,
    also to the first who asks: the outcome stands."""

    invalidates: Annotated[tuple[PathPattern, ...], AsTuple] = ()
    """What an order changes beside its own path, those above it and what its answer names: path
    patterns, or ``group:NAME`` for a cache group. No cached answer of before is shown then."""

    targeted_fields: Annotated[tuple[FieldName, ...], AsTuple] = ("CDN-Cache-Control",)
    """Cached routes: fields that speak to this cache instead of ``Cache-Control`` (RFC 9213), the
    most specific first."""

    session_cookies: Annotated[tuple[CookieName, ...], AsTuple] = ()
    """Cached routes: the cookies that show who a client is. A request with one of them is answered
    from the cache only with what the upstream declared public. Empty: every cookie does."""

    @property
    def pattern(self) -> Pattern:
        return Pattern.parse(self.match)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability(name) for name in self.capability or ())

    def promise(self) -> Promise:
        """What an order that is claimed on this route is promised."""
        return Promise(
            route=self.name,
            upstream=self.upstream,
            capabilities=self.capabilities,
            lookup=self._lookup_plan(),
            outcomes=OutcomeTable(
                confirmed_when=self.confirmed_when,
                rejected_when=self.rejected_when,
                not_admitted_when=self.not_admitted_when,
                not_processed_when=self.not_processed_when,
                in_doubt_when=self.in_doubt_when,
                answer_id=self.answer_id,
            ),
            answer_within_s=self.answer_within_s,
            attempt_timeout_s=self.attempt_timeout_s,
            settle_s=self.settle_s,
            place_within_s=self.place_within_s,
            doubt_within_s=self.doubt_within_s,
            attach_window_s=self.attach_window_s,
            dedup_for_s=self.dedup_for_s or 0.0,
            retention_s=self.retention_s,
            tombstone_s=self.tombstone_s,
            answer_bytes_max=self.answer_bytes_max,
            invalidates=self.invalidates,
        )

    def _lookup_plan(self) -> LookupPlan | None:
        if self.lookup is None:
            return None
        method, _, target = self.lookup.partition(" ")
        return LookupPlan(method, target, self.lookup_echo, self.lookup_headers)


class LimitsSettings(Section):
    """``[limits]``: what the storefront listener and plain routes bear."""

    requests_max: Count = 1024
    """Requests at work at once; one more waits for its turn. At 100 ms each that is ten times what
    one core can carry. Fewer are let in at first (256) and while the process is late (``lag_s``).
    """

    requests_min: Count = 256
    """As few it may come down to: a quarter of a second's work for one core; a crowd that repeats
    one order is let in whole, however busy the machine is."""

    queue_max: Annotated[int, Field(ge=0, le=100_000)] = 256
    """Requests that wait for their turn, orders before reads; one more gets 503 at once."""

    queue_s: Annotated[SecondsOrZero, Field(le=60)] = 0.5
    """For so long; 503 then, and at once where it would take longer. A wait that is longer than the
    work only adds to a jam; where somebody has waited for so long on end, nobody waits for more
    than 20 ms."""

    lag_s: Annotated[Seconds, Field(ge=0.01, le=10)] = 0.02
    """An event loop that is late by more, again and again, has more to do than it can: fewer
    requests are let in until it keeps up. A request takes some turns of it, and a refusal one."""

    adaptive: bool = False
    """Whether fewer are let in also while requests take more than twice as long as they did: for
    upstreams that get slower the more they are asked."""

    connections_max: Count = 12_000
    """Clients connected at once; one more gets 503. Room for waits_max and some; the limit of open
    files must be higher."""

    connections_per_address_max: Count = 2_000
    """The same for one address that is no trusted proxy; one more gets 429. A large office behind
    one address, not a flood."""

    requests_per_connection_max: Count = 10_000
    """Then a connection is closed after its answer, so that balancers can spread the load anew."""

    pipelined_max: Count = 32
    """Requests of one connection that were read and wait for their turn; the rest stays unread."""

    orders_per_client_max: Count = 100_000
    """New orders of one client (its scope; of nobody, its address) within orders_window_s, in each
    process; one more gets 429, repeats do not. Some 30 a second for an hour are a flood."""

    orders_window_s: Seconds = 3600.0
    """The window in which they are counted; it slides."""

    waits_max: Count = 10_000
    """Status requests that wait at once (``Prefer: wait``), beside requests_max. One more is
    answered at once. Each costs some 30 KiB."""

    target_bytes_max: Bytes = 8 * KIB
    """The longest path and query; 414 beyond."""

    head_bytes_max: Bytes = 32 * KIB
    """The largest request header; 431 beyond."""

    fields_max: Count = 100
    """The most header fields; 431 beyond."""

    header_s: Seconds = 10.0
    """From the first byte of a request to the end of its header; 408 beyond."""

    idle_s: Seconds = 75.0
    """A connection without a request is closed after this. Longer than load balancers keep a
    connection (60 s), so that it is they who close."""

    write_s: Seconds = 30.0
    """A client that takes nothing of its answer for so long is gone."""

    body_s: Seconds = 30.0
    """For the whole body of an order: 1 MiB in 30 s is a poor mobile network."""

    plain_body_bytes_max: Bytes = GIB
    """The largest body passed through on other routes; 413 beyond."""

    plain_body_idle_s: Seconds = 30.0
    """The longest pause in such a body; 408 beyond."""

    plain_head_s: Seconds = 60.0
    """From the end of a plain request to the head of its answer: reports and exports are slow."""

    plain_quiet_s: Seconds = 60.0
    """The longest pause of the upstream within an answer that is passed through."""

    tunnels_max: Count = 64
    """WebSockets open at once, in each process; one more gets 503. Each holds a connection to the
    upstream: half of connections_max, so that orders have the other half."""

    tunnel_idle_s: Seconds = 300.0
    """A WebSocket in which nothing moved for so long is closed. Clients ping every minute or so."""

    plain_total_s: Seconds = 3600.0
    """For the whole of a plain request, retries and the last byte of its answer included:
    connecting and every wait above have what is left of it at most. A gigabyte at 2 Mbit/s."""


class RatesSettings(Section):
    """``[rates]``: where requests are counted for the routes' ``rate_per_client`` and
    ``rate_per_address``."""

    url: RateUrl | None = None
    """``valkey://HOST:PORT/DB`` (or ``redis://``, with ``s`` for TLS): one count for all processes
    and machines. Without it each process counts for itself; where the store is away, nothing is
    refused."""


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
