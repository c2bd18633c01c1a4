"""Rewards: scores of whole sequences or of their parts, before anything is compared."""
