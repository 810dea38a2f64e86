"""One gateway in one process: from start to stop, with signals and reloads."""

import asyncio
import gc
import signal
from typing import Any

import structlog

from gateway.app import Gateway
from gateway.ledger import LedgerLocked, LedgerRefused, LedgerUnavailable
from gateway.settings import ListenSettings, Settings
from gateway.supervisor.logs import Levels
from gateway.supervisor.reloading import ReloadRefused, Reread, heed_hangups, reread

EXIT_REFUSED = 3
"""The ledger or an address can't be used: starting again will not help before a person did."""

EXIT_AGAIN = 5
"""The ledger's disk failed under us (a sync, most of all), or the ledger can't be had just now
(locked, unavailable): another process is to try it, after a pause."""

FAILED_DRAIN_S = 1.0
"""For the 503s of orders under way: nothing more can be recorded, and the next one waits."""

GC_AFTER = 20_000
"""New containers that outlived their request before the youngest are looked at: a few MiB."""

log = structlog.get_logger("ordergate", part="process")


async def started(gateway: Gateway) -> int:
    """Start it: 0. Where that can't be, an exit status; the reason is in the log and all is
    closed again."""
    status = EXIT_REFUSED
    try:
        await gateway.start()
    except (LedgerLocked, LedgerUnavailable) as error:
        log.error("the ledger can not be had just now", reason=str(error))
        status = EXIT_AGAIN
    except LedgerRefused as refused:
        log.error("the ledger can not be used", reason=str(refused))
    except OSError as error:
        tell_address_refused(error, gateway.settings.listen)
    else:
        gateway.mind_upstreams()
        _settle_memory()
        return 0
    await gateway.stop(0.0)
    return status


def tell_address_refused(error: OSError, listen: ListenSettings) -> None:
    log.error(
        "an address can not be used",
        reason=str(error),
        address=listen.address,
        admin=listen.admin,
        advice="stop what listens there, or set listen.address and listen.admin to ports that are"
        " free and that this user may listen on, at addresses of this machine",
    )


def _settle_memory() -> None:
    """What is here now stays: the garbage collector need not walk through it again. Requests leave
    no cycles behind, so that it seldom has to look at anything else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_AFTER, 20, 50)


async def run_alone(settings: Settings, read: Reread, levels: Levels) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. A second signal hurries the drain."""
    gateway = Gateway(settings)
    gateway.telemetry.is_silent = levels.is_silent
    if status := await started(gateway):
        return status
    log.info(
        "serving",
        storefront=url_of(gateway.storefront_address),
        admin=url_of(gateway.admin_address),
        ledger=settings.ledger.url,
    )
    heed_hangups(_reload, gateway, read, levels)
    _heed_stop_signals(gateway)
    status = await served(gateway)
    log.info("stopped")
    return status


async def served(gateway: Gateway) -> int:
    """Until it is to end, or can't go on; the exit status."""
    await gateway.ending.wait()
    if gateway.disk_failed:
        await gateway.stop(FAILED_DRAIN_S)
        return EXIT_AGAIN
    await stopped(gateway)
    return 0


async def stopped(gateway: Gateway) -> None:
    """Drain, as the configuration of the moment has it."""
    listen = gateway.settings.listen
    log.info("draining", seconds=listen.drain_s, delay_seconds=listen.drain_delay_s)
    await gateway.stop(listen.drain_s, delay_s=listen.drain_delay_s)


def _heed_stop_signals(gateway: Gateway) -> None:
    """SIGTERM and SIGINT; a second one will cut the drain short."""

    def signalled() -> None:
        if gateway.ending.is_set():
            gateway.hurry()
        gateway.ending.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)


def _reload(gateway: Gateway, read: Reread, levels: Levels) -> None:
    """SIGHUP. What is wrong with the new configuration is in the log; the old one stays."""
    try:
        settings = reread(read, gateway.settings)
    except ReloadRefused as refused:
        log.error("reload refused: the old configuration stays", reasons=refused.reasons)
        return
    gateway.reload(settings)
    levels.apply(settings.log)
    log.info("reloaded")


def url_of(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def loop_factory() -> Any:
    """uvloop where there is one: a sixth faster; asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
