"""A gateway whose customers remember what they were told, a backend that asks the ledger of what
reaches it (I7), and the demo's oracle over both (FAULTS.md's invariants)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.demo.answers import Definite, conclude
from gateway.demo.books import Submitted
from gateway.demo.oracle import Case, Finding, Held, Meant, Submission, Told, judge
from gateway.demo.wire import Reply
from tests.faults.processes import GatewayProcess
from tests.faults.siege import kept
from tests.faults.witnesses import FileWitness, Witness
from tests.scenarios.backend import Act, Backend, Taken

WHO = "Bearer anna"

OpenWitness = Callable[[], Witness]


def of_file(ledger: Path) -> OpenWitness:
    return lambda: FileWitness(ledger)


def order_of(key: str) -> bytes:
    """An order that names what its customer calls it."""
    return b'{"reference":"%s","sku":7}' % key.encode()


class RememberingGateway(GatewayProcess):
    """Each key is one order that a customer means, and its body names it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.meant: dict[str, bytes] = {}
        self.submissions: list[Submission] = []
        self.told: list[Told] = []

    async def submit(self, key: str, body: bytes | None = None) -> Reply:
        now = asyncio.get_running_loop().time
        body = self.meant.setdefault(key, body or order_of(key))
        began_s = now()
        try:
            reply = await super().submit(key, body)
        finally:
            self.submissions.append(Submission(key, began_s, now()))
        match conclude(reply):
            case Definite(status, code, said, order_id, about, gone):
                self.told.append(Told(key, status, now(), code, said, order_id, about, gone))
        return reply


@dataclass
class WatchedBackend(Backend):
    """A witness is opened for each order that arrives, and closed: one that stayed would spare a
    gateway that starts again the mending of its file. Nobody waits for its word."""

    open_witness: OpenWitness | None = None
    unrecorded: list[str] = field(default_factory=list)
    asking: list["asyncio.Task[None]"] = field(default_factory=list)

    def references(self) -> Mapping[str, str]:
        """What customers call the orders, by the keys that arrived."""
        return {taken.key: _submitted(taken).reference for taken in self.posts}

    def _act_for(self, taken: Taken) -> Act:
        if taken.method == "POST" and self.open_witness is not None:
            witness = self.open_witness()
            self.asking.append(asyncio.create_task(self._ask(witness, _submitted(taken))))
        return super()._act_for(taken)

    async def _ask(self, witness: Witness, submitted: Submitted) -> None:
        try:
            if not await witness.has_dispatch_of(submitted):
                self.unrecorded.append(submitted.reference)
        finally:
            await witness.close()


async def findings(
    gateway: RememberingGateway, backend: WatchedBackend, open_witness: OpenWitness | None = None
) -> list[Finding]:
    """What the oracle finds, once everybody has asked again until they knew."""
    for key in gateway.meant:
        await gateway.until_known(key)
    await asyncio.gather(*backend.asking)
    witness = (open_witness or of_file(gateway.ledger))()
    try:
        entries = await kept(witness, backend.references())
    finally:
        await witness.close()
    return list(
        judge(
            Case(
                meant=[Meant(key, WHO, True, _digest(body)) for key, body in gateway.meant.items()],
                submissions=gateway.submissions,
                told=gateway.told,
                held=_held(backend),
                entries=entries,
                unrecorded=backend.unrecorded,
            )
        ).findings
    )


def _held(backend: Backend) -> list[Held]:
    """The books, and what was submitted first under the key of each order."""
    first = {taken.key: taken for taken in reversed(backend.posts)}
    made = [(order["id"], first[order["key"]]) for order in backend.orders]
    return [
        Held(order_id, _submitted(taken).reference, _submitted(taken).who, _digest(taken.body))
        for order_id, taken in made
    ]


def _submitted(taken: Taken) -> Submitted:
    return Submitted(taken.headers.get("authorization", ""), taken.key, taken.body)


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()
