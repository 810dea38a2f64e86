"""``[[routes]]``."""

from typing import Annotated, Literal, TypeAlias

from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.routes import Pattern
from gateway.settings.identities import ScopeText
from gateway.settings.section import MIB, Section
from gateway.settings.values import (
    AsTuple,
    Bytes,
    Capabilities,
    CookieName,
    CorsOrigin,
    FieldName,
    FilePath,
    Lookup,
    Match,
    Name,
    PathPattern,
    Pointer,
    RateText,
    SafeCall,
    Seconds,
    SecondsOrZero,
    StatusText,
)

DAY_S = 86_400.0

Statuses: TypeAlias = Annotated[tuple[StatusText, ...], AsTuple]


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
    """What the upstream sees as key: a ``digest`` of scope and key, or the ``client``'s own; with a
    lookup only ones of 22 characters or more: it does not tell whose order it asks for."""

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
    """For how much longer the key is remembered, without its answer. A later repeat is a new order,
    but where the key is a UUIDv7, which says how old it is: then 409."""

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
    proves nothing. So that it can be read, answers are asked for uncompressed."""

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
