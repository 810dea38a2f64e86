"""Who may use the operators' API: whoever shows the token."""

import asyncio
import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from middleware.peers import peer_of
from middleware.problems import Handler, Problem

PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 16.0
"""A guess costs half a second, each further one twice as much; a good token never waits."""

FORGIVEN_AFTER_S = 900.0
"""A script with an old token is mended by then."""

PEERS_MAX = 1024
"""Remembered at once, some 100 bytes each; whoever guessed longest ago is forgotten first."""

WAITING_MAX = 64
"""Refusals held back at once, each on a connection of its own. One more is cut off unanswered: a
flood must neither keep probes out (the listener takes 256 connections) nor be served faster than a
single guess."""


def admin_token(path: Path) -> str:
    """The operators' token, made at the first start in a file that only we can read.

    The file appears whole or not at all, whoever else starts at the same moment and whenever the
    power fails. Raises OSError, also for a file without a token: nobody may be let in with an
    empty one.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
    token = path.read_text("ascii", "replace").strip()
    if not token:
        raise OSError(f"{path} holds no admin token: delete it, and the next start makes one")
    return token


def _make(path: Path) -> None:
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its token is the one
            os.link(made, path)
    finally:
        made.unlink()


class Backoff:
    """How long each peer's next wrong token is held back. Times are loop time."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def wrong(self, peer: str, now: float) -> float:
        """Note a wrong token; the pause that it costs."""
        count, last = self._peers.pop(peer, (0, now))
        count = 0 if now - last > FORGIVEN_AFTER_S else count
        self._peers[peer] = (count + 1, now)
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(count, 16))

    def right(self, peer: str) -> None:
        self._peers.pop(peer, None)


def token_check(token: Callable[[], str]) -> Any:
    """Middleware: ``401`` without the right token on ``/admin``; compared in constant time.

    Wrong ones wait longer and longer, by peer. The right one is always let in, also from an
    address that others guess from.
    """
    backoff = Backoff()
    waiting = 0

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        nonlocal waiting
        if not request.path.startswith("/admin"):
            return await handler(request)
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(shown.strip()), _digest(token()))
        peer = peer_of(request.remote)
        if kind.lower() == "bearer" and right:
            backoff.right(peer)
            return await handler(request)
        pause_s = backoff.wrong(peer, asyncio.get_running_loop().time())
        if waiting >= WAITING_MAX:
            if request.transport is not None:
                request.transport.abort()
            raise _wrong_token()  # to nobody: the connection is gone
        waiting += 1
        try:
            await asyncio.sleep(pause_s)
        finally:
            waiting -= 1
        raise _wrong_token()

    return middleware


def _wrong_token() -> Problem:
    return Problem(
        401,
        "admin-token-wrong",
        "The admin token is missing or wrong",
        "Send Authorization: Bearer TOKEN; the token is in the file beside the ledger.",
        headers={"WWW-Authenticate": 'Bearer realm="ordergate admin"'},
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
