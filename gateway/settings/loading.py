"""From a file and the environment to Settings, or to everything that is wrong with them."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.settings import checks
from gateway.settings.cache import CacheSettings
from gateway.settings.dangers import dangers
from gateway.settings.environment import LISTS, Overlay
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitsSettings
from gateway.settings.models import ListenSettings, LogSettings, RatesSettings, Settings
from gateway.settings.places import Places
from gateway.settings.problems import (
    Finding,
    Path,
    SettingsInvalid,
    SettingsProblem,
    did_you_mean,
    in_words,
    key_text,
    shown,
)
from gateway.settings.routes import RouteSettings
from gateway.settings.tokens import JwtSettings
from gateway.settings.upstreams import UpstreamSettings
from middleware.messages import HOP_BY_HOP

CONFIG_BYTES_MAX = 1_048_576
"""A thousand routes fit; a ledger or a log that is named by mistake does not."""

Part = TypeVar("Part", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and what is legal in them but dangerous."""

    settings: Settings
    warnings: tuple[SettingsProblem, ...]


def load(path: FilePath | None, environment: Mapping[str, str]) -> Settings:
    """The settings of the file, with ``ORDERGATE_…`` variables over them.

    Relative paths start from the file's folder, or from the working directory. Raises
    SettingsInvalid with every problem at once, also where the file can't be read.
    """
    return load_with_warnings(path, environment).settings


def load_with_warnings(path: FilePath | None, environment: Mapping[str, str]) -> Loaded:
    """The same, and the warnings."""
    if path is None:
        return load_document({}, environment, origin="settings")
    text = _text_of(path)
    document = _parsed(path, text)
    return _Reading(document, environment, _Source(str(path), path.parent, Places(text))).loaded()


def load_document(
    document: Mapping[str, Any], environment: Mapping[str, str], *, origin: str
) -> Loaded:
    """The same for a document that is no file; problems name ``origin`` as their place."""
    return _Reading(document, environment, _Source(origin, FilePath(), None)).loaded()


def _text_of(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        if len(raw) > CONFIG_BYTES_MAX:
            raise _unreadable(path, f"is larger than {CONFIG_BYTES_MAX} bytes", "is it this file?")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, f"can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is not UTF-8 text") from error


def _unreadable(path: FilePath, what: str, hint: str = "") -> SettingsInvalid:
    return SettingsInvalid([SettingsProblem(str(path), None, "", what, hint)])


def _parsed(path: FilePath, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid([_syntax(path, text, str(error))]) from error


_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)| \(at end of document\)")


