"""The admin API from outside: one request at a time, with the operators' token."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S = 10.0
"""The admin API reads by key or by page; one that takes longer is not going to answer."""

WAIT_S = 20
"""For what comes of an action: a lookup, or an attempt with its time limit; a person waits."""

PAGES_MAX = 50
"""Of up to 5000 orders each. What lies farther apart is found from where the last list ended."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A page of 500 summaries is far less; an order's kept answer is 1 MiB by default."""


class AdminFailed(Exception):
    """The gateway could not be asked, or said no. The text says what to do.

    ``unknown``: it may have done what it was asked for.
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class AdminClient:
    """``url`` is the admin listener's, ``token`` what its token file holds.

    Speaks to that address alone: no proxies from the environment, no redirects, so that the
    token goes nowhere else.
    """

    url: str
    token: str

    def orders(self, filters: Mapping[str, str], limit: int, after: str | None) -> Any:
        """``{"orders": [...], "unreadable": [...], "next": cursor or None}``, oldest first:
        ``limit`` orders, unless there are no more, or they lie so far apart that ``PAGES_MAX``
        pages hold fewer."""
        found: list[Any] = []
        unreadable: list[Any] = []
        for _ in range(PAGES_MAX):
            query = {**filters, "limit": str(limit - len(found)), "after": after or ""}
            given = {name: value for name, value in query.items() if value}
            page = self._ask("GET", "/admin/orders?" + urlencode(given), "next")
            found += page["orders"]
            unreadable += page["unreadable"]
            after = page["next"]
            if after is None or len(found) >= limit:
                break
        return {"orders": found, "unreadable": unreadable, "next": after}

    def order(self, order_id: str) -> Any:
        return self._ask("GET", f"/admin/orders/{quote(order_id, safe='')}", "timeline")

    def cache(self) -> Any:
        return self._ask("GET", "/admin/cache", "bytes_max")

    def purge(self, what: Mapping[str, Any]) -> Any:
        """``what`` as ``POST /admin/cache/purge`` takes it."""
        return self._ask("POST", "/admin/cache/purge", "purged", json.dumps(what).encode())

    def act(self, order_id: str, action: str, word: Mapping[str, str]) -> Any:
        """``lookup``, ``resend`` or ``resolve``: the order after it, with what came of it as
        ``action.result``, which is None where that takes longer than ``WAIT_S``. The same nonce
        again is the same action."""
        path = f"/admin/orders/{quote(order_id, safe='')}/{action}"
        return self._ask("POST", path, "action", json.dumps(word).encode(), WAIT_S)

    def _ask(
        self, method: str, target: str, member: str, body: bytes | None = None, wait_s: int = 0
    ) -> Any:
        """The JSON answer, by its ``member`` known from what a shop's backend would say. Raises
        AdminFailed for anything but 2xx with it."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        connection = self._connection(TIMEOUT_S + wait_s)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            raw = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AdminFailed(
                f"No gateway answers at {self.url} ({why}). Is it running, and is this its admin"
                " address?",
                unknown=not isinstance(error, ConnectionRefusedError),
            ) from error
        finally:
            connection.close()
        document = _parsed(raw)
        if not 200 <= response.status < 300:
            unknown = response.status >= 500
            raise AdminFailed(_refusal(response.status, document), unknown=unknown)
        if not isinstance(document, dict) or member not in document:
            raise AdminFailed(
                f"What answers at {self.url} is not Ordergate's admin API: name the address that"
                " listen.admin has."
            )
        return document

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
        if parts.scheme == "https":
            kind = http.client.HTTPSConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout_s)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _refusal(status: int, document: Any) -> str:
    """A problem document (RFC 9457) as a sentence or two."""
    if not isinstance(document, dict):
        return f"The answer was {status}, without an explanation: is this the admin address?"
    words = [str(document[name]).rstrip(".") for name in ("title", "detail") if document.get(name)]
    return f"{'. '.join(words) or 'Refused'} ({status})."


def read_token(path: Path) -> str:
    """The operators' token. Raises AdminFailed."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it holds no token"
        raise AdminFailed(
            f"{path} can't be read: {why}. The gateway makes it at its first start, for its own"
            " user only."
        ) from error
    if not token:
        raise AdminFailed(f"{path} is empty.")
    return token
