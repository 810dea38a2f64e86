"""Rows of the ledger file as entries; what can't be read is said, and never looks absent."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import apsw

from gateway.ledger import EntryUnreadable, UnreadableEntry
from gateway.orders.entry import Entry
from gateway.stores import codec
from gateway.stores import sqlite_statements as sql
from gateway.stores.steps import Kept
from gateway.stores.unreadable import Unreadables, unreadable

Bindings: TypeAlias = tuple[str | int | bytes, ...]


def read_whole(
    db: apsw.Connection, unreadables: Unreadables, query: str, bindings: Bindings
) -> Kept | None:
    """The order that ``query`` (one of ``sqlite_statements``' whole ones) finds. Raises
    EntryUnreadable, and has told of it."""
    try:
        row = db.execute(query, bindings).fetchone()
        return None if row is None else _kept(*row)
    except apsw.Error:
        raise
    except Exception as error:
        raise _told(db, unreadables, sql.named(query), bindings, error) from error


def _kept(*row: Any) -> Kept:
    *columns, holder, request_head, request_body, answer_head, answer_body = row
    entry = codec.entry(
        *columns,
        kept_request=None if request_head is None else codec.request(request_head, request_body),
        kept_answer=None if answer_head is None else codec.answer(answer_head, answer_body),
    )
    return Kept(entry, holder)


def read_bare(
    db: apsw.Connection, unreadables: Unreadables, seqs: Sequence[int]
) -> tuple[tuple[Entry, ...], tuple[UnreadableEntry, ...]]:
    """Those orders without requests and answers; apart from them those that can't be read."""
    entries, others = [], []
    for seq in seqs:
        try:
            row = db.execute(sql.BARE_BY_SEQ, (seq,)).fetchone()
            if row is not None:
                entries.append(codec.entry(*row))
        except apsw.Error:
            raise
        except Exception as error:  # noqa: BLE001 - told, and shown
            told = _told(db, unreadables, sql.NAMES_BY_SEQ, (seq,), error)
            others.append(_shown(db, seq, told))
    return tuple(entries), tuple(others)


def _told(
    db: apsw.Connection, unreadables: Unreadables, names: str, bindings: Bindings, error: Exception
) -> EntryUnreadable:
    """By its id, or by its number where not even that can be read."""
    row = db.execute(names, bindings).fetchone()
    seq, raw = (0, b"") if row is None else row
    told = unreadable(raw.decode("utf-8", "replace") or f"number {seq}", error)
    unreadables.met(told, seq)
    return told


def _shown(db: apsw.Connection, seq: int, told: EntryUnreadable) -> UnreadableEntry:
    ((status, created_at),) = db.execute(sql.OUTLINE, (seq,))
    text = status.decode("utf-8", "replace")
    return UnreadableEntry(told.entry_id, text, float(created_at), told.why)
