"""Tokens: which are believed, and what a hostile one comes to."""

import hashlib
import hmac
import json
import warnings
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from middleware.idempotency import tokens
from middleware.idempotency.claims import Demands, TokenRefused, client_digest
from middleware.idempotency.tokens import KeyFile, KeysInvalid, TokenInvalid, TokenVerifier

NOW = 1_800_000_000.0
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
OKP = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = RSAKey.generate_key(2048, {"kid": "rsa"})
SECRET = b"a-secret-of-more-than-32-bytes-in-all"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
CLAIMS = {"iss": "https://id", "aud": "shop", "sub": "anna", "exp": NOW + 60}
ANNA = client_digest("https://id", "anna")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def signed(claims: object, key: Any = RSA, alg: str = "RS256", **header: Any) -> bytes:
    fields = {"alg": alg, "kid": key.kid} | header
    fields = {name: value for name, value in fields.items() if value is not None}
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc would rather have Ed25519 called so
        registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
        return jws.serialize_compact(fields, payload, key, registry=registry).encode()


def unsigned(header: object, claims: object, signature: bytes = b"") -> bytes:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)


class Verifying:
    """A verifier over a file of keys, its clock, and what it was told."""

    def __init__(self, path: Path, text: str | bytes, algorithms: tuple[str, ...]) -> None:
        self.path = path
        self.write(text)
        self.clock = Clock()
        self.events: list[str] = []
        keys = KeyFile(path, algorithms, event=lambda what, **_: self.events.append(what))
        demands = Demands("https://id", frozenset({"shop"}), 5.0, frozenset({"sub", "tenant"}))
        self.verifier = TokenVerifier(keys, algorithms, demands, clock=self.clock)

    def write(self, text: str | bytes) -> None:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)

    def client(self, token: bytes) -> bytes | None:
        return self.verifier.verify(token).clients.get("sub")

    def refusal(self, token: bytes) -> TokenRefused:
        with pytest.raises(TokenInvalid) as refused:
            self.verifier.verify(token)
        return refused.value.reason


def key_set(*keys: Any, **members: Any) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) | members for key in keys]})


@pytest.fixture
def verifying(tmp_path: Path) -> Verifying:
    return Verifying(tmp_path / "jwks.json", key_set(RSA, EC, OKP), ALGORITHMS)


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (OKP, "EdDSA")])
def test_a_signed_token_says_who_its_client_is(verifying: Verifying, key: Any, alg: str) -> None:
    assert verifying.client(signed(CLAIMS, key, alg)) == ANNA
    assert verifying.client(signed(CLAIMS, key, alg, kid=None)) == ANNA


def test_a_refreshed_token_is_the_same_client(verifying: Verifying) -> None:
    old, new = signed(CLAIMS), signed(CLAIMS | {"exp": NOW + 900, "jti": "2"}, EC, "ES256")
    assert old != new
    assert verifying.client(old) == verifying.client(new)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"opaque", TokenRefused.MALFORMED),
        (b"..", TokenRefused.MALFORMED),
        (b"a.b.c.d.e", TokenRefused.MALFORMED),
        (b"\xff\xfe.\x00.\x80", TokenRefused.MALFORMED),
        (b"e30.e30.", TokenRefused.MALFORMED),
        (unsigned([], CLAIMS), TokenRefused.MALFORMED),
        (b"x" * 9000, TokenRefused.TOO_LONG),
        (unsigned({"alg": "none"}, CLAIMS), TokenRefused.ALGORITHM),
        (unsigned({"alg": "None"}, CLAIMS), TokenRefused.ALGORITHM),
        (unsigned({"alg": ["RS256"]}, CLAIMS), TokenRefused.ALGORITHM),
        (signed(CLAIMS, OctKey.import_key(SECRET), "HS256"), TokenRefused.ALGORITHM),
        (signed(CLAIMS, RSA, "RS512"), TokenRefused.ALGORITHM),
        (signed(CLAIMS, OTHER), TokenRefused.SIGNATURE),
        (signed(CLAIMS, OTHER, jwk=OTHER.as_dict(private=False)), TokenRefused.SIGNATURE),
        (signed(CLAIMS, RSA, kid="../../rsa"), TokenRefused.UNKNOWN_KEY),
        (signed(CLAIMS, RSA, kid="ec"), TokenRefused.UNKNOWN_KEY),
        (signed(CLAIMS, RSA)[:-8], TokenRefused.SIGNATURE),
        (unsigned({"alg": "RS256", "kid": "rsa"}, CLAIMS), TokenRefused.SIGNATURE),
        (unsigned({"alg": "ES256", "kid": "ec"}, CLAIMS, b"\0" * 64), TokenRefused.SIGNATURE),
        (signed(b"[1, 2]"), TokenRefused.MALFORMED),
        (signed(b"not json"), TokenRefused.MALFORMED),
        (signed(CLAIMS | {"exp": NOW - 6}), TokenRefused.EXPIRED),
        (signed({"iss": "https://id", "aud": "shop", "sub": "a"}), TokenRefused.NO_EXPIRY),
        (signed(CLAIMS | {"exp": "never"}), TokenRefused.MALFORMED),
        (signed(CLAIMS | {"exp": True}), TokenRefused.MALFORMED),
        (signed(CLAIMS | {"exp": 1e300}), TokenRefused.MALFORMED),
        (signed(CLAIMS | {"nbf": NOW + 60}), TokenRefused.NOT_YET_VALID),
        (signed(CLAIMS | {"iss": "https://evil"}), TokenRefused.ISSUER),
        (signed(CLAIMS | {"iss": ["https://id"]}), TokenRefused.ISSUER),
        (signed(CLAIMS | {"aud": "bank"}), TokenRefused.AUDIENCE),
        (signed(CLAIMS | {"aud": [["shop"], 7, None]}), TokenRefused.AUDIENCE),
        (signed(CLAIMS | {"sub": ["anna"]}), TokenRefused.CLAIM),
        (signed(CLAIMS | {"sub": None}), TokenRefused.CLAIM),
        (signed(CLAIMS | {"sub": True}), TokenRefused.CLAIM),
        (signed(CLAIMS | {"sub": 1.5}), TokenRefused.CLAIM),
    ],
)
def test_a_hostile_token_is_refused_with_its_reason(
    verifying: Verifying, token: bytes, reason: TokenRefused
) -> None:
    assert verifying.refusal(token) is reason
    assert verifying.refusal(token) is reason  # and not believed the second time either


