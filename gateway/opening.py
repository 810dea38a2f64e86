"""The ledger and the log of changes that the settings name."""

from collections.abc import Callable

from gateway.ledger import Ledger
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_changes import SqliteChangeLog, changes_path
from middleware.caching.changes import ChangeLog, MemoryLog
from middleware.caching.sharing import SharedStore
from middleware.clock import Clock


def open_changes(settings: Settings, *, given: bool) -> ChangeLog:
    """Beside the ledger, for the processes that share it; a ledger that was given is nobody
    else's."""
    if given:
        return MemoryLog()
    if settings.ledger.remote is not None:
        from gateway.stores.remote import remote_changes  # an SQLite ledger needs no client of it

        return remote_changes(settings.ledger)
    return SqliteChangeLog(changes_path(settings.ledger.path))


def open_shared(settings: Settings) -> SharedStore | None:
    """Where gateways keep answers together; None where they don't."""
    if settings.cache.shared is None:
        return None
    from gateway.stores.remote import remote_answers  # most need no client of it

    return remote_answers(settings.cache)


def open_ledger(
    settings: Settings,
    clock: Clock,
    who: str,
    make_id: Callable[[], str],
    disk_failed: Callable[[str], None] | None = None,
    event: Callable[..., None] = lambda *_, **__: None,
) -> Ledger:
    if settings.ledger.remote is not None:
        from gateway.stores.remote import remote_ledger  # an SQLite ledger needs no client of it

        return remote_ledger(settings.ledger, clock=clock, who=who, new_holder=make_id, event=event)
    return SqliteLedger(
        settings.ledger.path,
        clock=clock,
        who=who,
        lease_s=settings.ledger.lease_s,
        new_holder=make_id,
        adopt=settings.ledger.adopt,
        disk_failed=disk_failed,
    )
