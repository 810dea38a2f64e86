"""What customers mean to order: a seeded, endless stream of intents. Pure."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

CUSTOMERS = 24
"""Few enough that their keys collide across scopes, enough that none of them is a queue."""

SOLD_OUT_SHARE = 0.08
"""Business refusals: often enough that each run sees some while faults are about."""

OWN_KEY_SHARE = 0.6
"""The others leave the key to the gateway, which must attach one."""

SOLD_OUT_SKU = "sold-out"

_SKUS = ("tea", "cup", "kettle", "spoon", "honey")


class Behaviour(StrEnum):
    """How a customer submits."""

    PATIENT = "patient"
    DOUBLE_CLICK = "double_click"
    IMPATIENT = "impatient"


_BEHAVIOURS = {Behaviour.PATIENT: 55, Behaviour.DOUBLE_CLICK: 20, Behaviour.IMPATIENT: 25}


@dataclass(frozen=True, slots=True)
class Intent:
    """One order that one customer means to place once, however often it is submitted.

    ``who`` is the value of ``Authorization``; ``key`` the customer's own idempotency key, counted
    per customer, so that two customers use the same text; ``would_take`` is whether the backend
    takes the order if it processes it.
    """

    reference: str
    who: str
    key: str | None
    body: bytes
    behaviour: Behaviour
    would_take: bool

    @property
    def body_digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Arrival:
    """An intent, so many seconds after the one before it."""

    after_s: float
    intent: Intent


def arrivals(seed: int, orders_per_second: float) -> Iterator[Arrival]:
    """A Poisson process of intents; the same seed gives the same intents in the same order."""
    rng = random.Random(f"intents:{seed}")
    carts: Counter[str] = Counter()
    number = 0
    while True:
        number += 1
        who = f"Bearer demo-customer-{rng.randrange(CUSTOMERS):02d}"
        carts[who] += 1
        yield Arrival(rng.expovariate(orders_per_second), _intent(rng, number, who, carts[who]))


def _intent(rng: random.Random, number: int, who: str, cart: int) -> Intent:
    reference = f"i-{number:05d}"
    would_take = rng.random() >= SOLD_OUT_SHARE
    item = {
        "reference": reference,
        "sku": rng.choice(_SKUS) if would_take else SOLD_OUT_SKU,
        "quantity": rng.randint(1, 5),
    }
    return Intent(
        reference=reference,
        who=who,
        key=f"cart-{cart}" if rng.random() < OWN_KEY_SHARE else None,
        body=json.dumps(item).encode(),
        behaviour=rng.choices(list(_BEHAVIOURS), weights=list(_BEHAVIOURS.values()))[0],
        would_take=would_take,
    )
