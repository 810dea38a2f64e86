"""The gate: reads and checks who submits what under which key. It claims nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeAlias

from aiohttp import web

from middleware.bodies import read_body, refuse_length
from middleware.idempotency.rules import (
    Key,
    KeyRefusal,
    KeyRefused,
    parse_key,
    raw_fingerprint,
    scope_digest,
    split_target,
    unguessable,
)
from middleware.messages import RawHeaders, names_of, values
from middleware.problems import Handler, Middleware, Problem, ProblemType
from middleware.values import light

KeyMode: TypeAlias = Literal["attach", "require"]
KeyKind: TypeAlias = Literal["given", "attached", "anonymous"]


class Shows(Protocol):
    """A place where a client shows who it is."""

    @property
    def kind(self) -> str: ...

    def read(self, headers: RawHeaders) -> list[bytes]:
        """Every value shown here; empty ones don't count. Raises Problem for one that is false."""
        ...


@dataclass(frozen=True, slots=True)
class ScopeSource:
    """Where a client shows who it is: ``header:NAME`` or ``cookie:NAME``."""

    place: Literal["header", "cookie"]
    name: bytes

    @classmethod
    def parse(cls, text: str) -> "ScopeSource":
        """Raises ValueError for anything but the two forms."""
        place, _, name = text.partition(":")
        if not name or not name.isascii() or name != name.strip():
            raise ValueError(f"{text!r} is not a scope source")
        match place:
            case "header":
                return cls("header", name.lower().encode("ascii"))
            case "cookie":
                return cls("cookie", name.encode("ascii"))
            case _:
                raise ValueError(f"{text!r} is neither header:NAME nor cookie:NAME")

    @property
    def kind(self) -> str:
        return _kind_of(self.place, self.name)

    def read(self, headers: RawHeaders) -> list[bytes]:
        """Every value shown here; empty ones don't count."""
        match self.place:
            case "header":
                shown = values(headers, self.name)
            case "cookie":
                shown = _cookies(headers, self.name)
        return [value for value in shown if value]


@lru_cache(64)
def _kind_of(place: str, name: bytes) -> str:
    return f"{place}:{name.decode('ascii')}"


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What an order route asks of its submissions. The first scope source that is shown counts.
    ``unguessable_keys``: no two clients may choose the same key."""

    key: KeyMode
    scope: tuple[Shows, ...]
    body_bytes_max: int
    body_deadline_s: float
    unguessable_keys: bool = False


@light
@dataclass(frozen=True, slots=True)
class Submission:
    """A checked submission, body and all.

    ``scope`` is a digest, None for an anonymous client. ``key`` is None unless the client gave
    one: ``attached`` is to be looked up in the attach index, ``anonymous`` gets a random key.
    """

    scope: str | None
    key: str | None
    key_kind: KeyKind
    fingerprint: str
    method: str
    target: bytes
    body: bytes


SUBMISSION = web.RequestKey("submission", Submission)


def idempotency_gate(policy_of: Callable[[web.BaseRequest], GatePolicy | None]) -> Middleware:
    """Middleware: check submissions and leave them under ``SUBMISSION``.

    Requests for which ``policy_of`` says None pass untouched and unread. Everything that can
    be refused by the header is refused before the body is read.
    """

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        policy = policy_of(request)
        if policy is not None:
            request[SUBMISSION] = await submission_of(request, policy)
        return await handler(request)

    return middleware


async def submission_of(request: web.BaseRequest, policy: GatePolicy) -> Submission:
    shown = _shown(request.raw_headers, policy)
    body = await read_body(
        request, body_bytes_max=policy.body_bytes_max, deadline_s=policy.body_deadline_s
    )
    target = request.raw_path.encode("utf-8", "surrogateescape")
    return _submission(shown, request.method, target, body)


def submission_at_hand(
    headers: RawHeaders, method: str, target: bytes, body: bytes, policy: GatePolicy
) -> Submission:
    """The same of what is here whole, before a request is made of it. Raises Problem."""
    shown = _shown(headers, policy)
    refuse_length(len(body), policy.body_bytes_max)
    return _submission(shown, method, target, body)


class _Shown(NamedTuple):
    """What a submission's head says of who submits it under which key."""

    scope: str | None
    key: str | None
    kind: KeyKind


