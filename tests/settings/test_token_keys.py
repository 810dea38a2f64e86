"""``[jwt]``: what is wrong with it, with its line, and what is dangerous."""

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from gateway.settings import load_with_warnings
from tests.settings.conftest import GOOD, Problems, line_of

SCOPE = 'scope = ["header:Authorization"]\nscope_is_static = true'
WITH_TOKENS = GOOD.replace(SCOPE, 'scope = ["jwt:sub"]')
JWT = """
[jwt]
keys = "jwks.json"
algorithms = ["ES256"]
issuer = "https://id"
audience = ["shop"]
"""


@pytest.fixture(autouse=True)
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    key = ECKey.generate_key("P-256").as_dict(private=False)
    path.write_text(json.dumps({"keys": [key]}))
    return path


def warned(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "ordergate.toml"
    path.write_text(text, encoding="utf-8")
    return [each.message for each in load_with_warnings(path, {}).warnings]


def test_a_right_section_is_taken_without_a_warning(problems: Problems, tmp_path: Path) -> None:
    assert problems(WITH_TOKENS + JWT) == []
    assert warned(tmp_path, WITH_TOKENS + JWT) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        (
            '["ES256"]',
            '["none"]',
            (
                "jwt.algorithms[0]: a token without a signature can be anybody's. Name what the"
                " issuer signs by."
            ),
        ),
        (
            '["ES256"]',
            '["ES265"]',
            (
                'jwt.algorithms[0]: "ES265" is no algorithm. One of RS256, RS384, RS512, PS256,'
                " PS384,"
                " PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512."
            ),
        ),
        (
            '["ES256"]',
            '["ES256", "HS256"]',
            (
                "jwt.algorithms: a secret and public keys together: one could be taken for the"
                " other. Leave HS256, HS384 and HS512 out, or the others."
            ),
        ),
        (
            'issuer = "https://id"',
            "leeway_s = 3600",
            "jwt.leeway_s: 3600 is out of range. Give at most 300.",
        ),
    ],
)
def test_one_mistake_is_one_problem(
    problems: Problems, right: str, wrong: str, problem: str
) -> None:
    text = WITH_TOKENS + JWT.replace(right, wrong)
    assert problems(text) == [f"{line_of(text, wrong)}: {problem}"]


def test_keys_without_algorithms_are_a_problem(problems: Problems) -> None:
    text = WITH_TOKENS + JWT.replace('algorithms = ["ES256"]\n', "")
    assert problems(text) == [
        (
            f"{line_of(text, '[jwt]')}: jwt.algorithms: is missing. Say what the issuer signs"
            " by, as in"
            ' algorithms = ["RS256"].'
        )
    ]


def test_algorithms_without_keys_are_a_problem(problems: Problems) -> None:
    text = GOOD + '\n[jwt]\nissuer = "https://id"\n'
    assert problems(text) == [
        f'{line_of(text, "issuer")}: jwt.issuer: there are no keys. Write keys = "jwks.json" too.'
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file or directory."),
        ("", "is empty. It holds the issuer's JWK set, its public key as PEM, or the HMAC secret."),
        (
            '{"keys": []}',
            (
                "holds no key (of good length) for ES256. It holds the issuer's JWK set, its"
                " public key as PEM, or the HMAC secret."
            ),
        ),
    ],
)
def test_keys_that_can_not_be_used_are_a_problem(
    problems: Problems, keys: Path, content: str | None, words: str
) -> None:
    if content is None:
        keys.unlink()
    else:
        keys.write_text(content)
    text = WITH_TOKENS + JWT
    assert problems(text) == [f"{line_of(text, 'keys =')}: jwt.keys: {keys} {words}"]


def test_tokens_of_anybody_are_warned_of(tmp_path: Path) -> None:
    open_ = JWT.replace('issuer = "https://id"\naudience = ["shop"]\n', "")
    assert warned(tmp_path, WITH_TOKENS + open_) == [
        (
            "jwt.keys: a token of another issuer that the same keys sign is taken too. Write"
            " issuer in [jwt]."
        ),
        (
            "jwt.keys: a token for another service that the same keys sign is taken too. Write"
            " audience in [jwt]."
        ),
    ]


def test_keys_that_nobody_uses_are_warned_of(tmp_path: Path) -> None:
    assert warned(tmp_path, GOOD + JWT) == [
        'jwt.keys: no route counts by a token. Write scope = ["jwt:sub"] in one.'
    ]


def test_an_open_secret_is_warned_of(tmp_path: Path, keys: Path) -> None:
    keys.write_text("a-secret-of-more-than-32-bytes-in-all")
    keys.chmod(0o644)
    text = WITH_TOKENS + JWT.replace("ES256", "HS256")
    assert warned(tmp_path, text) == [
        (
            "jwt.keys: whoever can read the secret in it can sign tokens. Let nobody else: chmod"
            f" 600 {keys}."
        )
    ]
    keys.chmod(0o600)
    assert warned(tmp_path, text) == []
