"""Exceptions mean "cannot go on". Each says whose fault it was and whether a repeat is safe."""

from enum import StrEnum


class Fault(StrEnum):
    """Whose fault it was."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"
    STORE = "store"


class CannotGoOn(Exception):
    """The base of every exception of ours.

    ``repeat_is_safe`` is False unless the raiser knows better: an unknown error must never
    invite a second order.
    """

    fault: Fault = Fault.GATEWAY
    repeat_is_safe: bool = False
