"""Advantages: what the rewards of a group say about each of its sequences, turns or tokens."""
