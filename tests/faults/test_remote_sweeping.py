"""Several processes that forget what is past its time, in the same moment."""

import asyncio
from dataclasses import replace

from gateway.retention import BATCH, Retention
from tests.stores.making import PROMISE, settled, submission
from tests.stores.servers import running

from .remote import durable, opened

MANY = 3 * BATCH


async def test_workers_that_began_together_forget_all_that_is_past_its_time() -> None:
    """Each finds the same, and another one is faster with some of it."""
    over = replace(PROMISE, retention_s=0.0, tombstone_s=0.0)
    with running(durable()) as (server,):
        async with (
            opened(server.url) as first,
            opened(server.url) as second,
            opened(server.url) as third,
        ):
            keys = [f"key-{number}" for number in range(MANY)]
            requests = [submission(key, scope=key, promise=over) for key in keys]
            await asyncio.gather(*(settled(first, each) for each in requests))
            await asyncio.gather(*(Retention(each).run_once() for each in (first, second, third)))
            assert (await first.counts()).removed == MANY
