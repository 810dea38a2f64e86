"""The answers that gateways keep together: whether their store can be reached, and what it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from gateway.doctor.findings import Diagnosis, in_bytes, in_time, ok, problem, warning
from gateway.settings import Settings
from gateway.settings.cache import CacheSettings
from gateway.stores.remote import remote_answers
from gateway.stores.valkey_checks import Facts
from gateway.stores.valkey_shared import SharedLook
from middleware.caching.sharing import StoreAway

PART = "cache"

ASKED = 20
"""Looks for a median."""

FAR_SHARE = 0.5
"""Of ``shared_timeout_s``: where half of the looks take longer, many are too late."""

_FILES = ("shared_password_file", "shared_sentinel_password_file", "shared_ca_file")


async def shared(settings: Settings) -> AsyncIterator[Diagnosis]:
    """Looks as the gateway does, for what is not there, and writes nothing."""
    cache = settings.cache
    if cache.shared is None:
        return
    for name in _FILES:
        file = getattr(cache, name)
        if file is not None and not await asyncio.to_thread(Path(file).is_file):
            yield problem(PART, f"{name} {file} is not there", "put it there, or name another")
            return
    store = remote_answers(cache)
    try:
        look = await store.look(ASKED)
    except StoreAway as away:
        yield problem(
            PART,
            f"{away}: nothing is shared, and each gateway has what itself has fetched",
            "see that the servers run, and that this host, user and password may get to them",
        )
        return
    finally:
        await store.close()
    ledger = settings.ledger.remote
    alone = ledger is None or set(ledger.hosts).isdisjoint(cache.shared.hosts)
    for each in judged(look, cache, alone=alone):
        yield each


def judged(look: SharedLook, cache: CacheSettings, *, alone: bool) -> Iterator[Diagnosis]:
    """``alone``: no orders lie there."""
    for facts, bytes_max in look.servers:
        room = f"maxmemory {in_bytes(bytes_max)}" if bytes_max else "no maxmemory"
        kept = "yes" if facts.append_only else "no"
        what = f"{facts.product}, {room}, {facts.eviction}, appendonly {kept}"
        yield ok(PART, f"shared answers: {facts.name}: {what}", product=facts.product)
        if alone:
            yield from _fit(facts, bytes_max)
    limits = [bytes_max for _, bytes_max in look.servers]
    if all(limits) and sum(limits) < cache.shared_bytes_max:
        yield warning(
            PART,
            f"shared_bytes_max is {in_bytes(cache.shared_bytes_max)}, and there is room for"
            f" {in_bytes(sum(limits))}",
            "raise maxmemory, or lower shared_bytes_max",
        )
    yield _distance(look.looks_s, cache.shared_timeout_s)


def _fit(facts: Facts, bytes_max: int) -> Iterator[Diagnosis]:
    if bytes_max and facts.eviction == "noeviction":
        text = f"{facts.name} takes no more answers once its memory is full"
        yield warning(PART, text, "set maxmemory-policy allkeys-lru")
    if facts.append_only:
        text = f"{facts.name} writes to its disk what it may forget"
        yield warning(PART, text, "set appendonly no")


def _distance(looks_s: Sequence[float], timeout_s: float) -> Diagnosis:
    half = sorted(looks_s)[len(looks_s) // 2]
    text = (
        f"a look for shared answers takes {in_time(half)} (a miss in memory waits for one or two)"
    )
    if half > timeout_s * FAR_SHARE:
        advice = "put the server nearer, or raise shared_timeout_s"
        return warning(PART, text, advice, shared_look_p50_s=half)
    return ok(PART, text, shared_look_p50_s=half)
