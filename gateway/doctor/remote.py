"""A ledger on Valkey or Redis: which servers, how durable, how far away, whose clock."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from gateway.doctor.findings import Diagnosis, in_time, ok, problem, warning
from gateway.doctor.ledger import FORGOT_ADVICE
from gateway.ledger import LedgerUnavailable
from gateway.settings.ledger import LedgerSettings
from gateway.stores.remote import Look, look_at_remote

PART = "ledger"

ASKED = 20
"""Round trips for a median."""

FAR_S = 0.01
"""An order waits for two round trips and what the servers do in them."""

CLOCK_OFF_S = 1.0
"""Nothing depends on it; but who compares logs will be misled."""


async def remote(settings: LedgerSettings) -> AsyncIterator[Diagnosis]:
    """Connects as the gateway would, and writes nothing."""
    for name in ("password_file", "sentinel_password_file", "ca_file"):
        file = getattr(settings, name)
        if file is not None and not await asyncio.to_thread(Path(file).is_file):
            yield problem(PART, f"{name} {file} is not there", "put it there, or name another")
            return
    try:
        look = await look_at_remote(settings, ASKED)
    except LedgerUnavailable as unavailable:
        yield problem(
            PART,
            f"it can't be reached: {unavailable.detail}",
            "see that the servers run, and that this host, user and password may get to them",
        )
        return
    for each in judged(look):
        yield each


def judged(look: Look) -> Iterator[Diagnosis]:
    for facts in look.facts:
        sync = facts.appendfsync or "unknown"
        kept = f"appendonly yes, appendfsync {sync}" if facts.append_only else "appendonly no"
        yield ok(PART, f"{facts.name}: {facts.product}, {kept}", product=facts.product)
        yield _clock(facts.name, facts.server_time - look.wall_time)
    yield ok(PART, f"replicas that could be promoted: {look.replicas.most}")
    for text in look.unfit:
        yield problem(PART, text, "the gateway will refuse it")
    if not look.unfit:
        yield ok(PART, f"fit for durability {look.durability}")
    yield _distance(look.round_trips_s)
    if look.forgot is not None:
        yield problem(PART, f"it forgot something: {look.forgot}", FORGOT_ADVICE)


def _clock(name: str, off_s: float) -> Diagnosis:
    text = f"{name}: its clock and ours are {in_time(abs(off_s))} apart"
    if abs(off_s) > CLOCK_OFF_S:
        advice = "run NTP on both: leases don't suffer, but times in timelines are the server's"
        return warning(PART, text, advice, clock_off_s=off_s)
    return ok(PART, text, clock_off_s=off_s)


def _distance(round_trips_s: Sequence[float]) -> Diagnosis:
    ordered = sorted(round_trips_s)
    half = ordered[len(ordered) // 2]
    text = f"a round trip takes {in_time(half)} (an order waits for two, and for its durability)"
    if half > FAR_S:
        return warning(PART, text, "put the servers nearer", round_trip_p50_s=half)
    return ok(PART, text, round_trip_p50_s=half)
