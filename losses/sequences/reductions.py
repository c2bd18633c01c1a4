"""Sums, means and quantiles of what the mask lets count; `aggregate` makes a scalar of a loss."""
