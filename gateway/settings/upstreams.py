"""``[[upstreams]]``."""

from typing import Annotated

from pydantic import Field

from gateway.settings.identities import HeaderName, OwnFieldName
from gateway.settings.section import Section
from gateway.settings.values import (
    AsTuple,
    Count,
    FilePath,
    Name,
    OriginUrl,
    SafeCall,
    Seconds,
    SecondsOrZero,
    ServerName,
)


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

    plain_connections_max: Count | None = None
    """So many of them at most may requests hold that are no orders, which may be as slow as their
    clients like; the others are there for orders alone. Unless set, three quarters."""

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
