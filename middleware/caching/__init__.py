"""A shared HTTP cache (RFC 9111). It knows no orders; who does tells it what was changed.

Pure, in the order of a request's way: ``fields`` and ``dates`` (how values are read),
``directives`` (what a message says about caching), ``storing`` (what may be kept), ``varying``
(for whom), ``freshness`` (for how long), ``validating``, ``ranges`` and ``updating`` (what a kept
answer can say), ``invalidation`` (what ends it), and ``rules``, which decides.
"""
