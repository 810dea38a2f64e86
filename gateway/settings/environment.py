"""``ORDERGATE_LISTEN__ADDRESS=…``: every setting as an environment variable, none mistyped."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.settings.models import Settings
from gateway.settings.problems import Path, did_you_mean
from gateway.settings.routes import RouteSettings
from gateway.settings.upstreams import UpstreamSettings

PREFIX = "ORDERGATE_"
NESTING = "__"

SERVICE_LINK = re.compile(
    r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)=|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=|=\w+://)"
)
"""What every pod of a namespace with a Service named ``ordergate`` has in its environment."""

SERVICE_LINK_ADVICE = (
    "Kubernetes makes it of a Service: write enableServiceLinks: false in the pod's spec"
)

LISTS: Mapping[str, type[BaseModel]] = {"upstreams": UpstreamSettings, "routes": RouteSettings}
"""Sections of which there are several: ``ORDERGATE_ROUTES__0__SETTLE_S``."""


class Overlay:
    """The document with the variables written over it.

    ``problems`` are the variables that name nothing, as (variable, what is wrong, suggestion).
    """

    def __init__(self, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.document: dict[str, Any] = {name: _copied(part) for name, part in document.items()}
        self.problems: list[tuple[str, str, str]] = []
        self._names: dict[Path, str] = {}
        for name in sorted(environment):
            if name.upper().startswith(PREFIX):
                self._apply(name, environment[name])

    def variable_of(self, path: Path) -> str | None:
        """The variable that set ``path``, or what it is in."""
        lengths = range(len(path), 0, -1)
        return next((self._names[path[:n]] for n in lengths if path[:n] in self._names), None)

    def _apply(self, name: str, text: str) -> None:
        path = _path_of(name)
        field = None if path is None else _field_at(path)
        if path is None or field is None:
            if SERVICE_LINK.search(f"{name}={text}"):
                hint = SERVICE_LINK_ADVICE
            else:
                hint = did_you_mean(name, set(_known_names(self.document)), PREFIX)
            self.problems.append((name, "there is no such setting", hint))
            return
        try:
            _put(self.document, path, _value(text, field))
        except LookupError:
            what = f"there is no {path[0]}[{path[1]}]"
            hint = "an environment variable changes what the file has; it adds no part to a list"
            self.problems.append((name, what, hint))
        else:
            self._names[path] = name


def _copied(part: Any) -> Any:
    match part:
        case dict():
            return {name: _copied(value) for name, value in part.items()}
        case list():
            return [_copied(value) for value in part]
        case _:
            return part


def _path_of(name: str) -> Path | None:
    """The path that a variable names; None if it is not written as one."""
    if name != name.upper():
        return None
    parts = name[len(PREFIX) :].lower().split(NESTING)
    if parts[0] in LISTS and len(parts) > 1:
        if not (parts[1].isascii() and parts[1].isdigit()):
            return None
        return (parts[0], int(parts[1]), *parts[2:])
    return tuple(parts)


def _field_at(path: Path) -> FieldInfo | None:
    match path:
        case (str(section),) if section in LISTS:
            return Settings.model_fields[section]
        case (str(section), int(), str(name)) if section in LISTS:
            return LISTS[section].model_fields.get(name)
        case (str(section), str(name)) if section in Settings.model_fields:
            return _section_fields(section).get(name)
        case _:
            return None


def _section_fields(section: str) -> Mapping[str, FieldInfo]:
    """The settings of a section of which there is one; none for a list."""
    model = Settings.model_fields[section].annotation
    return model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}


def _known_names(document: Mapping[str, Any]) -> Iterator[str]:
    for section in Settings.model_fields:
        yield from (_variable(section, name) for name in _section_fields(section))
    for section, model in LISTS.items():
        names: Collection[str] = model.model_fields
        yield _variable(section)
        parts = document.get(section)
        for index in range(len(parts) if isinstance(parts, list) else 0):
            yield from (_variable(section, str(index), name) for name in names)


def _variable(*parts: str) -> str:
    return PREFIX + NESTING.join(parts).upper()


def _put(document: dict[str, Any], path: Path, value: Any) -> None:
    """Raises LookupError where the part of a list that ``path`` goes through is not there.

    What is no table in the file stays as it is: that is a problem by itself.
    """
    place: Any = document
    for step, following in pairwise(path):
        if isinstance(following, int):
            place = place.get(step)
        elif isinstance(step, int):
            if not isinstance(place, list):
                raise LookupError
            place = place[step]
        else:
            place = place.setdefault(step, {})
    if isinstance(place, dict):
        place[path[-1]] = value


def _value(text: str, field: FieldInfo) -> Any:
    """What the text stands for in a setting of this kind; as it is where it stands for nothing."""
    kinds = _kinds(field.annotation)
    opening = {tuple: "[", dict: "{"}
    if not kinds & {float, int, bool} and not any(
        kind in kinds and text.startswith(mark) for kind, mark in opening.items()
    ):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _kinds(annotation: Any) -> set[Any]:
    """The kinds of value that an annotation allows, without what constrains them."""
    match get_origin(annotation):
        case None:
            return {annotation}
        case kind if kind is Annotated:
            return _kinds(get_args(annotation)[0])
        case kind if kind in (Union, UnionType):
            return set().union(*map(_kinds, get_args(annotation)))
        case kind if kind is Literal:
            return {str}
        case kind:
            return {kind}
