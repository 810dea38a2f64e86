"""Errors become HTTP here and nowhere else: problem details (RFC 9457)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import orjson
from aiohttp import web

from middleware.errors import CannotGoOn, Fault

Handler: TypeAlias = Callable[[Any], Awaitable[web.StreamResponse]]
"""What answers a request. ``Any``: an application hands out Request, a bare server BaseRequest."""


class Middleware(Protocol):
    """aiohttp's new-style middleware."""

    def __call__(self, request: Any, handler: Handler) -> Awaitable[web.StreamResponse]: ...


Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Response fields of our own making, in order."""

ResponseFactory: TypeAlias = Callable[[int, Fields, bytes], web.StreamResponse]
"""Makes the response object of the server at hand from status, fields and body."""

REQUEST_ID = web.RequestKey("request_id", str)
"""Set by the request_id middleware; problems carry it as their ``instance``."""

BEGAN = web.RequestKey("began", float)
"""When (loop time) the request was begun, where that was before the middlewares were asked. It has
its ``REQUEST_ID`` then, and a place at work (``middleware.admission``)."""

STAMP = web.RequestKey("stamp", dict)
"""Fields (name to value) that every answer to this request carries, streamed ones included."""

PROBLEMS_BASE = "/_gateway/problems/"
"""Host-free, so that it is right behind any name the gateway is reached by."""

CONTENT_TYPE = "application/problem+json"
SOURCE = "Gateway-Source"


class ProblemType(StrEnum):
    """The slugs of generic HTTP problems; the gateway adds its own. Each has a page of the docs."""

    MALFORMED_REQUEST = "malformed-request"
    BODY_INCOMPLETE = "body-incomplete"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_TIMEOUT = "request-timeout"
    BODY_TOO_LARGE = "body-too-large"
    TARGET_TOO_LONG = "target-too-long"
    CONTENT_ENCODING = "content-encoding-not-supported"
    EXPECTATION_FAILED = "expectation-failed"
    FIELDS_TOO_LARGE = "fields-too-large"
    INTERNAL_ERROR = "internal-error"
    NOT_IMPLEMENTED = "not-implemented"
    OVERLOADED = "overloaded"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    QUOTA = "quota-exceeded"
    HTTP_VERSION = "http-version-not-supported"
    KEY_MISSING = "idempotency-key-missing"
    KEY_INVALID = "idempotency-key-invalid"
    KEY_TOO_OLD = "idempotency-key-too-old"
    SCOPE_INVALID = "scope-invalid"
    TOO_MANY_REQUESTS = "too-many-requests"
    TOKEN_INVALID = "token-invalid"  # noqa: S105 - a name, no secret
    HTTP_ERROR = "http-error"


_GENERIC: Mapping[ProblemType, tuple[int, str]] = MappingProxyType(
    {
        ProblemType.MALFORMED_REQUEST: (400, "The request is malformed"),
        ProblemType.BODY_INCOMPLETE: (400, "The request body is incomplete"),
        ProblemType.NOT_FOUND: (404, "There is nothing here"),
        ProblemType.METHOD_NOT_ALLOWED: (405, "The method is not allowed here"),
        ProblemType.REQUEST_TIMEOUT: (408, "The request took too long to arrive"),
        ProblemType.BODY_TOO_LARGE: (413, "The request body is too large"),
        ProblemType.TARGET_TOO_LONG: (414, "The request target is too long"),
        ProblemType.CONTENT_ENCODING: (415, "The content encoding is not supported"),
        ProblemType.EXPECTATION_FAILED: (417, "The expectation can not be met"),
        ProblemType.FIELDS_TOO_LARGE: (431, "The request header is too large"),
        ProblemType.INTERNAL_ERROR: (500, "The gateway failed"),
        ProblemType.NOT_IMPLEMENTED: (501, "This is not implemented"),
        ProblemType.TOO_MANY_CONNECTIONS: (429, "Too many connections from one address"),
        ProblemType.QUOTA: (429, "Too many new orders of one client"),
        ProblemType.OVERLOADED: (503, "Too many requests at once"),
        ProblemType.HTTP_VERSION: (505, "The HTTP version is not supported"),
        ProblemType.KEY_MISSING: (400, "An idempotency key is required"),
        ProblemType.KEY_INVALID: (400, "The idempotency key is not acceptable"),
        ProblemType.KEY_TOO_OLD: (409, "The idempotency key is too old"),
        ProblemType.SCOPE_INVALID: (400, "The client's identity is ambiguous"),
        ProblemType.TOO_MANY_REQUESTS: (429, "Too many requests from one client"),
        ProblemType.TOKEN_INVALID: (401, "The bearer token is not accepted"),
    }
)


@dataclass(frozen=True, slots=True)
class ProblemText:
    """A problem as sent: status, fields and body, ready for any kind of response object."""

    status: int
    fields: Fields
    body: bytes


class Problem(CannotGoOn):
    """A request can't go on and the client is told so.

    ``slug`` names a page of the docs and never changes its meaning. ``detail`` says what to do
    and holds no internals. ``members`` are extension members (RFC 9457 section 3.2). ``away``: whom
    it was for could not be reached, or ended the connection without a word.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str = "",
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        fault: Fault | None = None,
        repeat_is_safe: bool = False,
        away: bool = False,
    ) -> None:
        super().__init__(f"{status} {slug}: {detail or title}")
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})
        self.fault = fault or (Fault.CLIENT if status < 500 else Fault.GATEWAY)
        self.repeat_is_safe = repeat_is_safe
        self.away = away

    @classmethod
    def of(cls, kind: ProblemType, detail: str = "", **more: Any) -> "Problem":
        """A generic problem; its status and title follow from its type."""
        status, title = _GENERIC[kind]
        return cls(status, kind, title, detail, **more)

    def render(self, request_id: str | None, *, base: str = PROBLEMS_BASE) -> ProblemText:
        """The problem as fields and bytes. Our own members win over extensions of their name."""
        document: dict[str, Any] = {**self.members, "type": base + self.slug}
        document |= {"title": self.title, "status": self.status}
        if self.detail:
            document["detail"] = self.detail
        if request_id is not None:
            document["instance"] = request_id
        fields = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
        fields += [(SOURCE, "gateway"), *self.headers.items()]
        return ProblemText(self.status, tuple(fields), orjson.dumps(document))


