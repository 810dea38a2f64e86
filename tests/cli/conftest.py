"""The command line as people use it: real processes, a real gateway, a backend that hangs."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 30.0

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CONFIGURATION = """\
[listen]
address = "127.0.0.1:0"
admin = "127.0.0.1:{admin_port}"

[ledger]
url = "sqlite:///data/ledger.db"

[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend_port}"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = "none"
scope = ["header:Authorization"]
answer_within_s = 5
attempt_timeout_s = 0.2
settle_s = 0.3
"""


def clean_environment(**variables: str) -> dict[str, str]:
    """Ours without settings of the user's, and wide enough that no message is wrapped."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("ORDERGATE_")}
    return {**own, "COLUMNS": "300", "NO_COLOR": "1", **variables}


@pytest.fixture
def ordergate(tmp_path: Path) -> Run:
    """Run one command to its end, in an empty folder."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *map(str, arguments)],
            cwd=tmp_path,
            env=clean_environment(PYTHONPATH=str(ROOT), **variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def closed_to_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the ledger's folder (0700) is to an operator who is not the gateway's user; the tests'
    own user may be root."""
    real = os.stat

    def stat(path: Any, *more: Any, **named: Any) -> os.stat_result:
        if folder in Path(os.fspath(path)).parents:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path, *more, **named)

    monkeypatch.setattr(os, "stat", stat)


@dataclass(frozen=True)
class Serving:
    """A gateway that is ready. Its backend takes every connection and never answers."""

    storefront: str
    admin: str
    config: Path

    @property
    def token_file(self) -> Path:
        return self.config.parent / "data" / "ledger.db.admin-token"


@pytest.fixture
def silent_backend() -> Iterator[int]:
    """The port of a listener whose connections the kernel accepts and nobody reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def serving(tmp_path: Path, silent_backend: int) -> Iterator[Serving]:
    config = tmp_path / "ordergate.toml"
    config.write_text(
        CONFIGURATION.format(admin_port=free_port(), backend_port=silent_backend), encoding="utf-8"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--config", str(config)],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        event = first_event(process, "serving")
        yield Serving(event["storefront"], event["admin"], config)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def first_event(process: "subprocess.Popen[str]", name: str) -> dict[str, str]:
    """The first log line of this event; fails where the process ends before it."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("{") and json.loads(line).get("event") == name:
            event: dict[str, str] = json.loads(line)
            return event
    raise AssertionError(f"no {name!r} before the end:\n{''.join(seen)}")
