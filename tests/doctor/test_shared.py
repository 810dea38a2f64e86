"""What the doctor says of the store of shared answers."""

from pathlib import Path

import pytest

from gateway.doctor.findings import Diagnosis, Level
from gateway.doctor.shared import judged, shared
from gateway.settings import load
from gateway.settings.cache import CacheSettings
from gateway.stores.valkey_checks import Facts
from gateway.stores.valkey_shared import SharedLook
from tests.settings.test_shared_cache import FILE, LEDGER
from tests.stores.servers import Server, valkey_binary

ROOM = ("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")


async def found(folder: Path, cache: str, ledger: str = LEDGER) -> list[Diagnosis]:
    file = folder / "ordergate.toml"
    file.write_text(FILE.format(ledger=ledger, cache=cache))
    return [each async for each in shared(load(file, {}))]


def of(level: Level, diagnoses: list[Diagnosis]) -> list[str]:
    return [each.text for each in diagnoses if each.level is level]


async def test_nothing_shared_is_nothing_to_say(tmp_path: Path) -> None:
    assert await found(tmp_path, "") == []


async def test_a_fit_store_is_described_and_nothing_is_written_to_it(tmp_path: Path) -> None:
    with Server(valkey_binary(), *ROOM) as server:
        diagnoses = await found(tmp_path, f'shared_url = "{server.url}"')
        assert server.run("DBSIZE") == 0
    assert {each.part for each in diagnoses} == {"cache"}
    assert {each.level for each in diagnoses} == {Level.OK}
    (what, distance) = of(Level.OK, diagnoses)
    assert "Valkey 9" in what
    assert "maxmemory 1 GiB, allkeys-lru, appendonly no" in what
    assert "a look for shared answers takes" in distance
    assert 0 < diagnoses[-1].measured["shared_look_p50_s"] < 1


async def test_a_store_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (diagnosis,) = await found(tmp_path, 'shared_url = "valkey://127.0.0.1:1"')
    assert diagnosis.level is Level.PROBLEM
    assert "can't be reached" in diagnosis.text


async def test_a_store_that_does_not_let_us_in_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("a-secret")
    with Server(valkey_binary()) as server:
        url = server.url.replace("://", "://stranger@")
        word = f'shared_password_file = "{tmp_path}/word"'
        (diagnosis,) = await found(tmp_path, f'shared_url = "{url}"\n{word}')
    assert diagnosis.level is Level.PROBLEM
    assert "can't be reached" in diagnosis.text
    assert "a-secret" not in diagnosis.text


async def test_a_store_that_is_no_good_one_is_warned_of(tmp_path: Path) -> None:
    options = ("--maxmemory", "64mb", "--appendonly", "yes")
    with Server(valkey_binary(), *options) as server:
        diagnoses = await found(tmp_path, f'shared_url = "{server.url}"')
        assert of(Level.PROBLEM, diagnoses) == []
        full, disk, small = of(Level.WARNING, diagnoses)
        assert "takes no more answers once its memory is full" in full
        assert "writes to its disk" in disk
        assert small == "shared_bytes_max is 512 MiB, and there is room for 64 MiB"
        beside_orders = await found(tmp_path, f'shared_url = "{server.url}"', server.url)
        assert of(Level.WARNING, beside_orders) == [small]


async def test_a_missing_file_of_it_is_named(tmp_path: Path) -> None:
    gone = f'shared_password_file = "{tmp_path}/gone"'
    (diagnosis,) = await found(tmp_path, f'shared_url = "valkey://127.0.0.1:1"\n{gone}')
    assert f"{tmp_path}/gone is not there" in diagnosis.text


@pytest.mark.parametrize(("look_s", "level"), [(0.01, Level.OK), (0.06, Level.WARNING)])
def test_a_store_that_is_far_away_is_warned_of(look_s: float, level: Level) -> None:
    facts = Facts("a:1", "Valkey 9", (7, 2), False, None, False, "allkeys-lru", 0.0)
    cache = CacheSettings(shared_url="valkey://127.0.0.1:1")
    *_, distance = judged(SharedLook([(facts, 0)], [look_s] * 3), cache, alone=True)
    assert distance.level is level