def test_an_extension_that_must_be_understood_is_refused(verifying: Verifying) -> None:
    header = {"alg": "RS256", "kid": "rsa", "b64": False, "crit": ["b64"]}
    assert verifying.refusal(unsigned(header, CLAIMS, b"x")) is TokenRefused.MALFORMED


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """The classic confusion: sign by HMAC with the public key, which everybody knows."""
    pem = RSA.as_pem(private=False)
    with pytest.raises(KeysInvalid):
        Verifying(tmp_path / "key.pem", pem, ("HS256",))
    verifying = Verifying(tmp_path / "key.pem", pem, ("RS256",))
    assert verifying.client(signed(CLAIMS)) == ANNA
    start = unsigned({"alg": "HS256"}, CLAIMS).rpartition(b".")[0]
    mac = urlsafe_b64encode(hmac.digest(pem, start, hashlib.sha256)).rstrip(b"=")
    assert verifying.refusal(start + b"." + mac) is TokenRefused.ALGORITHM


def test_a_secret_file_verifies_hmac(tmp_path: Path) -> None:
    verifying = Verifying(tmp_path / "secret", SECRET + b"\n", ("HS256",))
    assert verifying.client(signed(CLAIMS, OctKey.import_key(SECRET), "HS256")) == ANNA
    wrong = OctKey.import_key(SECRET[::-1])
    assert verifying.refusal(signed(CLAIMS, wrong, "HS256")) is TokenRefused.SIGNATURE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ('{"keys": 7}', "is no JWK set"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [7, "x", {"kty": "magic"}]}', "holds no key"),
        ("hello", "is neither a JWK set nor a PEM"),
        ("-----BEGIN NONSENSE-----\n", "is no PEM"),
        (key_set(RSA, use="enc"), "holds no key"),
        (key_set(RSA, alg="PS256"), "holds no key"),
        (json.dumps({"keys": [{}] * 100}), "at most 64"),
    ],
)
def test_keys_that_can_not_be_used_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(KeysInvalid, match=words):
        Verifying(tmp_path / "keys", text, ("RS256",))


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysInvalid, match="good length"):
        Verifying(tmp_path / "keys", key_set(RSAKey.generate_key(1024)), ("RS256",))


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysInvalid, match="good length"):
        Verifying(tmp_path / "secret", "short", ("HS256",))


def test_a_token_that_was_believed_expires(verifying: Verifying) -> None:
    token = signed(CLAIMS)
    assert verifying.client(token) == ANNA
    verifying.clock.now = NOW + 64  # exp and 5 s of leeway
    assert verifying.client(token) == ANNA
    verifying.clock.now = NOW + 65
    assert verifying.refusal(token) is TokenRefused.EXPIRED


def test_a_key_that_is_gone_from_the_file_speaks_for_nobody(verifying: Verifying) -> None:
    token, other = signed(CLAIMS), signed(CLAIMS, OTHER)
    assert verifying.client(token) == ANNA
    verifying.write(key_set(OTHER))
    verifying.clock.now += 2
    assert verifying.refusal(token) is TokenRefused.SIGNATURE
    assert verifying.client(other) == ANNA
    assert verifying.events == ["token keys were read anew"]


def test_a_broken_new_file_leaves_the_old_keys(verifying: Verifying) -> None:
    verifying.write("{")
    verifying.clock.now += 2
    assert verifying.client(signed(CLAIMS)) == ANNA
    verifying.path.unlink()
    verifying.clock.now += 2
    assert verifying.client(signed(CLAIMS)) == ANNA
    assert verifying.events == ["token keys can't be read: the old ones stay"] * 2


def test_what_is_remembered_is_bounded(
    verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CACHED_MAX", 3)
    for number in range(6):
        verifying.client(signed(CLAIMS | {"jti": number}))
    assert len(verifying.verifier._believed) == 3


def test_two_issuers_may_name_two_clients_alike() -> None:
    assert client_digest("a", "bc") != client_digest("ab", "c")
    assert client_digest("a", "x") != client_digest("b", "x")
