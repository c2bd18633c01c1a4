"""Sample calls of losses/sequences/reductions.py."""

CALLS = {}
