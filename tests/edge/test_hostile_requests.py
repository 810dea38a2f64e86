"""The corpus of hostile requests against a running gateway, every byte judged by h11."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.edge.hostile import lines
from tests.edge.hostile.case import Case
from tests.edge.hostile.requests import cases
from tests.edge.stage import Stage, staged
from tests.edge.ways import Way, paved

SIZES = {1 << 30: "whole", 7: "sevens", 1: "bytes"}
SINGLE_BYTES_MAX = 600
"""Longer requests are cut coarser: each byte is a packet."""


def fits(case: Case, size: int) -> bool:
    return size > 7 or len(case.sent) <= SINGLE_BYTES_MAX * size


def cut(sent: bytes, size: int) -> list[bytes]:
    return [sent[at : at + size] for at in range(0, len(sent), size)]


async def flaws_of(stage: Stage, case: Case, pieces: list[bytes]) -> list[str]:
    """What went otherwise than the corpus says."""
    before = len(stage.backend.requests)
    bytes_before = stage.backend.received
    async with stage.connect() as client:
        await client.send(stage.begins)
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0)  # else they would go out as one
        if client.writer.can_write_eof():
            client.writer.write_eof()
        answers = await client.answers(*case.methods)
    flaws = []
    statuses = tuple(answer.status for answer in answers)
    if statuses != case.statuses:
        flaws.append(f"answered {statuses}, not {case.statuses}")
    if not all(answer.whole for answer in answers):
        flaws.append("an answer was cut short")
    forwarded = len(stage.backend.requests) - before
    if forwarded != case.forwarded:
        flaws.append(f"forwarded {forwarded}, not {case.forwarded}")
    if not (case.forwarded or case.begun) and stage.backend.received != bytes_before:
        flaws.append("bytes of it reached the backend")
    for answer in answers:
        if answer.status >= 400 and answer.values(b"content-type") != [b"application/problem+json"]:
            flaws.append(f"{answer.status} is no problem document")
    return [f"{case.group}: {case.name}: {flaw}" for flaw in flaws]


async def test_encoded_slashes_pass_where_that_is_wanted_and_hide_no_order(tmp_path: Path) -> None:
    flaws: list[str] = []
    async with staged(tmp_path, listen='encoded_slashes = "pass"') as stage:
        for case in lines.encoded_slashes_passed():
            flaws += await flaws_of(stage, case, [case.sent])
        await stage.still_serves()
    assert not flaws, "\n" + "\n".join(flaws)


def _fresh_keys(case: Case, size: int) -> bytes:
    """The same keys again would be repeats."""
    return case.sent.replace(b"key-", b"key%d-" % size).replace(b"pipelined-", b"piped%d-" % size)


@pytest.mark.parametrize("size", SIZES, ids=SIZES.__getitem__)
@pytest.mark.parametrize("way", Way)
async def test_every_hostile_request_is_refused_or_forwarded_once(
    tmp_path: Path, size: int, way: Way
) -> None:
    corpus = [case for case in cases() if fits(case, size)]
    counts: Counter[str] = Counter()
    flaws: list[str] = []
    how = paved(way, tmp_path)
    async with staged(tmp_path, **how.options) as stage:
        stage.begins = how.begins
        for case in corpus:
            flaws += await flaws_of(stage, case, cut(_fresh_keys(case, size), size))
            for status in case.statuses:
                counts["refused" if status >= 400 else "accepted"] += 1
        ill_formed = stage.backend.ill_formed
        await stage.still_serves()
        counts["forwarded"] = len(stage.backend.requests) - 2
        hosts = {host.lower() for each in stage.backend.requests for host in each.values(b"host")}
        clients = {each.values(b"x-forwarded-for")[0] for each in stage.backend.requests}
    print(
        f"hostile requests, {way}: {len(corpus)} cases, {counts['refused']} refused,"
        f" {counts['accepted']} accepted, {counts['forwarded']} forwarded,"
        f" {len(ill_formed)} ill formed (h11)"
    )
    assert not flaws, "\n" + "\n".join(flaws)
    assert ill_formed == []
    assert b"bank" not in hosts
    assert clients == {how.client}
