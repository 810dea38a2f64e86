"""Many pages of metrics as one."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.supervisor.scrapes import GAUGES, Scrapes, parse
from gateway.telemetry import Telemetry


def page(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


def worker(*, replays: int = 0, took_s: tuple[float, ...] = (), up: bool = True) -> Telemetry:
    telemetry = Telemetry()
    telemetry.replays.inc(replays)
    for seconds in took_s:
        telemetry.order_seconds.observe(seconds)
    telemetry.ledger_up.set(1 if up else 0)
    return telemetry


def sample(scrapes: Scrapes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(scrapes.page().decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return float(found.value)
    return None


def test_counters_and_histograms_are_added_up() -> None:
    scrapes = Scrapes()
    for number, telemetry in enumerate(
        (worker(replays=2, took_s=(0.02, 3.0)), worker(replays=5, took_s=(0.02,)))
    ):
        scrapes.began(number)
        scrapes.told(number, page(telemetry))
    assert sample(scrapes, "ordergate_replays_total") == 7
    assert sample(scrapes, "ordergate_order_seconds_count") == 3
    assert sample(scrapes, "ordergate_order_seconds_sum") == pytest.approx(3.04)
    assert sample(scrapes, "ordergate_order_seconds_bucket", le="0.025") == 2
    assert sample(scrapes, "ordergate_order_seconds_bucket", le="+Inf") == 3


def test_a_dead_workers_counts_stay_and_its_gauges_go() -> None:
    scrapes = Scrapes()
    dead = worker(replays=4)
    dead.orders.labels("confirmed").set(9)
    scrapes.began(1)
    scrapes.told(1, page(dead))
    scrapes.ended(1)
    assert sample(scrapes, "ordergate_replays_total") == 4
    assert sample(scrapes, "ordergate_orders", status="confirmed") is None
    scrapes.began(2)
    scrapes.told(2, page(worker(replays=1)))
    assert sample(scrapes, "ordergate_replays_total") == 5
    scrapes.ended(2)
    assert sample(scrapes, "ordergate_replays_total") == 5


def test_a_page_that_comes_after_its_workers_end_counts_nothing_twice() -> None:
    scrapes = Scrapes()
    scrapes.began(1)
    text = page(worker(replays=4))
    scrapes.told(1, text)
    scrapes.ended(1)
    scrapes.told(1, text)
    assert sample(scrapes, "ordergate_replays_total") == 4


def test_the_ledgers_gauges_are_told_once_and_by_one_worker() -> None:
    """Two looks at the ledger at different moments must not make a gap that nobody has."""
    scrapes = Scrapes()
    for number, (made, confirmed) in enumerate(((10, 10), (12, 12))):
        telemetry = worker()
        telemetry.made.set(made)
        telemetry.orders.labels("confirmed").set(confirmed)
        telemetry.conservation_gap.set(0)
        scrapes.began(number)
        scrapes.told(number, page(telemetry))
    assert sample(scrapes, "ordergate_orders_made") == 10
    assert sample(scrapes, "ordergate_orders", status="confirmed") == 10
    assert sample(scrapes, "ordergate_conservation_gap") == 0


def test_the_ledgers_gauges_come_from_a_worker_that_can_read_it() -> None:
    scrapes = Scrapes()
    for number, up in enumerate((False, True)):
        telemetry = worker(up=up)
        telemetry.made.set(7 if up else 3)  # the last that it could read
        scrapes.began(number)
        scrapes.told(number, page(telemetry))
    assert sample(scrapes, "ordergate_orders_made") == 7
    assert sample(scrapes, "ordergate_ledger_up") == 0  # one of them refuses orders


def test_counters_count_since_the_first_worker() -> None:
    scrapes = Scrapes()
    births = []
    for number in range(2):
        telemetry = worker(replays=1)
        text = page(telemetry)
        births.append(parse(text)["ordergate_replays_created"])
        scrapes.began(number)
        scrapes.told(number, text)
    told = sample(scrapes, "ordergate_replays_created")
    assert told == min(next(iter(birth.samples.values())) for birth in births)


def test_every_gauge_says_how_those_of_several_workers_are_merged() -> None:
    families = text_string_to_metric_families(page(Telemetry()))
    gauges = {family.name for family in families if family.type == "gauge"}
    assert {name for name in gauges if not name.endswith("_created")} == set(GAUGES)


def test_a_page_survives_the_merging_of_one() -> None:
    telemetry = worker(replays=3, took_s=(0.5,))
    telemetry.submitted('with "quotes"\nand a line')
    scrapes = Scrapes()
    scrapes.began(1)
    scrapes.told(1, page(telemetry))
    assert parse(scrapes.page().decode()) == parse(page(telemetry))
