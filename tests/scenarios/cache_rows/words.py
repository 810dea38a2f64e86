"""What the rows share."""

from tests.scenarios.exchanges import Says, Step

OLD = "Tue, 15 Nov 1994 08:12:31 GMT"
FRESH = {"Cache-Control": "max-age=3600"}
LM = {"Last-Modified": "T-100000"}


def twice(says: Says, *, hit: bool, wait_s: float = 0.0, **more: object) -> list[Step]:
    """The same request again, after a while: from the cache or not."""
    again = Step(says, hit=hit, wait_s=wait_s, **more)  # type: ignore[arg-type]
    return [Step(says, **more), again]  # type: ignore[arg-type]


def says(control: str, **fields: str) -> Says:
    return Says({"Cache-Control": control} | {k.replace("_", "-"): v for k, v in fields.items()})


VARIED = Says(FRESH | {"Vary": "X-A"})
STALE = says("max-age=1", ETag='"a"', Last_Modified=OLD, A="1")
