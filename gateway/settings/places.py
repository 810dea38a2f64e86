"""On which line of a TOML text each key stands. tomllib reads values and forgets where."""

import re
from collections.abc import Iterator

from gateway.settings.problems import Path

_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_TOKEN = re.compile(r'''"""|\'\'\'|"(?:\\.|[^"\\])*"|'[^']*'|\#.*|[\[\]{}]''')


class Places:
    """The lines of one valid TOML text. Keys inside inline tables have their table's line."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._arrays: dict[tuple[str, ...], int] = {}
        table: Path = ()
        for number, line in _statements(text):
            if header := _HEADER.match(line):
                table = self._enter(_parts(header[2]), number, is_array=header[1] == "[[")
            elif key := _KEY.match(line):
                path = table
                for part in _parts(key[1]):
                    path = (*path, part)
                    self._lines.setdefault(path, number)

    def line(self, path: Path) -> int | None:
        """The line of ``path``, or of what it is in; None where not even that is there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None

    def _enter(self, names: tuple[str, ...], number: int, *, is_array: bool) -> Path:
        """The path that a header opens: array tables above it mean their latest element."""
        if is_array:
            self._arrays[names] = self._arrays.get(names, -1) + 1
        path: Path = ()
        for length in range(1, len(names) + 1):
            path = (*path, names[length - 1])
            self._lines.setdefault(path, number)
            if names[:length] in self._arrays:
                path = (*path, self._arrays[names[:length]])
                self._lines.setdefault(path, number)
        return path


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines that begin a header or a key, with their numbers; not those that continue a value."""
    depth, closing = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        rest = line
        if closing:
            _, found, rest = line.partition(closing)
            if not found:
                continue
            closing = ""
        elif depth == 0:
            yield number, line
        depth, closing = _left_open(rest, depth)


def _left_open(line: str, depth: int) -> tuple[int, str]:
    """How deep in brackets, and in which multi-line string, the next line begins."""
    at = 0
    while token := _TOKEN.search(line, at):
        at = token.end()
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case '"""' | "'''" as quotes:
                end = line.find(quotes, at)
                if end < 0:
                    return depth, quotes
                at = end + 3
    return depth, ""


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in re.findall(_NAME, dotted))
