"""What a message says about caching: Cache-Control, Pragma, targeted fields. Pure.

Directives of one name that differ, and arguments that are none, are read the careful way: the
shorter freshness, the stricter rule (RFC 9111 section 4.2.1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import http_sf

from middleware.caching.fields import SECONDS_MAX, delta_seconds, members, unquoted


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """RFC 9111 section 5.2.1. ``max_stale`` is endless where it has no argument."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    stale_if_error: int | None = None


NO_DIRECTIVES = RequestDirectives()


@dataclass(frozen=True, slots=True)
class ResponseDirectives:
    """RFC 9111 section 5.2.2, RFC 5861, RFC 8246. Numbers are None where the directive is absent.

    ``withheld``: the fields that ``no-cache`` or ``private`` name; those directives are then not
    set themselves. ``targeted``: they come from a targeted field, beside which Expires is nothing
    (RFC 9213 section 2.2).
    """

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    withheld: frozenset[bytes] = frozenset()
    targeted: bool = False

    @property
    def declared_public(self) -> bool:
        """Whether the upstream said that this answer is for everybody."""
        return self.public or self.s_maxage is not None

    @property
    def never_stale(self) -> bool:
        """Whether a stale answer must not be used without asking (5.2.2.2, .4, .8, .10)."""
        return (
            self.no_cache
            or self.must_revalidate
            or self.proxy_revalidate
            or self.s_maxage is not None
        )


def request_directives(fields: Mapping[bytes, bytes]) -> RequestDirectives:
    """From the combined fields of a request. ``Pragma`` counts where there is no Cache-Control
    (RFC 9111 section 5.4)."""
    control = fields.get(b"cache-control")
    if control is None:
        pragma = fields.get(b"pragma")
        if pragma is None:
            return NO_DIRECTIVES
        named = {each.partition(b"=")[0].strip().lower() for each in members(pragma)}
        return RequestDirectives(no_cache=b"no-cache" in named)
    found = _arguments(control)
    return RequestDirectives(
        no_cache=b"no-cache" in found,
        no_store=b"no-store" in found,
        only_if_cached=b"only-if-cached" in found,
        max_age=_seconds(found, b"max-age"),
        min_fresh=_seconds(found, b"min-fresh", largest=True, otherwise=SECONDS_MAX),
        max_stale=_max_stale(found),
        stale_if_error=_seconds(found, b"stale-if-error"),
    )


def response_directives(
    fields: Mapping[bytes, bytes], targets: Iterable[bytes] = ()
) -> ResponseDirectives:
    """From the combined fields of a response. The first of ``targets`` (lower-case names of
    targeted fields) that is there and well formed counts alone (RFC 9213 section 2.2)."""
    for name in targets:
        value = fields.get(name)
        if value is not None:
            targeted = _targeted(value)
            if targeted is not None:
                return _response(targeted, targeted=True)
    return _response(_arguments(fields.get(b"cache-control", b"")), targeted=False)


_Arguments = Mapping[bytes, list[bytes | None]]
"""Lower-case directive to its arguments, None for one without."""


def _arguments(value: bytes) -> _Arguments:
    found: dict[bytes, list[bytes | None]] = {}
    for member in members(value):
        name, equals, argument = member.partition(b"=")
        # No white space is allowed around "=": such a directive is there, with no good argument.
        text = unquoted(argument) if name == name.rstrip() else b" " + argument
        found.setdefault(name.strip(b" \t").lower(), []).append(text if equals else None)
    return found


def _targeted(value: bytes) -> _Arguments | None:
    """A dictionary structured field (RFC 9213 section 2.1); None for an empty or broken one."""
    try:
        parsed = http_sf.parse(value, tltype="dictionary")
    except ValueError:
        return None
    if not isinstance(parsed, dict) or not parsed:
        return None
    found: dict[bytes, list[bytes | None]] = {}
    for name, member in parsed.items():
        bare = member[0] if isinstance(member, tuple) else member
        if bare is not False:
            argument = None if bare is True else _targeted_argument(bare)
            found[str(name).lower().encode()] = [argument]
    return found


def _targeted_argument(bare: object) -> bytes:
    """As it would stand in Cache-Control; only an integer is a number of seconds."""
    if isinstance(bare, int):
        return str(bare).encode()
    text = str(bare).encode("utf-8", "replace")
    return b"!" + text if text.isdigit() else text


def _response(found: _Arguments, *, targeted: bool) -> ResponseDirectives:
    no_cache, uncached = _named_fields(found, b"no-cache")
    private, hidden = _named_fields(found, b"private")
    return ResponseDirectives(
        no_store=b"no-store" in found,
        no_cache=no_cache,
        private=private,
        public=b"public" in found,
        must_revalidate=b"must-revalidate" in found,
        proxy_revalidate=b"proxy-revalidate" in found,
        must_understand=b"must-understand" in found,
        immutable=b"immutable" in found,
        max_age=_seconds(found, b"max-age"),
        s_maxage=_seconds(found, b"s-maxage"),
        stale_while_revalidate=_seconds(found, b"stale-while-revalidate"),
        stale_if_error=_seconds(found, b"stale-if-error"),
        withheld=uncached | hidden,
        targeted=targeted,
    )


def _seconds(
    found: _Arguments, name: bytes, *, largest: bool = False, otherwise: int = 0
) -> int | None:
    """None where absent; the smallest (or largest) where there are several, ``otherwise`` for
    what is no number: both are the careful reading."""
    arguments = found.get(name)
    if arguments is None:
        return None
    numbers = [delta_seconds(argument or b"") for argument in arguments]
    known = [otherwise if number is None else number for number in numbers]
    return max(known) if largest else min(known)


def _max_stale(found: _Arguments) -> int | None:
    arguments = found.get(b"max-stale")
    if arguments is None:
        return None
    return min(
        SECONDS_MAX if argument is None else delta_seconds(argument) or 0 for argument in arguments
    )


def _named_fields(found: _Arguments, name: bytes) -> tuple[bool, frozenset[bytes]]:
    """Whether the whole answer is meant, and else which fields (sections 5.2.2.4 and .7)."""
    arguments = found.get(name)
    if arguments is None:
        return False, frozenset()
    fields: set[bytes] = set()
    for argument in arguments:
        named = [] if argument is None else [each.lower() for each in argument.split(b",")]
        named = [each.strip(b' \t"') for each in named]
        if not all(named) or not named:
            return True, frozenset()
        fields.update(named)
    return False, frozenset(fields)
