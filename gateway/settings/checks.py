"""What the parts of a configuration say together: each check yields what is wrong."""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.routes import SAFE_METHODS
from gateway.settings.cache_checks import cache_findings
from gateway.settings.certificates import CertificatesInvalid, client_context
from gateway.settings.ledger import LedgerSettings
from gateway.settings.ledger_urls import Kind, RemoteUrl
from gateway.settings.models import ListenSettings, Settings
from gateway.settings.problems import Finding, did_you_mean
from gateway.settings.routes import RouteSettings
from gateway.settings.tokens import JwtSettings
from gateway.settings.upstreams import UpstreamSettings
from gateway.settings.values import split_address

CACHED_ONLY = frozenset({"targeted_fields", "session_cookies"})
ORDER_ONLY = (
    frozenset(RouteSettings.model_fields)
    - {"name", "match", "kind", "upstream", "rate_per_address"}
    - CACHED_ONLY
)
TLS_ONLY = ("ca_file", "server_name", "client_cert_file", "client_key_file")
OUTCOMES = (
    "confirmed_when",
    "rejected_when",
    "not_admitted_when",
    "not_processed_when",
    "in_doubt_when",
)


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with the whole, each part being right by itself."""
    yield from _listen(settings.listen)
    yield from _ledger(settings.ledger)
    yield from cache_findings(settings.cache, settings.ledger)
    yield from _jwt(settings.jwt)
    yield from _upstreams(settings.upstreams, settings.listen)
    yield from _routes(settings.routes, {upstream.name for upstream in settings.upstreams})
    if settings.jwt.keys is None:
        yield from _without_keys(settings.routes)


def _listen(settings: ListenSettings) -> Iterator[Finding]:
    if _overlap(settings.address, settings.admin):
        yield Finding(
            ("listen", "admin"),
            f"storefronts and operators would share {settings.admin}",
            "give the operators a port of their own, which storefronts can't reach",
        )

    if settings.proxy_protocol and not settings.trusted_proxies:
        yield Finding(
            ("listen", "proxy_protocol"),
            "nobody is trusted to say whose connection it is",
            'name the balancers, as in trusted_proxies = ["10.0.0.0/8"]',
        )


def _overlap(one: str, other: str) -> bool:
    """Whether both can't be listened on. Port 0 is whichever is free."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    return port == other_port != 0 and (
        host.lower() == other_host.lower() or is_wildcard(host) or is_wildcard(other_host)
    )


def is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ledger(settings: LedgerSettings) -> Iterator[Finding]:
    if settings.remote is None:
        yield from _file_ledger(settings)
    else:
        yield from _remote_ledger(settings, settings.remote)


def _file_ledger(settings: LedgerSettings) -> Iterator[Finding]:
    if settings.durability != "fsync":
        yield Finding(
            ("ledger", "durability"),
            f"an SQLite ledger can't be {settings.durability}: it syncs every commit",
            'write "fsync"',
        )
    for name in ("replicas", "password_file", "sentinel_password_file", "ca_file"):
        if getattr(settings, name) is not None:
            yield Finding(("ledger", name), "it is for ledgers on Valkey or Redis", "leave it out")


def _remote_ledger(settings: LedgerSettings, url: RemoteUrl) -> Iterator[Finding]:
    replicated = settings.durability == "replicated"
    if replicated and settings.replicas is None:
        yield Finding(
            ("ledger", "durability"),
            "it does not say by how many replicas",
            "set replicas to the number of those that could be promoted",
        )
    if settings.replicas is not None and not replicated:
        yield Finding(
            ("ledger", "replicas"),
            f"nothing waits for replicas with durability {settings.durability}",
            'write durability = "replicated", or leave replicas out',
        )
    if settings.ca_file is not None and not url.tls:
        what = "without TLS no certificate is looked at"
        yield Finding(("ledger", "ca_file"), what, "write valkeys:// or leave it out")
    if settings.sentinel_password_file is not None and url.kind is not Kind.SENTINEL:
        yield Finding(
            ("ledger", "sentinel_password_file"), "there are no Sentinels here", "leave it out"
        )
    if url.username is not None and settings.password_file is None:
        yield Finding(
            ("ledger", "url"),
            f"the user {url.username} has no password",
            "put it into a file and name that in password_file",
        )
    if settings.adopt:
        yield Finding(
            ("ledger", "adopt"), "a ledger on Valkey or Redis is nobody's own", "leave it out"
        )


