"""Penalties that are added to a loss: divergence from a reference, drift, entropy, duals."""
