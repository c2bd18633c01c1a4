"""Losses for pairs and for K candidates that were compared or scored; implicit rewards."""
