"""What the runbook tells people to type at night was typed here: a backup of a ledger in use."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import look_at
from middleware.clock import SystemClock
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop, open_shop

__all__ = ["open_shop"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"


async def test_the_backup_command_copies_a_ledger_in_use(
    open_shop: OpenShop, backend: Backend, tmp_path: Path
) -> None:
    shop = await open_shop()
    told = await shop.order()
    typed = re.search(r"^\$ ordergate (ledger backup .*)$", PAGE.read_text(), re.MULTILINE)
    assert typed is not None
    *words, target, option, config = shlex.split(typed[1])
    assert (words, option, config) == (["ledger", "backup"], "--config", "ordergate.toml")
    assert target.endswith(".db")
    copy = tmp_path / "backup.db"
    url = f"sqlite:///{shop.gateway.settings.ledger.path}"
    environment = {**os.environ, "ORDERGATE_LEDGER__URL": url}
    example = str(ROOT / "deploy" / "ordergate.toml")
    command = [sys.executable, "-m", "gateway", *words, str(copy), option, example]
    await asyncio.to_thread(
        subprocess.run, command, check=True, timeout=30, cwd=ROOT, env=environment
    )
    later = await shop.order("another-key-0123456789-ab")
    assert later.status == told.status == 201
    look = look_at(copy, HostFacts.read(), SystemClock())
    assert (look.damage, look.counts.made, look.counts.conserved) == ("", 1, True)
