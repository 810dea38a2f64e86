"""``ordergate demo``, from the first free port to the verdict."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rich.console import Console

from gateway.demo.faults import STORM
from gateway.demo.gateway_process import (
    COMMAND,
    GatewayFailed,
    GatewayProcess,
    configuration,
    free_seat,
)
from gateway.demo.report import Outcome, as_json, in_words
from gateway.demo.stage import Interrupted, Plan, Stage
from gateway.demo.wire import Address
from gateway.orders.promise import Capability

PASSED, NOT_PASSED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130


class Offer(StrEnum):
    """What the demo's backend can do about an order in doubt."""

    DEDUP = "dedup"
    LOOKUP = "lookup"
    BOTH = "both"
    NONE = "none"

    @property
    def capabilities(self) -> frozenset[Capability]:
        match self:
            case Offer.BOTH:
                return frozenset(Capability)
            case Offer.NONE:
                return frozenset()
            case _:
                return frozenset({Capability(self.value)})


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """``seconds`` None runs until Ctrl-C. ``folder`` is where ledger and log go and stay; without
    one they are temporary, and kept only if the run doesn't pass. ``environment`` is added to
    the gateway's and ``command`` replaces it: for tests that put something worse in its place.
    ``ledger`` is the URL of one on a server."""

    seconds: float | None = None
    seed: int = 1
    orders_per_second: float = 15.0
    capability: Offer = Offer.LOOKUP
    ledger: str | None = None
    without_gateway: bool = False
    json: bool = False
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = COMMAND


def demo(options: DemoOptions) -> int:
    """Run the demo and return its exit status: 0 passed, 1 not passed, 2 could not start (or the
    gateway ended by itself), 130 interrupted twice.

    With ``json`` the only line on stdout is the JSON object; all else goes to stderr.
    """
    console = Console(stderr=options.json, soft_wrap=True)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ordergate-demo-"))
    status = NOT_STARTED
    try:
        status = _show(options, asyncio.run(run_demo(options, folder, console)), console)
    except GatewayFailed as failure:
        sys.stderr.write(f"The gateway failed: {failure}\n")
    except Interrupted:
        status = INTERRUPTED
    finally:
        if options.folder is None:
            _clear(folder, console, keep=status in (NOT_PASSED, NOT_STARTED))
    return status


def _show(options: DemoOptions, outcome: Outcome, console: Console) -> int:
    if outcome.transcript:
        console.print(outcome.transcript, markup=False, highlight=False)
    console.print(in_words(outcome), markup=False, highlight=False)
    if options.json:
        sys.stdout.write(as_json(outcome) + "\n")
        sys.stdout.flush()
    return PASSED if outcome.passed else NOT_PASSED


def _clear(folder: Path, console: Console, *, keep: bool) -> None:
    """Leave a failed gateway's ledger and log to whoever must find out why."""
    if keep and any(folder.iterdir()):
        console.print(f"Ledger and log are kept in {folder}", markup=False, highlight=False)
    else:
        shutil.rmtree(folder)


async def run_demo(options: DemoOptions, folder: Path, console: Console) -> Outcome:
    """Run it and judge it. Raises GatewayFailed, or Interrupted at the second Ctrl-C."""
    plan = Plan(
        capability=options.capability,
        capabilities=options.capability.capabilities,
        seed=options.seed,
        orders_per_second=options.orders_per_second,
        seconds=options.seconds,
        mix=STORM,
    )
    stage = Stage(plan, console)
    backend = await stage.backend.start()
    try:
        if options.without_gateway:
            return await _play(stage, backend, None)
        seat = free_seat(folder)
        seat.config_file.write_text(
            configuration(seat, backend, options.capability.capabilities, options.ledger)
        )
        gateway = GatewayProcess(seat, options.environment, options.command)
        async with _running(gateway):
            return await _play(stage, backend, gateway)
    finally:
        await stage.backend.stop()


@contextlib.asynccontextmanager
async def _running(gateway: GatewayProcess) -> AsyncIterator[None]:
    try:
        await gateway.start()
        yield
    finally:
        await gateway.stop()


async def _play(stage: Stage, backend: Address, gateway: GatewayProcess | None) -> Outcome:
    """Close the shop at the first Ctrl-C; at the second, leave."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stage.close_early)
    try:
        return await stage.play(backend, gateway)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
