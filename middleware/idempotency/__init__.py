"""Idempotency keys: what counts as one submission (rules) and where a request shows it (gate)."""
