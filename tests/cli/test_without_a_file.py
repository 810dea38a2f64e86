"""``serve --upstream URL --orders MATCH``: a gateway from two options, from end to end."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp

from tests.cli.conftest import ROOT, clean_environment
from tests.ports import free_port
from tests.scenarios.backend import Backend

KEY = {"Authorization": "Bearer me", "Idempotency-Key": "order-1"}


async def test_orders_are_protected_without_a_file(tmp_path: Path, backend: Backend) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "serve", "--upstream", f"http://127.0.0.1:{backend.port}"),
        *("--orders", "POST /orders", "--orders", "POST /carts/*/order"),
        cwd=tmp_path,
        env=clean_environment(
            PYTHONPATH=str(ROOT),
            ORDERGATE_LISTEN__ADDRESS="127.0.0.1:0",
            ORDERGATE_LISTEN__ADMIN=f"127.0.0.1:{free_port()}",
        ),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as client:
            said, serving = await until_serving(process)
            assert any("routes[0].capability: every attempt without" in line for line in said)
            answers = []
            for path in ("/orders", "/orders", "/carts/7/order"):
                headers = KEY if path == "/orders" else {**KEY, "Idempotency-Key": "order-2"}
                order = client.post(serving["storefront"] + path, json={"sku": 7}, headers=headers)
                async with order as answer:
                    fate = answer.headers["Idempotency-Status"]
                    answers.append((answer.status, fate, (await answer.json())["id"]))
            async with client.get(serving["storefront"] + "/orders?idempotency_key=x") as answer:
                assert (answer.status, await answer.json()) == (200, [])
        assert answers == [
            (201, "created", "o-1"),
            (201, "replayed", "o-1"),
            (201, "created", "o-2"),
        ]
        ledger = tmp_path / "ledger.db"
        assert serving["ledger"] == f"sqlite:///{ledger}"
        assert ledger.stat().st_mode & 0o777 == 0o600
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


async def until_serving(process: asyncio.subprocess.Process) -> tuple[list[str], dict[str, str]]:
    """What was said before, and the log line that says where it serves."""
    assert process.stderr is not None
    said: list[str] = []
    while raw := await process.stderr.readline():
        line = raw.decode()
        if line.startswith("{") and json.loads(line).get("event") == "serving":
            event: dict[str, str] = json.loads(line)
            return said, event
        said.append(line)
    raise AssertionError(f"it ended before it served:\n{''.join(said)}")
