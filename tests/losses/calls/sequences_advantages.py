"""Sample calls of losses/sequences/advantages.py."""

CALLS = {}
