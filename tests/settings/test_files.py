"""Files that can't be read as they stand, and where in a readable one things are."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import SettingsInvalid, load, load_document
from tests.settings.conftest import GOOD, Problems, line_of


def test_nothing_at_all_says_what_there_must_be(problems: Problems) -> None:
    assert problems("") == [
        "routes: there are none. Write at least one [[routes]].",
        "upstreams: there are none. Write at least one [[upstreams]].",
    ]


def test_single_brackets_are_noticed(problems: Problems) -> None:
    text = GOOD.replace("[[upstreams]]", "[upstreams]")
    assert problems(text) == [
        (
            f"{line_of(text, '[upstreams]')}: upstreams: there may be several of these."
            " Write [[upstreams]], in double brackets."
        )
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "[listen]\naddress = 127.0.0.1:8080\n",
            "2: not valid TOML: Expected newline or end of document after a statement. Text"
            ' stands in quotes: address = "127.0.0.1:8080".',
        ),
        pytest.param(
            "[ledger]\ndurability = fsync\n",
            '2: not valid TOML: Invalid value. Text stands in quotes: durability = "fsync".',
        ),
        pytest.param(
            "[listen]\n[listen]\n",
            "2: not valid TOML: Cannot declare ('listen',) twice.",
        ),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(
    problems: Problems, text: str, problem: str
) -> None:
    assert problems(text) == [problem]


def test_a_file_that_can_not_be_read_is_said_so(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"#" * 2_000_000)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, what in [
        (tmp_path / "none", "can't be read: No such file or directory."),
        (tmp_path, "can't be read: Is a directory."),
        (large, "is larger than 1048576 bytes. Is it this file?"),
        (binary, "is not UTF-8 text."),
    ]:
        with pytest.raises(SettingsInvalid) as invalid:
            load(path, {})
        assert str(invalid.value) == f"{path}: {what}"


def test_keys_are_found_past_lists_and_strings_of_several_lines(problems: Problems) -> None:
    text = GOOD.replace(
        'scope = ["header:Authorization"]',
        'scope = [ # settle_s = [\n  "header:Authorization",\n  "cookie:s]", # ]\n]\n'
        "answer_id = '''\nsettle_s = 1'''",
    ).replace("settle_s = 30", '"settle_s" = "30s"')
    found = problems(text)
    assert found[0].startswith(f"{line_of(text, 'scope = [')}: routes[0].scope[1]: ")
    assert found[1].startswith(f"{line_of(text, 'answer_id')}: routes[0].answer_id: ")
    assert found[2:] == [
        (
            f'{line_of(text, "30s")}: routes[0].settle_s: "30s" is not a number. Give a number of'
            " seconds: 30."
        )
    ]


def test_dotted_keys_and_inline_tables_have_lines_too(problems: Problems) -> None:
    text = "listen.adress = 1\n" + GOOD.replace("[listen]\n", "").replace(
        'address = "127.0.0.1:8080"\nadmin = "127.0.0.1:8081"\n',
        "limits = { requests_max = 1, bodys = 2 }\n",
    )
    assert problems(text) == [
        "1: listen.adress: there is no such setting. Did you mean address?",
        "2: limits.bodys: there is no such setting. Did you mean body_s?",
    ]


# --- secret files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "can't be read: No such file or directory"),
        (b"\n \n", "is empty"),
        (b"Authorization: Bearer x\nno field\n", "line 2 of {path} is no header line"),
        (b"Authorization : Bearer x\n", "line 1 of {path} is no header line"),
        (b"Authorization: Bearer x\x00\n", "line 1 of {path} is no header line"),
        (b"Host: backend\n", "line 1 of {path} is a field that the gateway itself writes"),
        (b"Authorization: Bearer x\r\n\r\nX-Shop: 7\n", None),
    ],
)
def test_a_secret_file_must_hold_header_lines(
    tmp_path: Path, problems: Problems, content: bytes | None, what: str | None
) -> None:
    path = tmp_path / "lookup.secret"
    if content is not None:
        path.write_bytes(content)
    text = GOOD.replace("settle_s = 30", 'lookup_headers = "lookup.secret"')
    found = problems(text)
    if what is None:
        assert found == []
        return
    words = what.format(path=path) if "{path}" in what else f"{path} {what}"
    assert found == [
        (
            f"{line_of(text, 'lookup_headers')}: routes[0].lookup_headers: {words}."
            " It holds header lines, as in Authorization: Bearer ..."
        )
    ]


# --- anything at all ------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "name",
        "match",
        "kind",
        "upstream",
        "capability",
        "lookup",
        "scope",
        "urls",
        "address",
        "settle_s",
        "confirmed_when",
        "invalidates",
        "url",
        "lease_s",
        "body_bytes_max",
        "x",
    ]
)
parts = st.dictionaries(names, values | st.sampled_from(["order", "* /**", "dedup"]), max_size=6)
sections = st.sampled_from(["listen", "ledger", "upstreams", "routes", "limits", "log", "y"])


@given(st.dictionaries(sections, parts | st.lists(parts, max_size=3) | values))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_document_is_either_settings_or_problems_in_words(document: dict[str, object]) -> None:
    try:
        load_document(document, {}, origin="here")
    except SettingsInvalid as invalid:
        assert all(problem.what for problem in invalid.problems)  # noqa: PT017
