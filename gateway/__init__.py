"""Ordergate: an order gateway that gives every order one definite answer."""

__version__ = "0.1.0"
