"""The pools by upstream name, also while the configuration changes under them."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.settings import UpstreamSettings
from gateway.settings.certificates import load_client_certificate
from gateway.upstream.servers import Upstream
from middleware.errors import CannotGoOn, Fault


class UpstreamUnknown(CannotGoOn):
    """An order was promised an upstream that is not configured (any more). It waits; what is in
    doubt goes to a person in its time."""

    fault = Fault.GATEWAY
    repeat_is_safe = True


@dataclass(slots=True)
class _Leaving:
    """A pool that new requests no longer come to. ``vanished``: its name is no longer configured,
    so that orders that were promised it still find it here."""

    name: str
    pool: Upstream
    vanished: bool
    not_before: float

    @property
    def unused(self) -> bool:
        stats = self.pool.stats
        return stats.places == stats.idle and not stats.waiting


class Pools(Mapping[str, Upstream]):
    """The configured ones, and the vanished ones for as long as orders name them."""

    def __init__(self, make: Callable[[UpstreamSettings], Upstream]) -> None:
        self._make = make
        self._settings: dict[str, UpstreamSettings] = {}
        self._current: dict[str, Upstream] = {}
        self._leaving: list[_Leaving] = []

    def __getitem__(self, name: str) -> Upstream:
        """Raises UpstreamUnknown."""
        pool = self._current.get(name) or self._vanished().get(name)
        if pool is None:
            raise UpstreamUnknown(
                f'no upstream is called "{name}", but an order was promised it: configure it again'
                " until no order that waits names it"
            )
        return pool

    def __iter__(self) -> Iterator[str]:
        return iter({**self._current, **self._vanished()})

    def __len__(self) -> int:
        return len({**self._current, **self._vanished()})

    def __contains__(self, name: object) -> bool:
        return name in self._current or name in self._vanished()

    def _vanished(self) -> dict[str, Upstream]:
        return {each.name: each.pool for each in self._leaving if each.vanished}

    @property
    def leaving(self) -> bool:
        """Whether ``close_unused`` has something to look at."""
        return bool(self._leaving)

    def retire(self, upstreams: Iterable[UpstreamSettings]) -> None:
        """Take in upstreams that vanished before, in another process's time."""
        for upstream in upstreams:
            self._leaving.append(_Leaving(upstream.name, self._make(upstream), True, 0.0))

    def apply(self, upstreams: Iterable[UpstreamSettings], *, grace_s: float = 0.0) -> list[str]:
        """Make these the configured ones; the names that vanished.

        What did not change keeps its pool. The others' stay open for ``grace_s`` and then as long
        as they are used: requests that are under way have chosen theirs.
        """
        wanted = {upstream.name: upstream for upstream in upstreams}
        self._renew_certificates(wanted)
        made = {
            name: self._make(upstream)
            for name, upstream in wanted.items()
            if self._settings.get(name) != upstream
        }
        for name, upstream in made.items():
            if name in self._current:  # an operator's word holds until the next
                upstream.breaker.set(self._current[name].breaker.override)
        self._leaving = [
            _Leaving(
                each.name, each.pool, each.vanished and each.name not in wanted, each.not_before
            )
            for each in self._leaving
        ]
        vanished = [name for name in self._current if name not in wanted]
        if self._current:
            not_before = asyncio.get_running_loop().time() + grace_s
            for name in (*vanished, *(name for name in made if name in self._current)):
                gone = name not in wanted
                self._leaving.append(_Leaving(name, self._current[name], gone, not_before))
        self._current = {name: made.get(name) or self._current[name] for name in wanted}
        self._settings = wanted
        return vanished

    def _renew_certificates(self, wanted: Mapping[str, UpstreamSettings]) -> None:
        """Certificates live shorter than configurations: the same files, with other contents."""
        for name, upstream in wanted.items():
            if self._settings.get(name) == upstream and (tls := self._current[name].tls):
                load_client_certificate(tls.context, upstream)

    async def close_unused(self, named: Collection[str]) -> list[str]:
        """Close what nobody uses and no order in ``named`` was promised; the names that went."""
        now = asyncio.get_running_loop().time()
        done = [
            each
            for each in self._leaving
            if now >= each.not_before and each.unused and not (each.vanished and each.name in named)
        ]
        self._leaving = [each for each in self._leaving if each not in done]
        for each in done:
            await each.pool.close()
        return [each.name for each in done if each.vanished]

    async def close(self) -> None:
        for pool in (*self._current.values(), *(each.pool for each in self._leaving)):
            await pool.close()
