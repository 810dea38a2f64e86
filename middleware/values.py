"""Values that are made for every request."""

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def light(cls: type[T]) -> type[T]:
    """Decorates a frozen dataclass of which each order makes several: a tenth of the cost to make.

    A frozen dataclass stores each field through ``object.__setattr__``, which was a seventh of an
    order. Here a field is stored as in any class; that nobody assigns one is held by the type
    checker, for which the class is as frozen as before.
    """
    namespace: dict[str, Any] = {}
    parameters, lines = [], []
    for each in fields(cls):  # type: ignore[arg-type] # a dataclass, or it raises
        if each.default_factory is not MISSING or not each.init:
            raise TypeError(f"{cls.__name__}.{each.name} is not set by the caller")
        default = ""
        if each.default is not MISSING:
            namespace[f"_{each.name}"] = each.default
            default = f"=_{each.name}"
        parameters.append(each.name + default)
        lines.append(f"self.{each.name} = {each.name}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n    ".join(lines or ["pass"])
    exec(f"def __init__(self, {', '.join(parameters)}):\n    {body}", namespace)  # noqa: S102
    made = namespace["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    cls.__init__ = made  # type: ignore[method-assign]
    del cls.__setattr__, cls.__delattr__
    return cls
