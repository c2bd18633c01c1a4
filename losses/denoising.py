"""Policies that denoise or flow: Gaussian steps, their ratios, losses of flow matching."""
