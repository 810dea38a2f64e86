"""``ordergate doctor`` as people use it: real processes, ledgers and backends."""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from gateway.doctor.machine import is_alive
from gateway.settings import load_document
from tests.cli.conftest import (
    ROOT,
    Run,
    Serving,
    clean_environment,
    ordergate,
    serving,
    silent_backend,
)
from tests.ports import free_port
from tests.scenarios.backend import Backend, answer

__all__ = ["ordergate", "serving", "silent_backend"]

CONFIGURATION = """\
[listen]
address = "127.0.0.1:0"
admin = "127.0.0.1:0"

[ledger]
url = "sqlite:///data/ledger.db"

[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{port}"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = "lookup"
lookup = "GET /orders?idempotency_key={{key}}"
scope = ["cookie:session"]
"""


async def examined(folder: Path, port: int, urls: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and document of ``ordergate doctor --json``; the backend goes on meanwhile."""
    config = folder / "ordergate.toml"
    text = CONFIGURATION.format(port=port)
    config.write_text(text if urls is None else text.replace(f'"http://127.0.0.1:{port}"', urls))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "doctor", "--config", str(config), "--json"),
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, json.loads(said)


def of_part(document: dict[str, Any], part: str) -> list[tuple[str, str]]:
    found = document["findings"]
    return [(each["level"], each["text"]) for each in found if each["part"] == part]


async def test_what_is_well_is_measured(tmp_path: Path, backend: Backend) -> None:
    _, document = await examined(tmp_path, backend.port)
    measured: dict[str, Any] = {}
    for finding in document["findings"]:
        measured |= finding["measured"]
    assert 0 < measured["sync_p50_s"] <= measured["sync_p99_s"]
    assert measured["lookup_status"] == 200
    assert measured["connect_s"] > 0
    assert measured["files_needed"] > 10_000
    ((level, text),) = of_part(document, "route place-order")
    assert (level, text.split(":")[0]) == ("ok", "a random key is absent")
    assert [request.method for request in backend.requests] == ["GET"]
    assert not (tmp_path / "data").exists()


async def test_a_lookup_that_ignores_the_key_is_a_problem(tmp_path: Path, backend: Backend) -> None:
    backend.lookup_script.append(answer(200, [{"id": "a stranger's"}]))
    status, document = await examined(tmp_path, backend.port)
    ((level, text),) = of_part(document, "route place-order")
    assert (status, level) == (1, "problem")
    assert text.startswith("a random key is found: 200")
    assert "stranger" not in json.dumps(document)


async def test_a_404_is_told_apart_from_an_empty_list(tmp_path: Path, backend: Backend) -> None:
    backend.lookups = False
    _, document = await examined(tmp_path, backend.port)
    ((level, _),) = of_part(document, "route place-order")
    assert level == "warning"


def test_a_gateway_that_runs_is_known_by_its_answer(serving: Serving, silent_backend: int) -> None:
    """Also where its ledger is on a server, or another user's."""

    def alive(admin: str) -> bool:
        document = {
            "listen": {"admin": admin},
            "upstreams": [{"name": "backend", "urls": ["http://127.0.0.1:9"]}],
            "routes": [{"name": "a", "match": "* /**", "kind": "plain", "upstream": "backend"}],
        }
        return is_alive(load_document(document, {}, origin="test").settings)

    assert alive(serving.admin.removeprefix("http://"))
    assert not alive(serving.storefront.removeprefix("http://"))
    assert not alive(f"127.0.0.1:{silent_backend}")
    assert not alive(f"127.0.0.1:{free_port()}")


async def test_an_upstream_that_is_away_is_a_problem(tmp_path: Path) -> None:
    status, document = await examined(tmp_path, free_port())
    ((level, text),) = of_part(document, "upstream backend")
    assert (status, level) == (1, "problem")
    assert "connect_refused" in text


async def test_each_server_of_an_upstream_is_tried(tmp_path: Path, backend: Backend) -> None:
    """The name of one that is away is not told of another's connection."""
    port, away = backend.port, free_port()
    for first, second in ((port, away), (away, port)):
        urls = f'"http://127.0.0.1:{first}", "http://127.0.0.1:{second}"'
        status, document = await examined(tmp_path, port, urls)
        found = {text: level for level, text in of_part(document, "upstream backend")}
        assert found.pop(f"127.0.0.1:{away} can't be reached: connect_refused") == "warning"
        ((text, level),) = found.items()
        assert (text.split(" in ")[0], level) == (f"127.0.0.1:{port} connects", "ok")
        assert status == 0


async def test_a_server_without_tls_is_told_so(tmp_path: Path) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        status, document = await examined(tmp_path, port, f'"https://127.0.0.1:{port}"')
    ((_, text),) = of_part(document, "upstream backend")
    assert text.endswith("can't be reached: tls_failed")
    (found,) = [each for each in document["findings"] if each["part"] == "upstream backend"]
    assert "ca_file" in found["advice"]
    assert status == 1


def test_a_ledger_in_use_is_examined_and_not_changed(serving: Serving, ordergate: Run) -> None:
    path = serving.token_file.parent / "ledger.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    done = ordergate("doctor", "--config", serving.config, "--json")
    found = of_part(json.loads(done.stdout), "ledger")
    assert ("ok", "0 orders made, 0 pending") in found
    assert any(text.startswith("held by process") for _, text in found)
    assert [level for level, _ in found] == ["ok"] * len(found)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_file_that_is_no_ledger_is_a_problem(ordergate: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.db").write_bytes(b"no ledger at all" * 100)
    (tmp_path / "a.toml").write_text(CONFIGURATION.format(port=free_port()))
    done = ordergate("doctor", "--config", "a.toml")
    assert done.returncode == 1
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("problem ledger: ")]
    assert "is damaged or no ledger" in line


def test_a_wrong_configuration_is_not_examined(ordergate: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[listn]\n")
    done = ordergate("doctor", "--config", "a.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean listen?" in done.stderr
