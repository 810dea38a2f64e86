"""Which submissions are the same one. Pure.

The key's syntax is that of the IETF draft "The Idempotency-Key HTTP Header Field"
(draft-ietf-httpapi-idempotency-key-header): an Item Structured Field that is a String
(RFC 9651 section 3.3.3); the bare form, which most clients send, means the same key.
"""

import hashlib
import json
import re
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

KEY_CHARS_MAX = 255
"""The draft sets no limit; 255 holds any UUID, digest or order number, and an index row."""

UNGUESSABLE_CHARS_MIN = 22
"""128 random bits in base64url; a UUID has 36. Shorter keys are order numbers and counters."""

CANONICAL_BYTES_MAX = 262_144
"""Larger JSON is compared by its raw bytes only: parsing it would hold up the event loop."""

RAW_TAG = "r1:"
CANONICAL_TAG = "c1:"


class KeyRefused(StrEnum):
    """Why an Idempotency-Key is not acceptable. Log field and metric label too."""

    REPEATED = "repeated"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    CONTROL = "control_character"
    NOT_ASCII = "not_ascii"
    WHITESPACE = "whitespace"
    PARAMETERS = "parameters"
    UNTERMINATED = "unterminated"
    BAD_ESCAPE = "bad_escape"
    BAD_CHARACTER = "bad_character"
    GUESSABLE = "guessable"


_WHAT_TO_DO: dict[KeyRefused, str] = {
    KeyRefused.REPEATED: "Send the Idempotency-Key field once.",
    KeyRefused.EMPTY: "Send a key of 1 to 255 visible ASCII characters, such as a UUID.",
    KeyRefused.TOO_LONG: f"Send a key of at most {KEY_CHARS_MAX} characters.",
    KeyRefused.CONTROL: "Send a key without control characters.",
    KeyRefused.NOT_ASCII: "Send a key of visible ASCII characters only.",
    KeyRefused.WHITESPACE: "Send a key without white space in it.",
    KeyRefused.PARAMETERS: "Send the key alone, without parameters.",
    KeyRefused.UNTERMINATED: "Close the quoted key with a quotation mark.",
    KeyRefused.BAD_ESCAPE: 'Only \\" and \\\\ may be escaped in a quoted key.',
    KeyRefused.BAD_CHARACTER: 'Quote a key that holds a comma, semicolon, backslash or ".',
    KeyRefused.GUESSABLE: "Send a key that nobody else can choose or guess: "
    f"{UNGUESSABLE_CHARS_MIN} characters or more, such as a UUID.",
}


@dataclass(frozen=True, slots=True)
class KeyRefusal:
    """A key that is not acceptable, and what the client can do about it."""

    reason: KeyRefused

    @property
    def message(self) -> str:
        return _WHAT_TO_DO[self.reason]


@dataclass(frozen=True, slots=True)
class Key:
    """An acceptable key, without quotes and escapes: ``k`` and ``"k"`` are one key."""

    text: str


ParsedKey: TypeAlias = Key | KeyRefusal | None

ORDINARY_KEY = rb"[0-9A-Za-z_-]{1,255}"
"""An expression: what is a key as it stands, whoever reads it. Many others are, too."""

_URLSAFE = bytes.maketrans(b"+/", b"-_")
_OWS = b" \t"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE_FORBIDDEN = re.compile(r'[",;\\]')


_UUID7 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def made_at(key: str) -> float | None:
    """When a key was made that says so, as a UUIDv7 does (RFC 9562 section 5.7): Unix time, by the
    clock of whoever made it."""
    if len(key) != 36 or key[14] != "7" or (found := _UUID7.fullmatch(key)) is None:
        return None
    return int(found[1] + found[2], 16) / 1000


def parse_key(field_lines: Sequence[bytes]) -> ParsedKey:
    """The key in the values of every Idempotency-Key line of a request; None if there is none."""
    if not field_lines:
        return None
    if len(field_lines) > 1:
        return KeyRefusal(KeyRefused.REPEATED)
    value = field_lines[0].strip(_OWS)
    if (reason := _refuse_bytes(value)) is not None:
        return KeyRefusal(reason)
    text = value.decode("ascii")
    return _parse_quoted(text) if text.startswith('"') else _parse_bare(text)


def _refuse_bytes(value: bytes) -> KeyRefused | None:
    if not value:
        return KeyRefused.EMPTY
    if len(value) > 2 * KEY_CHARS_MAX + 2:  # every character escaped, and the quotes
        return KeyRefused.TOO_LONG
    if _CONTROL.search(value):
        return KeyRefused.CONTROL
    if not value.isascii():
        return KeyRefused.NOT_ASCII
    return None


def _parse_bare(text: str) -> Key | KeyRefusal:
    if ";" in text:
        return KeyRefusal(KeyRefused.PARAMETERS)
    if _BARE_FORBIDDEN.search(text):
        return KeyRefusal(KeyRefused.BAD_CHARACTER)
    return _checked(text)


def _parse_quoted(text: str) -> Key | KeyRefusal:
    quoted = _QUOTED.match(text)
    if quoted is None:
        return KeyRefusal(KeyRefused.UNTERMINATED)
    rest = text[quoted.end() :].lstrip(" \t")
    if rest.startswith(";"):
        return KeyRefusal(KeyRefused.PARAMETERS)
    if rest:
        return KeyRefusal(KeyRefused.BAD_CHARACTER)
    inner = quoted.group(1)
    if any(character not in '"\\' for character in _ESCAPED.findall(inner)):
        return KeyRefusal(KeyRefused.BAD_ESCAPE)
    return _checked(_ESCAPED.sub(r"\1", inner))


