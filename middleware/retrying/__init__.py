"""Trying again: the rules are pure, the runner is the only user of tenacity."""
