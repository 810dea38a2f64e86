"""What is wrong with a configuration, where, and what to write instead."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic_core import ErrorDetails, PydanticCustomError

Path: TypeAlias = tuple[str | int, ...]
"""Where a setting stands: ``("routes", 0, "settle_s")``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about the setting at ``path``; ``suggestion`` may be empty."""

    path: Path
    what: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """A finding with its place. ``line`` is None where there is no file to have lines."""

    file: str
    line: int | None
    key: str
    what: str
    suggestion: str = ""

    @property
    def place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def message(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{key}{self.what}.{' ' + _sentence(self.suggestion) if self.suggestion else ''}"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SettingsInvalid(Exception):
    """The configuration can't be used. ``problems`` are all there are, in the file's order."""

    def __init__(self, problems: Iterable[SettingsProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _sentence(text: str) -> str:
    capital = text[0].upper() + text[1:]
    return capital if capital[-1] in ".?" else capital + "."


def key_text(path: Path) -> str:
    """The path as people write it: ``routes[0].settle_s``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def did_you_mean(name: str, known: Collection[str], prefix: str = "") -> str:
    """The advice for a mistyped name, or for one that is like nothing.

    ``prefix`` is what all of them begin with: it makes no two of them alike.
    """
    originals = {each.removeprefix(prefix).lower(): each for each in known}
    close = difflib.get_close_matches(name[len(prefix) :].lower(), originals, n=1)
    if close:
        return f"Did you mean {originals[close[0]]}?"
    return f"What there is: {', '.join(sorted(known))}" if known else ""


def wrong(what: str, suggestion: str = "") -> PydanticCustomError:
    """For validators to raise: a finding at the field that is being validated."""
    return PydanticCustomError("wrong", "{what}", {"what": what, "suggestion": suggestion})


# --- pydantic's errors in our words ---------------------------------------------------------

_NUMBERS = {"float_type", "float_parsing", "int_type", "int_parsing", "int_from_float"}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_UNIT_S = {"": 1, "ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_UNIT_BYTES = {
    "": 1,
    "b": 1,
    "k": 1024,
    "kb": 1000,
    "kib": 1024,
    "m": 1024**2,
    "mb": 1000**2,
    "mib": 1024**2,
    "g": 1024**3,
    "gb": 1000**3,
    "gib": 1024**3,
}
_WITH_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def in_words(error: ErrorDetails, known: Collection[str]) -> tuple[str, str]:
    """What is wrong and what to do, for one of pydantic's errors; ``known`` are the names that
    the section has."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    name = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "wrong":
        return str(context["what"]), str(context["suggestion"])
    if kind == "missing":
        return "is missing", ""
    if kind == "extra_forbidden":
        return "there is no such setting", did_you_mean(name, known)
    if kind in _NUMBERS:
        return _not_a_number(name, given, whole=kind.startswith("int"))
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{shown(given)} is out of range", f"give {words} {_plain(context[bound])}"
    if kind == "literal_error":
        return _not_a_choice(given, str(context["expected"]))
    if kind == "too_short" and "min_length" in context:
        return f"is shorter than {context['min_length']} characters", "give a longer, random one"
    if kind in _KINDS:
        what, hint = _KINDS[kind]
        return what.format(shown(given)), hint
    return error["msg"], ""


_KINDS = {
    "string_type": ("{} is not text", "write it in quotes"),
    "bool_type": ("{} is neither true nor false", "write true or false, no quotes"),
    "finite_number": ("{} is not a finite number", ""),
    "model_type": ("{} is not a table of settings", ""),
    "string_too_short": ("is empty", ""),
}


def _not_a_choice(given: Any, expected: str) -> tuple[str, str]:
    choices = re.findall(r"'([^']*)'", expected)
    close = difflib.get_close_matches(str(given), choices, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else ""
    return f"{shown(given)} is not one of {', '.join(choices)}", hint


def _not_a_number(name: str, given: Any, *, whole: bool) -> tuple[str, str]:
    what = f"{shown(given)} is not a {'whole ' if whole else ''}number"
    if name.endswith("_s"):
        return what, _converted(given, "seconds", _UNIT_S)
    if name.endswith("bytes_max"):
        return what, _converted(given, "bytes", _UNIT_BYTES)
    return what, "write a number, no quotes"


def _converted(given: Any, unit_name: str, units: Mapping[str, float]) -> str:
    """The advice for a number with a unit: the same in the unit that is meant here."""
    found = _WITH_UNIT.fullmatch(given) if isinstance(given, str) else None
    unit = units.get(found[2].lower()) if found else None
    if found is None or unit is None:
        return f"give a number of {unit_name}"
    return f"give a number of {unit_name}: {_plain(float(found[1]) * unit)}"


def _plain(number: Any) -> str:
    return f"{number:.15g}"


def shown(value: Any) -> str:
    """A value as TOML writes it, cut where it is long."""
    match value:
        case bool():
            text = str(value).lower()
        case str():
            text = f'"{value}"'
        case dict():
            text = "a table"
        case list() | tuple():
            text = "a list"
        case _:
            text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
