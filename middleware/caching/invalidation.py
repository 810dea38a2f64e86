"""What a change ends (RFC 9111 section 4.4, RFC 9875). Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never
from urllib.parse import urljoin, urlsplit

from middleware.caching.asked import Asked
from middleware.caching.entries import groups_of


class Touches(StrEnum):
    """What a mark names."""

    URL = "url"
    """One URI of one host, with its query."""
    PATH = "path"
    """A path with any query, on any host."""
    PATTERN = "pattern"
    """Every path that a pattern takes (``*``: a segment, ``**``: any number)."""
    GROUP = "group"
    """A cache group (RFC 9875) of one host; of every host where none is named."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that was changed. ``soft``: what it names becomes stale instead of ending."""

    touches: Touches
    name: bytes = b""
    host: bytes = b""
    soft: bool = False

    def encoded(self) -> bytes:
        """For a log that others read. A target holds no line feed, nor does a host."""
        kind = self.touches.value.encode("ascii")
        return b"\n".join((kind, b"soft" if self.soft else b"", self.host, self.name))

    @classmethod
    def decoded(cls, text: bytes) -> "Mark":
        """What a newer version wrote and this one doesn't know touches everything."""
        parts = text.split(b"\n", 3)
        try:
            kind, soft, host, name = parts
            return cls(Touches(kind.decode("ascii")), name, host, soft == b"soft")
        except ValueError:
            return cls(Touches.ALL)


def plain_path(path: bytes) -> bytes:
    """Without the last slash: most shops show the same with it and without it, so what changes the
    one changes the other."""
    return path.rstrip(b"/") or b"/"


def path_of(target: bytes) -> bytes:
    return plain_path(target.partition(b"?")[0])


def of_target(asked: Asked) -> Mark:
    return Mark(Touches.URL, asked.target, asked.host)


def of_answer(asked: Asked, status: int, fields: Mapping[bytes, bytes]) -> tuple[Mark, ...]:
    """What an answer to an unsafe request ends: nothing where it is an error, else the target,
    what Location and Content-Location name on the same host, and the groups it names."""
    if not 200 <= status < 400:
        return ()
    marks = [of_target(asked)]
    marks += located(asked.host, asked.target, fields)
    named = groups_of(fields, b"cache-group-invalidation")
    marks += [Mark(Touches.GROUP, name, asked.host) for name in named]
    return tuple(dict.fromkeys(marks))


def located(host: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> Iterable[Mark]:
    for name in (b"location", b"content-location"):
        value = fields.get(name)
        if value is not None and (other := same_origin(host, target, value)) is not None:
            yield Mark(Touches.URL, other, host)


def same_origin(host: bytes, target: bytes, reference: bytes) -> bytes | None:
    """The target that ``reference`` names, or None where it is on another host: nobody may end
    what is another's (RFC 9111 section 4.4)."""
    try:
        base = f"http://{host.decode('ascii')}{target.decode('latin-1')}"
        parts = urlsplit(urljoin(base, reference.decode("latin-1").strip()))
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not same_host(host, parts.netloc, parts.scheme):
        return None
    path = parts.path or "/"
    return (f"{path}?{parts.query}" if parts.query else path).encode("latin-1", "replace")


def same_host(host: bytes, netloc: str, scheme: str) -> bool:
    usual = ":443" if scheme == "https" else ":80"
    ours = host.decode("ascii").lower()
    return netloc.lower().removesuffix(usual) == ours.removesuffix(usual)


def touches(
    mark: Mark,
    host: bytes,
    target: bytes,
    groups: Iterable[bytes],
    takes: Callable[[bytes, bytes], bool],
) -> bool:
    """Whether ``mark`` speaks of an answer at ``target``. ``takes(pattern, path)`` matches."""
    match mark.touches:
        case Touches.URL:
            return mark.name == target and mark.host == host
        case Touches.PATH:
            return plain_path(mark.name) == path_of(target)
        case Touches.PATTERN:
            return takes(mark.name, path_of(target))
        case Touches.GROUP:
            return mark.host in (b"", host) and mark.name in groups
        case Touches.ALL:
            return True
        case _:
            assert_never(mark.touches)
