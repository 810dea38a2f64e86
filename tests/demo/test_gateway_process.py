"""The gateway under test as a process: its configuration, its ports, and its failure to start."""

import tomllib
from pathlib import Path

import pytest

from gateway.demo.faults import WORK_S_MAX
from gateway.demo.gateway_process import (
    LEASE_S,
    GatewayFailed,
    GatewayProcess,
    Seat,
    configuration,
    free_seat,
)
from gateway.demo.metrics import read
from gateway.demo.run import DemoOptions, Offer, demo
from gateway.demo.wire import Address
from gateway.orders.promise import Capability
from gateway.settings import load


def order_route(offer: Offer, folder: Path) -> dict[str, object]:
    seat = Seat(Address("127.0.0.1", 18001), Address("127.0.0.1", 18002), folder)
    text = configuration(seat, Address("127.0.0.1", 18003), offer.capabilities)
    route: dict[str, object] = tomllib.loads(text)["routes"][0]
    return route


@pytest.mark.parametrize("offer", list(Offer))
def test_the_gateway_accepts_its_configuration(offer: Offer, tmp_path: Path) -> None:
    seat = free_seat(tmp_path)
    backend = Address("127.0.0.1", 17_999)
    seat.config_file.write_text(configuration(seat, backend, offer.capabilities))
    settings = load(seat.config_file, {})
    assert settings.routes[0].capabilities == offer.capabilities
    assert settings.ledger.lease_s == LEASE_S


@pytest.mark.parametrize("offer", list(Offer))
def test_the_route_promises_what_the_backend_can_do(offer: Offer, tmp_path: Path) -> None:
    route = order_route(offer, tmp_path)
    expected = sorted(offer.capabilities) or "none"
    assert route["capability"] == expected
    assert ("lookup" in route) == (Capability.LOOKUP in offer.capabilities)
    assert ("dedup_for_s" in route) == (Capability.DEDUP in offer.capabilities)


def test_the_settle_time_is_longer_than_the_backends_longest_work(tmp_path: Path) -> None:
    settle_s = order_route(Offer.LOOKUP, tmp_path)["settle_s"]
    assert isinstance(settle_s, float)
    assert settle_s > WORK_S_MAX


def test_the_ledger_is_a_file_of_the_seat(tmp_path: Path) -> None:
    seat = free_seat(tmp_path)
    parsed = tomllib.loads(configuration(seat, Address("127.0.0.1", 9), frozenset()))
    assert parsed["ledger"]["url"] == f"sqlite:///{tmp_path}/ledger.db"
    assert parsed["listen"]["address"] == str(seat.storefront)
    assert seat.storefront.port != seat.admin.port


async def test_a_gateway_that_cannot_start_says_why(tmp_path: Path) -> None:
    gateway = GatewayProcess(free_seat(tmp_path), {"PYTHONHOME": str(tmp_path / "nowhere")})
    try:
        with pytest.raises(GatewayFailed, match=r"ended by itself.*\n(.*\n)*.*PYTHONHOME"):
            await gateway.start()
    finally:
        await gateway.stop()


def test_a_demo_whose_gateway_cannot_start_ends_with_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = {"PYTHONHOME": str(tmp_path / "nowhere")}
    options = DemoOptions(seconds=1.0, json=True, folder=tmp_path, environment=broken)
    assert demo(options) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "PYTHONHOME" in shown.err


def test_metrics_are_read_by_name_and_what_is_absent_is_none() -> None:
    gauges = read(
        "# TYPE ordergate_orders gauge\n"
        'ordergate_orders{status="in_doubt"} 2.0\n'
        'ordergate_orders{status="confirmed"} 40.0\n'
        "# TYPE ordergate_attempts counter\n"
        'ordergate_attempts_total{result="lost"} 3.0\n'
        "# TYPE ordergate_replays counter\n"
        "ordergate_replays_total 5.0\n"
    )
    assert (gauges.pending, gauges.orders["confirmed"]) == (2, 40)
    assert (gauges.attempts["lost"], gauges.replays, gauges.doubts) == (3, 5, None)
    assert gauges.oldest_pending_age_s is None
    with pytest.raises(ValueError):
        read("<html>")
