"""The whole demo: without a gateway it shows the harm; with one, there is none."""

import asyncio
import importlib.util
import json
import signal
import sys
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.demo.faults import Fault
from gateway.demo.journal import Spread
from gateway.demo.oracle import Finding, Flaw, Verdict
from gateway.demo.report import Outcome, Shortfall, as_json, in_words, transcripts
from gateway.demo.run import DemoOptions, Offer, demo
from gateway.demo.view import Snapshot, line, render
from gateway.orders.states import Status

NAIVE = (sys.executable, "-m", "tests.demo.naive_gateway")

VERDICT = Verdict(
    intents=100,
    confirmed=90,
    rejected=8,
    failed=2,
    dead_letter=0,
    would_take=92,
    would_take_confirmed=90,
    kills=1,
    findings=(),
)
OUTCOME = Outcome(
    verdict=VERDICT,
    capability="lookup",
    seed=7,
    guarded=True,
    seconds=30.0,
    doubts=20,
    doubts_by_kill=2,
    unexplained_dead_letters=0,
    orders=90,
    submissions=130,
    lookups=40,
    repeats=50,
    replays=30,
    audited=80,
    audit_unanswered=0,
    ledger_pending=0,
    definite=Spread(),
    answered=Spread(),
    faults={},
)


def run(capfd: pytest.CaptureFixture[str], options: DemoOptions) -> tuple[int, dict[str, Any]]:
    status = demo(options)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 1, "only the JSON object goes to stdout"
    shown: dict[str, Any] = json.loads(lines[0])
    return status, shown


@pytest.mark.parametrize("offer", [Offer.LOOKUP, Offer.DEDUP])
def test_without_a_gateway_there_are_duplicates_and_the_status_is_1(
    capfd: pytest.CaptureFixture[str], offer: Offer
) -> None:
    options = DemoOptions(
        seconds=1.5,
        seed=7,
        orders_per_second=60.0,
        capability=offer,
        without_gateway=True,
        json=True,
    )
    status, shown = run(capfd, options)
    assert status == 1
    assert shown["duplicates"] > 0
    assert shown["kills"] == 0
    assert shown["bugs"] == []
    ended = ("confirmed", "rejected", "failed", "dead_letter", "pending")
    assert sum(shown[name] for name in ended) == shown["intents"] > 40


