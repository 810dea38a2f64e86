"""What is set for a route whose answers are cached, and for the cache as a whole. Pure."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

from middleware.caching.asked import Asked
from middleware.caching.invalidation import Mark
from middleware.caching.storing import StoringPolicy

MIB = 1024**2

Background: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""Around what nobody waits for; raises Problem where there is more urgent work."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """``personal(path)``: reads that are nobody else's business, whatever their headers say.
    ``strict(path)``: an order can change what is there, so it is served only after a look at the
    changes, and never stale. ``touched(asked)``: what an unsafe request there changes, whatever
    its answer says."""

    storing: StoringPolicy = field(default_factory=StoringPolicy)
    personal: Callable[[bytes], bool] = lambda _path: False
    strict: Callable[[bytes], bool] = lambda _path: False
    touched: Callable[[Asked], tuple[Mark, ...]] = lambda _asked: ()


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """``object_bytes_max``: the largest body kept. ``stale_when_away_s``: how long after its end an
    answer may stand in for an upstream that can't be reached, where it says nothing of that. The
    others: for what is shared with other processes."""

    bytes_max: int = 128 * MIB
    object_bytes_max: int = 8 * MIB
    stale_when_away_s: float = 600.0
    shared_object_bytes_max: int = MIB
    shared_timeout_s: float = 0.1
