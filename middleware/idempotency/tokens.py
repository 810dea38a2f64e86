"""Verified tokens: JSON Web Tokens (RFC 7519) signed as RFC 7515 has it, by joserfc.

A key is never taken from a token (``jwk``, ``jku``, ``x5c`` are not looked at), and each key goes
with the algorithms of its own type only: a public key can't be used as a secret (RFC 8725).
"""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey, import_key

from middleware.clock import Clock
from middleware.idempotency.claims import Demands, TokenRefused, Verified, judge

TOKEN_BYTES_MAX = 8_192
"""What common servers take as one header field; a token is rarely over two kilobytes."""

KEYS_BYTES_MAX = 262_144
KEYS_MAX = 64
"""A key set holds the key in use, the last and the next; Google's and Microsoft's some ten."""

TRIES_MAX = 8
"""Keys tried for a token that does not name its key."""

CACHED_MAX = 10_000
"""Tokens believed without another look, some 400 bytes each: the customers of the last minutes."""

LOOK_EVERY_S = 1.0
"""How often the file of keys is asked whether it changed: one stat call."""

RSA_BITS_MIN = 2048
"""RFC 7518 section 3.3."""

_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_SECRET_BYTES_MIN = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 section 3.2: no shorter than the digest."""


class KeysInvalid(ValueError):
    """The file of keys can't be used; the message says why."""


class TokenInvalid(Exception):
    """The token is not believed."""

    def __init__(self, reason: TokenRefused) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, the name it goes by, and the allowed algorithms that it may verify."""

    key: Any
    kid: str | None
    algorithms: frozenset[str]


def is_symmetric(algorithm: str) -> bool:
    return algorithm.startswith("HS")


def read_keys(text: bytes, algorithms: Collection[str]) -> tuple[VerificationKey, ...]:
    """The keys in a JWK set (RFC 7517), a PEM or, for HMAC, a file that is the secret itself.

    Keys of unknown kinds are passed over, as RFC 7517 section 5 asks. Raises KeysInvalid where
    none is left that an allowed algorithm could use.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of short keys: they are refused below
        members = _imported(text.strip(), algorithms)
    keys = [VerificationKey(key, key.kid, _usable(key, algorithms)) for key in members]
    usable = tuple(key for key in keys if key.algorithms)
    if not usable:
        raise KeysInvalid(f"holds no key (of good length) for {', '.join(algorithms)}")
    return usable


def _imported(text: bytes, algorithms: Collection[str]) -> list[Any]:
    if not text:
        raise KeysInvalid("is empty")
    if text.startswith(b"{"):
        return _key_set(text)
    if text.startswith(b"-----BEGIN"):
        return [_pem(text)]
    if all(is_symmetric(algorithm) for algorithm in algorithms):
        return [OctKey.import_key(text)]
    raise KeysInvalid("is neither a JWK set nor a PEM")


