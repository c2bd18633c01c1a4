"""TRPO: conjugate gradients and the natural step by hand, the bound of the divergence after every
step, and the limit in which the natural gradient is the gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import trpo
from onejit.algos.core.config import ConfigError
from onejit.algos.on_policy import trust_region

pytestmark = pytest.mark.slow

SIZES = {"num_envs": 8, "num_steps": 8, "num_minibatches": 2, "hidden_sizes": (8,)}
ENV = envs.make("probe/observation")


def test_conjugate_gradients_solve_five_equations():
    root = jax.random.normal(jax.random.key(0), (5, 5))
    matrix = root @ root.T + jnp.eye(5)
    target = jnp.arange(1.0, 6.0)
    solved = trust_region.conjugate_gradient(lambda v: matrix @ v, target, num_iterations=10)
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, target), rtol=1e-3, atol=1e-4)
    nothing = trust_region.conjugate_gradient(lambda v: matrix @ v, 0 * target, num_iterations=10)
    np.testing.assert_array_equal(nothing, np.zeros(5))


def test_with_much_damping_the_step_is_along_the_gradient():
    """(F + δI)⁻¹ → I/δ; and without a gradient there is none."""
    fisher = jnp.array([[2.0, 0.5], [0.5, 1.0]])

    def step_of(grad, damping):
        return trust_region.natural_step(
            lambda v: fisher @ v, grad, damping=damping, max_kl=0.01, num_iterations=5
        )

    grad = jnp.array([3.0, -4.0])
    _, step, expected = step_of(grad, 1e5)
    # δ·|step|²/2 = 0.01, so |step| = √(0.02/δ), along (0.6, −0.8)
    np.testing.assert_allclose(step, np.sqrt(0.02 / 1e5) * np.array([0.6, -0.8]), rtol=1e-4)
    np.testing.assert_allclose(expected, 5.0 * np.sqrt(0.02 / 1e5), rtol=1e-4)
    for each in step_of(jnp.zeros(2), 0.1):
        np.testing.assert_array_equal(each, jnp.zeros_like(each))


@pytest.mark.parametrize("continuous", [False, True])
def test_the_divergence_is_within_its_bound_after_every_step_of_every_seed(continuous):
    """And most of a small one is used, for which the second order is all there is."""
    env = envs.make("probe/observation", continuous=continuous)
    algorithm = trpo.make(env, trpo.Config(**SIZES))

    @jax.jit
    @jax.vmap
    def run(key, max_kl):
        config = algorithm.config.replace(max_kl=max_kl)
        return algos.train(algorithm, key, config=config, num_iterations=5)[1]

    bound = jnp.array([0.001, 0.01, 0.1, 0.5])
    history = run(jax.random.split(jax.random.key(0), 4), bound)
    kl = np.asarray(history["losses/kl"])
    assert np.all(kl <= bound[:, None] * (1 + 1e-5))
    assert np.all(history["losses/steps_taken"][:2] == 1.0)
    assert np.all(kl[0] > 0.7 * bound[0])


def test_a_step_that_gains_too_little_is_not_taken():
    """All of what is expected: by chance at most, since the objective is not linear."""
    env = envs.make("probe/observation", continuous=True)
    config = trpo.Config(**SIZES, accept_ratio=1.0, max_kl=2.0, max_backtracks=1)
    algorithm = trpo.make(env, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    before = jax.device_get(state.learner.params)
    after, metrics = jax.jit(algorithm.step)(state)
    assert metrics["losses/steps_taken"] == 0.0
    assert metrics["losses/kl"] == 0.0
    same = jax.tree.map(np.array_equal, before, jax.device_get(after.learner.params))
    assert all(jax.tree.leaves(same["policy"]))
    assert not all(jax.tree.leaves(same["value"]))


@pytest.mark.parametrize("wrong", [{"target_kl": 0.1}, {"adaptive_lr": True}, {"max_kl": 0.0}])
def test_what_does_not_go_together_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        trpo.make(ENV, trpo.Config(**SIZES, **wrong))
