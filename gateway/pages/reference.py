"""docs/problems.md, from the pages: ``python -m gateway.pages.reference`` prints it.

The statuses are read from the code that tells the problems, so that none can differ.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gateway.pages.problems import PROBLEMS
from middleware.problems import PROBLEMS_BASE, Problem, ProblemType

SOURCES = Path(__file__).parents[2]

INTRODUCTION = f"""\
# Problems

<!-- Written by `python -m gateway.pages.reference`; a test keeps it current. -->

Errors of the gateway's own are problem details (RFC 9457): `application/problem+json` with `type`,
`title`, `status`, mostly `detail`, and `instance`, which is the `Request-Id`. `type` is
`{PROBLEMS_BASE}NAME`, relative to the gateway, which serves this text there. On order routes they
carry `order`, `order_status` and `safe_new_key` besides ([http.md](http.md) says what they mean).
"""


def reference() -> str:
    """The whole page."""
    told = statuses()
    parts = [INTRODUCTION]
    for slug, (title, text) in sorted(PROBLEMS.items(), key=lambda each: (told[each[0]], each[0])):
        codes = ", ".join(str(status) for status in told[slug]) or "any 4xx"
        parts.append(f"## `{slug}` ({codes})\n\n**{title}.** {text}\n")
    return "\n".join(parts)


def statuses() -> dict[str, tuple[int, ...]]:
    """The statuses that each problem is told with; none where it is that of another's error."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for kind in ProblemType:
        if kind is not ProblemType.HTTP_ERROR:
            found[kind.value].add(Problem.of(kind).status)
    for path in (*SOURCES.glob("gateway/**/*.py"), *SOURCES.glob("middleware/**/*.py")):
        for slug, status in _told_in(ast.parse(path.read_text(encoding="utf-8"))):
            found[slug].add(status)
    return {slug: tuple(sorted(found[slug])) for slug in PROBLEMS}


def _told_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id="Problem"),
                args=[ast.Constant(value=int(status)), ast.Constant(value=str(slug)), *_],
            ):
                yield slug, status
            case ast.Call(func=ast.Name(id="_trouble"), args=[ast.Constant(value=str(slug)), *_]):
                yield slug, 503
            case _:
                pass


if __name__ == "__main__":
    sys.stdout.write(reference().rstrip() + "\n")
