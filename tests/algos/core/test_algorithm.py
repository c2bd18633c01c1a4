"""The key of a seed: as many keys as seeds, and nothing is taken for a seed that is none."""

import jax
import numpy as np
import pytest

from onejit.algos.core.keys import seed_key


def test_each_seed_has_a_key_of_its_own():
    seeds = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, np.int64(7), np.uint32(2**32 - 2))
    keys = {tuple(jax.random.key_data(seed_key(seed)).tolist()) for seed in seeds}
    assert len(keys) == len(seeds)
    np.testing.assert_array_equal(
        jax.random.key_data(seed_key(7)), jax.random.key_data(jax.random.key(7))
    )


@pytest.mark.parametrize(
    "seed", [2**32, 2**32 + 1, -1, -(2**31), 2**63, 2**64, 1.0, 1e30, True, "0", None]
)
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed=.*: must be an integer between 0 and 4294967295"):
        seed_key(seed)