def _key_set(text: bytes) -> list[Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise KeysInvalid(f"is not JSON: {error}") from error
    members = document.get("keys", [document])
    if not isinstance(members, list) or len(members) > KEYS_MAX:
        raise KeysInvalid(f"is no JWK set of at most {KEYS_MAX} keys")
    found = []
    for member in members:
        with suppress(JoseError, ValueError, TypeError, KeyError, AttributeError):
            found.append(import_key(dict(member)))
    return found


def _pem(text: bytes) -> Any:
    for kind in ("RSA", "EC", "OKP"):
        try:
            return import_key(text, kind)
        except (JoseError, ValueError, TypeError):
            continue
    raise KeysInvalid("is no PEM of a public key (RSA, EC or Ed25519)")


def _usable(key: Any, algorithms: Collection[str]) -> frozenset[str]:
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return frozenset()
    own = key.get("alg")
    return frozenset(name for name in algorithms if own in (None, name) and _fits(key, name))


def _fits(key: Any, algorithm: str) -> bool:
    match key:
        case RSAKey():
            is_rsa = algorithm.startswith(("RS", "PS"))
            return is_rsa and key.public_key.key_size >= RSA_BITS_MIN
        case ECKey():
            return _CURVES.get(algorithm) == key.curve_name
        case OKPKey():
            return algorithm == "EdDSA" and key.curve_name == "Ed25519"
        case OctKey():
            return len(key.raw_value) >= _SECRET_BYTES_MIN.get(algorithm, 1 << 30)
        case _:
            return False


class KeyFile:
    """The keys in a file, read again when it changes; a broken new one leaves the old ones.

    ``event`` is told of both. Raises KeysInvalid, OSError only when made.
    """

    def __init__(
        self, path: Path, algorithms: Collection[str], *, event: Callable[..., object]
    ) -> None:
        self._path = path
        self._algorithms = tuple(algorithms)
        self._event = event
        self._looked_at = 0.0
        self._seen = self._look()
        self.version = 0
        self.keys = load_keys(path, self._algorithms)

    def refresh(self, monotonic: float) -> None:
        """Read it again if it has changed since it was last looked at."""
        if monotonic - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = monotonic
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.keys = load_keys(self._path, self._algorithms)
        except (OSError, KeysInvalid) as error:
            self._event("token keys can't be read: the old ones stay", why=str(error))
            return
        self.version += 1
        self._event("token keys were read anew", keys=len(self.keys))

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()  # follows the link that a secret mount turns
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


def load_keys(path: Path, algorithms: Collection[str]) -> tuple[VerificationKey, ...]:
    """Raises OSError, KeysInvalid."""
    with path.open("rb") as file:
        text = file.read(KEYS_BYTES_MAX + 1)
    if len(text) > KEYS_BYTES_MAX:
        raise KeysInvalid(f"is larger than {KEYS_BYTES_MAX} bytes")
    return read_keys(text, algorithms)


class _Registry(jws.JWSRegistry):
    """Exactly the allowed algorithms, and headers as large as a token may be."""

    max_header_length = TOKEN_BYTES_MAX

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise TokenInvalid(TokenRefused.ALGORITHM)
        return self.algorithms[name]


class TokenVerifier:
    """Believes tokens of one issuer; remembers those it believed until they expire."""

    def __init__(
        self, keys: KeyFile, algorithms: Collection[str], demands: Demands, *, clock: Clock
    ) -> None:
        self._keys = keys
        self._allowed = frozenset(algorithms)
        self._registry = _Registry(algorithms=self._allowed, strict_check_header=False)
        self._demands = demands
        self._clock = clock
        self._version = keys.version
        self._believed: OrderedDict[bytes, Verified] = OrderedDict()

    def verify(self, token: bytes) -> Verified:
        """Raises TokenInvalid."""
        if len(token) > TOKEN_BYTES_MAX:
            raise TokenInvalid(TokenRefused.TOO_LONG)
        self._keys.refresh(self._clock.monotonic())
        if self._version != self._keys.version:
            self._version = self._keys.version
            self._believed.clear()  # a key that is gone speaks for nobody
        now = self._clock.wall()
        digest = hashlib.sha256(token).digest()
        known = self._believed.get(digest)
        if known is not None and now < known.until:
            self._believed.move_to_end(digest)
            return known
        verified = judge(self._claims(token), self._demands, now)
        if isinstance(verified, TokenRefused):
            raise TokenInvalid(verified)
        self._believed[digest] = verified
        if len(self._believed) > CACHED_MAX:
            self._believed.popitem(last=False)
        return verified

    def _claims(self, token: bytes) -> Mapping[str, Any]:
        """The claims of a token whose signature is right."""
        try:
            signed = jws.extract_compact(token, registry=self._registry)
            header = signed.headers()
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise TokenInvalid(TokenRefused.MALFORMED) from error
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._allowed:
            raise TokenInvalid(TokenRefused.ALGORITHM)
        if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: we know no extension
            raise TokenInvalid(TokenRefused.MALFORMED)
        candidates = self._candidates(algorithm, header.get("kid"))
        if not candidates:
            raise TokenInvalid(TokenRefused.UNKNOWN_KEY)
        if not any(self._is_signed_by(signed, candidate.key) for candidate in candidates):
            raise TokenInvalid(TokenRefused.SIGNATURE)
        return _members(signed.payload)

    def _candidates(self, algorithm: str, kid: object) -> list[VerificationKey]:
        """The key that the token names; where either has no name, all of the kind."""
        fitting = (each for each in self._keys.keys if algorithm in each.algorithms)
        named = [each for each in fitting if kid is None or each.kid in (None, kid)]
        return named[:TRIES_MAX]

    def _is_signed_by(self, signed: Any, key: Any) -> bool:
        try:
            return jws.validate_compact(signed, key, registry=self._registry)
        except (JoseError, ValueError, TypeError):
            return False


def _members(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        claims = None
    if not isinstance(claims, dict):
        raise TokenInvalid(TokenRefused.MALFORMED)
    return claims
