"""One suite for every log of changes: what was appended is told to all, in order, or all is
forgotten."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.settings.ledger_urls import parse_remote
from gateway.stores.sqlite_changes import SqliteChangeLog
from gateway.stores.valkey_changes import KNOWN_FOR_S, SETTLES_S, ValkeyChangeLog
from gateway.stores.valkey_nodes import Access
from middleware.caching.changes import HEARD_MAX, ChangeLog, ChangesUnknown, MemoryLog
from middleware.caching.invalidation import Mark, Touches
from tests.stores.servers import REMOTE, Server, follows, store_url, valkey_binary, wait_for

ONE = Mark(Touches.URL, b"/a?b=c", b"shop.example")
TWO = Mark(Touches.PATTERN, b"/c/*", soft=True)
THREE = Mark(Touches.GROUP, b"a group")


class Logs:
    """Every replica's view of one log."""

    def __init__(self, kind: str, folder: Path, url: str) -> None:
        self.kind = kind
        self.folder = folder
        self.url = url
        self.opened: list[ChangeLog] = []

    def replica(self) -> ChangeLog:
        if self.kind == "memory" and self.opened:
            return self.opened[0]
        log = self._make()
        self.opened.append(log)
        return log

    def _make(self) -> ChangeLog:
        match self.kind:
            case "memory":
                return MemoryLog()
            case "sqlite":
                return SqliteChangeLog(self.folder / "ledger.db-changes")
            case _:
                url = f"{self.url}?prefix={self.folder.name}"
                return ValkeyChangeLog(parse_remote(url), access=Access())


@pytest.fixture(params=["memory", "sqlite", *REMOTE])
async def logs(request: pytest.FixtureRequest, quick_folder: Path) -> AsyncIterator[Logs]:
    opened = Logs(request.param, quick_folder, store_url(request.param))
    yield opened
    for log in opened.opened:
        await log.close()


async def test_marks_are_told_to_every_replica_in_order(logs: Logs) -> None:
    here, there = logs.replica(), logs.replica()
    start = (await there.since(-1)).position
    await here.append([ONE, TWO])
    await there.append([THREE])
    for log in (here, there):
        news = await log.since(start)
        assert news.marks is not None
        assert [mark for _, mark in news.marks] == [ONE, TWO, THREE]
        assert [position for position, _ in news.marks] == [start + 1, start + 2, start + 3]
        assert news.position == start + 3
        assert list((await log.since(news.position)).marks or ()) == []


async def test_nothing_new_is_said_only_while_it_is_true(logs: Logs) -> None:
    here, there = logs.replica(), logs.replica()
    position = (await here.since(-1)).position
    sure = logs.kind in ("memory", "sqlite")
    assert here.nothing_new(position) is sure
    await there.append([ONE])
    assert here.nothing_new(position) is False
    position = (await here.since(position)).position
    assert here.nothing_new(position) is sure
    assert here.nothing_new(position - 1) is False


async def test_who_was_away_for_too_long_forgets_everything(logs: Logs) -> None:
    here = logs.replica()
    start = (await here.since(-1)).position
    for _ in range(3):
        await here.append([ONE] * HEARD_MAX)
    assert (await here.since(start)).marks is None


async def test_who_was_away_for_as_long_as_the_log_goes_back_is_answered(logs: Logs) -> None:
    """A script can't return as many values as a server may keep marks."""
    here = logs.replica()
    await here.append([ONE])
    start = (await here.since(-1)).position
    for _ in range(2):
        await here.append([ONE] * (HEARD_MAX - 5))
    news = await here.since(start)
    assert news.marks is None or len(news.marks) == 2 * (HEARD_MAX - 5)
    assert news.position == start + 2 * (HEARD_MAX - 5)


async def test_however_much_is_new_all_of_it_is_told_or_forgotten(logs: Logs) -> None:
    here = logs.replica()
    await here.append([ONE])
    start = (await here.since(-1)).position
    await here.since(start)
    for number in (HEARD_MAX, HEARD_MAX - 1):
        await here.append([TWO] * number)
    news = await here.since(start)
    assert news.position == start + 2 * HEARD_MAX - 1
    assert news.marks is None or len(news.marks) == 2 * HEARD_MAX - 1


