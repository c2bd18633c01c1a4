"""The losses of FixPO beside MDPO's."""

import numpy as np

from onejit import losses


def test_it_is_mdpos_but_for_the_direction_of_the_divergence():
    log_prob, old, advantage, kl = np.random.default_rng(0).normal(size=(4, 50))
    np.testing.assert_allclose(
        losses.fixpo_policy_loss(log_prob, old, advantage, kl, beta=4.0),
        losses.mdpo_on_policy_loss(log_prob, old, advantage, kl, step_size=0.25),
        rtol=1e-5,
        atol=1e-6,
    )
