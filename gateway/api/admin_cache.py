"""What operators see of the cache, and how they end what is in it."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from gateway.api.admin_documents import as_json
from gateway.routes import Pattern, PatternInvalid
from middleware.caching.cache import Cache
from middleware.caching.invalidation import Mark, Touches
from middleware.problems import Problem, ProblemType

FORMS = ("url", "pattern", "group", "all")
TEXT_CHARS_MAX = 8192


class AdminCache:
    """``GET /admin/cache`` and ``POST /admin/cache/purge``."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/cache", self.show),
            web.post("/admin/cache/purge", self.purge),
        ]

    async def show(self, _request: web.Request) -> web.Response:
        """This process's own: each has a cache of its own."""
        store = self._cache.store
        return as_json(
            {
                "entries": store.count,
                "bytes": store.bytes_used,
                "bytes_max": store.bytes_max,
                "evicted": store.evicted,
                "hits": self._cache.hits,
                "forwarded": self._cache.forwarded,
                "collapsed": self._cache.flights.waited,
            }
        )

    async def purge(self, request: web.Request) -> web.Response:
        """End (or make stale: ``soft``) what is kept at a URL, under a path pattern, in a cache
        group, or everything, in every process. What is being fetched just now is not kept."""
        mark = _mark(_document(await request.read()))
        await self._cache.acknowledged((mark,))
        what = {"what": mark.touches.value, "name": mark.name.decode("latin-1")}
        return as_json({"purged": what | {"soft": mark.soft}})


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise _malformed("The body is no JSON.") from error
    if not isinstance(document, dict):
        raise _malformed("The body is no JSON object.")
    unknown = set(document) - {*FORMS, "host", "soft"}
    if unknown:
        raise _malformed(f"Unknown: {', '.join(sorted(unknown))}.")
    return document


def _mark(document: Mapping[str, Any]) -> Mark:
    """What a purge names. Raises Problem."""
    given = [form for form in FORMS if form in document]
    soft = document.get("soft", False)
    if len(given) != 1 or not isinstance(soft, bool):
        raise _malformed('Say what: one of "url", "pattern", "group" or "all": true.')
    if given == ["all"]:
        if document["all"] is not True:
            raise _malformed('Write "all": true.')
        return Mark(Touches.ALL, soft=soft)
    text = _text(document, given[0])
    made = _MAKERS[given[0]](text)
    host = _text(document, "host") if "host" in document else ""
    return Mark(made.touches, made.name, made.host or host.lower().encode("ascii"), soft)


def _text(document: Mapping[str, Any], name: str) -> str:
    text = document[name]
    plain = isinstance(text, str) and text.isascii() and text.isprintable()
    if not plain or not 0 < len(text) <= TEXT_CHARS_MAX:
        raise _malformed(f"{name} is a text of visible ASCII characters.")
    return str(text)


def _by_url(url: str) -> Mark:
    """``http://host/path?query`` as storefronts ask for it; a path alone, without a query, ends
    what is there on every host and with every query."""
    if url.startswith("/") and "?" not in url:
        return Mark(Touches.PATH, url.encode("ascii"))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _malformed(f"url: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment:
        raise _malformed('A url is as in "http://shop.example/catalog?page=2", or a path alone.')
    target = url.partition("://")[2].removeprefix(parts.netloc) or "/"
    return Mark(Touches.URL, target.encode("ascii"), parts.netloc.lower().encode("ascii"))


def _by_pattern(pattern: str) -> Mark:
    if not pattern.startswith("/"):
        raise _malformed('A pattern is a path, as in "/catalog/**".')
    try:
        Pattern.parse(f"GET {pattern}")
    except PatternInvalid as error:
        raise _malformed(f"pattern: {error}.") from error
    return Mark(Touches.PATTERN, pattern.encode("ascii"))


def _by_group(group: str) -> Mark:
    return Mark(Touches.GROUP, group.encode("ascii"))


_MAKERS: Mapping[str, Callable[[str], Mark]] = {
    "url": _by_url,
    "pattern": _by_pattern,
    "group": _by_group,
}


def _malformed(detail: str) -> Problem:
    return Problem.of(ProblemType.MALFORMED_REQUEST, detail, repeat_is_safe=True)
