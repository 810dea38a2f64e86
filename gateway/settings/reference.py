"""docs/configuration.md, from the models: ``python -m gateway.settings.reference`` prints it.

What a setting is and why its default is what it is stands once, under the setting in ``models``.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings.environment import LISTS, NESTING, PREFIX
from gateway.settings.models import Settings

INTRODUCTION = """\
# Configuration

<!-- Written by `python -m gateway.settings.reference`; a test keeps it current. -->

A TOML file, and environment variables over it. `ordergate check FILE` says everything that is wrong
with it at once, each with line, key and what was probably meant, and warns of what is legal but
dangerous; `ordergate serve --config FILE` refuses a wrong file with the same words. `ordergate
doctor --config FILE` then tries the real machine, ledger and upstreams.

```console
$ ./run check deploy/ordergate.toml
OK
$ ./run serve --config deploy/ordergate.toml
$ ./run doctor --config deploy/ordergate.toml
```

- **Names** are as below and nothing else: a mistyped one is refused, never ignored.
- **Units** are in the names: `_s` is seconds, `_bytes_max` is bytes. Numbers stand without quotes
  and without a unit: `settle_s = 30`.
- **Every setting is also an environment variable**: `ORDERGATE_LISTEN__ADDRESS=0.0.0.0:8080`,
  `ORDERGATE_ROUTES__0__SETTLE_S=45`. It changes what the file has, and adds no part to a list.
- **Secrets** come from files: `lookup_headers`, the HMAC secret that `[jwt] keys` may name, and the
  operators' token, which the first start makes beside the ledger. Keep them 0600.
- **Relative paths** start from the file's folder.
- What an order is promised is **frozen when it is claimed**: a change of the file counts for new
  orders only.

Without a file, for one backend of which nothing is known (`capability = "none"`, clients told apart
by `Authorization`, the ledger in `ledger.db` in the working directory); variables count here too:

```console
$ ./run serve --upstream http://127.0.0.1:9000 --orders "POST /orders"
```
"""

CODE = re.compile(r"``([^`]+)``")


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for section in Settings.model_fields:
        parts += _section(section)
    return "\n".join(parts)


def undescribed() -> list[str]:
    """Settings that nothing is said of."""
    return [
        f"{section}.{name}"
        for section in Settings.model_fields
        for name in _model(section).model_fields
        if not _texts(_model(section)).get(name)
    ]


def _model(section: str) -> type[BaseModel]:
    if section in LISTS:
        return LISTS[section]
    model = Settings.model_fields[section].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{section} is no section")
    return model


def _section(section: str) -> Iterator[str]:
    model = _model(section)
    title = f"[[{section}]]" if section in LISTS else f"[{section}]"
    about = _prose(inspect.getdoc(model) or "").partition(".")[2].lstrip(": ").strip()
    yield f"\n## `{title}`\n" + (f"\n{about}\n" if about else "")
    yield "| setting | value | default | what it is |\n|---|---|---|---|"
    texts = _texts(model)
    for name, field in model.model_fields.items():
        cells = (f"`{name}`", _value(name, field), _default(name, field), _prose(texts[name]))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    index = ["0"] if section in LISTS else []
    example = NESTING.join([section, *index, next(iter(model.model_fields))]).upper()
    yield f"\nAs variables: `{PREFIX}{example}` and so on."


def _texts(model: type[BaseModel]) -> dict[str, str]:
    """What stands under each setting in the source, as one line."""
    tree = ast.parse(inspect.getsource(sys.modules[model.__module__]))
    (body,) = (
        each.body
        for each in tree.body
        if isinstance(each, ast.ClassDef) and each.name == model.__name__
    )
    texts = dict.fromkeys(model.model_fields, "")
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = " ".join(text.split())
            case _:
                pass
    return texts


def _prose(text: str) -> str:
    return CODE.sub(r"`\1`", " ".join(text.split()))


# --- values ---------------------------------------------------------------------------------

_UNSAID = (315_360_000, 2**40, 1_000_000)
"""Upper limits that stop a slip of the hand, not a wish."""


def _value(name: str, field: FieldInfo) -> str:
    """The kind of value and its tightest limits."""
    lowest = _limits(field, annotated_types.Ge, "ge")
    above = _limits(field, annotated_types.Gt, "gt")
    highest = _limits(field, annotated_types.Le, "le")
    said = [_kind(name, field.annotation)]
    if lowest:
        said.append(f"at least {_number(max(lowest))}")
    elif above:
        said.append(f"more than {_number(max(above))}")
    if highest and min(highest) not in _UNSAID:
        said.append(f"at most {_number(min(highest))}")
    return ", ".join(said)


def _limits(field: FieldInfo, kind: type, name: str) -> list[float]:
    return [float(getattr(each, name)) for each in field.metadata if isinstance(each, kind)]


def _number(value: Any) -> str:
    return f"{value:.15g}"


def _kind(name: str, annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(name, parts[0])
    if origin in (Union, UnionType):
        return _kind(name, next(part for part in parts if part is not NoneType))
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in parts)
    if name == "capability":
        return "text, or a list"
    if origin is tuple or annotation is tuple:
        return "list of texts"
    if origin is dict or annotation is dict:
        return "table"
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        unit = {"_s": "seconds", "_bytes_max": "bytes"}
        return next((word for end, word in unit.items() if name.endswith(end)), "whole number")
    return "text"


def _default(name: str, field: FieldInfo) -> str:
    match field.default:
        case value if value is PydanticUndefined:
            return "(required)"
        case None | ():
            return "none"
        case tuple(value):
            return "`[" + ", ".join(f'"{each}"' for each in value) + "]`"
        case dict(value):
            return "none" if not value else f"`{value}`"
        case bool(value):
            return f"`{str(value).lower()}`"
        case str(value):
            return f'`"{value}"`'
        case int(value) if name.endswith("bytes_max"):
            return f"`{value}`"
        case value:
            return f"`{_number(value)}`"


if __name__ == "__main__":
    sys.stdout.write(reference().rstrip() + "\n")
