"""Each part of the gateway logs at its own level, which may change while it runs; and where the log
can't be written, orders go on."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import structlog

from gateway.settings import LogSettings
from gateway.settings.values import LOG_PARTS
from gateway.supervisor.logs import Levels
from gateway.telemetry import LogPart
from tests.cli.conftest import CONFIGURATION, ROOT, clean_environment, free_port, silent_backend

__all__ = ["silent_backend"]


def written(levels: Levels, part: str, level: str) -> bool:
    try:
        levels.gate(None, level, {"event": "x", "part": part})
    except structlog.DropEvent:
        return False
    return True


def test_a_part_has_its_own_level_and_all_others_the_common_one() -> None:
    settings = LogSettings(level="warning", levels={"ledger": "debug", "requests": "error"})
    levels = Levels(settings)
    assert written(levels, "ledger", "debug")
    assert not written(levels, "requests", "warning")
    assert written(levels, "requests", "exception")
    assert not written(levels, "orders", "info")
    assert written(levels, "orders", "warning")


def test_changed_levels_take_effect_with_the_next_line() -> None:
    levels = Levels(LogSettings())
    assert not written(levels, "orders", "debug")
    levels.apply(LogSettings(levels={"orders": "debug"}))
    assert written(levels, "orders", "debug")
    assert not written(levels, "requests", "debug")


def test_the_parts_of_the_settings_are_those_of_the_log() -> None:
    assert get_args(LogPart) == LOG_PARTS


@pytest.mark.parametrize("part", LOG_PARTS)
def test_every_part_may_have_a_level(part: str) -> None:
    assert json.loads(LogSettings(levels={part: "debug"}).model_dump_json())["levels"]


# --- a log that can't be written -----------------------------------------------------------


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def reader_gone() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("sink", [full_disk, reader_gone])
@pytest.mark.parametrize("form", ["json", "console"])
def test_orders_go_on_where_the_log_can_not_be_written(
    sink: Callable[[], int], form: str, tmp_path: Path, silent_backend: int
) -> None:
    admin = free_port()
    storefront = free_port()
    config = tmp_path / "ordergate.toml"
    text = CONFIGURATION.format(admin_port=admin, backend_port=silent_backend)
    config.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{storefront}"))
    stderr = sink()
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT), ORDERGATE_LOG__FORMAT=form),
        stdin=subprocess.DEVNULL,
        stderr=stderr,
    )
    os.close(stderr)
    try:
        until_ready(f"http://127.0.0.1:{admin}/readyz", process)
        request = urllib.request.Request(
            f"http://127.0.0.1:{storefront}/orders",
            data=b"{}",
            headers={"Authorization": "Bearer ann"},
        )
        for _ in range(2):  # the second finds a buffer in which the lines of the first may be
            with urllib.request.urlopen(request, timeout=20) as response:
                assert response.status == 202
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 30
    while True:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < end
        time.sleep(0.05)
