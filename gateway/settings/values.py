"""The kinds of value that settings have: how each is written, and its limits."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from gateway.routes import Pattern, PatternInvalid
from gateway.settings.ledger_urls import RemoteUrlInvalid, is_remote, parse_remote
from gateway.settings.problems import shown, wrong

_TEN_YEARS_S = 315_360_000
"""Longer than any promise to a shopper; a larger number was meant to be milliseconds."""

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=_TEN_YEARS_S, allow_inf_nan=False)]
SecondsOrZero: TypeAlias = Annotated[float, Field(ge=0, le=_TEN_YEARS_S, allow_inf_nan=False)]
Bytes: TypeAlias = Annotated[int, Field(ge=1, le=2**40)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?", re.IGNORECASE)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise wrong(
            f"{shown(text)} is no name",
            "use 1 to 64 letters, digits, -, _ and . (it becomes a metric's label)",
        )
    return text


Name: TypeAlias = Annotated[str, AfterValidator(_name)]


# --- lists ----------------------------------------------------------------------------------


def _as_tuple(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return tuple(given)
    example = f": [{shown(given)}]" if isinstance(given, str) else ""
    raise wrong(f"{shown(given)} is not a list", f"write a list{example}")


AsTuple = BeforeValidator(_as_tuple)


# --- addresses ------------------------------------------------------------------------------

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")


def _address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise wrong(f"{shown(text)} is no address", _address_advice(text))
    if int(found["port"]) > 65_535:
        raise wrong(f"{found['port']} is no port", "ports end at 65535")
    return text


def _address_advice(text: str) -> str:
    if text.startswith(":") and text[1:].isdigit():
        return f'name the host too: "127.0.0.1{text}" (this machine) or "0.0.0.0{text}" (all)'
    if "://" in text:
        return f'write it without a scheme: "{text.partition("://")[2].rstrip("/")}"'
    if text.isdigit():
        return f'name the host too: "127.0.0.1:{text}"'
    if text.count(":") > 1 and "[" not in text:
        return 'write IPv6 in brackets: "[::1]:8080"'
    return 'write host:port, as in "127.0.0.1:8080"'


Address: TypeAlias = Annotated[str, AfterValidator(_address)]


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of a valid Address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise wrong(
            f"{shown(text)} is no network", 'write an address or a network, as in "10.0.0.0/8"'
        ) from error
    return text


Network: TypeAlias = Annotated[str, AfterValidator(_network)]


# --- upstreams ------------------------------------------------------------------------------

_ORIGIN = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/?")


def _origin(text: str) -> str:
    found = _ORIGIN.fullmatch(text)
    if found is None or not 1 <= int(found[1] or 80) <= 65_535:
        raise wrong(
            f"{shown(text)} is no upstream's address",
            'write scheme, host and port alone, as in "http://127.0.0.1:9000"',
        )
    return text.rstrip("/")


OriginUrl: TypeAlias = Annotated[str, AfterValidator(_origin)]

_SERVER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _server_name(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text):
        raise wrong(f"{shown(text)} is no host name", 'write it alone, as in "backend.internal"')
    return text


ServerName: TypeAlias = Annotated[str, AfterValidator(_server_name)]


_CORS_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")


def _cors_origin(text: str) -> str:
    if text != "*" and not _CORS_ORIGIN.fullmatch(text):
        raise wrong(
            f"{shown(text)} is no origin",
            'write scheme, host and port as browsers send them, as in "https://shop.example":'
            ' small letters, no path, no usual port; or "*"',
        )
    return text


CorsOrigin: TypeAlias = Annotated[str, AfterValidator(_cors_origin)]


# --- the ledger -----------------------------------------------------------------------------

SQLITE = "sqlite:///"


def _ledger_url(text: str, info: ValidationInfo) -> str:
    """The URL with an absolute path: three slashes are relative to the configuration's folder."""
    if is_remote(text):
        try:
            parse_remote(text)
        except RemoteUrlInvalid as invalid:
            raise wrong(str(invalid), invalid.advice) from invalid
        return text
    if not text.startswith(SQLITE):
        raise wrong(f"{shown(text)} is no ledger", _ledger_advice(text))
    path = text[len(SQLITE) :]
    if path in ("", ":memory:") or path.endswith("/"):
        raise wrong(
            "a ledger is a file: orders must outlive the process", 'name one: "sqlite:///ledger.db"'
        )
    if "?" in path or "#" in path or "\0" in path:
        raise wrong("a ledger's URL is a path and nothing more", "leave out what follows ? or #")
    return SQLITE + str(_base(info) / path)


def _ledger_advice(text: str) -> str:
    scheme, separator, rest = text.partition(":")
    if scheme.lower() == "sqlite" and separator:
        path = rest.lstrip("/")
        return (
            f'three slashes for a path from the configuration\'s folder ("sqlite:///{path}"),'
            f' four for one from the root ("sqlite:////{path}")'
        )
    return 'write "sqlite:///ledger.db"'


def _base(info: ValidationInfo) -> Path:
    """The folder that relative paths start from; the working directory where nobody said."""
    context = info.context or {}
    return Path(context.get("base", "")).absolute()


LedgerUrl: TypeAlias = Annotated[str, AfterValidator(_ledger_url)]


def _remote_store_url(text: str) -> str:
    try:
        parse_remote(text)
    except RemoteUrlInvalid as invalid:
        raise wrong(str(invalid), invalid.advice) from invalid
    return text


RemoteStoreUrl: TypeAlias = Annotated[str, AfterValidator(_remote_store_url)]


def _file_path(text: str, info: ValidationInfo) -> str:
    return str(_base(info) / text)


