"""A body that trickles in forever."""

import asyncio
from pathlib import Path

from tests.edge.judge import answers_in
from tests.edge.stage import staged

TRICKLE_S = 0.1


async def test_a_trickling_body_has_no_longer_than_the_whole_request(tmp_path: Path) -> None:
    limits = "plain_total_s = 1\nplain_body_idle_s = 2"
    async with staged(tmp_path, limits=limits) as stage, stage.connect() as client:
        await client.send(b"POST /form HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(TRICKLE_S)

        trickling = asyncio.create_task(trickle())
        try:
            raw, ended = await client.rest()
        finally:
            trickling.cancel()
        (answer,) = answers_in(raw, (b"POST",), ended=ended)
        assert answer.status == 408
