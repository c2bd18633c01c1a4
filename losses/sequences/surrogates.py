"""Surrogates: log-ratio or log-probability and advantage, to a loss per token or sequence."""
