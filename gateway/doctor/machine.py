"""Versions, clocks and limits: what this machine and this installation are."""

import errno
import http.client
import platform
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gateway import __version__
from gateway.doctor.findings import Diagnosis, ok, problem, warning
from gateway.server.listener import ParserMissing, require_c_parser
from gateway.settings import Settings
from gateway.settings.values import split_address
from gateway.stores.sqlite_host import HostFacts, wal_reset_is_fixed

ALIVE_WITHIN_S = 2.0
"""A gateway that hangs is no gateway that runs."""

FILES_RESERVE = 64
"""Ledger, logs, libraries, the admin listener and its few connections."""

BORN_AT = 1_767_225_600.0
"""The year 2026: a wall clock that shows an earlier time was never set."""

BEHIND_S_MAX = 5.0
"""Clocks that are kept in step differ by milliseconds."""


def versions(host: HostFacts) -> Iterator[Diagnosis]:
    part = "versions"
    yield ok(part, f"Ordergate {__version__}, Python {platform.python_version()}")
    if wal_reset_is_fixed(host.sqlite_version):
        yield ok(part, f"SQLite {host.sqlite_version} has the fix of the WAL-reset bug")
    else:
        yield problem(
            part,
            f"SQLite {host.sqlite_version} can corrupt the ledger (the WAL-reset bug)",
            "install an apsw that brings 3.51.3 or later",
        )
    try:
        require_c_parser()
        yield ok(part, f"aiohttp {_version('aiohttp')} with its C parser")
    except ParserMissing as missing:
        yield problem(part, "aiohttp runs without its C parser", str(missing))
    uvloop = _version("uvloop")
    if uvloop:
        yield ok(part, f"uvloop {uvloop}")
    else:
        yield warning(part, "uvloop is not installed", "install it: a sixth more orders a second")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """``boot_s`` counts while the machine sleeps, ``awake_s`` does not."""

    boot_s: float
    awake_s: float
    wall_s: float
    ledger_s: float | None = None

    @classmethod
    def read(cls, ledger_s: float | None) -> "Clocks":
        """``ledger_s``: ledger time at this moment, where there is a ledger of this boot."""
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        awake_s = time.clock_gettime(time.CLOCK_MONOTONIC)
        return cls(boot_s, awake_s, time.time(), ledger_s)


def clocks(read: Clocks, host: HostFacts) -> Iterator[Diagnosis]:
    """Durations and leases go by the boot clock; the wall clock only shows."""
    part = "clock"
    slept_s = read.boot_s - read.awake_s
    if slept_s < 1:
        yield ok(part, f"the boot clock counts: {read.boot_s:.0f} s since boot, none asleep")
    else:
        yield warning(
            part,
            f"this machine was suspended for {slept_s:.0f} s since its boot",
            "a gateway that sleeps answers nobody, and its leases lapse: switch suspend off",
            suspended_s=slept_s,
        )
    yield _wall(read)
    if not host.boot_id:
        yield problem(part, "this machine tells no boot id", "mount /proc; run on Linux")
    if not host.machine_id:
        yield warning(
            part,
            "there is no /etc/machine-id: after a reboot the ledger can't tell this machine from"
            " another one, and refuses",
            "give the machine (in a container: mount) an /etc/machine-id, or start with adopt ="
            " true once",
        )


def _wall(read: Clocks) -> Diagnosis:
    part = "clock"
    if read.wall_s < BORN_AT:
        return problem(part, "the wall clock was never set", "set it, and keep it set by NTP")
    ahead_s = 0.0 if read.ledger_s is None else read.ledger_s - read.wall_s
    if abs(ahead_s) > BEHIND_S_MAX:
        return warning(
            part,
            f"ledger time is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the"
            " wall clock, which was set since boot: times shown differ by that, leases and"
            " deadlines do not",
            "none is needed if NTP keeps the clock; ledger time goes on from where it is, also over"
            " a reboot: no key is forgotten before its time",
            ledger_ahead_s=ahead_s,
        )
    return ok(part, "the wall clock agrees with the ledger" if read.ledger_s else "it is set")


def files_needed(settings: Settings) -> int:
    """Open files of one process at full load: a client's connection, an upstream's, and what is
    always open."""
    upstream = sum(each.connections_max for each in settings.upstreams)
    clients = settings.limits.share(settings.limits.connections_max, settings.listen.workers)
    return clients + upstream + FILES_RESERVE


def limits(settings: Settings, files_max: int | None = None) -> Diagnosis:
    """``files_max`` is RLIMIT_NOFILE's soft limit unless given."""
    if files_max is None:
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files_max == resource.RLIM_INFINITY:
        return ok("limits", "there is no limit of open files")
    needed = files_needed(settings)
    always = sum(each.connections_max for each in settings.upstreams) + 2 * FILES_RESERVE
    text = f"{files_max} files may be open; {needed} are at full load"
    measured = {"files_max": files_max, "files_needed": needed}
    if files_max >= needed:
        return ok("limits", text, **measured)
    advice = f"raise it to {needed}: LimitNOFILE= in systemd, ulimit -n in a shell"
    make = problem if files_max < always else warning
    return make("limits", text, advice, **measured)


def listeners(settings: Settings, *, is_running: bool) -> Iterator[Diagnosis]:
    """Whether the two addresses can be listened on. ``is_running``: a gateway is, so that
    it is no surprise to find them in use."""
    for address in (settings.listen.address, settings.listen.admin):
        try:
            _bind(*split_address(address))
        except OSError as error:
            text = f"{address} can't be listened on: {error.strerror}"
            if error.errno == errno.EADDRINUSE and is_running:
                yield ok("limits", f"{address} is in use, as a gateway is running")
            else:
                yield problem("limits", text, "end what uses it, or name another address")
        else:
            yield ok("limits", f"{address} can be listened on")


def is_alive(settings: Settings) -> bool:
    """Whether a gateway answers on its admin listener."""
    host, port = split_address(settings.listen.admin)
    connection = http.client.HTTPConnection(host, port, timeout=ALIVE_WITHIN_S)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().read(16) == b"alive\n"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _bind(host: str, port: int) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
