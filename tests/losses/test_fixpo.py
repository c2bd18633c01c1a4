"""The losses of FixPO by hand, and beside MDPO's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from onejit import losses

close = np.testing.assert_allclose


def test_the_losses_by_hand():
    # KL of two Gaussians, summed over two dimensions; first row, first dimension:
    # log(e^−0.6/e^−0.5) + (e^−1 + 0.01)/(2·e^−1.2) − ½ = 0.027302, in the second 0.
    # Second row: 0.1 + (0.367879 + 0.16)/(2·e^−0.8) − ½ = 0.187411;
    # (0.367879 + 0.09)/(2·e^−1) − ½ = 0.122320.
    mean0, mean1 = [[0.0, 0.0], [0.5, -0.5]], [[0.1, 0.0], [0.1, -0.2]]
    log_std0, log_std1 = [[-0.5, -0.5], [-0.5, -0.5]], [[-0.6, -0.5], [-0.4, -0.5]]
    arguments = [jnp.array(x) for x in (mean0, log_std0, mean1, log_std1)]
    kl = jnp.sum(losses.gaussian_kl(*arguments), axis=-1)
    close(kl, [0.027302, 0.309731], atol=1e-6)
    # −1.1·1 + 0.027302 and −0.8·(−0.5) + 0.309731: −0.181483 in the mean
    ratio, advantage = jnp.array([1.1, 0.8]), jnp.array([1.0, -0.5])
    loss = losses.fixpo_policy_loss(jnp.log(ratio), jnp.zeros(2), advantage, kl, beta=1.0)
    close(jnp.mean(loss), -0.181483, atol=1e-6)
    # 0.2 − 2·0.309731
    slope = jax.grad(losses.fixpo_beta_loss)(1.0, jnp.max(kl), kl_bound=0.2, kl_factor=2.0)
    close(slope, -0.419463, atol=2e-6)


def test_the_weight_falls_below_the_aim_and_rises_above_it():
    """With Adam, as in the algorithm: gradients of 0.1, −0.4 and −0.4 at a step size of 0.01.

    The first step is 0.01 whatever the gradient. In the second m = (0.09·0.1 − 0.1·0.4)/0.19 =
    −0.163158, v = (0.000999·0.01 + 0.001·0.16)/0.001999 = 0.085038: 0.01·0.163158/0.291613 up.
    """
    optimiser = optax.adam(0.01)
    beta = jnp.float32(1.0)
    state = optimiser.init(beta)
    seen = []
    for max_kl in (0.05, 0.3, 0.3):  # 0.2 − 2·max_kl
        slope = jax.grad(losses.fixpo_beta_loss)(
            beta, jnp.float32(max_kl), kl_bound=0.2, kl_factor=2.0
        )
        updates, state = optimiser.update(slope, state)
        beta = optax.apply_updates(beta, updates)
        seen.append(float(beta))
    close(seen, [0.99, 0.995595, 1.003148], atol=2e-6)


def test_it_is_mdpos_but_for_the_direction_of_the_divergence():
    log_prob, old, advantage, kl = np.random.default_rng(0).normal(size=(4, 50))
    close(
        losses.fixpo_policy_loss(log_prob, old, advantage, kl, beta=4.0),
        losses.mdpo_on_policy_loss(log_prob, old, advantage, kl, step_size=0.25),
        rtol=1e-5,
        atol=1e-6,
    )
