"""The shuffle of an epoch is a uniform permutation, below and above 2^16 elements."""

import jax
import numpy as np
import pytest

from onejit.algos.core.keys import shuffled_indices


@pytest.mark.parametrize("size", [1, 2, 2048, 2**16, 2**16 + 1])
def test_is_a_permutation(size):
    epochs = np.asarray(shuffled_indices(jax.random.key(0), 2, size))
    for indices in epochs:
        np.testing.assert_array_equal(np.sort(indices), np.arange(size))
    assert size < 3 or ((epochs[0] != np.arange(size)).any() and (epochs[0] != epochs[1]).any())


def test_is_uniform():
    many = jax.jit(lambda key: shuffled_indices(key, 48_000, 4))(jax.random.key(1))
    _, counts = np.unique(np.asarray(many), axis=0, return_counts=True)
    # All 24 orders, each 2000 times with a standard deviation of 44; 5 of them.
    assert len(counts) == 24
    np.testing.assert_allclose(counts, 2000, atol=220)
