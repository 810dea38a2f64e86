"""What the settings of the cache and those of the ledger say together."""

from collections.abc import Iterator

from gateway.settings.cache import CacheSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.ledger_urls import Kind, RemoteUrl
from gateway.settings.problems import Finding

PORTIONS = 64
"""The shared answers lie in so many portions, each with its share of the room."""

_SHARED = ("shared_password_file", "shared_sentinel_password_file", "shared_ca_file")


def cache_findings(cache: CacheSettings, ledger: LedgerSettings) -> Iterator[Finding]:
    if cache.shared is None:
        for name in _SHARED:
            if getattr(cache, name) is not None:
                yield Finding(("cache", name), "nothing is shared", "set shared_url")
        return
    yield from _shared(cache, cache.shared)
    if ledger.remote is None:
        yield Finding(
            ("cache", "shared_url"),
            "gateways on an SQLite ledger have no log of changes in common that outlives their"
            " host: nobody could say what of the shared answers still holds",
            "leave it out, or use a ledger on Valkey or Redis",
        )


def _shared(cache: CacheSettings, url: RemoteUrl) -> Iterator[Finding]:
    if cache.shared_object_bytes_max > cache.shared_bytes_max // PORTIONS:
        yield Finding(
            ("cache", "shared_object_bytes_max"),
            f"only {cache.shared_bytes_max // PORTIONS} bytes of shared_bytes_max are there for it",
            f"make shared_bytes_max {PORTIONS} times as large, or this smaller",
        )
    if cache.shared_ca_file is not None and not url.tls:
        what = "without TLS no certificate is looked at"
        yield Finding(("cache", "shared_ca_file"), what, "write valkeys:// or leave it out")
    if cache.shared_sentinel_password_file is not None and url.kind is not Kind.SENTINEL:
        path = ("cache", "shared_sentinel_password_file")
        yield Finding(path, "there are no Sentinels here", "leave it out")
    if url.username is not None and cache.shared_password_file is None:
        yield Finding(
            ("cache", "shared_url"),
            f"the user {url.username} has no password",
            "put it into a file and name that in shared_password_file",
        )


def cache_dangers(cache: CacheSettings, ledger: LedgerSettings) -> Iterator[Finding]:
    if cache.shared is None or ledger.remote is None:
        return
    if not set(cache.shared.hosts).isdisjoint(ledger.remote.hosts):
        yield Finding(
            ("cache", "shared_url"),
            "answers and orders share a server's memory, and when that is full no order is taken",
            "give answers a server of their own, or room for shared_bytes_max beside the orders",
        )
