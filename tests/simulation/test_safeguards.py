"""A suite that can't fail proves nothing: each safeguard is switched off, and must be missed."""

import pytest

from .safeguards import HISTORIES_MAX, SAFEGUARDS, Safeguard, first_harm, still_harmed


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=str)
def test_a_safeguard_that_is_off_is_missed(safeguard: Safeguard) -> None:
    harm = first_harm(safeguard)
    assert harm is not None, f"{HISTORIES_MAX} histories without {safeguard}, and no harm done"
    report = still_harmed(safeguard, harm)
    assert report is None, report
