"""Sample calls of losses/sequences/ratios.py."""

CALLS = {}
