"""Masks and weights that a loss is multiplied by."""
