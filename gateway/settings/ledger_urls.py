"""The URLs of ledgers on Valkey or Redis."""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

PORT, SENTINEL_PORT = 6379, 26379
PREFIX = "ordergate"
"""What the names of all keys begin with, unless ``?prefix=`` says otherwise."""

_SCHEME = re.compile(r"(?:valkey|redis)(?P<tls>s?)(?:\+(?P<kind>sentinel|cluster))?")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Kind(StrEnum):
    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """``hosts`` are the server, the Sentinels, or some nodes of the cluster; ``service`` is what
    the Sentinels call the master."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    service: str | None = None
    db: int = 0
    prefix: str = PREFIX


class RemoteUrlInvalid(ValueError):
    """The text says what is wrong; ``advice`` what to write."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


EXAMPLES = {
    Kind.STANDALONE: "valkey://127.0.0.1:6379",
    Kind.SENTINEL: "valkey+sentinel://10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379/mymaster",
    Kind.CLUSTER: "valkey+cluster://10.0.0.1:6379,10.0.0.2:6379,10.0.0.3:6379",
}


def is_remote(url: str) -> bool:
    return _SCHEME.fullmatch(url.partition(":")[0].lower()) is not None


def parse_remote(url: str) -> RemoteUrl:
    """Raises RemoteUrlInvalid."""
    scheme = _SCHEME.fullmatch(url.partition(":")[0].lower())
    if scheme is None or "://" not in url:
        raise RemoteUrlInvalid("this is no ledger on Valkey or Redis", _as_in(Kind.STANDALONE))
    kind = Kind(scheme["kind"] or "standalone")
    parts = urlsplit(url)
    user, hosts = _authority(parts.netloc, kind)
    service, db = _path(parts.path, kind)
    if parts.fragment:
        raise RemoteUrlInvalid("what follows # means nothing here", "leave it out")
    return RemoteUrl(
        kind=kind,
        tls=bool(scheme["tls"]),
        hosts=hosts,
        username=user,
        service=service,
        db=db,
        prefix=_prefix(parts.query),
    )


def _as_in(kind: Kind) -> str:
    return f'as in "{EXAMPLES[kind]}"'


def _authority(text: str, kind: Kind) -> tuple[str | None, tuple[tuple[str, int], ...]]:
    user, at, rest = text.rpartition("@")
    if ":" in user:
        raise RemoteUrlInvalid(
            "a password in a URL ends up in logs and process lists",
            "put it into a file and name that in password_file",
        )
    hosts = tuple(_host(each, kind) for each in rest.split(","))
    if kind is Kind.STANDALONE and len(hosts) > 1:
        raise RemoteUrlInvalid(
            "one server has one address",
            "for several use valkey+sentinel:// or valkey+cluster://",
        )
    return (unquote(user) or None if at else None), hosts


def _host(text: str, kind: Kind) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    usual = SENTINEL_PORT if kind is Kind.SENTINEL else PORT
    port = int(found["port"] or usual) if found else 0
    if found is None or not 1 <= port <= 65_535:
        raise RemoteUrlInvalid(f'"{text}" is no host and port', _as_in(kind))
    return found["host"].strip("[]"), port


def _path(path: str, kind: Kind) -> tuple[str | None, int]:
    segments = [each for each in path.split("/") if each]
    service = None
    if kind is Kind.SENTINEL:
        if not segments or not _WORD.fullmatch(segments[0]):
            raise RemoteUrlInvalid(
                "it does not say what the Sentinels call the master", _as_in(Kind.SENTINEL)
            )
        service = segments.pop(0)
    if not segments:
        return service, 0
    if kind is Kind.CLUSTER or len(segments) > 1 or not segments[0].isdecimal():
        raise RemoteUrlInvalid(f'"{path}" is no database', "leave it out, or write its number: /1")
    return service, int(segments[0])


def _prefix(query: str) -> str:
    options = dict(parse_qsl(query, keep_blank_values=True))
    prefix = options.pop("prefix", PREFIX)
    if options:
        raise RemoteUrlInvalid(f'"{next(iter(options))}" is no option', 'there is only "prefix"')
    if not _WORD.fullmatch(prefix):
        raise RemoteUrlInvalid(
            f'"{prefix}" is no prefix', "use 1 to 64 letters, digits, _, . and -"
        )
    return prefix
