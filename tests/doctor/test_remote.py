"""What the doctor says of a ledger on Valkey."""

from pathlib import Path

import pytest

from gateway.doctor.findings import Diagnosis, Level
from gateway.doctor.remote import remote
from gateway.settings.ledger import LedgerSettings
from tests.stores.servers import Server, valkey_binary


async def found(**settings: object) -> list[Diagnosis]:
    return [each async for each in remote(LedgerSettings(**settings))]  # type: ignore[arg-type]


def of(level: Level, diagnoses: list[Diagnosis]) -> list[str]:
    return [each.text for each in diagnoses if each.level is level]


async def test_a_fit_server_is_described() -> None:
    with Server(valkey_binary(), "--appendonly", "yes", "--appendfsync", "always") as server:
        diagnoses = await found(url=server.url)
    assert of(Level.PROBLEM, diagnoses) == []
    assert any(
        "Valkey 9" in text and "appendfsync always" in text for text in of(Level.OK, diagnoses)
    )
    assert "fit for durability fsync" in of(Level.OK, diagnoses)
    assert any("round_trip_p50_s" in each.measured for each in diagnoses)


async def test_a_server_that_keeps_nothing_is_a_problem_and_nothing_is_written_to_it() -> None:
    with Server(valkey_binary()) as server:
        (problem,) = of(Level.PROBLEM, await found(url=server.url))
        assert "appendonly yes" in problem
        assert server.run("DBSIZE") == 0


async def test_a_server_that_is_not_there_is_a_problem() -> None:
    (diagnosis,) = await found(url="valkey://127.0.0.1:1")
    assert diagnosis.level is Level.PROBLEM
    assert "can't be reached" in diagnosis.text


@pytest.mark.parametrize("name", ["password_file", "ca_file"])
async def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (diagnosis,) = await found(url="valkeys://127.0.0.1", **{name: str(tmp_path / "gone")})
    assert f"{tmp_path}/gone is not there" in diagnosis.text
