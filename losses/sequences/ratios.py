"""Log-ratios of sequences and items, and bounds of a ratio that depend on the data."""
