"""Whose word about a client's address is believed, and how many new orders a client has."""

import pytest

from gateway.api.proxies import Peer, TrustedProxies
from gateway.api.quota import Quota, QuotaLimits

PROXIES = TrustedProxies(("10.0.0.0/8", "2001:db8::/32", "192.0.2.1"))


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_proxy_is_trusted_by_its_network(address: str, trusted: bool) -> None:
    assert PROXIES.trusts(address) is trusted
    assert PROXIES.trusts(address) is trusted, "the second answer is remembered"
    assert not TrustedProxies().trusts(address)


@pytest.mark.parametrize(
    ("told", "client"),
    [
        (b"", "10.0.0.1"),
        (b"6.6.6.6", "6.6.6.6"),
        (b"1.1.1.1, 6.6.6.6", "6.6.6.6"),
        (b"6.6.6.6, 10.0.0.2", "6.6.6.6"),
        (b"6.6.6.6, 10.0.0.2, 10.0.0.3", "6.6.6.6"),
        (b"10.0.0.2, 10.0.0.3", "10.0.0.2"),
        (b"6.6.6.6:4711", "6.6.6.6"),
        (b"[2001:db9::7]:4711", "2001:db9::7"),
        (b"2001:db9::7", "2001:db9::7"),
        (b"6.6.6.6, unknown", "10.0.0.1"),
        (b"6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        (b" , ,6.6.6.6,", "6.6.6.6"),
    ],
)
def test_the_client_is_the_last_that_a_trusted_proxy_names(told: bytes, client: str) -> None:
    headers = ((b"X-Forwarded-For", told),)
    assert PROXIES.client(Peer("10.0.0.1", trusted=True), headers) == client
    assert PROXIES.client(Peer("203.0.113.9"), headers) == "203.0.113.9"


def test_a_share_is_used_up_and_slides_back() -> None:
    quota = Quota(QuotaLimits(new_max=10, window_s=100))
    assert [quota.take("a", 1_000.0) for _ in range(11)] == [True] * 10 + [False]
    assert quota.take("b", 1_000.0)
    assert not quota.take("a", 1_099.0)
    assert not quota.take("a", 1_100.0), "all of the last window still reaches in"
    assert [quota.take("a", 1_150.0) for _ in range(6)] == [True] * 5 + [False]
    assert quota.take("a", 1_400.0)


def test_what_was_no_new_order_is_given_back() -> None:
    quota = Quota(QuotaLimits(new_max=1, window_s=100))
    assert quota.take("a", 0.0)
    quota.give_back("a", 0.0)
    assert quota.take("a", 0.0)
    quota.give_back("nobody", 0.0)


def test_what_is_given_back_late_is_of_the_window_it_was_taken_in() -> None:
    quota = Quota(QuotaLimits(new_max=2, window_s=100))
    assert quota.take("a", 90.0)
    assert quota.take("a", 199.0)
    quota.give_back("a", 90.0)
    assert [quota.take("a", 199.0) for _ in range(2)] == [True, False]
    quota.give_back("a", -50.0)
    assert not quota.take("a", 199.0)
