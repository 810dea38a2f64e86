"""A whole gateway that has more to do than it can: what those are told whom it turns off."""

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.api.turning_off import TurningOff
from gateway.server.shapes import SEEN_MIN
from tests.edge.judge import Answer, answers_in
from tests.edge.stage import KEY, PATIENCE_S, Client, Line, eventually, get, post, staged

ROUNDS = 2 * SEEN_MIN
CLIENTS = 8


async def one_answer(client: Client) -> Answer:
    async with asyncio.timeout(PATIENCE_S):
        head = await client.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await client.reader.readexactly(length)
    (answer,) = answers_in(head + body, (b"POST",), ended=False)
    return answer


async def test_each_is_told_the_same_of_its_own_order_however_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = TurningOff.again
    looks: list[bytes] = []

    def watched(self: TurningOff, method: bytes, target: bytes, key: bytes) -> bytes | None:
        answer = again(self, method, target, key)
        if answer is not None:
            looks.append(key)
        return answer

    monkeypatch.setattr(TurningOff, "again", watched)
    free = asyncio.Event()

    async def hang(line: Line) -> None:
        await line.request()
        await free.wait()

    limits = "requests_max = 1\nrequests_min = 1\nqueue_max = 0"
    async with staged(tmp_path, hang, limits=limits) as stage:
        reading = asyncio.create_task(stage.says(get(b"/")))
        await eventually(lambda: stage.backend.requests)

        async def customer(number: int) -> list[Answer]:
            told = []
            async with stage.connect() as client:
                for each in range(ROUNDS):
                    key = b"k-%d-%d" % (number, each)
                    await client.send(post(b"{}", KEY + key))
                    told.append(await one_answer(client))
                    assert told[-1].values(b"idempotency-key") == [key]
            return told

        told = await asyncio.gather(*(customer(number) for number in range(CLIENTS)))
        answers = [answer for each in told for answer in each]
        assert looks
        assert len(looks) < len(answers)
        documents = [orjson.loads(answer.body) for answer in answers]
        ids = [document.pop("instance") for document in documents]
        assert [[each.encode()] for each in ids] == [
            answer.values(b"request-id") for answer in answers
        ]
        assert len(set(ids)) == len(ids)
        assert {answer.status for answer in answers} == {503}
        assert documents.count(documents[0]) == len(documents)
        assert documents[0]["order"] is None
        assert documents[0]["safe_new_key"] is False
        assert sum(stage.gateway.admission.shed.values()) == len(answers)
        assert (await stage.gateway.ledger.counts()).made == 0
        free.set()
        await reading
