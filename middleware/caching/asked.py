"""A request, and an upstream's answer, as the cache sees them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from middleware.caching.directives import RequestDirectives, request_directives
from middleware.caching.fields import combined
from middleware.messages import RawHeaders

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""RFC 9110 section 9.2.1. A method that nobody knows may change anything."""

CREDENTIALS = frozenset({b"authorization", b"cookie"})
"""Fields by which a client shows who it is; a gateway may know more of them."""

OVERRIDING = frozenset(
    {
        b"x-host",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
    }
)
"""Fields by which some upstreams take a request for another one than its key says: an answer to
such a request must not become everybody's (cache poisoning)."""


@dataclass(slots=True, eq=False)
class Asked:
    """A value, never changed: not declared frozen because that would double its cost, which is
    most of a hit's. ``host`` in lower case; ``target`` as it came: no decoding, no sorting.
    ``fields`` are the header's, combined by lower-case name."""

    method: bytes
    host: bytes
    target: bytes
    headers: RawHeaders
    has_body: bool = False
    fields: Mapping[bytes, bytes] = field(init=False)
    directives: RequestDirectives = field(init=False)

    def __post_init__(self) -> None:
        self.fields = combined(self.headers)
        self.directives = request_directives(self.fields)

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def safe(self) -> bool:
        return self.method in SAFE_METHODS


@dataclass(frozen=True, slots=True)
class Received:
    """The head of an answer, end to end fields only, with a Date. ``asked_at`` and ``received_at``
    by the wall clock; ``whole``: its end can't be mistaken (a length, or chunks)."""

    status: int
    phrase: bytes
    headers: RawHeaders
    asked_at: float
    received_at: float
    whole: bool = True
    fields: Mapping[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        fields = combined(self.headers)
        if b"date" not in fields:  # RFC 9110 section 6.6.1
            date = formatdate(self.received_at, usegmt=True).encode("ascii")
            object.__setattr__(self, "headers", (*self.headers, (b"Date", date)))
            fields[b"date"] = date
        object.__setattr__(self, "fields", fields)
