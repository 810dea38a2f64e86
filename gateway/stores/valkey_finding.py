"""Servers that are found by the first who asks for them, and looked for again where they fail: for
stores beside the ledger, of which any master will do."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from redis import exceptions as errors

from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import NotDone, ReplyLost, Unacknowledged
from gateway.stores.valkey_nodes import Access, Ask, Node
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import Parts, Servers, servers
from middleware.tasks import Tasks, TasksClosed

FAILURES = (NotDone, ReplyLost, Unacknowledged, errors.RedisError, OSError)

CLOSE_S = 2.0


class Finding:
    """Once for all who ask, and to its end: where the servers asked first are silent, it takes
    longer than anybody waits. ``names``: the scripts that these servers run; ``what`` they are."""

    def __init__(
        self, url: RemoteUrl, access: Access, layout: Layout, names: Sequence[str], what: str
    ) -> None:
        self._url = url
        self._access = access
        self._layout = layout
        self._names = names
        self._what = what
        self._tasks = Tasks(lambda _name, _error: None)  # whoever called is told
        self._found: Servers | None = None
        self._starting: asyncio.Task[Servers] | None = None

    async def servers(self) -> Servers:
        """Raises one of FAILURES."""
        if self._found is not None:
            return self._found
        if self._starting is None or self._starting.done():
            try:
                self._starting = self._tasks.start(self._start(), name=f"find {self._what}")
            except TasksClosed as closed:
                raise NotDone(f"{self._what} is closed", elsewhere=False) from closed
        return await asyncio.shield(self._starting)

    def look_again(self, error: Exception | None) -> "asyncio.Task[bool] | None":
        """After ``error``, or where a caller gave up: the next one may find it elsewhere. Whether
        it may; None where nothing was found before."""
        refusal = error if isinstance(error, NotDone) else None
        with suppress(TasksClosed):
            if self._found is not None:
                look = self._look(self._found, refusal)
                return self._tasks.start(look, name=f"look for {self._what}")
        return None

    async def close(self) -> None:
        await self._tasks.close(CLOSE_S)
        if self._found is not None:
            await self._found.close()
            self._found = None

    async def _start(self) -> Servers:
        texts = [scripts()[name].text for name in self._names]
        parts = Parts(self._url, self._access, self._layout, texts, self._tasks, _greet)
        found = servers(parts)
        try:
            await found.start()
        except BaseException:
            await found.close()
            raise
        self._found = found
        return found

    async def _look(self, found: Servers, refusal: NotDone | None) -> bool:
        with suppress(*FAILURES):
            return await found.refresh(refusal)
        return False


async def _greet(_node: Node, _told: Mapping[str, str], _ask: Ask) -> None:
    """Any master will do: the ledger has checked what it can be trusted with."""