def _shown(headers: RawHeaders, policy: GatePolicy) -> _Shown:
    """Raises Problem for whatever a head can be refused for."""
    of_key, is_coded = _named(names_of(headers))
    given = _given_key([headers[place][1] for place in of_key], policy.key)
    scope = _scope(headers, policy.scope)
    kind = _kind(given, scope, unguessable_only=policy.unguessable_keys)
    if is_coded:
        _refuse_coding(headers)
    return _Shown(scope, given, kind)


def _submission(shown: _Shown, method: str, target: bytes, body: bytes) -> Submission:
    path, query = split_target(target)
    fingerprint = raw_fingerprint(method, path, query, body)
    return Submission(shown.scope, shown.key, shown.kind, fingerprint, method, target, body)


@lru_cache(256)  # a client sends the same names again and again; 256 of the largest are 8 MiB
def _named(names: tuple[bytes, ...]) -> tuple[tuple[int, ...], bool]:
    """Where the key's fields are, and whether any speaks of a coding."""
    lower = [name.lower() for name in names]
    of_key = tuple(place for place, name in enumerate(lower) if name == b"idempotency-key")
    return of_key, b"content-encoding" in lower


def _given_key(lines: list[bytes], mode: KeyMode) -> str | None:
    match parse_key(lines):
        case Key(text):
            return text
        case KeyRefusal() as refusal:
            raise _bad_key(refusal)
        case None:
            if mode == "require":
                raise Problem.of(
                    ProblemType.KEY_MISSING,
                    "Send an Idempotency-Key: one new, random value (a UUID) for each order, "
                    "and the same value with every repeat of that order.",
                    repeat_is_safe=True,
                )
            return None


def _scope(headers: RawHeaders, sources: tuple[Shows, ...]) -> str | None:
    for source in sources:
        shown = set(source.read(headers))  # browsers keep cookies of one name for two paths
        if len(shown) > 1:
            raise Problem.of(
                ProblemType.SCOPE_INVALID,
                f"Send {source.kind} once: two values could be two clients.",
                repeat_is_safe=True,
            )
        if shown:
            return scope_digest(source.kind, shown.pop())
    return None


def _kind(given: str | None, scope: str | None, *, unguessable_only: bool) -> KeyKind:
    if given is None:
        return "anonymous" if scope is None else "attached"
    if (scope is None or unguessable_only) and not unguessable(given):
        raise _bad_key(KeyRefusal(KeyRefused.GUESSABLE))
    return "given"


def _bad_key(refusal: KeyRefusal) -> Problem:
    return Problem.of(
        ProblemType.KEY_INVALID,
        refusal.message,
        members={"reason": refusal.reason.value},
        repeat_is_safe=True,
    )


def _refuse_coding(headers: RawHeaders) -> None:
    """Compressed orders are not unpacked here, and what can't be seen can't be compared."""
    for value in values(headers, b"content-encoding"):
        if value.strip().lower() not in (b"", b"identity"):
            raise Problem.of(
                ProblemType.CONTENT_ENCODING,
                "Send the body without Content-Encoding.",
                headers={"Accept-Encoding": "identity"},  # RFC 9110 section 15.5.16
                repeat_is_safe=True,
            )


def _cookies(headers: RawHeaders, name: bytes) -> list[bytes]:
    """The values of one cookie (RFC 6265 section 4.2.1; names are case-sensitive)."""
    found = []
    for line in values(headers, b"cookie"):
        for pair in line.split(b";"):
            cookie, _, value = pair.strip().partition(b"=")
            if cookie == name:
                found.append(value)
    return found
