"""Entries to the fields of a hash and back, byte for byte."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from gateway.orders.entry import Entry
from gateway.stores import codec

Fields: TypeAlias = list[bytes | str]
"""Names and values in turn, as HSET takes them."""


def put_fields(before: Entry | None, after: Entry) -> tuple[list[str], Fields]:
    """What to drop and what to set so that the hash of ``before`` becomes that of ``after``."""
    drops: list[str] = []
    fields: Fields = ["d", _document(after), "ua", repr(after.updated_at)]
    if before is None or after.promise is not before.promise:
        fields += ["p", codec.promise_text(after.promise)]
    if before is None or after.request is not before.request:
        if after.request is not None:
            fields += ["rh", codec.request_head(after.request), "rb", after.request.body]
        elif before is not None:
            drops += ["rh", "rb"]
    if before is None or after.answer is not before.answer:
        drops += _put_answer(before, after, fields)
    return drops, fields


def _put_answer(before: Entry | None, after: Entry, fields: Fields) -> list[str]:
    if after.answer is None:
        return [] if before is None else ["ah", "ab"]
    fields += ["ah", codec.answer_head(after.answer)]
    if after.answer.body is None:
        return ["ab"]
    fields += ["ab", after.answer.body]
    return []


def _document(entry: Entry) -> bytes:
    columns = [
        entry.id,
        entry.scope,
        entry.key,
        entry.key_kind,
        entry.fingerprint,
        entry.status,
        entry.token,
        entry.claim_id,
        entry.created_at,
        entry.claimed_at,
        entry.updated_at,
        entry.settled_at,
        entry.disputed,
    ]
    return orjson.dumps([columns, codec.document(entry)])


def entry(fields: Mapping[bytes, bytes]) -> Entry:
    """The entry that a hash holds; without request and answer where those were left out."""
    columns, document = orjson.loads(fields[b"d"])
    request = answer = None
    if b"rh" in fields:
        request = codec.request(fields[b"rh"].decode(), fields[b"rb"])
    if b"ah" in fields:
        answer = codec.answer(fields[b"ah"].decode(), fields.get(b"ab"))
    values: Any = (*columns, fields[b"p"].decode(), document)
    return codec.entry(*values, kept_request=request, kept_answer=answer)


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values in turn, as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
