"""A ledger with an order in every status, as text: kept for each schema version that was released.

    python -m tests.stores.old_ledger > tests/stores/data/ledger-vN.sql

Run it *before* the schema changes: the file is what that version's code really wrote, and the
tests open it with every later version.
"""

import asyncio
import io
import secrets
import sys
import tempfile
from pathlib import Path

import apsw.shell

from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_file import SCHEMA_VERSION

from .making import (
    HOST,
    LEASE_S,
    NOT_SENT,
    TurnableClock,
    attached,
    dead_letter,
    ended,
    failed,
    fresh,
    in_doubt,
    settled,
    submission,
)

DATA = Path(__file__).with_name("data")

KEYS = {
    Status.RECEIVED: "received",
    Status.DISPATCHED: "dispatched",
    Status.IN_DOUBT: "in-doubt",
    Status.DEAD_LETTER: "dead-letter",
    Status.CONFIRMED: "confirmed",
    Status.REJECTED: "rejected",
    Status.FAILED: "failed",
}


async def fill(ledger: SqliteLedger) -> list[Entry]:
    """One order in each status under its name as key, and an attached one."""
    entry, lease = await fresh(ledger, submission("received"))
    received = await ended(ledger, entry, lease, NOT_SENT, due_in_s=0.0)
    dispatched, _ = await fresh(ledger, submission("dispatched"))
    doubtful, _ = await in_doubt(ledger, submission("in-doubt"), due_in_s=5.0)
    return [
        received,
        dispatched,
        doubtful,
        await dead_letter(ledger, submission("dead-letter")),
        await settled(ledger, submission("confirmed")),
        await settled(ledger, submission("rejected"), 422),
        await failed(ledger, submission("failed")),
        await settled(ledger, attached("r1:attached")),
    ]


def make(path: Path, clock: TurnableClock) -> SqliteLedger:
    return SqliteLedger(
        path,
        clock=clock,
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        inline=True,
        host=HOST,
    )


def load(version: int, path: Path) -> None:
    """The kept ledger of that version as a file at ``path``."""
    db = apsw.Connection(str(path))
    db.execute((DATA / f"ledger-v{version}.sql").read_text(encoding="utf-8"))
    db.close()


def versions() -> list[int]:
    return sorted(int(each.stem.removeprefix("ledger-v")) for each in DATA.glob("ledger-v*.sql"))


async def text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = make(path, TurnableClock())
        await ledger.open()
        await fill(ledger)
        ledger.crash()
        db = apsw.Connection(str(path))
        said = io.StringIO()
        apsw.shell.Shell(stdout=said, db=db).process_command(".dump")  # type: ignore[no-untyped-call]
        db.close()
    lines = [line for line in said.getvalue().splitlines() if line and not line.startswith("--")]
    header = f"-- Written by the code of schema {SCHEMA_VERSION}; see tests/stores/old_ledger.py."
    return "\n".join([header, *lines]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(text()))
