"""HTTP-dates (RFC 9110 section 5.6.7). Pure."""

import re
from calendar import timegm

_MONTHS = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_IMF = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>\d\d) (?P<month>[a-z]{3}) (?P<year>\d{4}) "
    + _TIME
    + rb" gmt"
)
_RFC850 = re.compile(
    rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, "
    rb"(?P<day>\d\d)-(?P<month>[a-z]{3})-(?P<year>\d\d) " + _TIME + rb" gmt"
)
_ASCTIME = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun) (?P<month>[a-z]{3}) (?P<day>[ \d]\d) "
    + _TIME
    + rb" (?P<year>\d{4})"
)
_FIFTY_YEARS_S = 50 * 365.2425 * 86_400


def parse_date(value: bytes, now: float) -> float | None:
    """Seconds since the epoch, or None for what is no HTTP-date.

    Any of the three forms, in any case (RFC 9111 section 4.2); another zone than GMT makes it
    invalid. ``now`` tells the century of a two-digit year: never more than fifty years ahead.
    """
    text = value.strip(b" \t").lower()
    found = _IMF.fullmatch(text) or _RFC850.fullmatch(text) or _ASCTIME.fullmatch(text)
    if found is None:
        return None
    month = _MONTHS.get(found["month"], 0)
    day, year = int(found["day"]), int(found["year"])
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if not month or not 1 <= day <= _MONTH_DAYS[month - 1]:
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    clock = (hour, minute, second)
    if len(found["year"]) == 2:
        return _in_this_century(year, month, day, clock, now)
    return _timestamp(year, month, day, clock)


def _timestamp(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float | None:
    try:
        return float(timegm((year, month, day, *clock, 0, 0, 0)))
    except (ValueError, OverflowError):  # year 0, 29 February of a common year
        return None


def _in_this_century(
    year: int, month: int, day: int, clock: tuple[int, int, int], now: float
) -> float | None:
    """RFC 9110: a year that appears more than 50 years in the future is past."""
    this_year = 1970 + int(now // 31_556_952)
    full = this_year - this_year % 100 + year
    at = _timestamp(full, month, day, clock)
    if at is not None and at > now + _FIFTY_YEARS_S:
        return _timestamp(full - 100, month, day, clock)
    return at
