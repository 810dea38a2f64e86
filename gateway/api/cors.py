"""Which shops' pages may read our answers from a browser (the Fetch standard's CORS protocol).

The gateway answers for its order routes and its status URLs; what is passed through says itself
what it allows. A page that is not allowed gets the same answer, which its browser keeps from it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.api.answers import Told
from middleware.problems import Handler, Middleware, stamp

ANY = "*"

EXPOSED = ", ".join(
    (
        "ETag",
        "Gateway-Order",
        "Gateway-Source",
        "Idempotency-Expires",
        "Idempotency-Key",
        "Idempotency-Status",
        "Idempotent-Replayed",
        "Location",
        "Preference-Applied",
        "RateLimit",
        "RateLimit-Policy",
        "Request-Id",
        "Retry-After",
    )
)
"""What a storefront's script needs of an answer besides the fields that it may always read."""

MAX_AGE_S = 600
"""Browsers keep a preflight's answer for so long: a change of the settings is in force then."""

_FIELD_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*,\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_NAMES_CHARS_MAX = 1000
"""Some thirty field names; a script sends a handful."""

DEFAULT_FIELDS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """``origins`` are exact (``https://shop.example``), or ``*`` for all; never ``*`` together
    with ``credentials``, which the settings refuse."""

    origins: frozenset[str]
    methods: tuple[str, ...]
    credentials: bool = False

    def fields(self, origin: str) -> dict[str, str]:
        """What every answer to a page of ``origin`` says."""
        fields = {} if ANY in self.origins else {"Vary": "Origin"}
        if ANY in self.origins or origin in self.origins:
            fields["Access-Control-Allow-Origin"] = ANY if ANY in self.origins else origin
            fields["Access-Control-Expose-Headers"] = EXPOSED
            if self.credentials and ANY not in self.origins:
                fields["Access-Control-Allow-Credentials"] = "true"
        return fields

    def preflight(self, origin: str, wanted_fields: str) -> dict[str, str]:
        """What the answer to ``OPTIONS`` says. Every field is allowed: which ones an order needs
        is the upstream's business, and none of them means more than to a client that is no
        browser."""
        fields = self.fields(origin)
        if "Access-Control-Allow-Origin" in fields:
            fields.pop("Access-Control-Expose-Headers")
            plain = len(wanted_fields) <= _NAMES_CHARS_MAX and _FIELD_NAMES.fullmatch(wanted_fields)
            fields["Access-Control-Allow-Methods"] = ", ".join(self.methods)
            fields["Access-Control-Allow-Headers"] = wanted_fields if plain else DEFAULT_FIELDS
            fields["Access-Control-Max-Age"] = str(MAX_AGE_S)
        vary = "Access-Control-Request-Method, Access-Control-Request-Headers"
        fields["Vary"] = f"Origin, {vary}"
        return fields


def joined(policies: Mapping[str, CorsPolicy], methods: tuple[str, ...]) -> CorsPolicy | None:
    """What all of them together allow: for the status URL, which does not know its route before
    the order is found. An origin with credentials on one route has them here."""
    if not policies:
        return None
    origins = frozenset[str]().union(*(policy.origins for policy in policies.values()))
    credentials = [policy for policy in policies.values() if policy.credentials]
    if credentials and ANY in origins:
        origins = frozenset[str]().union(*(policy.origins for policy in credentials))
    return CorsPolicy(origins, methods, bool(credentials))


def wanted_method(request: web.BaseRequest) -> str | None:
    """The method that a preflight asks about; None where the request is none."""
    if request.method != "OPTIONS" or "Origin" not in request.headers:
        return None
    return request.headers.get("Access-Control-Request-Method")


def cors(
    policy_of: Callable[[web.BaseRequest], CorsPolicy | None],
    respond: Callable[[Told], web.StreamResponse],
) -> Middleware:
    """Middleware: answers preflights, and marks every answer to a page, errors included."""

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        policy = None if origin is None else policy_of(request)
        if origin is None or policy is None:
            return await handler(request)
        if wanted_method(request) is not None:
            wanted_fields = request.headers.get("Access-Control-Request-Headers", "")
            return respond(_told(policy.preflight(origin, wanted_fields)))
        for name, value in policy.fields(origin).items():
            stamp(request, name, value)
        return await handler(request)

    return middleware


def _told(fields: Mapping[str, str]) -> Told:
    lines = tuple((name.encode("ascii"), value.encode("ascii")) for name, value in fields.items())
    return Told(204, b"No Content", (*lines, (b"Gateway-Source", b"gateway")), b"")
