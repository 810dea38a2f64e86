"""The remote ledger that the settings ask for."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger import Hold, LedgerUnavailable
from gateway.settings.cache import CacheSettings
from gateway.settings.ledger import LedgerSettings
from gateway.stores.doubting import Said
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_changes import ValkeyChangeLog
from gateway.stores.valkey_checks import Demands, Facts, unfit
from gateway.stores.valkey_host import HostMemory
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_nodes import Access, Ask, Node
from gateway.stores.valkey_remembered import Remembered
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import Parts, Replicas, Servers, servers
from gateway.stores.valkey_shared import ValkeySharedStore
from gateway.stores.valkey_trust import Trust
from middleware.clock import Clock, SystemClock
from middleware.tasks import Tasks


def access(settings: LedgerSettings) -> Access:
    assert settings.remote is not None  # noqa: S101 - whoever asks has looked
    return Access(
        username=settings.remote.username,
        password_file=_path(settings.password_file),
        sentinel_password_file=_path(settings.sentinel_password_file),
        tls=settings.remote.tls,
        ca_file=_path(settings.ca_file),
    )


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def remote_ledger(
    settings: LedgerSettings,
    *,
    clock: Clock,
    who: str,
    new_holder: Callable[[], str],
    event: Callable[..., None],
) -> ValkeyLedger:
    assert settings.remote is not None  # noqa: S101 - whoever asks has looked
    return ValkeyLedger(
        settings.remote,
        access=access(settings),
        clock=clock,
        who=who,
        lease_s=settings.lease_s,
        new_holder=new_holder,
        durability=settings.durability,
        replicas=settings.replicas or 0,
        file=settings.remembered_file,
        event=event,
    )


def remote_changes(settings: LedgerSettings) -> ValkeyChangeLog:
    """The log of changes of the gateways that share a remote ledger."""
    assert settings.remote is not None  # noqa: S101 - whoever asks has looked
    replicas = (settings.replicas or 0) if settings.durability == "replicated" else 0
    return ValkeyChangeLog(settings.remote, access=access(settings), replicas=replicas)


def remote_answers(settings: CacheSettings) -> ValkeySharedStore:
    """The answers that gateways share."""
    assert settings.shared is not None  # noqa: S101 - whoever asks has looked
    access = Access(
        username=settings.shared.username,
        password_file=_path(settings.shared_password_file),
        sentinel_password_file=_path(settings.shared_sentinel_password_file),
        tls=settings.shared.tls,
        ca_file=_path(settings.shared_ca_file),
    )
    return ValkeySharedStore(
        settings.shared,
        access=access,
        bytes_max=settings.shared_bytes_max,
        late_s=settings.shared_timeout_s,
    )


@asynccontextmanager
async def asked(
    settings: LedgerSettings, given_time: Callable[[], float] | None = None
) -> AsyncIterator[tuple[Servers, Calls, Layout]]:
    """The servers, for a few questions. ``given_time``: in place of theirs. Raises
    LedgerUnavailable."""
    assert settings.remote is not None  # noqa: S101 - whoever asks has looked
    layout = Layout(settings.remote.prefix)
    pipes = Tasks(lambda _name, _error: None)
    texts = [script.text for script in scripts().values()]

    async def greet(_node: Node, _told: Mapping[str, str], _ask: Ask) -> None:
        return

    found = servers(Parts(settings.remote, access(settings), layout, texts, pipes, greet))
    try:
        await found.start()
        known, nobody = Remembered(), Hold("", float("-inf"))
        calls = Calls(
            found,
            layout,
            clock=SystemClock(),
            given_time=given_time,
            trust=Trust(known, who="", event=_nothing),
            memory=HostMemory(None, known, _nothing),
            hold=lambda: nobody,
        )
        yield found, calls, layout
    except NotDone as no:
        raise LedgerUnavailable(no.detail, written=False) from no
    finally:
        await found.close()


def _nothing(*_: object, **__: object) -> None:
    """Whoever asks is told by the answer."""


async def _forgot(calls: Calls, layout: Layout) -> str | None:
    questions = [(bucket, ("HGET", bucket.meta, "forgot")) for bucket in layout.buckets]
    said = [Said.of(each.decode()) for each in await calls.read_all(questions) if each]
    return next((each.why for each in said if each is not None), None)


async def trust_again(settings: LedgerSettings) -> str | None:
    """Take back in every bucket that absence proves nothing; why it was said, None: it was not.
    Raises LedgerUnavailable."""
    async with asked(settings) as (_, calls, layout):
        why = await _forgot(calls, layout)
        await calls.everywhere("distrust", lambda bucket: (bucket.meta,), ("",), writes=True)
        return why


@dataclass(frozen=True, slots=True)
class Look:
    """What the servers of a ledger are, as somebody sees who changes nothing."""

    durability: str
    facts: list[Facts]
    replicas: Replicas
    unfit: list[str]
    forgot: str | None
    round_trips_s: list[float]
    wall_time: float


async def look_at_remote(settings: LedgerSettings, round_trips: int) -> Look:
    """Raises LedgerUnavailable."""
    clock = SystemClock()
    demands = Demands(settings.durability, settings.replicas or 0)
    async with asked(settings) as (found, calls, layout):
        facts = [await Facts.of(node) for node in found.nodes]
        wall_time = clock.wall()
        replicas = await found.replicas()
        round_trips_s = []
        for _ in range(round_trips):
            began = clock.monotonic()
            await calls.read(layout.buckets[0], "HGET", layout.buckets[0].meta, "epoch")
            round_trips_s.append(clock.monotonic() - began)
        return Look(
            durability=settings.durability,
            facts=facts,
            replicas=replicas,
            unfit=list(unfit(demands, facts, replicas)),
            forgot=await _forgot(calls, layout),
            round_trips_s=round_trips_s,
            wall_time=wall_time,
        )
