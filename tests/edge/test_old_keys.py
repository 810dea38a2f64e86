"""Keys that say when they were made: what is older than all that is remembered is no new order."""

import asyncio
import secrets
import time
from pathlib import Path

import orjson

from tests.edge.stage import KEY, Stage, post, staged
from tests.edge.straight import HANDED, STRAIGHT, Fates, one, status_of

REMEMBERED = "retention_s = 30\ntombstone_s = 30\nattach_window_s = 1\n"


def uuid7(age_s: float) -> str:
    """RFC 9562 section 5.7."""
    told = f"{int((time.time() - age_s) * 1000):012x}7{secrets.token_hex(2)[1:]}"
    told += f"8{secrets.token_hex(8)[1:]}"
    return "-".join((told[:8], told[8:12], told[12:16], told[16:20], told[20:]))


async def test_a_key_that_may_have_been_forgotten_makes_no_new_order(
    tmp_path: Path, ways: Fates
) -> None:
    async def placed(key: str) -> tuple[int, bytes]:
        async with stage.connect() as client:
            await client.send(post(b"{}", KEY + key.encode()))
            head, body = await one(client)
            return status_of(head), body

    async with staged(tmp_path, order=REMEMBERED) as stage:
        known = uuid7(age_s=57)
        assert (await placed(known))[0] == 201
        assert (await placed(uuid7(age_s=-57)))[0] == 201  # a clock that is fast
        assert (await placed(uuid7(age_s=600).replace("-7", "-4", 1)))[0] == 201  # says no time
        status, body = await placed(uuid7(age_s=61))
        problem = orjson.loads(body)
        assert (status, problem["type"]) == (409, "/_gateway/problems/idempotency-key-too-old")
        assert problem["safe_new_key"] is False
        await asyncio.sleep(3.1)  # the passing of time itself is what is tested
        assert (await placed(known))[0] == 201  # what is known is told, however old
        assert made(stage) == 3
    assert ways == {STRAIGHT: 3, HANDED: 2}


def made(stage: Stage) -> int:
    return len([each for each in stage.backend.requests if each.target == b"/orders"])