def test_a_naive_gateway_is_found_out(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = DemoOptions(
        seconds=4.0, seed=7, orders_per_second=30.0, json=True, folder=tmp_path, command=NAIVE
    )
    status, shown = run(capfd, options)
    assert status == 1
    assert shown["kills"] == 1
    assert shown["duplicates"] > 0
    assert shown["contradictions"] > 0
    assert shown["bugs"] == []


def test_a_gateway_that_ends_by_itself_ends_the_demo_with_2(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mortal = {"NAIVE_LIFE_S": "1.0"}
    options = DemoOptions(
        seconds=30.0, json=True, folder=tmp_path, command=NAIVE, environment=mortal
    )
    assert demo(options) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "it ended by itself, status 9\nits life is over" in shown.err


async def test_ctrl_c_closes_the_shop_and_gives_the_verdict() -> None:
    endless = (
        "import sys; from gateway.demo.run import DemoOptions, demo;"
        " sys.exit(demo(DemoOptions(without_gateway=True, json=True)))"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", endless, stdout=pipe, stderr=pipe
    )
    try:
        assert process.stderr is not None
        async for said in process.stderr:
            if b"open: intents" in said:
                break
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    assert json.loads(out)["intents"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("gateway.__main__") is None, reason="there is no gateway yet"
)
@pytest.mark.timeout(150)
def test_behind_the_gateway_every_order_gets_one_true_answer(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = DemoOptions(seconds=8.0, seed=7, json=True, folder=tmp_path)
    status, shown = run(capfd, options)
    assert status == 0, shown
    assert shown["kills"] == 1
    assert shown["duplicates"] == shown["lost"] == shown["contradictions"] == shown["pending"] == 0


def test_a_clean_run_passes() -> None:
    assert OUTCOME.passed
    assert "PASSED" in in_words(OUTCOME)


@pytest.mark.parametrize(
    ("flaw", "shortfall"),
    [
        (Flaw.ORDERED_TWICE, Shortfall.DUPLICATES),
        (Flaw.HELD_BUT_TOLD_NOTHING, Shortfall.LOST),
        (Flaw.FINAL_ANSWERS_DIFFER, Shortfall.CONTRADICTIONS),
        (Flaw.NO_DEFINITE_ANSWER, Shortfall.PENDING),
    ],
)
def test_one_flaw_is_enough_to_fail(flaw: Flaw, shortfall: Shortfall) -> None:
    findings = (Finding(flaw, "i-1", "seen"),)
    outcome = replace(OUTCOME, verdict=replace(VERDICT, findings=findings))
    assert outcome.shortfalls == [shortfall]
    assert f"NOT PASSED: {shortfall}" in in_words(outcome)


def test_a_run_passes_only_with_enough_confirmed_unless_the_backend_can_do_nothing() -> None:
    few = replace(VERDICT, would_take_confirmed=70)
    assert replace(OUTCOME, verdict=few).shortfalls == [Shortfall.TOO_FEW_CONFIRMED]
    assert replace(OUTCOME, verdict=few, capability="none").passed


def test_dead_letters_may_not_exceed_the_faults_that_left_doubt() -> None:
    parked = replace(VERDICT, dead_letter=21)
    assert replace(OUTCOME, verdict=parked, capability="none").shortfalls == [
        Shortfall.TOO_MANY_DEAD_LETTERS
    ]
    assert replace(OUTCOME, verdict=parked, capability="none", doubts=21).passed


@pytest.mark.parametrize(
    ("outcome", "shortfall"),
    [
        (replace(OUTCOME, ledger_pending=1), Shortfall.LEDGER_PENDING),
        (replace(OUTCOME, bugs=("customer: oh",)), Shortfall.DEMO_BROKEN),
        (
            replace(OUTCOME, verdict=replace(VERDICT, intents=0)),
            Shortfall.NO_INTENTS,
        ),
    ],
)
def test_a_run_that_shows_nothing_does_not_pass(outcome: Outcome, shortfall: Shortfall) -> None:
    assert outcome.shortfalls == [shortfall]


def test_the_json_has_the_promised_names_on_one_line() -> None:
    text = as_json(replace(OUTCOME, ledger_pending=3))
    shown = json.loads(text)
    promised = (
        "intents confirmed rejected failed dead_letter pending duplicates lost contradictions kills"
    )
    assert set(promised.split()) <= set(shown)
    assert "\n" not in text
    assert shown["pending"] == 3


def test_a_transcript_tells_the_story_in_order() -> None:
    verdict = replace(VERDICT, findings=(Finding(Flaw.ORDERED_TWICE, "i-1", "o-1, o-2"),))
    customers = {"i-1": [(10.0, "submits"), (12.0, "submits")]}
    backend = {"i-1": [(11.0, "decided: o-1"), (13.0, "decided: o-2")], "i-2": [(1.0, "other")]}
    story = transcripts(verdict, customers, backend, zero_s=10.0).splitlines()
    assert "ordered_twice" in story[0]
    assert [text.split()[0] for text in story[1:]] == ["0.000", "1.000", "2.000", "3.000"]


@pytest.mark.parametrize("guarded", [True, False])
def test_the_view_shows_what_was_seen_even_while_the_gateway_is_away(guarded: bool) -> None:
    look = Snapshot(
        elapsed_s=3.0,
        phase="open",
        title="backend can: lookup",
        intents=43,
        told={Status.CONFIRMED: 40},
        waiting=3,
        oldest_waiting_s=1.5,
        repeats=9,
        replays=5,
        definite=Spread(0.02, 1.0, 2.0, 3.0),
        answered=Spread(),
        gauges=None,
        guarded=guarded,
        kills=1,
        orders=41,
        twice=0,
        submissions=60,
        lookups=4,
        in_flight=2,
        refusals=3,
        doubts=8,
        faults=Counter({Fault.LOST_REPLY: 4}),
    )
    console = Console(file=StringIO(), width=150)
    console.print(render(look))
    assert isinstance(console.file, StringIO)
    picture = console.file.getvalue()
    assert ("away" in picture) == guarded
    assert "lost_reply" in picture
    assert "intents 43 confirmed 40" in line(look)