FilePath: TypeAlias = Annotated[str, StringConstraints(min_length=1), AfterValidator(_file_path)]


# --- routes ---------------------------------------------------------------------------------


def _match(text: str) -> str:
    try:
        Pattern.parse(text)
    except PatternInvalid as error:
        raise wrong(f"{shown(text)} is no pattern", str(error)) from error
    return text


def _path_pattern(text: str) -> str:
    if text.startswith("group:") and text.isascii() and text.isprintable() and len(text) > 6:
        return text
    try:
        Pattern.parse(f"GET {text}")
    except PatternInvalid as error:
        example = "as in /customers/*/orders"
        raise wrong(
            f"{shown(text)} is no path pattern", f"write a path alone, {example}"
        ) from error
    return text


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise wrong(f"{shown(text)} is no name of a field or cookie", "write the name alone")
    return text


FieldName: TypeAlias = Annotated[str, AfterValidator(_token)]
CookieName: TypeAlias = Annotated[str, AfterValidator(_token)]
Match: TypeAlias = Annotated[str, AfterValidator(_match)]
PathPattern: TypeAlias = Annotated[str, AfterValidator(_path_pattern)]

CAPABILITIES = ("dedup", "lookup")


def _capability(given: Any) -> Any:
    """``"none"``, one of them, or a list of both; as a tuple."""
    names = (given,) if isinstance(given, str) else given
    if names == ("none",):
        return ()
    listed = names if isinstance(names, list | tuple) else ()
    if not listed or not all(name in CAPABILITIES for name in listed):
        bad = next((name for name in listed if name not in CAPABILITIES), given)
        raise wrong(
            f"{shown(bad)} is no capability",
            'write "dedup", "lookup", ["dedup", "lookup"] or "none"',
        )
    return tuple(dict.fromkeys(listed))


Capabilities: TypeAlias = Annotated[
    tuple[Literal["dedup", "lookup"], ...], BeforeValidator(_capability)
]

_LOOKUP = re.compile(r"(?P<method>\S+) (?P<target>/[!-~]*)")


def _lookup(text: str) -> str:
    example = 'as in "GET /orders?idempotency_key={key}"'
    found = _LOOKUP.fullmatch(text)
    if found is None:
        raise wrong(f"{shown(text)} is no lookup", f"write a method and a path, {example}")
    if found["method"] != "GET":
        raise wrong(
            f"a lookup with {found['method']} could change something", f"use GET, {example}"
        )
    if "#" in found["target"]:
        raise wrong("what follows # is never sent", f"leave it out, {example}")
    places = re.findall(r"\{([^}]*)\}", found["target"])
    if "key" not in places:
        raise wrong("the lookup does not say which order", f"put {{key}} in it, {example}")
    unknown = [place for place in places if place != "key"]
    if unknown:
        raise wrong(f"{{{unknown[0]}}} is not known in a lookup", "only {key} is filled in")
    return text


def _safe_call(text: str) -> str:
    found = _LOOKUP.fullmatch(text)
    if found is None or "#" in text:
        raise wrong(f"{shown(text)} is no request", 'write a method and a path, as in "GET /me"')
    if found["method"] not in ("GET", "HEAD"):
        raise wrong(f"{found['method']} could change something", 'use GET or HEAD: "GET /me"')
    return text


SafeCall: TypeAlias = Annotated[str, AfterValidator(_safe_call)]
Lookup: TypeAlias = Annotated[str, AfterValidator(_lookup)]


def _pointer(text: str) -> str:
    if not text.startswith("/"):
        raise wrong(
            f"{shown(text)} is no JSON pointer", f'begin with a slash: "/{text}" (RFC 6901)'
        )
    return text


_RATE = re.compile(r"[1-9]\d{0,6}/(?:[1-9]\d{0,3} )?(?:second|minute|hour)s?")


def _rate(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise wrong(f"{shown(text)} is no rate", 'as in "60/minute" or "10/2 seconds"')
    return text


RateText: TypeAlias = Annotated[str, AfterValidator(_rate)]


def _rate_url(text: str) -> str:
    if not re.fullmatch(r"(?:valkey|redis)s?://[^/\s]+(?:/\d{1,4})?", text):
        raise wrong(f"{shown(text)} is no store of rates", 'as in "valkey://127.0.0.1:6379/0"')
    return text


RateUrl: TypeAlias = Annotated[str, AfterValidator(_rate_url)]
Pointer: TypeAlias = Annotated[str, AfterValidator(_pointer)]

LOG_PARTS = ("process", "requests", "orders", "upstream", "reconciler", "ledger")
LOG_LEVELS = ("debug", "info", "warning", "error")


def _log_levels(given: Any) -> Any:
    if not isinstance(given, dict):
        raise wrong(f"{shown(given)} is no table of levels", 'write { requests = "warning" }')
    for part, level in given.items():
        if part not in LOG_PARTS:
            raise wrong(f"{shown(part)} is no part", f"what there is: {', '.join(LOG_PARTS)}")
        if level not in LOG_LEVELS:
            raise wrong(f"{shown(level)} is no level of {part}", f"one of {', '.join(LOG_LEVELS)}")
    return given


LogLevels: TypeAlias = Annotated[dict[str, str], BeforeValidator(_log_levels)]

_STATUS = re.compile(r"[2-5]\d\d|[2-5]xx")


def _status(given: Any) -> Any:
    text = str(given).lower()
    if isinstance(given, bool) or not _STATUS.fullmatch(text):
        raise wrong(
            f"{shown(given)} is no answer's status", 'write a code or a class: "503", "4xx"'
        )
    return text


StatusText: TypeAlias = Annotated[str, BeforeValidator(_status)]
