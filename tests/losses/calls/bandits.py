"""Sample calls of losses/bandits.py."""

CALLS = {}
