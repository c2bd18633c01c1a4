"""Sample calls of losses/sequences/penalties.py."""

CALLS = {}