def stamp(request: web.BaseRequest, name: str, value: str) -> None:
    """Have every answer to ``request`` carry this field, also one that is streamed."""
    fields = request.get(STAMP)
    if fields is None:
        fields = request[STAMP] = {}
    fields[name] = value


def apply_stamp(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put the stamped fields on a response whose header has not been sent yet, unless the server
    puts them there as it writes (its requests say ``stamps_answers``)."""
    if not getattr(request, "stamps_answers", False) and not response.prepared:
        response.headers.update(request.get(STAMP) or {})


async def stamp_on_prepare(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """The same, as a receiver for ``app.on_response_prepare``."""
    response.headers.update(request.get(STAMP) or {})


def web_response(status: int, fields: Fields, body: bytes) -> web.StreamResponse:
    """The factory for any aiohttp application."""
    return web.Response(status=status, headers=fields, body=body)


def problems(
    make: ResponseFactory = web_response,
    *,
    on_failure: Callable[[web.BaseRequest, BaseException], None],
    failure: Callable[[web.BaseRequest], Problem] = lambda _: Problem.of(
        ProblemType.INTERNAL_ERROR
    ),
    base: str = PROBLEMS_BASE,
) -> Middleware:
    """Middleware: whatever goes wrong further in leaves as problem details.

    ``on_failure`` is told of exceptions that nobody foresaw; the client learns nothing of them but
    ``failure``.
    """

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            told = problem
        except web.HTTPException as error:
            if error.status < 400:
                raise
            told = from_http_exception(error)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            on_failure(request, error)
            told = failure(request)
        text = told.render(request.get(REQUEST_ID), base=base)
        return make(text.status, text.fields, text.body)

    return middleware


def from_http_exception(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals (no such route, method not allowed) in our form."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    match error.status:
        case 404:
            return Problem.of(ProblemType.NOT_FOUND, headers=headers)
        case 405:
            return Problem.of(ProblemType.METHOD_NOT_ALLOWED, headers=headers)
        case 413:
            return Problem.of(ProblemType.BODY_TOO_LARGE, headers=headers)
        case _:
            return Problem(error.status, ProblemType.HTTP_ERROR, error.reason, headers=headers)
