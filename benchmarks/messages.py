"""The least of HTTP/1.1 that a benchmark's other side needs: whole messages cut from bytes."""

import re

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


def cut(data: bytes) -> tuple[bytes, bytes] | None:
    """The first whole message, and what comes after it."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    length = _LENGTH.search(data, 0, end)
    end += int(length[1]) if length else 0
    return None if len(data) < end else (data[:end], data[end:])
