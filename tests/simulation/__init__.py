"""A deterministic simulation: virtual time, our own network, crashes; one seed, one history."""