def _checked(key: str) -> Key | KeyRefusal:
    if not key:
        return KeyRefusal(KeyRefused.EMPTY)
    if " " in key or "\t" in key:
        return KeyRefusal(KeyRefused.WHITESPACE)
    if len(key) > KEY_CHARS_MAX:
        return KeyRefusal(KeyRefused.TOO_LONG)
    return Key(key)


def key_field(key: str) -> str:
    """The key as a field value: a structured-field string (RFC 9651 section 4.1.6)."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unguessable(key: str) -> bool:
    """Whether nobody else finds this key by trying, or chooses it too."""
    return len(key) >= UNGUESSABLE_CHARS_MIN


def split_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Path and query of an origin-form target; a bare ``?`` is an empty query, not None."""
    path, mark, query = target.partition(b"?")
    return path, (query if mark else None)


def raw_fingerprint(method: str, path: bytes, query: bytes | None, body: bytes) -> str:
    """The digest a key is bound to: of the bytes as they were sent."""
    return RAW_TAG + _of_request(method, path, query, body)


def canonical_fingerprint(method: str, path: bytes, query: bytes | None, body: bytes) -> str | None:
    """The same, of the body's JSON with sorted keys and without white space.

    None where two bodies of different meaning might share that form: not JSON, a duplicate
    member, NaN, a number that does not survive a float or 64 bits, a lone surrogate, too deep,
    too large. Then only the raw bytes count.
    """
    form = _canonical_json(body)
    if form is None:
        return None
    return CANONICAL_TAG + _of_request(method, path, query, form)


class Sameness(StrEnum):
    """Whether a repeat of a key is a repeat of its submission."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN_TAG = "unknown_tag"


def same_submission(
    stored_raw: str,
    stored_canonical: str | None,
    raw: str,
    canonical: Callable[[], str | None],
) -> Sameness:
    """Compare a submission with the one its key is bound to.

    ``canonical`` is called only where the raw bytes differ. UNKNOWN_TAG: the entry was written
    by a version that fingerprints otherwise; it must never be taken for a fresh key.
    """
    if not stored_raw.startswith(RAW_TAG):
        return Sameness.UNKNOWN_TAG
    if stored_raw == raw:
        return Sameness.SAME
    if stored_canonical is None:
        return Sameness.DIFFERENT
    if not stored_canonical.startswith(CANONICAL_TAG):
        return Sameness.UNKNOWN_TAG
    return Sameness.SAME if canonical() == stored_canonical else Sameness.DIFFERENT


def scope_digest(kind: str, value: bytes) -> str:
    """What stands for a client in the ledger: hex, never the credential itself.

    ``kind`` is the source (``header:authorization``), so that a cookie and a header of one
    value are two clients.
    """
    return _digest(b"scope", kind.encode(), value).hex()


def upstream_key(scope: str | None, key: str) -> str:
    """The key that upstream and lookup see: 43 characters of base64url, one for (scope, key)."""
    owner = (b"anonymous",) if scope is None else (b"scope", scope.encode())
    digest = _digest(b"upstream-key", *owner, key.encode())
    return b2a_base64(digest, newline=False).translate(_URLSAFE, b"=").decode("ascii")


def _of_request(method: str, path: bytes, query: bytes | None, body: bytes) -> str:
    """The digest of a request with this body, in hex."""
    digest = _begun(method, path, query).copy()
    digest.update(len(body).to_bytes(8, "big"))
    digest.update(body)
    return digest.hexdigest()


@lru_cache(64)  # a few routes take orders, each at its own path
def _begun(method: str, path: bytes, query: bytes | None) -> "Digest":
    return hashlib.sha256(_framed(method.encode(), path, b"" if query is None else b"?" + query))


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(_framed(*parts)).digest()


def _framed(*parts: bytes) -> bytes:
    """Each part after its length: no two lists of parts look alike."""
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


class _NotCanonical(Exception):
    """This JSON has no form that stands for exactly one meaning."""


def _canonical_json(body: bytes) -> bytes | None:
    if len(body) > CANONICAL_BYTES_MAX:
        return None
    try:
        value = orjson.loads(body)
        if orjson.dumps(value) == body:  # nothing was lost on the way: what browsers send
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):
        return None  # orjson reads no less than what has a canonical form
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=_exact_float,
            parse_int=_exact_int,
            parse_constant=_no_constant,
        )
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError, _NotCanonical):
        return None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotCanonical  # parsers disagree on which of two members counts
    return members


_INT_CHARS_MAX = 20
"""A sign and 19 digits, or 20 digits: all that 64 bits hold."""

_FLOAT_CHARS_MAX = 40
"""More digits than any double needs (17), and exponents; longer ones are not exact anyway."""


def _exact_int(literal: str) -> int:
    if len(literal) > _INT_CHARS_MAX:
        raise _NotCanonical
    return int(literal)


def _exact_float(literal: str) -> float:
    value = float(literal)
    if len(literal) > _FLOAT_CHARS_MAX or value in (float("inf"), float("-inf")):
        raise _NotCanonical
    if Decimal(literal) != Decimal(repr(value)):
        raise _NotCanonical
    return value


def _no_constant(literal: str) -> None:
    raise _NotCanonical(literal)
