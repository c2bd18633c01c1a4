"""Sample calls of losses/curricula.py."""

CALLS = {}
