"""The off-policy loop, and what several papers on it share."""