def _jwt(settings: JwtSettings) -> Iterator[Finding]:
    if settings.keys is None:
        for name in sorted(settings.model_fields_set - {"keys"}):
            yield Finding(("jwt", name), "there are no keys", 'write keys = "jwks.json" too')
        return
    if not settings.algorithms:
        yield Finding(
            ("jwt", "algorithms"),
            "is missing",
            'say what the issuer signs by, as in algorithms = ["RS256"]',
        )
    secret = [name.startswith("HS") for name in settings.algorithms]
    if any(secret) and not all(secret):
        yield Finding(
            ("jwt", "algorithms"),
            "a secret and public keys together: one could be taken for the other",
            "leave HS256, HS384 and HS512 out, or the others",
        )


def _without_keys(routes: tuple[RouteSettings, ...]) -> Iterator[Finding]:
    for index, route in enumerate(routes):
        for place, source in enumerate(route.scope):
            if source.startswith("jwt:"):
                yield Finding(
                    ("routes", index, "scope", place),
                    "there are no keys to verify tokens by",
                    'write [jwt] with keys = "jwks.json" and algorithms = ["RS256"]',
                )


def _upstreams(found: tuple[UpstreamSettings, ...], listening: ListenSettings) -> Iterator[Finding]:
    yield from _repeated_names("upstreams", [upstream.name for upstream in found])
    for index, upstream in enumerate(found):
        path = ("upstreams", index, "urls")
        if not upstream.urls:
            yield Finding(path, "there are none", 'write ["http://127.0.0.1:9000"]')
        elif any(_is_ours(url, listening) for url in upstream.urls):
            yield Finding(path, "the gateway would send every request to itself")
        elif len(set(upstream.urls)) != len(upstream.urls):
            yield Finding(path, "one of them stands there twice", "write each server once")
        elif len({url.partition(":")[0] for url in upstream.urls}) != 1:
            yield Finding(path, "only some are encrypted", "write https for all")
        else:
            for finding in _tls(upstream):
                yield Finding(("upstreams", index, *finding.path), finding.what, finding.suggestion)


def _tls(upstream: UpstreamSettings) -> Iterator[Finding]:
    if not upstream.url.startswith("https://"):
        for name in TLS_ONLY:
            if getattr(upstream, name) is not None:
                yield Finding(
                    (name,), "nothing is encrypted on http://", "leave it out, or write https://"
                )
    elif upstream.client_key_file is not None and upstream.client_cert_file is None:
        yield Finding(
            ("client_key_file",), "belongs to no certificate", "name client_cert_file too"
        )
    else:
        try:
            client_context(upstream)
        except CertificatesInvalid as flaw:
            yield Finding((flaw.setting,), str(flaw), "it holds certificates in PEM")


def _is_ours(url: str, listening: ListenSettings) -> bool:
    parts = urlsplit(url)
    host, port = split_address(listening.address)
    if (parts.port or (443 if parts.scheme == "https" else 80)) != port or port == 0:
        return False
    return parts.hostname == host.lower() or (
        is_loopback(parts.hostname or "") and (is_wildcard(host) or is_loopback(host))
    )


