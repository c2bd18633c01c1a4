"""Sample calls of losses/sequences/rewards.py."""

CALLS = {}
