"""The kinds of blows that can befall a history, how often each comes, and which go together."""

import random
from collections.abc import Sequence
from enum import StrEnum

from gateway.orders.promise import Capability


class Blow(StrEnum):
    """What can happen to a history."""

    CRASH = "crash"
    STRIKE = "crash_at_any_await"
    STUMBLE = "crash_at_a_ledger_call"
    PAUSE = "pause"
    HALT = "pause_at_any_await"
    FREEZE = "pause_at_a_ledger_call"
    CUT_STORE = "cut_store"
    UNHEARD = "store_unheard"
    CUT_UPSTREAM = "cut_upstream"
    CUT_CLIENT = "cut_client"
    UPSTREAM_CRASH = "upstream_crash"
    UPSTREAM_STRIKE = "upstream_crash_at_any_await"
    UPSTREAM_GONE = "upstream_gone"
    UPSTREAM_PAUSE = "upstream_pause"
    BROWN_OUT = "brown_out"
    NAMELESS = "no_name_for_upstream"
    STORE_AWAY = "store_away"
    STORE_FROZEN = "store_frozen"
    CUT_STANDBY = "cut_standby"
    FAILOVER = "failover"
    FORGET = "store_forgets"
    CLOCK = "clock_jump"
    DRAIN = "graceful_restart"
    RELOAD = "configuration_reloaded"


QUEUES = (Blow.CUT_UPSTREAM, Blow.UPSTREAM_PAUSE)
"""What keeps a submission on its way for a while."""

REPLICATED = (Blow.CUT_STANDBY, Blow.FAILOVER)
"""What can befall a store of two servers only."""

EMBEDDED = (
    Blow.CRASH,
    Blow.STRIKE,
    Blow.PAUSE,
    Blow.HALT,
    Blow.UPSTREAM_PAUSE,
    Blow.BROWN_OUT,
    Blow.NAMELESS,
    Blow.CUT_UPSTREAM,
    Blow.CUT_CLIENT,
    Blow.UPSTREAM_CRASH,
    Blow.CLOCK,
)
"""What can befall a replica that has its store within itself."""

WEIGHTS = {
    Blow.CRASH: 2,
    Blow.STRIKE: 4,
    Blow.STUMBLE: 3,
    Blow.PAUSE: 2,
    Blow.HALT: 3,
    Blow.FREEZE: 2,
    Blow.CUT_STORE: 4,
    Blow.UNHEARD: 3,
    Blow.CUT_UPSTREAM: 3,
    Blow.CUT_CLIENT: 1,
    Blow.UPSTREAM_CRASH: 2,
    Blow.UPSTREAM_PAUSE: 1,
    Blow.BROWN_OUT: 1,
    Blow.NAMELESS: 1,
    Blow.STORE_AWAY: 1,
    Blow.STORE_FROZEN: 2,
    Blow.CUT_STANDBY: 3,
    Blow.FAILOVER: 4,
    Blow.CLOCK: 1,
}
"""How often each is drawn. Not an upstream that is gone for long: its customers' asking takes a
second to play, so that one history in ``OUTAGE_EVERY`` has one. Not a graceful restart: in which
order tasks are cancelled is up to a set, not to the seed. Not an upstream that is struck at an
await: it was thought of when many seeds had been played; it has histories of its own."""

OUTAGE_EVERY = 32


def draw_blows(
    chance: random.Random,
    capabilities: frozenset[Capability],
    *,
    embedded: bool = False,
    replicated: bool = False,
) -> tuple[Blow, ...]:
    """The blows of one history."""
    kinds = list(EMBEDDED if embedded else WEIGHTS)
    if not replicated:
        kinds = [kind for kind in kinds if kind not in REPLICATED]
    blows = chance.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=chance.randint(2, 8))
    if a_no_decides(capabilities):
        blows = held_once(blows)
    outage = (Blow.UPSTREAM_GONE,) if chance.randrange(OUTAGE_EVERY) == 0 else ()
    return (*blows, *outage)


def a_no_decides(capabilities: frozenset[Capability], *, forgetful: bool = False) -> bool:
    """Whether the upstream's "I hold no such order" may be the last word on an order: where it is
    not sent again instead, under the key that the upstream remembers. After the store forgot,
    nobody but a person sends it again."""
    return Capability.LOOKUP in capabilities and (Capability.DEDUP not in capabilities or forgetful)


def held_once(blows: Sequence[Blow]) -> list[Blow]:
    """Of ``QUEUES`` the first only."""
    once = next((n for n, blow in enumerate(blows) if blow in QUEUES), None)
    return [blow for n, blow in enumerate(blows) if blow not in QUEUES or n == once]
