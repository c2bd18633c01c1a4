"""Sample calls of losses/preferences.py."""

CALLS = {}
