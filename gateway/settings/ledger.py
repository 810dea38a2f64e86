"""``[ledger]``: where orders are kept, and how surely."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.ledger_urls import RemoteUrl, is_remote, parse_remote
from gateway.settings.section import Section
from gateway.settings.values import SQLITE, Count, FilePath, LedgerUrl, Seconds


class LedgerSettings(Section):
    """``[ledger]``."""

    url: LedgerUrl = "sqlite:///ledger.db"
    """``sqlite:///FILE``: three slashes from the configuration's folder (without a file: the
    working directory), four from the root. Its folder is made. Or a Valkey or Redis (6.2 or newer)
    that gateways on many hosts share: ``valkey://[USER@]HOST:PORT``,
    ``valkey+sentinel://HOST:PORT,HOST:PORT/MASTER`` or ``valkey+cluster://HOST:PORT,HOST:PORT``;
    ``valkeys`` with TLS; ``redis`` for ``valkey`` means the same; ``?prefix=NAME`` where several
    ledgers share a server."""

    durability: Literal["fsync", "replicated", "memory"] = "fsync"
    """What an order survives once it is sent. ``fsync``: it is synced to disk (all that SQLite
    does). Valkey and Redis: also ``replicated``, that all ``replicas`` have it, which is what a
    failover needs, and ``memory``: nothing is promised. It is checked at the start and by every
    order."""

    replicas: Annotated[Count, Field(le=16)] | None = None
    """Required with ``replicated``: how many replicas have to acknowledge an order. All that could
    be promoted: one more of them is refused, one fewer takes no orders."""

    password_file: FilePath | None = None
    """The password, read anew for each connection; the ACL user is in the URL."""

    sentinel_password_file: FilePath | None = None
    """The password for the Sentinels, where they have one."""

    ca_file: FilePath | None = None
    """The certificates that a server with TLS is verified by; else those of the system."""

    folder: FilePath = "."
    """With Valkey or Redis, where this host keeps what is its own: the admin token, and what it
    remembers of the ledger so that it notices one that forgot. Of an SQLite ledger it is beside
    the file."""

    lease_s: Annotated[Seconds, Field(ge=1, le=3600)] = 10.0
    """For how long a process may act on its orders without renewing. After a crash another process
    waits so long before it takes over; a pause of the process (swap, a debugger) must not last
    so long. Renewed at a third."""

    adopt: bool = False
    """Take over a ledger that another host wrote: only if that host will never open it again."""

    @cached_property
    def remote(self) -> RemoteUrl | None:
        """None: it is a file."""
        return parse_remote(self.url) if is_remote(self.url) else None

    @property
    def path(self) -> Path:
        """The ledger's file; of a remote one, what this host's own files are named after."""
        if self.remote is not None:
            return Path(self.folder) / "ledger"
        return Path(self.url.removeprefix(SQLITE))

    @property
    def remembered_file(self) -> Path:
        """What this host remembers of a remote ledger."""
        return self.path.with_name(self.path.name + ".remembered")
