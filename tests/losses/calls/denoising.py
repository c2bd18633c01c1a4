"""Sample calls of losses/denoising.py."""

CALLS = {}
