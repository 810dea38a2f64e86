"""The backend's books: the only truth about which orders exist. No I/O, no time of its own."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import orjson

from gateway.demo.intents import SOLD_OUT_SKU


@dataclass(frozen=True, slots=True)
class Order:
    """An order that exists. ``at_s`` is the loop's time of the commit."""

    order_id: str
    reference: str
    who: str
    key: str | None
    body_digest: str
    at_s: float

    def json(self) -> bytes:
        """The order as the backend shows it, the same bytes each time."""
        return orjson.dumps(
            {
                "id": self.order_id,
                "reference": self.reference,
                "status": "placed",
                "idempotency_key": self.key,
            }
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission as the backend read it."""

    who: str
    key: str | None
    body: bytes

    @property
    def reference(self) -> str:
        """The intent's reference, or "" in a body that has none."""
        return str(_fields(self.body).get("reference", ""))


@dataclass(frozen=True, slots=True)
class Decision:
    """The backend's own answer to a submission that it processed."""

    status: int
    body: bytes
    order: Order | None = None


class Books:
    """Every order, in the order of the commits."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self._by_id: dict[str, Order] = {}
        self._by_key: defaultdict[str, list[Order]] = defaultdict(list)

    def process(self, submitted: Submitted, at_s: float) -> Decision:
        """Refuse, or commit one more order; knows nothing of repeats."""
        fields = _fields(submitted.body)
        reference = fields.get("reference")
        if not isinstance(reference, str) or not reference:
            return Decision(400, b'{"error":"an order is a JSON object with a reference"}')
        if fields.get("sku") == SOLD_OUT_SKU:
            refusal = {"error": "out of stock", "reference": reference}
            return Decision(422, orjson.dumps(refusal))
        order = self._commit(submitted, at_s)
        return Decision(201, order.json(), order)

    def _commit(self, submitted: Submitted, at_s: float) -> Order:
        order = Order(
            order_id=f"o-{len(self.orders) + 1:06d}",
            reference=submitted.reference,
            who=submitted.who,
            key=submitted.key,
            body_digest=hashlib.sha256(submitted.body).hexdigest(),
            at_s=at_s,
        )
        self.orders.append(order)
        self._by_id[order.order_id] = order
        if order.key is not None:
            self._by_key[order.key].append(order)
        return order

    def find(self, order_id: str) -> Order | None:
        return self._by_id.get(order_id)

    def with_key(self, key: str) -> tuple[Order, ...]:
        return tuple(self._by_key.get(key, ()))


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
