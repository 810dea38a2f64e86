"""The demo: its backend, its customers, its oracle, its verdict."""
