"""The settings of the cache as a whole; those of one route are with the routes."""

from typing import Annotated

from pydantic import Field

from gateway.settings.section import Section
from gateway.settings.values import Bytes, SecondsOrZero

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
