"""Each part of the gateway logs at its own level, which may change while it runs; and where the log
can't be written, orders go on."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeAlias, get_args

import pytest
import structlog

from gateway.settings import LogSettings
from gateway.settings.values import LOG_PARTS
from gateway.supervisor.logs import Levels, Unfailing
from gateway.telemetry import LogPart
from tests.cli.conftest import CONFIGURATION, ROOT, clean_environment, silent_backend
from tests.ports import free_port

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


Sink: TypeAlias = Callable[[], tuple[int, int | None]]
"""What the log is written to; and what it could be read from, full, if anybody did."""


def full_disk() -> tuple[int, None]:
    return os.open("/dev/full", os.O_WRONLY), None


def reader_gone() -> tuple[int, None]:
    reading, writing = os.pipe()
    os.close(reading)
    return writing, None


def filled(writing: int) -> None:
    os.set_blocking(writing, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while os.write(writing, b"." * size):
                pass
    os.set_blocking(writing, True)


def pipe_that_nobody_reads() -> tuple[int, int]:
    reading, writing = os.pipe()
    filled(writing)
    return writing, reading


def socket_that_nobody_reads() -> tuple[int, int]:
    """What systemd gives its services."""
    reading, writing = socket.socketpair()
    filled(writing.fileno())
    return writing.detach(), reading.detach()


@pytest.mark.parametrize(
    "sink", [full_disk, reader_gone, pipe_that_nobody_reads, socket_that_nobody_reads]
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_orders_go_on_where_the_log_can_not_be_written(
    sink: Sink, form: str, tmp_path: Path, silent_backend: int
) -> None:
    admin = free_port()
    storefront = free_port()
    config = tmp_path / "ordergate.toml"
    text = CONFIGURATION.format(admin_port=admin, backend_port=silent_backend)
    config.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{storefront}"))
    stderr, reading = sink()
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
        if reading is not None:
            os.close(reading)


@pytest.mark.parametrize("sink", [pipe_that_nobody_reads, socket_that_nobody_reads])
def test_who_reads_again_is_told_how_many_lines_were_lost_and_gets_no_torn_one(sink: Sink) -> None:
    stderr, reading = sink()
    assert reading is not None
    os.set_blocking(reading, False)
    with (
        os.fdopen(stderr, "wb", buffering=0),
        closing(Unfailing(stderr, lambda count: b"%d lost\n" % count)) as log,
    ):
        for line in (b"one\n", b"two\n"):
            log.write(line)
            log.flush()
        assert b"two" not in emptied(reading)
        log.write(b"three\n")
        log.flush()
        assert emptied(reading) == b"2 lost\nthree\n"
        long = b"x" * 10_000_000 + b"\n"
        log.write(long)  # more than there is room for
        log.flush()
        log.write("four\n")
        log.flush()
        begun = emptied(reading)
        assert 0 < len(begun) < len(long)
        assert set(begun) == {ord("x")}
        received = b""
        while not received.endswith(b"five\n"):
            log.write("five\n")
            log.flush()
            received += emptied(reading)
        lines = (begun + received).splitlines(keepends=True)
        assert lines[0] == long
        assert lines[1].endswith(b" lost\n")
        assert lines[2:] == [b"five\n"] * len(lines[2:])
    os.close(reading)


def emptied(reading: int) -> bytes:
    received = b""
    with suppress(BlockingIOError):
        while data := os.read(reading, 1 << 20):
            received += data
    return received


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
