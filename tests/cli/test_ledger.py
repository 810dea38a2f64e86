"""``ordergate ledger``: backups and moves, as an operator runs them."""

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.stores.sqlite import SqliteLedger
from middleware.clock import SystemClock
from tests.cli.conftest import closed_to_us
from tests.stores.making import in_doubt, settled, submission

ORDERS = 1500


def open_ledger(path: Path, *, adopt: bool = False) -> SqliteLedger:
    return SqliteLedger(
        path,
        clock=SystemClock(),
        who="me",
        lease_s=5.0,
        new_holder=lambda: secrets.token_hex(8),
        adopt=adopt,
    )


@pytest.fixture
async def shop(tmp_path: Path) -> Path:
    ledger = open_ledger(tmp_path / "ledger.db")
    await ledger.open()
    for start in range(0, ORDERS, 100):
        keys = range(start, start + 100)
        await asyncio.gather(*(settled(ledger, submission(f"key-{n}")) for n in keys))
    await in_doubt(ledger, submission("doubtful"), due_in_s=0.0)
    await ledger.close()
    return tmp_path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = tmp_path / "ordergate.toml"
    config.write_text(
        '[ledger]\nurl = "sqlite:///ledger.db"\n'
        '[[upstreams]]\nname = "backend"\nurls = ["http://127.0.0.1:9"]\n'
        '[[routes]]\nname = "rest"\nmatch = "* /**"\nkind = "plain"\nupstream = "backend"\n'
    )
    return config


def said(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    return result.exit_code, result.output


async def counted(path: Path) -> int:
    ledger = open_ledger(path)
    await ledger.open()
    counts = await ledger.counts()
    assert counts.conserved
    assert await ledger.find_by_key("scope", "key-7") is not None
    await ledger.close()
    return counts.made


async def test_a_backup_says_what_it_holds_and_what_it_does_not(shop: Path, config: Path) -> None:
    target = shop / "backup.db"
    status, text = await asyncio.to_thread(said, "backup", target, "--config", config)
    assert status == 0, text
    assert f"{ORDERS + 1} orders, 1 pending" in text
    assert "does not know what is ordered from now on" in text
    status, text = await asyncio.to_thread(said, "backup", target, "--config", config)
    assert status == 1
    assert "overwrites nothing" in text


async def test_a_restored_backup_is_trusted_again_by_an_operator(shop: Path, config: Path) -> None:
    status, text = await asyncio.to_thread(trusted, config)
    assert (status, text) == (0, "It was trusted already.\n")
    status, text = await asyncio.to_thread(said, "backup", shop / "backup.db", "--config", config)
    assert status == 0, text
    (shop / "backup.db").replace(shop / "ledger.db")
    restored = open_ledger(shop / "ledger.db", adopt=True)
    await restored.open()
    status, text = await asyncio.to_thread(trusted, config)
    assert status == 0
    assert "it is a backup of" in text
    await restored.renew_hold()
    assert restored.distrusted is None
    await restored.close()
    (shop / "ledger.db").unlink()
    status, text = await asyncio.to_thread(trusted, config)
    assert status == 1
    assert "can't be trusted again" in text


def trusted(config: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["trust", "--config", str(config)])
    return result.exit_code, result.output


async def test_a_copy_that_is_killed_again_and_again_loses_nothing(shop: Path) -> None:
    old, new = shop / "ledger.db", shop / "new.db"
    command = [sys.executable, "-m", "gateway", "ledger", "copy", f"sqlite:///{old}"]
    kills = 0
    for pause_s in (0.5, 0.6, 0.7, 0.8):
        running = await asyncio.create_subprocess_exec(
            *command,
            f"sqlite:///{new}",
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.wait([waiting := asyncio.create_task(running.wait())], timeout=pause_s)
        if running.returncode is None:
            os.kill(running.pid, signal.SIGKILL)
            kills += 1
        await waiting
    status, text = await asyncio.to_thread(said, "copy", f"sqlite:///{old}", f"sqlite:///{new}")
    assert (status == 0) or "is a ledger already" in text, text
    assert await counted(new) == ORDERS + 1
    status, text = await asyncio.to_thread(said, "copy", f"sqlite:///{old}", f"sqlite:///{new}")
    assert status == 1
    assert "is a ledger already" in text


async def test_a_ledger_in_a_folder_of_another_user_is_said_so(
    shop: Path,
    config: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("ORDERGATE_LEDGER__URL", f"sqlite:///{shop}/ledger.db")
    config = await asyncio.to_thread(config.rename, elsewhere / config.name)
    closed_to_us(shop, monkeypatch)
    for command in (
        ("backup", elsewhere / "backup.db", "--config", config),
        ("copy", f"sqlite:///{shop}/ledger.db", f"sqlite:///{elsewhere}/new.db"),
    ):
        status, text = await asyncio.to_thread(said, *command)
        assert status == 1
        assert text.startswith(f"{shop}/ledger.db can't be read: Permission denied; run this as")
    status, text = await asyncio.to_thread(said, "backup", shop / "backup.db", "--config", config)
    assert status == 1


@pytest.mark.parametrize("target", ["ledger.db", "sqlite:///", "valkey+nonsense"])
async def test_what_is_no_ledger_is_said_so(shop: Path, target: str) -> None:
    status, text = await asyncio.to_thread(said, "copy", f"sqlite:///{shop}/ledger.db", target)
    assert status == 2
    assert "no ledger that can be copied" in text.replace("\n", " ")
