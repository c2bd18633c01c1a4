"""Policies that are trained without a critic: what pathwise and score-function gradients share."""
