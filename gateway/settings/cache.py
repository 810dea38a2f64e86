"""The settings of the cache as a whole; those of one route are with the routes."""

from functools import cached_property
from typing import Annotated

from pydantic import Field

from gateway.settings.ledger_urls import RemoteUrl, parse_remote
from gateway.settings.section import Section
from gateway.settings.values import Bytes, FilePath, RemoteStoreUrl, Seconds, SecondsOrZero

MIB = 1024**2


class CacheSettings(Section):
    """``[cache]``: for all routes of kind ``cached``, in each process."""

    memory_bytes_max: Annotated[Bytes, Field(ge=MIB)] = 128 * MIB
    """What all kept answers may take, overhead included; then the least used leave. Some 30,000
    catalogue pages of 4 KiB."""

    object_bytes_max: Bytes = 8 * MIB
    """The largest body kept. A larger one is streamed past: it would push out thousands of
    others."""

    stale_when_away_s: Annotated[SecondsOrZero, Field(le=86_400)] = 600.0
    """How long after its end a kept answer stands in for an upstream that can't be reached, where
    the answer says nothing of that itself and forbids nothing, and no order can change it. A
    restart or a failover, not a day of old prices; 0 is never."""

    shared_url: RemoteStoreUrl | None = None
    """A Valkey or Redis in which all gateways of the ledger keep answers together, behind what each
    has in memory; written like ``url`` of ``[ledger]``. Best a server of its own, without a disk:
    it may forget. Needs a ledger on Valkey or Redis, whose log of changes says what still holds."""

    shared_bytes_max: Annotated[Bytes, Field(ge=16 * MIB)] = 512 * MIB
    """What all of it may take there; then the least recently used leaves."""

    shared_object_bytes_max: Bytes = MIB
    """The largest body shared: a larger one holds up what is asked behind it."""

    shared_timeout_s: Annotated[Seconds, Field(ge=0.005, le=2)] = 0.1
    """For one look; then it is a miss, and nobody looks for two seconds."""

    shared_password_file: FilePath | None = None
    """Its password, read anew for each connection; the ACL user is in the URL."""

    shared_sentinel_password_file: FilePath | None = None
    """The password for its Sentinels, where they have one."""

    shared_ca_file: FilePath | None = None
    """The certificates that it is verified by with TLS; else those of the system."""

    @cached_property
    def shared(self) -> RemoteUrl | None:
        return None if self.shared_url is None else parse_remote(self.shared_url)
