"""What is legal and dangerous all the same: said at start-up and by ``ordergate check``."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from gateway.settings.cache_checks import cache_dangers
from gateway.settings.checks import is_loopback
from gateway.settings.ledger import LedgerSettings
from gateway.settings.ledger_urls import Kind, RemoteUrl
from gateway.settings.models import Settings
from gateway.settings.problems import Finding
from gateway.settings.routes import RouteSettings
from gateway.settings.tokens import JwtSettings
from gateway.settings.upstreams import UpstreamSettings
from gateway.settings.values import split_address

_EMPTIED_AT_BOOT = ("/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108  # warned of, not used

KEEP_ALIVE_S_COMMON = 5.0
"""After which Node, uvicorn and Apache close an idle connection."""

PATIENCE_S = 60.0
"""After which load balancers and browsers' users give a request up."""

_TOKEN = re.compile(r"token|jwt|csrf|xsrf|bearer", re.IGNORECASE)
"""Names of what is made anew while its client stays the same."""

_ADDRESS = re.compile(r"forwarded|(?:real|client|connecting)-ip|client-address", re.IGNORECASE)
"""Names of fields in which proxies say where a request came from."""

_FROM_A_PROXY = frozenset({"500", "502", "504", "5xx"})
"""What a proxy in front of the upstream says too, whatever the upstream has done."""


def dangers(settings: Settings) -> Iterator[Finding]:
    yield from _places(settings)
    yield from cache_dangers(settings.cache, settings.ledger)
    yield from _jwt(settings.jwt, settings.order_routes)
    for index, upstream in enumerate(settings.upstreams):
        yield from _below(("upstreams", index), _upstream(upstream))
    for index, route in enumerate(settings.routes):
        of_kind = _order_route(route) if route.kind == "order" else _other_route(route)
        yield from _below(("routes", index), of_kind)
    if not settings.order_routes:
        yield Finding(("routes",), "no route takes orders, so nothing is protected")


def _below(path: tuple[str, int], found: Iterator[Finding]) -> Iterator[Finding]:
    for finding in found:
        yield Finding((*path, *finding.path), finding.what, finding.suggestion)


def _places(settings: Settings) -> Iterator[Finding]:
    host, _ = split_address(settings.listen.admin)
    if not is_loopback(host):
        yield Finding(
            ("listen", "admin"),
            f"the operators' listener is reachable at {host}, without TLS",
            "see that only operators and probes reach it",
        )
    if settings.ledger.remote is not None:
        yield from _remote(settings.ledger, settings.ledger.remote)
    for folder in () if settings.ledger.remote else _EMPTIED_AT_BOOT:
        if PurePath(folder) in settings.ledger.path.parents:
            yield Finding(
                ("ledger", "url"),
                f"{folder} may be emptied, and every pending order with it",
                "keep the ledger where data is kept, as in sqlite:////var/lib/ordergate/ledger.db",
            )
    if settings.admin_token is None and _is_open(settings.admin_token_file):
        yield Finding(
            ("ledger", "url"),
            "other users of this machine can read the admin token beside the ledger",
            f"let nobody else: chmod 600 {settings.admin_token_file}",
        )
    if settings.ledger.adopt:
        yield Finding(
            ("ledger", "adopt"),
            "takes over a ledger of another host: if that one still runs, orders are sent twice",
            "take it out after this start",
        )


def _jwt(jwt: JwtSettings, routes: tuple[RouteSettings, ...]) -> Iterator[Finding]:
    if jwt.keys is None:
        return
    if not any(source.startswith("jwt:") for route in routes for source in route.scope):
        yield Finding(
            ("jwt", "keys"), "no route counts by a token", 'write scope = ["jwt:sub"] in one'
        )
    for name, what in (("issuer", "of another issuer"), ("audience", "for another service")):
        if not getattr(jwt, name):
            yield Finding(
                ("jwt", "keys"),
                f"a token {what} that the same keys sign is taken too",
                f"write {name} in [jwt]",
            )
    secret = any(name.startswith("HS") for name in jwt.algorithms)
    if secret and _is_open(Path(jwt.keys)):
        yield Finding(
            ("jwt", "keys"),
            "whoever can read the secret in it can sign tokens",
            f"let nobody else: chmod 600 {jwt.keys}",
        )


def _remote(ledger: LedgerSettings, url: RemoteUrl) -> Iterator[Finding]:
    far = [host for host, _ in url.hosts if not is_loopback(host)]
    if far and not url.tls:
        yield Finding(
            ("ledger", "url"),
            f"orders and their answers go to {far[0]} in the clear",
            "use valkeys://, or a network that only the gateways and the servers share",
        )
    if ledger.durability == "memory":
        yield Finding(
            ("ledger", "durability"),
            "a crash of the server forgets orders, and a forgotten order is made twice",
            'write "fsync", or "replicated"',
        )
    if ledger.durability == "fsync" and url.kind is Kind.SENTINEL:
        yield Finding(
            ("ledger", "durability"),
            "what is synced on one server is not on the replica that Sentinel promotes: the start"
            " is refused where there is one",
            'write "replicated"',
        )


