"""An answer on its way into the cache, and the client that waits for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from middleware.caching.fills import Buffers, Fill
from middleware.messages import RawHeaders


class Answer:
    """An upstream's answer whose pieces the test hands out."""

    status = 200
    phrase = b"OK"
    headers: RawHeaders = ()
    content_length = None
    framed = True

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.coming.get():
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Story:
    def __init__(self, bytes_max: int = 100, buffers_max: int = 1000) -> None:
        self.answer = Answer()
        self.buffers = Buffers(buffers_max)
        self.whole: list[bytes] = []
        self.fill = Fill(self.answer, bytes_max, self.buffers, self.whole.append)
        self.task = asyncio.create_task(self.fill.run())

    def says(self, *pieces: bytes | Exception) -> None:
        for piece in pieces:
            self.answer.coming.put_nowait(piece)


async def test_it_is_kept_although_nobody_reads() -> None:
    story = Story()
    story.says(b"ab", b"cd", b"")
    await story.task
    assert story.whole == [b"abcd"]
    assert story.answer.closed
    assert story.buffers.bytes_used == 4
    story.fill.abandon()
    assert story.buffers.bytes_used == 0


async def test_the_client_gets_every_piece_in_order() -> None:
    story = Story()
    story.says(b"ab", b"cd", b"")
    assert [piece async for piece in story.fill.pieces()] == [b"ab", b"cd"]
    assert story.whole == [b"abcd"]
    assert story.buffers.bytes_used == 0


async def test_what_is_too_large_goes_at_the_clients_speed_and_is_not_kept() -> None:
    story = Story(bytes_max=3)
    story.says(b"ab", b"cd", b"ef", b"gh", b"")
    got = []
    async for piece in story.fill.pieces():
        got.append(piece)
        assert story.buffers.bytes_used <= 6
    assert b"".join(got) == b"abcdefgh"
    assert story.whole == []


async def test_without_room_for_all_of_them_it_is_streamed_past() -> None:
    story = Story(buffers_max=3)
    story.says(b"ab", b"cd", b"ef", b"")
    assert b"".join([piece async for piece in story.fill.pieces()]) == b"abcdef"
    assert story.whole == []
    assert story.buffers.bytes_used == 0


async def test_a_client_that_leaves_a_large_one_ends_it() -> None:
    story = Story(bytes_max=3)
    story.says(b"ab", b"cd")
    pieces = story.fill.pieces()
    assert await anext(pieces) == b"ab"
    await pieces.aclose()
    async with asyncio.timeout(5):
        await story.task
    assert story.answer.closed
    assert story.whole == []


async def test_a_broken_answer_breaks_after_what_came() -> None:
    story = Story()
    story.says(b"ab", OSError("gone"))
    pieces = story.fill.pieces()
    assert await anext(pieces) == b"ab"
    with pytest.raises(OSError, match="gone"):
        await anext(pieces)
    assert story.whole == []
