"""Objectives for sequences and groups of them, as a composition of seven places, one module each.

reward -> advantage -> ratio -> surrogate -> times weights -> plus penalty -> aggregate.

Arrays are `[..., T]`, time last, with a mask `[..., T]` (bool or 0/1) of what the policy chose; a
group of G sequences from one prompt is the axis before it, `[..., G, T]`, or the last one where
there is no time, `[..., G]`. Leading axes are free. What is masked may hold anything, NaN too. A
group of one has no advantage, nor has one of equal rewards; a row without a valid token counts for
nothing, and where nothing at all is valid the result is 0. Gradients flow through log-probabilities
alone. Where the docstring of a function says batch, it looks over the whole array.
"""

from . import advantages, penalties, ratios, reductions, rewards, surrogates, weights

__all__ = ["advantages", "penalties", "ratios", "reductions", "rewards", "surrogates", "weights"]
