"""Sample calls of losses/supervised.py."""

CALLS = {}