def _upstream(upstream: UpstreamSettings) -> Iterator[Finding]:
    if upstream.idle_s >= KEEP_ALIVE_S_COMMON:
        yield Finding(
            ("idle_s",),
            "common servers close a connection that was idle for so long, and an order sent on it"
            " would come into doubt",
            "give less than the upstream's keep-alive time: half of it",
        )

    key = upstream.client_key_file or upstream.client_cert_file
    if key is not None and _is_open(Path(key)):
        yield Finding(
            ("client_key_file" if upstream.client_key_file else "client_cert_file",),
            "other users of this machine can read the key in it",
            f"let nobody else: chmod 600 {key}",
        )


def _other_route(route: RouteSettings) -> Iterator[Finding]:
    if route.session_cookies:
        yield Finding(
            ("session_cookies",),
            "any other cookie is taken to say nothing of who the client is",
            "name every cookie by which the upstream knows a customer",
        )


def _order_route(route: RouteSettings) -> Iterator[Finding]:
    yield from _times(route)
    yield from _scope(route)
    yield from _capability(route)
    yield from _meanings(route)
    if route.upstream_key == "client":
        yield Finding(
            ("upstream_key",),
            "two clients that choose the same key are one to the upstream",
            'only for upstreams that count keys per customer; else "digest". With a lookup, which'
            " tells no customers apart, only keys of 22 characters or more are taken",
        )
    if route.lookup_headers is not None and _is_open(Path(route.lookup_headers)):
        yield Finding(
            ("lookup_headers",),
            "other users of this machine can read the secrets in it",
            f"let nobody else: chmod 600 {route.lookup_headers}",
        )


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False  # a file that can't be read is a problem, and said as one


def _scope(route: RouteSettings) -> Iterator[Finding]:
    if not route.scope:
        yield Finding(
            ("scope",),
            "every client is anonymous: double clicks without a key are two orders",
            'say how clients are told apart, as in scope = ["cookie:session"]',
        )
    for index, source in enumerate(route.scope):
        name = source.partition(":")[2]
        if source.startswith("jwt:"):
            continue  # verified, and the same in every token of its client
        is_credentials = source.lower() == "header:authorization"
        if (is_credentials or _TOKEN.search(name)) and not route.scope_is_static:
            yield Finding(
                ("scope", index),
                "a token that is refreshed makes its client's retry look like another client's:"
                " two orders",
                "take what outlives tokens (a customer's id from a trusted proxy, a session"
                " cookie); if these credentials never change, write scope_is_static = true",
            )

        if _ADDRESS.search(name):
            yield Finding(
                ("scope", index),
                "an address is no client: many share one, and a client on the move changes its own",
                "take what says who the customer is, as a session cookie does",
            )


def _capability(route: RouteSettings) -> Iterator[Finding]:
    if not route.capabilities:
        yield Finding(
            ("capability",),
            "every attempt without an answer waits for a person, and the gateway calls nobody",
            'alert on the metric ordergate_orders{status="dead_letter"}',
        )
    remembered_s = route.dedup_for_s
    if route.capability == ("dedup",) and remembered_s and remembered_s < route.doubt_within_s:
        yield Finding(
            ("dedup_for_s",),
            f"is over before doubt_within_s ({route.doubt_within_s:.15g}): from then on nothing"
            " can settle a doubt",
            "give doubt_within_s less, so that a person is asked at once; or add a lookup",
        )
    if route.key == "attach" and route.attach_window_s == 0 and route.scope:
        yield Finding(
            ("attach_window_s",),
            "at 0, two clicks without a key are two orders",
            'give some seconds, or write key = "require"',
        )


def _meanings(route: RouteSettings) -> Iterator[Finding]:
    for name in ("confirmed_when", "rejected_when", "not_admitted_when", "not_processed_when"):
        listed = [status for status in getattr(route, name) if status in _FROM_A_PROXY]
        if listed:
            yield Finding(
                (name,),
                f'"{listed[0]}" can also come from a proxy in front of the upstream, which does'
                " not know what became of the order",
                "leave it out, unless the upstream alone can say it",
            )
    made = [status for status in route.rejected_when if status.startswith("2")]
    if made:
        yield Finding(
            ("rejected_when",),
            f'"{made[0]}" usually says that the order was made, and a rejected order may be'
            " placed again",
            "list it only if the upstream refuses orders so",
        )


def _times(route: RouteSettings) -> Iterator[Finding]:
    if route.settle_s < route.attempt_timeout_s:
        yield Finding(
            ("settle_s",),
            f"is shorter than attempt_timeout_s ({route.attempt_timeout_s:.15g}): what the"
            " gateway still waits for would count as settled",
            "give more than the upstream's queueing, processing and lookup lag together",
        )
    if route.capabilities and route.doubt_within_s <= route.settle_s:
        yield Finding(
            ("doubt_within_s",),
            f"is over before settle_s ({route.settle_s:.15g}): doubts go to a person unsettled",
            "give several times settle_s",
        )
    if route.place_within_s < route.attempt_timeout_s:
        yield Finding(
            ("place_within_s",),
            f"is shorter than one attempt ({route.attempt_timeout_s:.15g})",
            "give several times attempt_timeout_s",
        )
    if route.answer_within_s > PATIENCE_S:
        yield Finding(
            ("answer_within_s",),
            "load balancers and people give up sooner, and see no answer at all",
            f"give less than {PATIENCE_S:.15g}: a 202 with a status URL is an answer",
        )