async def test_another_log_in_the_place_of_the_known_one_is_noticed(logs: Logs) -> None:
    if logs.kind == "memory":
        pytest.skip("it lives as long as its process")
    here, there = logs.replica(), logs.replica()
    await here.append([ONE, ONE])
    position = (await here.since((await here.since(-1)).position)).position
    if logs.kind == "sqlite":
        for end in ("", "-wal", "-shm"):
            (logs.folder / f"ledger.db-changes{end}").unlink()
    else:
        node = (await here._finding.servers()).node(here._bucket)  # type: ignore[attr-defined]
        await node.ask(("DEL", *[str(key.decode()) for key in here._keys]))  # type: ignore[attr-defined]
    await there.append([TWO, TWO, TWO])
    assert here.nothing_new(position) is False
    assert (await here.since(position)).marks is None
    news = await here.since((await here.since(-1)).position)
    assert news.marks == () or news.marks == []


async def test_who_has_no_cache_knows_of_those_that_have(logs: Logs) -> None:
    """Before anything that they keep can outlive what it does not tell."""
    here, there = logs.replica(), logs.replica()
    if logs.kind not in REMOTE:
        assert await there.look() is False
        return
    assert there.in_use()  # for all it knows
    assert await there.look()
    assert not there.in_use()
    assert (await here.since(-1)).settling
    assert await there.look() is False
    assert there.in_use()
    position = (await here.since(-1)).position
    while (await here.since(position)).settling:
        pass


async def test_that_nobody_has_a_cache_is_not_believed_for_long() -> None:
    url, now = store_url("valkey"), 100.0
    log = ValkeyChangeLog(parse_remote(f"{url}?prefix=alone"), access=Access(), now=lambda: now)
    await log.look()
    assert not log.in_use()
    now += KNOWN_FOR_S
    assert log.in_use()
    assert KNOWN_FOR_S < SETTLES_S
    await log.close()


async def test_a_server_that_lost_what_nobody_had_heard_yet_is_another_log() -> None:
    """Restarted from an older copy: the last known entry is there, and is the newest again."""
    with Server(valkey_binary()) as server:
        log = ValkeyChangeLog(parse_remote(server.url), access=Access())
        await log.append([ONE])
        position = (await log.since(-1)).position
        server.run("SAVE")
        await log.append([TWO])
        server.kill()
        server.start()
        news = await log.since(position)
        assert news.position == position
        assert news.marks is None
        assert (await log.since(position)).marks == []
        await log.close()


async def test_a_master_whose_replicas_left_can_not_be_asked() -> None:
    """It may have been deposed, and would not know what the new one was told."""
    replica = Server(valkey_binary())
    with Server(valkey_binary()) as master, replica:
        replica.run("REPLICAOF", "127.0.0.1", master.port)
        wait_for(lambda: follows(replica))
        log = ValkeyChangeLog(parse_remote(master.url), access=Access(), replicas=1)
        await log.append([ONE])
        position = (await log.since(-1)).position
        assert (await log.since(position)).marks == []
        replica.run("REPLICAOF", "NO", "ONE")
        with pytest.raises(ChangesUnknown):
            await log.since(position)
        await log.close()


async def test_a_server_that_became_a_replica_can_not_be_asked() -> None:
    other = Server(valkey_binary())
    with Server(valkey_binary()) as server, other:
        log = ValkeyChangeLog(parse_remote(server.url), access=Access())
        position = (await log.since(-1)).position
        server.run("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(ChangesUnknown):
            await log.since(position)
        await log.close()


async def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"no database" * 1000)
    log = SqliteChangeLog(tmp_path / "log")
    await log.append([ONE])
    assert (await log.since(-1)).position == 1
    await log.close()


async def test_a_log_that_can_not_be_made_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = SqliteChangeLog(tmp_path / "file" / "log")
    with pytest.raises(ChangesUnknown):
        await log.since(-1)
    with pytest.raises(ChangesUnknown):
        await log.append([ONE])
    await log.close()


async def test_a_server_that_is_away_is_unknown() -> None:
    with Server(valkey_binary()) as server:
        log = ValkeyChangeLog(parse_remote(server.url), access=Access())
        await log.append([ONE])
        server.kill()
        with pytest.raises(ChangesUnknown):
            await log.since(-1)
        with pytest.raises(ChangesUnknown):
            await log.append([ONE])
        await log.close()
