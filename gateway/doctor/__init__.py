"""``ordergate doctor``: what this machine, this store and these upstreams really give.

It looks, measures and asks; it sends no order and writes nothing in the ledger.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from gateway.doctor.disk import disk
from gateway.doctor.findings import Diagnosis, Level, ok, problem, problems_among, warning
from gateway.doctor.ledger import is_missing, ledger, secret_file
from gateway.doctor.machine import Clocks, clocks, is_alive, limits, listeners, versions
from gateway.doctor.remote import remote
from gateway.doctor.shared import shared
from gateway.doctor.upstreams import upstreams
from gateway.ledger import LedgerRefused
from gateway.settings import Loaded
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import LedgerLook, LedgerOutdated, look_at
from middleware.clock import SystemClock

__all__ = ["Diagnosis", "Level", "examine", "problems_among"]


async def examine(loaded: Loaded) -> AsyncIterator[Diagnosis]:
    """Every finding, as it is made: settings, machine, disk, ledger, cache, upstreams."""
    for diagnosis in await asyncio.to_thread(_of_this_host, loaded):
        yield diagnosis
    if loaded.settings.ledger.remote is not None:
        async for diagnosis in remote(loaded.settings.ledger):
            yield diagnosis
    async for diagnosis in shared(loaded.settings):
        yield diagnosis
    async for diagnosis in upstreams(loaded.settings):
        yield diagnosis


def _of_this_host(loaded: Loaded) -> list[Diagnosis]:
    settings, host = loaded.settings, HostFacts.read()
    if settings.ledger.remote is not None:
        token = settings.admin_token_file
        return [
            *_settings(loaded),
            *clocks(Clocks.read(None), host),
            limits(settings),
            *listeners(settings, is_running=is_alive(settings)),
            *([secret_file(token, "the admin token", "ledger")] if not is_missing(token) else []),
        ]
    look, of_ledger = _looked(loaded, host)
    is_held = look is not None and bool(look.holders)
    in_boot = look is not None and look.boot_id == host.boot_id
    return [
        *_settings(loaded),
        *versions(host),
        *clocks(Clocks.read(look.now if look is not None and in_boot else None), host),
        limits(settings),
        *listeners(settings, is_running=is_held or is_alive(settings)),
        *disk(settings.ledger.path, host),
        *of_ledger,
    ]


def _settings(loaded: Loaded) -> Iterator[Diagnosis]:
    for danger in loaded.warnings:
        what = f"{danger.place}: {danger.key}: {danger.what}" if danger.key else danger.what
        yield warning("settings", what, danger.suggestion or "see docs/configuration.md")
    if not loaded.warnings:
        yield ok("settings", "legal, and no danger known in them")


def _looked(loaded: Loaded, host: HostFacts) -> tuple[LedgerLook | None, list[Diagnosis]]:
    settings = loaded.settings
    path, token = settings.ledger.path, settings.admin_token_file
    if is_missing(path):
        return None, [ok("ledger", f"there is none at {path} yet: the first start makes it")]
    found = [secret_file(path, "the ledger", "ledger")]
    if found[0].level is Level.PROBLEM:
        return None, found
    if not is_missing(token):
        found.append(secret_file(token, "the admin token", "ledger"))
    try:
        look = look_at(path, host, SystemClock())
    except LedgerOutdated as outdated:
        advice = "back it up before: an earlier version can't read it afterwards"
        return None, [*found, warning("ledger", str(outdated), advice)]
    except LedgerRefused as refused:
        advice = "the gateway will refuse it too: keep the file, restore a backup, or name another"
        return None, [*found, problem("ledger", str(refused), advice)]
    return look, [*found, *ledger(look, host, adopt=settings.ledger.adopt)]
