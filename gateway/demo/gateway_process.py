"""The gateway under test: a real process, started, killed with SIGKILL and started again."""

import asyncio
import contextlib
import ctypes
import json
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway.demo.faults import WORK_S_MAX
from gateway.demo.wire import Address, Reply, Request, exchange
from gateway.orders.promise import Capability

READY_S_MAX = 30.0
"""A cold interpreter on a busy two-core machine imports for some seconds; more is a failure."""

STOP_S_MAX = 15.0
"""For a drain after SIGTERM; then it is killed."""

ANSWER_WITHIN_S = 2.5
ATTEMPT_TIMEOUT_S = 1.0

SETTLE_S = WORK_S_MAX + 1.0
"""Longer than the backend's longest work, as the route's promise demands, by a busy second."""

PLACE_WITHIN_S = 30.0
DOUBT_WITHIN_S = 40.0
"""Both end within the 60 s in which the demo drains."""

ATTACH_WINDOW_S = 300.0
"""After so long the same submission without a key is rightly a new order."""

LEASE_S = 2.0
"""So that what a killed process held is taken up in seconds."""

_PORTS = range(28_000, 32_000)
"""Below the ephemeral range: a customer's own port can't take the gateway's while it is down."""

_TAIL_BYTES = 2_000

_PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)

COMMAND = (sys.executable, "-m", "gateway", "serve")
"""What ``--config FILE`` is put behind."""


class GatewayFailed(Exception):
    """The gateway did not start, or ended by itself. The text has the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one gateway sits: its two listeners and the folder of its ledger and log."""

    storefront: Address
    admin: Address
    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "ordergate.toml"

    @property
    def log_file(self) -> Path:
        return self.folder / "gateway.log"


def free_seat(folder: Path, host: str = "127.0.0.1") -> Seat:
    """A seat on two ports that are free now. Raises GatewayFailed where none can be found."""
    chance = random.SystemRandom()
    free = (port for port in chance.sample(_PORTS, 200) if _is_free(host, port))
    try:
        return Seat(Address(host, next(free)), Address(host, next(free)), folder)
    except StopIteration:
        raise GatewayFailed("no free ports between 28000 and 32000") from None


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def configuration(
    seat: Seat,
    backend: Address,
    capabilities: frozenset[Capability],
    ledger: str | None = None,
) -> str:
    """The gateway's configuration file, in TOML (DESIGN section 10). A ``ledger`` on a server that
    others use too gets keys of its own."""
    url = f"sqlite:///{seat.folder / 'ledger.db'}"
    if ledger is not None:
        url = ledger if "?" in ledger else f"{ledger}?prefix=demo-{secrets.token_hex(4)}"
    return "\n".join(
        [
            _table("[listen]", address=str(seat.storefront), admin=str(seat.admin)),
            _table("[ledger]", url=url, lease_s=LEASE_S),
            _table("[[upstreams]]", name="backend", urls=[f"http://{backend}"]),
            _table("[[routes]]", **_order_route(capabilities)),
            _table("[[routes]]", name="rest", match="* /**", kind="plain", upstream="backend"),
        ]
    )


def _order_route(capabilities: frozenset[Capability]) -> dict[str, object]:
    route: dict[str, object] = {
        "name": "place-order",
        "match": "POST /orders",
        "kind": "order",
        "upstream": "backend",
        "capability": sorted(capabilities) or "none",
        "key": "attach",
        "scope": ["header:Authorization"],
        "answer_within_s": ANSWER_WITHIN_S,
        "attempt_timeout_s": ATTEMPT_TIMEOUT_S,
        "settle_s": SETTLE_S,
        "place_within_s": PLACE_WITHIN_S,
        "doubt_within_s": DOUBT_WITHIN_S,
        "attach_window_s": ATTACH_WINDOW_S,
    }
    if Capability.LOOKUP in capabilities:
        route["lookup"] = "GET /orders?idempotency_key={key}"
    if Capability.DEDUP in capabilities:
        route["dedup_for_s"] = 3600.0
    return route


def _table(header: str, **values: object) -> str:
    """One TOML table. JSON's strings, numbers and lists of strings are TOML's too."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join([header, *lines, ""])


def _die_with_the_demo() -> None:
    """In the child, on Linux: SIGTERM when the demo dies, however it does."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


class GatewayProcess:
    """One gateway on one seat, through all its lives. Call ``stop`` in the end."""

    def __init__(
        self,
        seat: Seat,
        extra_environment: Mapping[str, str],
        command: Sequence[str] = COMMAND,
        *,
        ready_s_max: float = READY_S_MAX,
    ) -> None:
        self.seat = seat
        self._ready_s_max = ready_s_max
        self.kills = 0
        self._command = (*command, "--config", str(seat.config_file))
        self._extra = extra_environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start and wait until ``/readyz`` says so. Raises GatewayFailed."""
        with self.seat.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(gateway.__file__).parent.parent,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_die_with_the_demo,
            )
        await self._ready()

    def _environment(self) -> dict[str, str]:
        """Ours, without settings meant for another gateway of the user's."""
        own = {name: text for name, text in os.environ.items() if "ORDERGATE_" not in name.upper()}
        return {**own, **self._extra}

    async def _ready(self) -> None:
        probe = Request("GET", "/readyz")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ready_s_max):
                while True:
                    outcome = await exchange(self.seat.admin, probe, patience_s=2.0)
                    if isinstance(outcome, Reply) and outcome.status == 200:
                        return
                    self.check()
                    await asyncio.sleep(0.1)
        raise GatewayFailed(f"not ready after {self._ready_s_max:.0f} s\n{self.log_tail()}")

    def check(self) -> None:
        """Raise GatewayFailed if it ended and nobody asked it to."""
        if self._process is not None and self._process.returncode is not None:
            status = self._process.returncode
            raise GatewayFailed(f"it ended by itself, status {status}\n{self.log_tail()}")

    async def kill(self) -> None:
        """``kill -9``, the whole process group; returns when it is gone."""
        self.kills += 1
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to leave, and see that it does. Safe to call at any time."""
        if self._process is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await self._end(signal.SIGTERM)
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        await process.wait()
        self._process = None

    def log_tail(self) -> str:
        """The end of what it wrote, of all its lives."""
        if not self.seat.log_file.exists():
            return ""
        return self.seat.log_file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
