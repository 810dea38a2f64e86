"""``ordergate orders lookup|resend`` against a backend that can be asked, and knows its keys."""

import http.server
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.cli.conftest import CONFIGURATION, ROOT, Run, clean_environment, first_event
from tests.ports import free_port

CAPABLE = """\
capability = ["dedup", "lookup"]
lookup = "GET /orders?key={key}"
dedup_for_s = 600
doubt_within_s = 2
"""


class Backend(http.server.BaseHTTPRequestHandler):
    """Makes one order for each key. Until ``speaks``, it answers neither orders nor lookups of
    what it has; of what it has not, it always says so."""

    made: ClassVar[set[str]] = set()
    speaks: ClassVar[threading.Event] = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.made.add(self.headers["Idempotency-Key"])
        if self.speaks.is_set():
            self.tell(201, {"id": 7})
        self.close_connection = True

    def do_GET(self) -> None:
        if self.path.rpartition("=")[2] not in self.made:
            self.tell(404, {})
        else:
            self.tell(200 if self.speaks.is_set() else 500, {"id": 7})

    def tell(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[int]:
    Backend.made.clear()
    Backend.speaks.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, backend: int) -> Iterator[Path]:
    """The file of a gateway that runs."""
    file = tmp_path / "ordergate.toml"
    text = CONFIGURATION.format(admin_port=free_port(), backend_port=backend)
    file.write_text(text.replace('capability = "none"\n', CAPABLE))
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--config", str(file)],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        (tmp_path / "storefront").write_text(first_event(process, "serving")["storefront"])
        yield file
    finally:
        process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.fixture
def dead_letter(config: Path) -> str:
    """An order that the backend has, and has not told of in time."""
    storefront = (config.parent / "storefront").read_text()
    request = urllib.request.Request(
        f"{storefront}/orders", b"{}", {"Authorization": "Bearer ann", "Prefer": "wait=5"}
    )
    for _ in range(20):
        with urllib.request.urlopen(request, timeout=20) as response:
            told = json.load(response)
        if told["status"] == "dead_letter":
            return str(told["id"])
        request = urllib.request.Request(
            f"{storefront}/_gateway/orders/{told['id']}", headers={"Prefer": "wait=5"}
        )
    raise AssertionError("still no dead letter")


def test_a_lookup_tells_what_came_of_it(config: Path, ordergate: Run, dead_letter: str) -> None:
    said = ("--operator", "ann", "--reason", "the customer calls", "--config", config)
    nothing = ordergate("orders", "lookup", dead_letter, *said)
    assert nothing.returncode == 0, nothing.stderr
    expected = f"{dead_letter} is dead_letter: lookup_proves_nothing (status 500).\n"
    assert nothing.stdout == expected

    Backend.speaks.set()
    found = ordergate("orders", "lookup", dead_letter, *said)
    assert found.stdout == f"{dead_letter} is confirmed: found_by_lookup.\n"
    shown = ordergate("orders", "show", dead_letter, "--config", config)
    assert shown.stdout.count("operator_lookup  by operator:ann: the customer calls") == 2


def test_a_resend_makes_no_second_order(config: Path, ordergate: Run, dead_letter: str) -> None:
    Backend.speaks.set()
    sent = ordergate("orders", "resend", dead_letter, "--config", config, "--json")
    assert sent.returncode == 0, sent.stderr
    order = json.loads(sent.stdout)
    assert order["status"] == "confirmed"
    assert order["action"]["result"]["reason"] == "confirmed_by_answer"
    assert len(Backend.made) == 1
    again = ordergate("orders", "resend", dead_letter, "--config", config)
    assert again.returncode == 1
    assert "It is settled already. The order is confirmed (409)." in again.stderr
