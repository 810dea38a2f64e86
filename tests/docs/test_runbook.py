"""What the runbook tells people to type at night was typed here: a backup of a ledger in use."""

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import look_at
from middleware.clock import SystemClock
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop, backend, open_shop

__all__ = ["backend", "open_shop"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


async def test_the_backup_command_copies_a_ledger_in_use(
    open_shop: OpenShop, backend: Backend, tmp_path: Path
) -> None:
    shop = await open_shop()
    told = await shop.order()
    typed = re.search(r"^\$ (\.venv/bin/python .*VACUUM INTO.*)$", PAGE.read_text(), re.MULTILINE)
    assert typed is not None
    python, *options, source, target = shlex.split(typed[1])
    assert (python, source) == (".venv/bin/python", "/var/lib/ordergate/ledger.db")
    assert target.endswith(".db")
    copy = tmp_path / "backup.db"
    command = [sys.executable, *options, str(shop.gateway.settings.ledger.path), str(copy)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    later = await shop.order("another-key-0123456789-ab")
    assert later.status == told.status == 201
    look = look_at(copy, HostFacts.read(), SystemClock())
    assert (look.damage, look.counts.made, look.counts.conserved) == ("", 1, True)
