"""Sample calls of losses/sequences/surrogates.py."""

CALLS = {}
