"""What a running gateway can take from a changed configuration, and what it can't."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from gateway.settings import Settings, SettingsInvalid

Reread: TypeAlias = Callable[[], Settings]
"""Reads the configuration anew, from where it came. Raises SettingsInvalid."""

RELOADED_WHOLE = frozenset({"routes", "upstreams", "jwt", "limits"})
RELOADED_KEYS = frozenset(
    {
        ("listen", "drain_s"),
        ("listen", "drain_delay_s"),
        ("listen", "trust_request_id"),
        ("listen", "encoded_slashes"),
        ("log", "level"),
        ("log", "levels"),
    }
)
"""Everything else was decided at start-up, as addresses and the ledger were: a setting that is
new here is refused at a reload until somebody has seen to it that it takes effect."""


def heed_hangups(reload: Callable[..., None], *arguments: object) -> None:
    """Call ``reload`` at each SIGHUP, also for one that came while the process still started."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload, *arguments)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


class ReloadRefused(Exception):
    """The old configuration stays. ``reasons``: each says what is wrong and what to do."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def reread(read: Reread, current: Settings) -> Settings:
    """The configuration as it is now. Raises ReloadRefused."""
    try:
        changed = read()
    except SettingsInvalid as invalid:
        raise ReloadRefused(tuple(str(problem) for problem in invalid.problems)) from invalid
    fixed = tuple(needs_restart(current, changed))
    if fixed:
        raise ReloadRefused(tuple(f"{key} can't change while running: restart" for key in fixed))
    return changed


def needs_restart(current: Settings, changed: Settings) -> Iterator[str]:
    """The keys that differ and that only a start can change."""
    for section in Settings.model_fields:
        if section in RELOADED_WHOLE:
            continue
        before, after = getattr(current, section), getattr(changed, section)
        for key in type(before).model_fields:
            if (section, key) not in RELOADED_KEYS and _of(before, key) != _of(after, key):
                yield f"{section}.{key}"


def _of(section: Any, key: str) -> Any:
    return getattr(section, key)
