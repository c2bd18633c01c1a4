"""Networks and action heads."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.core import heads, networks
from onejit.algos.core.heads import Gaussian
from onejit.algos.core.initialisers import orthogonal


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (3, 3, 2, 16), (200, 200)])
def test_orthogonal_kernels_are_orthogonal(shape):
    kernel = (
        np.asarray(orthogonal(jax.random.key(0), shape, scale=1.5)).reshape(-1, shape[-1]) / 1.5
    )
    gram = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=2e-6)


@pytest.mark.slow
def test_orthogonal_is_uniform_over_rotations():
    # Of a uniformly distributed rotation of the plane, each entry has mean 0 and variance 1/2, and
    # E[x^4] = 3/8. The limits are four standard errors, √(1/2), √(1/8) and √(35/128 − 9/64) of one
    # sample.
    number = 5_000
    kernels = jax.vmap(lambda key: orthogonal(key, (2, 2), scale=1.0))(
        jax.random.split(jax.random.key(1), number)
    )
    error = 4.0 / np.sqrt(number)
    np.testing.assert_allclose(kernels.mean(0), 0.0, atol=error * 0.707)
    np.testing.assert_allclose((kernels**2).mean(0), 0.5, atol=error * 0.354)
    np.testing.assert_allclose((kernels**4).mean(0), 0.375, atol=error * 0.364)


def test_no_initialiser_calls_lapack():
    # XLA's CPU runtime deadlocks when two batched LAPACK calls meet; see BUILD_NOTES.md.
    algorithm = ppo.make(
        envs.make("probe/value"), ppo.Config(num_envs=2, num_steps=2, num_minibatches=1)
    )
    lowered = jax.jit(jax.vmap(algorithm.init)).lower(jax.random.split(jax.random.key(0), 2))
    assert "lapack" not in lowered.as_text()


HEADS = {
    "gaussian": (
        heads.gaussian_head,
        envs.Box(-2.0, 4.0, (3,)),
        Gaussian(jnp.full((7, 3), 0.2), jnp.full((7, 3), -1.0)),
    ),
    "tanh": (
        heads.tanh_gaussian_head,
        envs.Box(-2.0, 4.0, (3,)),
        Gaussian(jnp.full((7, 3), 0.2), jnp.full((7, 3), -1.0)),
    ),
    "categorical": (
        heads.categorical_head,
        envs.Discrete(4),
        jnp.arange(28.0).reshape(7, 4) / 10.0,
    ),
}


@pytest.mark.parametrize("make, space, distribution", HEADS.values(), ids=HEADS)
def test_heads_act_in_the_space(make, space, distribution):
    head = make(space)
    action = head.sample(jax.random.key(0), distribution)
    for stored in (action, head.mode(distribution)):
        assert all(space.contains(each) for each in head.to_env(stored))
    assert head.log_prob(action, distribution).shape == (7,)
    assert head.entropy(jax.random.key(1), distribution).shape == (7,)
    np.testing.assert_allclose(head.kl(distribution, distribution), 0.0, atol=1e-6)


@pytest.mark.parametrize("make, space, distribution", HEADS.values(), ids=HEADS)
def test_entropy_is_minus_the_mean_log_prob(make, space, distribution):
    head = make(space)
    row = jax.tree.map(lambda x: jnp.broadcast_to(x[0], (100_000, *x.shape[1:])), distribution)
    sample_key, entropy_key = jax.random.split(jax.random.key(2))
    log_prob = head.log_prob(head.sample(sample_key, row), row)
    np.testing.assert_allclose(head.entropy(entropy_key, row).mean(), -log_prob.mean(), atol=0.02)


def test_gaussian_actions_are_clipped_and_mapped_to_the_bounds():
    head = heads.gaussian_head(envs.Box([-2.0, 0.0], [2.0, 10.0]))
    # −1 → low, 0 → middle, 1 → high; 3 is clipped to 1
    np.testing.assert_allclose(
        head.to_env(jnp.array([[-1.0, 0.0], [3.0, 0.5]])), [[-2.0, 5.0], [2.0, 7.5]]
    )


def test_networks_take_any_leading_axes_and_see_their_part_of_a_dict():
    space = {"state": envs.Box(-1.0, 1.0, (3,)), "privileged_state": envs.Box(-1.0, 1.0, (5,))}
    env = types.SimpleNamespace(observation_space=space, action_space=envs.Discrete(2))
    nets = ppo.make_networks(env, ppo.Config(hidden_sizes=(4,)))
    obs = {"state": jnp.ones((6, 2, 3)), "privileged_state": jnp.ones((6, 2, 5))}
    policy_params, value_params = (
        nets.policy.init(jax.random.key(0), obs),
        nets.value.init(jax.random.key(1), obs),
    )
    assert nets.policy.apply(policy_params, obs).shape == (6, 2, 2)
    assert nets.value.apply(value_params, obs).shape == (6, 2)
    unprivileged = {**obs, "privileged_state": jnp.zeros((6, 2, 5))}
    np.testing.assert_array_equal(
        nets.policy.apply(policy_params, obs), nets.policy.apply(policy_params, unprivileged)
    )
    assert not np.allclose(
        nets.value.apply(value_params, obs), nets.value.apply(value_params, unprivileged)
    )


def test_image_observations_get_a_convolution():
    env = types.SimpleNamespace(
        observation_space=envs.Box(0.0, 1.0, (10, 10, 4)), action_space=envs.Discrete(3)
    )
    nets = ppo.make_networks(env, ppo.Config(hidden_sizes=(8,)))
    obs = jax.random.normal(jax.random.key(0), (2, 5, 10, 10, 4))
    params = nets.policy.init(jax.random.key(1), obs)
    assert nets.policy.apply(params, obs).shape == (2, 5, 3)


def test_cnn_is_a_valid_3x3_convolution_followed_by_the_mlp():
    obs = jax.random.normal(jax.random.key(0), (6, 10, 10, 4))
    cnn, mlp = networks.CNN((8,)), networks.MLP((8,), "relu", event_ndim=3)
    params = cnn.init(jax.random.key(1), obs)
    layer = params["params"]["Dense_0"]
    dimensions = ("NHWC", "HWIO", "NHWC")
    convolved = jax.lax.conv_general_dilated(
        obs, layer["kernel"].reshape(3, 3, 4, 16), (1, 1), "VALID", dimension_numbers=dimensions
    )
    expected = mlp.apply(
        {"params": params["params"]["MLP_0"]},
        jax.nn.relu(convolved + layer["bias"].reshape(1, 1, 1, 16)),
    )
    np.testing.assert_allclose(cnn.apply(params, obs), expected, rtol=1e-5, atol=1e-5)
