"""Sample calls of losses/sequences/weights.py."""

CALLS = {}
