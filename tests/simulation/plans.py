"""What one history is made of, drawn from its seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.orders.promise import Capability

from .blows import REPLICATED, Blow, a_no_decides, draw_blows, held_once

CAPABILITIES: Sequence[frozenset[Capability]] = (
    frozenset({Capability.LOOKUP}),
    frozenset({Capability.DEDUP}),
    frozenset({Capability.DEDUP, Capability.LOOKUP}),
    frozenset(),
)

EMBEDDED_SHARE = 0.1
REPLICATED_SHARE = 0.5
KEEPING_SHARE = 0.8
UPGRADED_SHARE = 0.15
FORGETTING_SHARE = 0.1
FORGETFUL_SHARE = 0.08
CACHING_SHARE = 0.15
"""How many histories have an embedded ledger, a store of two servers, one that does late calls, an
upstream that is bettered half-way, a route that forgets (which takes a minute of its time), a store
that forgets, and gateways that cache lists of orders."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one history is made of. ``embedded``: the ledger is SQLite's, else the remote store, of
    one server or (``replicated``) two. ``keeps``: calls that come late take effect there.
    ``upgrades``: half-way the upstream learns to deduplicate, and the route says so."""

    seed: int
    capabilities: frozenset[Capability]
    replicas: int
    orders: int
    blows: tuple[Blow, ...]
    embedded: bool = False
    replicated: bool = False
    keeps: bool = True
    names_refusals: bool = False
    forgets: bool = False
    upgrades: bool = False
    rude: bool = True
    keyed_only: bool = False
    caches: bool = False

    @property
    def forgetful(self) -> bool:
        """Whether the store forgets what it acknowledged."""
        return Blow.FORGET in self.blows

    @property
    def capability(self) -> str:
        return "+".join(sorted(self.capabilities)) or "none"


def forgetful(drawn: Plan) -> Plan:
    """The same with a store that forgets what it acknowledged. Every order can be asked for: where
    it can't, it is refused until an operator trusts the store again."""
    capabilities = drawn.capabilities or frozenset({Capability.DEDUP})
    out_of_place = {*REPLICATED, Blow.RELOAD}
    blows = [blow for blow in drawn.blows if blow not in out_of_place]
    if a_no_decides(capabilities, forgetful=True):
        blows = held_once(blows)
    return replace(
        drawn,
        capabilities=capabilities,
        blows=(*blows, *(Blow.FORGET,) * (1 + drawn.seed % 2)),
        embedded=False,
        replicated=False,
        forgets=False,
        upgrades=False,
        keyed_only=True,
    )


def plan(
    seed: int, capabilities: frozenset[Capability] | None = None, *, embedded: bool | None = None
) -> Plan:
    """The plan of this seed; what is given is not drawn."""
    chance = random.Random(f"{seed} plan")
    chosen = CAPABILITIES[seed % len(CAPABILITIES)] if capabilities is None else capabilities
    if embedded is None:
        embedded = capabilities is None and chance.random() < EMBEDDED_SHARE
    replicated = not embedded and chance.random() < REPLICATED_SHARE
    blows = draw_blows(chance, chosen, embedded=embedded, replicated=replicated)
    upgrades = Capability.DEDUP not in chosen and chance.random() < UPGRADED_SHARE
    drawn = Plan(
        seed=seed,
        capabilities=chosen,
        replicas=chance.choice((1, 1, 2) if embedded else (1, 2, 2, 3)),
        orders=chance.randint(10, 20),
        blows=(*blows, Blow.RELOAD) if upgrades else blows,
        embedded=embedded,
        replicated=replicated,
        keeps=chance.random() < KEEPING_SHARE,
        names_refusals=chance.random() < 0.5,
        forgets=chance.random() < FORGETTING_SHARE,
        upgrades=upgrades,
    )
    forgetting = capabilities is None and not embedded and chance.random() < FORGETFUL_SHARE
    if forgetting:
        return forgetful(drawn)
    caching = capabilities is None and not embedded and chance.random() < CACHING_SHARE
    return replace(drawn, caches=caching and Blow.UPSTREAM_GONE not in blows)