def _repeated_names(section: str, names: list[str]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        first = names.index(name)
        if first != index:
            yield Finding(
                (section, index, "name"),
                f'"{name}" is also the name of {section}[{first}]',
                "give each a name of its own",
            )


def _routes(found: tuple[RouteSettings, ...], upstream_names: set[str]) -> Iterator[Finding]:
    yield from _repeated_names("routes", [route.name for route in found])
    for index, route in enumerate(found):
        path = ("routes", index)
        if route.upstream not in upstream_names and upstream_names:
            yield Finding(
                (*path, "upstream"),
                f'there is no upstream "{route.upstream}"',
                did_you_mean(route.upstream, upstream_names),
            )
        of_kind = _order_route(route) if route.kind == "order" else _other_route(route)
        for finding in (*_unreachable(route, found[:index]), *of_kind, *_not_cached(route)):
            yield Finding((*path, *finding.path), finding.what, finding.suggestion)


def _unreachable(route: RouteSettings, before: tuple[RouteSettings, ...]) -> Iterator[Finding]:
    for index, earlier in enumerate(before):
        if earlier.pattern.covers(route.pattern):
            yield Finding(
                ("match",),
                f'no request gets here: routes[{index}] "{earlier.name}" ({earlier.match})'
                " takes them first",
                f'put "{route.name}" before "{earlier.name}"',
            )
            return


def _other_route(route: RouteSettings) -> Iterator[Finding]:
    for name in sorted(ORDER_ONLY & route.model_fields_set):
        yield Finding(
            (name,), f"a {route.kind} route has no {name}", 'leave it out, or write kind = "order"'
        )


def _not_cached(route: RouteSettings) -> Iterator[Finding]:
    for name in sorted(CACHED_ONLY & route.model_fields_set):
        if route.kind != "cached":
            yield Finding(
                (name,),
                f"a route of kind {route.kind} keeps nothing",
                'leave it out, or write kind = "cached"',
            )


def _order_route(route: RouteSettings) -> Iterator[Finding]:
    method = route.pattern.method
    if method == b"*" or method in SAFE_METHODS:
        yield Finding(
            ("match",),
            f"an order route can't take {method.decode()}",
            'name the method that places orders, as in "POST /orders"',
        )
    yield from _dedup(route)
    yield from _lookup(route)
    yield from _outcomes(route)
    yield from _cors(route)
    if route.rate_per_client is not None and not route.scope:
        yield Finding(
            ("rate_per_client",),
            "without a scope every client is anonymous, and none is counted",
            "say how clients are told apart, or count by rate_per_address",
        )
    if route.attach_window_s > route.retention_s:
        yield Finding(
            ("attach_window_s",),
            "outlasts retention_s, after which the answer is gone",
            f"give at most {route.retention_s:.15g}",
        )


def _dedup(route: RouteSettings) -> Iterator[Finding]:
    if route.capability is None:
        yield Finding(
            ("capability",),
            "is missing",
            'say what the upstream can do about an order in doubt: "dedup", "lookup",'
            ' ["dedup", "lookup"] or "none"',
        )
        return
    if "dedup" in route.capability and route.dedup_for_s is None:
        yield Finding(
            ("dedup_for_s",),
            "is missing",
            "say for how many seconds the upstream remembers a key, as in dedup_for_s = 86400",
        )
    if "dedup" not in route.capability and route.dedup_for_s is not None:
        yield Finding(
            ("dedup_for_s",),
            "the upstream is not said to deduplicate",
            'leave it out, or add "dedup" to capability',
        )
    if route.dedup_for_s is not None and route.dedup_for_s <= route.settle_s:
        yield Finding(
            ("dedup_for_s",),
            f"is over before settle_s ({route.settle_s:.15g}): nothing could be sent again safely",
            "declare no dedup if the upstream forgets so soon",
        )


def _lookup(route: RouteSettings) -> Iterator[Finding]:
    if route.capability is None:
        return
    if "lookup" in route.capability:
        if route.lookup is None:
            yield Finding(
                ("lookup",),
                "is missing",
                'say how to ask, as in lookup = "GET /orders?idempotency_key={key}"',
            )
        return
    for name in ("lookup", "lookup_echo", "lookup_headers"):
        if getattr(route, name) is not None:
            yield Finding(
                (name,),
                "the upstream is not said to answer lookups",
                'leave it out, or add "lookup" to capability',
            )


def _cors(route: RouteSettings) -> Iterator[Finding]:
    if not route.cors_credentials:
        return
    if not route.cors_origins:
        yield Finding(
            ("cors_credentials",),
            "there are no cors_origins to have them",
            'name them, as in cors_origins = ["https://shop.example"], or leave it out',
        )
    elif "*" in route.cors_origins:
        yield Finding(
            ("cors_origins",),
            '"*" with cors_credentials would let every page order in its visitor\'s name',
            'name the origins, as in ["https://shop.example"]',
        )


def _outcomes(route: RouteSettings) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name in OUTCOMES:
        for status in dict.fromkeys(getattr(route, name)):
            if status in first:
                yield Finding(
                    (name,),
                    f'"{status}" is in {first[status]} too, and can mean only one thing',
                    "leave it in one of them",
                )
            first.setdefault(status, name)
