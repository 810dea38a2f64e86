"""``./run bench`` lists the benchmarks; ``./run bench NAME [OPTIONS]`` runs one."""

import ast
import runpy
import signal
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Name and first line of each module here that says how ``./run bench`` starts it."""
    found = {}
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        told = ast.get_docstring(ast.parse(path.read_text())) or ""
        if f"./run bench {path.stem}" in told:
            found[path.stem] = told.splitlines()[0]
    return found


def _end(number: int, _: object) -> None:
    """As by Ctrl-C: what was started is stopped on the way out."""
    raise SystemExit(128 + number)


def main() -> None:
    found = benchmarks()
    name, *options = sys.argv[1:] or [""]
    if name in found:
        signal.signal(signal.SIGTERM, _end)
        sys.argv = [f"benchmarks.{name}", *options]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
        return
    for each, told in found.items():
        sys.stdout.write(f"{each:14} {told}\n")
    if name:
        raise SystemExit(f"no benchmark is called {name!r}")


if __name__ == "__main__":
    main()
