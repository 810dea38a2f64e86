"""The corpus of hostile upstream answers: the client gets one well-formed answer, or a cut one."""

import asyncio
import socket
import struct
from collections import Counter
from pathlib import Path

import h11
import pytest

from tests.edge.hostile.answers import Case, End, cases, fate
from tests.edge.judge import Answer
from tests.edge.stage import CREATED, OK, Line, Stage, get, post, staged
from tests.edge.ways import Way, paved

BYTES_MAX = 4_000
"""Longer answers are not sent byte by byte: each byte is a packet."""


class Misbehaving:
    """A backend that answers by ``case`` while there is one, and well otherwise."""

    def __init__(self, size: int) -> None:
        self.case: Case | None = None
        self._size = size

    async def __call__(self, line: Line) -> None:
        while (request := await line.request()) is not None:
            if self.case is None:
                await line.send(CREATED if request.method == b"POST" else OK)
            else:
                await self._misbehave(line, self.case)
                return

    async def _misbehave(self, line: Line, case: Case) -> None:
        for at in range(0, len(case.sent), self._size):
            await line.send(case.sent[at : at + self._size])
            if self._size < len(case.sent):
                await asyncio.sleep(0)
        if case.end is End.RST:
            sock = line.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await asyncio.sleep(0.02)  # a reset overtakes what the other side has not read
            line.writer.transport.abort()
        elif case.end is End.OPEN:
            await line.until_closed()


async def _answer(stage: Stage, request: bytes, method: bytes) -> Answer | None:
    found = await stage.says(request, method)
    return found[0] if found else None


def _flaws(case: Case, kind: str, told: Answer | None, status: int, whole: bool) -> list[str]:
    label = f"{case.group}: {case.name}: the {kind}"
    if told is None:
        return [f"{label} got no answer"]
    flaws = []
    # What is cut right after its head may be told as a 502 as well: the flaw was seen in time.
    cut = not whole and told.status == 502 and told.whole
    if (told.status, told.whole) != (status, whole) and not cut:
        flaws.append(f"{label} got {told.status}, whole {told.whole}")
    ours = told.values(b"gateway-source") == [b"gateway"]
    if told.status == 502 and (not ours or b"problem+json" not in told.values(b"content-type")[0]):
        flaws.append(f"{label} got a 502 that is not ours")
    if len(told.values(b"gateway-source")) != 1 or len(told.values(b"date")) != 1:
        flaws.append(f"{label} got {told.headers}")
    if told.values(b"x-secret") or told.values(b"x-trailer") or told.values(b"idempotent-replayed"):
        flaws.append(f"{label} got fields that are not for it")
    if case.body is not None and told.status == case.read and told.body != case.body:
        flaws.append(f"{label} got {told.body[:60]!r}")
    return flaws


async def flaws_of(stage: Stage, backend: Misbehaving, case: Case, number: int) -> list[str]:
    backend.case = case
    read_request = get(b"/read").replace(b"GET", case.method)
    order_request = post(b"{}", b"Authorization: me", b"Idempotency-Key: k-%d" % number)
    flaws: list[str] = []
    try:
        read = await _answer(stage, read_request, case.method)
        flaws += _flaws(case, "read", read, case.read, case.whole)
        if case.method == b"GET":
            order = await _answer(stage, order_request, b"POST")
            flaws += _flaws(case, "order", order, case.order, True)
    except (h11.RemoteProtocolError, AssertionError) as error:
        flaws.append(f"{case.group}: {case.name}: the client got nonsense: {error}")
    backend.case = None
    (after,) = await stage.says(get(b"/after"))
    if (after.status, after.body) != (200, b"ok"):
        flaws.append(f"{case.group}: {case.name}: poisoned the next request")
    return flaws


@pytest.mark.parametrize("size", [1 << 30, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("way", [Way.PLAIN, Way.TLS, Way.PROXY_2])
async def test_every_hostile_answer_leaves_the_client_with_one_true_answer(
    tmp_path: Path, size: int, way: Way
) -> None:
    corpus = [case for case in cases() if size > 1 or len(case.sent) <= BYTES_MAX]
    counts: Counter[str] = Counter()
    flaws: list[str] = []
    backend = Misbehaving(size)
    how = paved(way, tmp_path)
    async with staged(tmp_path, backend, **how.options) as stage:
        stage.begins = how.begins
        for number, case in enumerate(corpus):
            flaws += await flaws_of(stage, backend, case, number)
            counts[fate(case)] += 1
        await stage.still_serves()
        posts = Counter(
            request.values(b"idempotency-key")[0]
            for request in stage.backend.requests
            if request.method == b"POST"
        )
        assert stage.backend.ill_formed == []
    print(f"hostile answers, {way}: {len(corpus)} cases, {dict(counts)}")
    assert not flaws, "\n" + "\n".join(flaws)
    assert max(posts.values()) == 1
