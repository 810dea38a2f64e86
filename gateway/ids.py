"""Names of orders and claims."""

import os
import time
from binascii import b2a_base64

_URLSAFE = bytes.maketrans(b"+/", b"-_")


def new_id() -> str:
    """An id that grants access by itself: 128 random bits, base64url, after the time in
    milliseconds: what is made together lies together in the ledger's indices."""
    made_at_ms = int(time.time() * 1000) % (1 << 40)
    told = b2a_base64(made_at_ms.to_bytes(5, "big") + os.urandom(16), newline=False)
    return told.translate(_URLSAFE).decode()
