"""What people write first: a proxy that sends an order once more when it heard nothing.

It stands in the gateway's place (``--config FILE``, the same two listeners), so that the demo's
kills and its oracle can be seen to find something.
"""

import asyncio
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from gateway.demo.wire import (
    Address,
    Outcome,
    Reply,
    Request,
    close,
    encode_reply,
    exchange,
    read_request,
)
from middleware.messages import without

TRIES = 2
TIMEOUT_S = 1.0
_FRAMING = frozenset({b"content-length", b"connection", b"host"})


def address(text: str) -> Address:
    host, _, port = text.removeprefix("http://").partition(":")
    return Address(host, int(port))


async def forward(upstream: Address, request: Request) -> bytes:
    asked = Request(
        request.method, request.target, without(request.headers, _FRAMING), request.body
    )
    outcome: Outcome | None = None
    for _ in range(TRIES):
        outcome = await exchange(upstream, asked, TIMEOUT_S)
        if isinstance(outcome, Reply) and outcome.status < 500:
            return encode_reply(outcome.status, outcome.body, without(outcome.headers, _FRAMING))
    return encode_reply(503, b'{"title":"try again"}')


async def serve(settings: dict[str, Any]) -> None:
    upstream = address(settings["upstreams"][0]["urls"][0])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if request is not None:
            ready = request.target == "/readyz"
            writer.write(encode_reply(200, b"") if ready else await forward(upstream, request))
        await close(writer)

    for name in ("address", "admin"):
        listen = address(settings["listen"][name])
        await asyncio.start_server(answer, listen.host, listen.port)
    await asyncio.sleep(float(os.environ.get("NAIVE_LIFE_S", "3600")))
    sys.stderr.write("its life is over\n")
    sys.stderr.flush()
    os._exit(9)  # at once: requests under way would have more to say than fits into a log's tail


if __name__ == "__main__":
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    asyncio.run(serve(tomllib.loads(config.read_text())))