def _syntax(path: FilePath, text: str, message: str) -> SettingsProblem:
    lines = text.splitlines()
    found = _AT_LINE.search(message)
    line = int(found[1]) if found and found[1] else len(lines)
    what = _AT_LINE.sub("", message)
    written = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    unquoted = re.fullmatch(r"([\w.]+)\s*=\s*([^\"'\[{#]*[^\"'\[{#\s])", written)
    hint = f'text stands in quotes: {unquoted[1]} = "{unquoted[2]}"' if unquoted else ""
    return SettingsProblem(str(path), line, "", f"not valid TOML: {what}", hint)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a document came from, and where in it things stand."""

    name: str
    folder: FilePath
    places: Places | None


class _Reading:
    """One document on its way to Settings: collects what is wrong as it goes.

    Parts are read one by one, and what is wrong in one is set aside, so that the checks of the
    whole still see all the rest.
    """

    def __init__(
        self, document: Mapping[str, Any], environment: Mapping[str, str], source: _Source
    ) -> None:
        self._source = source
        self._overlay = Overlay(document, environment)
        self._document = self._overlay.document
        self._findings: list[Finding] = []

    def loaded(self) -> Loaded:
        """Raises SettingsInvalid."""
        self._unknown_sections()
        settings = Settings.model_construct(
            listen=self._section("listen", ListenSettings),
            ledger=self._section("ledger", LedgerSettings),
            cache=self._section("cache", CacheSettings),
            jwt=self._section("jwt", JwtSettings),
            rates=self._section("rates", RatesSettings),
            limits=self._section("limits", LimitsSettings),
            log=self._section("log", LogSettings),
            upstreams=self._list("upstreams", UpstreamSettings),
            routes=self._list("routes", RouteSettings),
        )
        self._check(settings)
        problems = self._problems()
        if problems:
            raise SettingsInvalid(problems)
        return Loaded(settings, self._placed(dangers(settings)))

    def _check(self, settings: Settings) -> None:
        """The checks of the whole; what follows only from a fault already found is not said."""
        faulty = {finding.path for finding in self._findings}
        found = (*checks.findings(settings), *_secret_files(settings), *_token_keys(settings.jwt))
        self._findings += [finding for finding in found if not _follows(finding, faulty)]

    # --- reading parts ---

    def _unknown_sections(self) -> None:
        for name, part in self._document.items():
            if name not in Settings.model_fields:
                kind = "section" if isinstance(part, dict | list) else "setting"
                hint = did_you_mean(name, Settings.model_fields)
                self._findings.append(Finding((name,), f"there is no such {kind}", hint))

    def _section(self, name: str, model: type[Part]) -> Part:
        """The section; defaults stand in for what is wrong in it."""
        given = self._document.get(name, {})
        if not isinstance(given, dict):
            what = f"{shown(given)} is not a section"
            self._findings.append(Finding((name,), what, f"write [{name}], and settings below it"))
            given = {}
        return self._part((name,), given, model)

    def _list(self, name: str, model: type[Part]) -> tuple[Part, ...]:
        given = self._document.get(name, [])
        if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
            what, hint = "there may be several of these", f"write [[{name}]], in double brackets"
            self._findings.append(Finding((name,), what, hint))
            return ()
        if not given:
            hint = f"write at least one [[{name}]]"
            self._findings.append(Finding((name,), "there are none", hint))
        return tuple(self._part((name, index), part, model) for index, part in enumerate(given))

    def _part(self, path: Path, given: dict[str, Any], model: type[Part]) -> Part:
        """The part; defaults, or stand-ins for what has none, take the place of what is wrong."""
        context = {"base": self._source.folder}
        try:
            return model.model_validate(given, context=context)
        except ValidationError as error:
            faults = error.errors(include_url=False)
        for fault in faults:
            what, hint = in_words(fault, model.model_fields)
            self._findings.append(Finding((*path, *fault["loc"]), what, hint))
        faulty = {str(fault["loc"][0]) for fault in faults}
        sound = {name: value for name, value in given.items() if name not in faulty}
        needed = {name: _stand_in(name, path) for name in faulty if _is_required(model, name)}
        return model.model_validate({**sound, **needed}, context=context)

    # --- saying where ---

    def _problems(self) -> tuple[SettingsProblem, ...]:
        mistyped = [
            SettingsProblem("environment", None, name, what, hint)
            for name, what, hint in self._overlay.problems
        ]
        return (*self._placed(self._findings), *mistyped)

    def _placed(self, findings: Iterable[Finding]) -> tuple[SettingsProblem, ...]:
        """The findings with their places, in the order of the file."""
        placed = [self._problem(finding) for finding in findings]
        return tuple(sorted(placed, key=lambda problem: (problem.line or 0, problem.key)))

    def _problem(self, finding: Finding) -> SettingsProblem:
        key, what, hint = key_text(finding.path), finding.what, finding.suggestion
        variable = self._overlay.variable_of(finding.path)
        if variable is not None:
            what = f"{key}: {what}" if finding.path[0] in LISTS else what
            return SettingsProblem("environment", None, variable, what, hint)
        places = self._source.places
        line = None if places is None else places.line(finding.path)
        return SettingsProblem(self._source.name, line, key, what, hint)


def _follows(finding: Finding, faulty: set[Path]) -> bool:
    """Whether a finding speaks of a stand-in rather than of what was written."""
    path = finding.path
    if path[0] == "routes" and ("routes", path[1], "kind") in faulty:
        return path[2] not in ("name", "match", "upstream")
    about_an_upstream = path[0] == "routes" and path[2:] == ("upstream",)
    if about_an_upstream and any(fault[0] == "upstreams" and "name" in fault for fault in faulty):
        return True
    return any(path == fault[: len(path)] for fault in faulty)


def _is_required(model: type[BaseModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and field.is_required()


def _stand_in(name: str, path: Path) -> Any:
    """A valid value for a required setting, like no other part's."""
    match name:
        case "match":
            return f"POST /stands-in-for/{path[-1]}"
        case "kind":
            return "plain"
        case "urls":
            return [f"http://stands-in-for-{path[-1]}.invalid"]
        case _:
            return f"stands-in-for-{path[-1]}"


def _secret_files(settings: Settings) -> Iterator[Finding]:
    for index, route in enumerate(settings.routes):
        if route.lookup_headers is not None:
            what = _faults_of_fields(FilePath(route.lookup_headers))
            if what:
                hint = "it holds header lines, as in Authorization: Bearer ..."
                yield Finding(("routes", index, "lookup_headers"), what, hint)


def _token_keys(jwt: JwtSettings) -> Iterator[Finding]:
    if jwt.keys is None or not jwt.algorithms:
        return
    from middleware.idempotency.tokens import KeysInvalid, load_keys  # slow to import

    try:
        load_keys(FilePath(jwt.keys), jwt.algorithms)
    except OSError as error:
        yield Finding(("jwt", "keys"), f"{jwt.keys} can't be read: {error.strerror}")
    except KeysInvalid as invalid:
        hint = "it holds the issuer's JWK set, its public key as PEM, or the HMAC secret"
        yield Finding(("jwt", "keys"), f"{jwt.keys} {invalid}", hint)


_OURS = HOP_BY_HOP | {b"host", b"content-length"}
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\x20-\x7e\t]+")


def _faults_of_fields(path: FilePath) -> str:
    """What is wrong with a file of header fields; nothing, where it can be sent."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    if not any(line.strip() for line in lines):
        return f"{path} is empty"
    for number, line in enumerate(lines, start=1):
        if line.strip() and not _FIELD.fullmatch(line):
            return f"line {number} of {path} is no header line"
        if line.partition(b":")[0].lower() in _OURS:
            return f"line {number} of {path} is a field that the gateway itself writes"
    return ""
