"""R²VPO: its multiplier holds the variance of the ratio, and the limits in which it is SPO's
objective or MDPO's without a divergence.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fixpo, r2vpo, spo

pytestmark = pytest.mark.slow

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 4,
    "hidden_sizes": (8,),
    "learning_rate": 1e-2,
    "anneal_lr": False,
}
ENV = envs.make("probe/observation")


def test_with_a_weight_of_each_sample_its_loss_is_spos():
    """λ = |A|/(2ε), the gradient of the whole loss too."""
    config = r2vpo.Config(**SIZES, normalize_advantage=False)
    networks = r2vpo.make_networks(ENV, config)
    learner = jax.jit(partial(r2vpo.init_learner, env=ENV, networks=networks, config=config))(
        jax.random.key(0)
    )
    obs = jax.random.normal(jax.random.key(1), (32, *ENV.observation_space.shape))
    old = networks.policy.apply(learner.params["policy"], obs)
    action = networks.head.sample(jax.random.key(2), old)
    log_prob = networks.head.log_prob(action, old) + 0.3 * jnp.sin(jnp.arange(32.0))
    advantage, value = jax.random.normal(jax.random.key(3), (2, 32))
    data = r2vpo.Minibatch(obs, action, log_prob, old, value, advantage, value)

    def slope(loss, config, **more):
        loss = partial(loss, networks=networks, config=config, **more)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(
            learner.params, data, jax.random.key(4)
        )

    (value, _), gradient = slope(r2vpo.loss, config, companion=jnp.abs(advantage) / 0.4)
    spo_config = spo.Config(**SIZES, normalize_advantage=False, eps=0.2)
    (expected, _), expected_gradient = slope(spo.loss, spo_config)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, gradient, expected_gradient)


def test_without_a_weight_it_is_the_unclipped_surrogate_as_fixpo_is():
    """Where gradients are not clipped, one optimiser for all is FixPO's two."""
    nothing = {"initial_beta": 0.0, "beta_learning_rate": 0.0, "kl_bound": jnp.inf}
    same = SIZES | {"num_minibatches": 1, "max_grad_norm": jnp.inf, "normalize_advantage": False}
    configs = {
        r2vpo: r2vpo.Config(**same, initial_dual=0.0, dual_step_size=0.0),
        fixpo: fixpo.Config(**same, **nothing),
    }
    params = []
    for module, config in configs.items():
        algorithm = module.make(ENV, config)
        run = jax.jit(lambda key, a=algorithm: algos.train(a, key, num_iterations=2)[0])
        params.append(run(jax.random.key(0)).learner.params)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, *params)


def test_the_multiplier_by_hand():
    config = r2vpo.Config(target_variance=0.02, dual_step_size=0.5)
    metrics = {"losses/ratio_variance": jnp.array([0.1, 0.3])}
    # 1 + 0.5·(0.2 − 0.02), and 0.05 + 0.5·(0 − 0.02) = 0.04; 0 is the least
    for before, variances, after in ((1.0, metrics, 1.09), (0.05, None, 0.04), (0.005, None, 0.0)):
        variances = variances or {"losses/ratio_variance": jnp.zeros(2)}
        moved = r2vpo.move_dual(jnp.float32(before), (), variances, config)
        np.testing.assert_allclose(moved, after, rtol=1e-5, atol=1e-7)


def test_a_larger_weight_makes_for_less_variance_and_a_lower_target_for_a_larger_weight():
    @jax.jit
    @jax.vmap
    def run(initial_dual, target, step_size):
        algorithm = r2vpo.make(ENV, r2vpo.Config(**SIZES))
        config = algorithm.config.replace(
            initial_dual=initial_dual, target_variance=target, dual_step_size=step_size
        )
        _, history = algos.train(algorithm, jax.random.key(0), config=config, num_iterations=10)
        return history["losses/ratio_variance"].mean(), history["charts/dual"]

    fixed, moved = (0.0, 100.0), (1.0, 1.0)
    variance, dual = run(
        jnp.array([*fixed, *moved]),
        jnp.array([0.02, 0.02, 1e-3, 1e-1]),
        jnp.array([0.0, 0.0, 10.0, 10.0]),
    )
    assert variance[1] < 0.3 * variance[0]
    np.testing.assert_array_equal(dual[1], 100.0)
    assert np.all(dual[2] > dual[3])
