"""Bodies and fields that are nobody's business here: passed as they came, and cheaply."""

import zlib
from pathlib import Path

import pytest

from tests.edge.stage import get, post, staged

BOMB_BYTES = 64 << 20


def bomb() -> bytes:
    """64 MiB of nothing in some 64 KiB."""
    packed = zlib.compressobj(wbits=31)
    piece = bytes(1 << 20)
    return b"".join([packed.compress(piece) for _ in range(BOMB_BYTES >> 20)]) + packed.flush()


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"gzip, gzip"])
async def test_a_bomb_passes_as_it_came_and_is_never_opened(tmp_path: Path, coding: bytes) -> None:
    """It is larger than what the route takes, once it is opened."""
    body = bomb()
    async with staged(tmp_path, limits="plain_body_bytes_max = 1_000_000") as stage:
        sent = post(body, b"Content-Encoding: " + coding, target=b"/up")
        (answer,) = await stage.says(sent, b"POST")
        assert answer.status == 200
        (request,) = stage.backend.requests
        assert request.body == body
        assert request.values(b"content-encoding") == [coding]
        (refused,) = await stage.says(sent.replace(b"/up", b"/orders"), b"POST")
        assert refused.status == 415
        await stage.still_serves()


async def test_broken_cookies_are_not_worth_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Where a cookie is the scope, a client's cookies are looked at."""
    cookies = b'Cookie: a="b; =; c=\xff;;; d;' + b" x\x80;" * 2_000
    async with staged(tmp_path, scope='scope = ["cookie:session"]') as stage:
        (answer,) = await stage.says(post(b"{}", cookies), b"POST")
        assert answer.status == 201
        (read,) = await stage.says(get(b"/", cookies))
        assert read.status == 200
    told = capsys.readouterr()
    assert len((told.out + told.err).splitlines()) < 10
    assert len(caplog.records) < 10
