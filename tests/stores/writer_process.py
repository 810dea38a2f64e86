"""A gateway process as far as the ledger is concerned, for the tests to kill, starve and watch.

    python -m tests.stores.writer_process MODE PATH ARGUMENT

Each line it prints was true, and durable, when it was printed.
"""

import asyncio
import resource
import secrets
import sys
from pathlib import Path

import apsw

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.stores.sqlite import SqliteLedger
from middleware.clock import SystemClock

from .making import answered, ended, fresh, submission

TASKS = 16


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def load(ledger: Ledger) -> None:
    """Orders without end; each acknowledged step is told."""
    process = secrets.token_hex(4)

    async def orders(task: int) -> None:
        number = 0
        while True:
            number += 1
            name = f"{process}-{task}-{number}"
            request = submission(name)
            entry, lease = await fresh(ledger, request)
            say("claimed", name)
            await ended(ledger, entry, lease, answered(201))
            say("confirmed", name)

    await asyncio.gather(*(orders(task) for task in range(TASKS)))


async def settle(ledger: Ledger, key: str) -> None:
    """Claim ``key``; confirm it when a line comes in."""
    entry, lease = await fresh(ledger, submission(key))
    say(entry.id)
    await asyncio.to_thread(sys.stdin.readline)
    await ended(ledger, entry, lease, answered(201))
    say("confirmed")
    await asyncio.to_thread(sys.stdin.readline)


async def starve(ledger: Ledger, limit: int) -> None:
    """Write until files may grow no more, which is an I/O error; then try again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    number = 0
    try:
        while True:
            number += 1
            await fresh(ledger, submission(f"key-{number}"))
            say("claimed", f"key-{number}")
    except LedgerUnavailable as trouble:
        say("refused", trouble.written)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await fresh(ledger, submission("after"))
        say("claimed", "after")
    except LedgerUnavailable as trouble:
        say("still", trouble.written, ledger.trouble)


async def read(path: Path) -> None:
    """Read without end, as a database shell that somebody forgot."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM orders").fetchall()
    say("reading")
    await asyncio.to_thread(sys.stdin.readline)


async def main(mode: str, path: str, argument: str) -> None:
    ledger = SqliteLedger(
        Path(path),
        clock=SystemClock(),
        who=mode,
        lease_s=2.0,
        new_holder=lambda: secrets.token_hex(8),
    )
    await ledger.open()
    match mode:
        case "load":
            await load(ledger)
        case "settle":
            await settle(ledger, argument)
        case "open":
            pass
        case "read":
            await read(Path(path))
        case "starve":
            await starve(ledger, int(argument))
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
