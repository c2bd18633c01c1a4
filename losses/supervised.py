"""Losses on demonstrations, and between demonstrations and reward."""
