"""Environments of MuJoCo models on MJX, and pictures of them."""
