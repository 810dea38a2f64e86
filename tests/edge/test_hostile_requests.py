"""The corpus of hostile requests against a running gateway, every byte judged by h11."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.edge.hostile_requests import Case, cases
from tests.edge.stage import Stage, staged

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
        for piece in pieces:
            await client.send(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0)
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


def _fresh_keys(case: Case, size: int) -> bytes:
    """The same keys again would be repeats."""
    return case.sent.replace(b"key-", b"key%d-" % size).replace(b"pipelined-", b"piped%d-" % size)


@pytest.mark.parametrize("size", [1 << 30, 7, 1], ids=["whole", "sevens", "bytes"])
async def test_every_hostile_request_is_refused_or_forwarded_once(
    tmp_path: Path, size: int
) -> None:
    corpus = [case for case in cases() if fits(case, size)]
    counts: Counter[str] = Counter()
    flaws: list[str] = []
    async with staged(tmp_path) as stage:
        for case in corpus:
            flaws += await flaws_of(stage, case, cut(_fresh_keys(case, size), size))
            for status in case.statuses:
                counts["refused" if status >= 400 else "accepted"] += 1
        ill_formed = stage.backend.ill_formed
        await stage.still_serves()
        counts["forwarded"] = len(stage.backend.requests) - 2
        hosts = {host.lower() for each in stage.backend.requests for host in each.values(b"host")}
    print(
        f"hostile requests: {len(corpus)} cases, {counts['refused']} refused,"
        f" {counts['accepted']} accepted, {counts['forwarded']} forwarded,"
        f" {len(ill_formed)} ill formed (h11)"
    )
    assert not flaws, "\n" + "\n".join(flaws)
    assert ill_formed == []
    assert b"bank" not in hosts
