"""Pathwise gradients: the gradient by hand and by differences, the best cost of an inventory, exact
resume, and what is refused.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import pathwise
from onejit.algos.actor_only import loop
from onejit.algos.core import collect
from onejit.algos.core.config import ConfigError
from onejit.algos.core.heads import Gaussian

pytestmark = pytest.mark.slow

SIZES = {"num_envs": 4, "horizon": 5, "hidden_sizes": (4,)}


class Place(NamedTuple):
    """Where it is, and the steps taken."""

    x: jax.Array
    time: jax.Array


class Line:
    """x moves by the action and costs x² after it; episodes of so many steps start at 1."""

    observation_space = envs.Box(-10.0, 10.0, (1,))
    action_space = envs.Box(-1.0, 1.0, (1,))

    def __init__(self, episode_length=100, start=1.0):
        self._episode_length = episode_length
        self._start = start

    def reset(self, key):
        x = jnp.full(1, self._start, jnp.float32)
        return Place(x, jnp.int32(0)), x

    def step(self, key, state, action):
        x = state.x + action
        time = state.time + 1
        over = time >= self._episode_length
        step = envs.Step(x, -jnp.sum(x * x), jnp.bool_(False), over, {})
        return Place(x, time), step


class Gain:
    """A network of one number: the action is that times the observation."""

    def init(self, key, obs):
        return jnp.float32(-0.5)

    def apply(self, params, obs):
        return Gaussian(params * obs, jnp.zeros_like(obs))


def gain(env, horizon):
    """The algorithm on a `Line` with that network, one environment."""
    config = pathwise.Config(num_envs=1, horizon=horizon, policy="gaussian", max_grad_norm=1e6)
    head = pathwise.make_networks(env, config).head
    return pathwise.make(env, config, pathwise.Networks(Gain(), head))


def stepped(algorithm):
    state = algorithm.init(jax.random.key(0))
    return jax.jit(algorithm.step)(state)[1]


def test_the_gradient_by_hand():
    """x_t = (1 + k)^t, and the mean of −r is f(k) = (1/T)·Σ_t (1 + k)^2t."""
    metrics = stepped(gain(Line(), 3))
    # k = −0.5: (0.25 + 0.0625 + 0.015625)/3
    np.testing.assert_allclose(metrics["losses/policy_loss"], 0.109375, rtol=1e-6)
    # |f'| = (1/3)·Σ 2t·(1 + k)^(2t − 1) = (2·0.5 + 4·0.125 + 6·0.03125)/3
    np.testing.assert_allclose(metrics["losses/grad_norm"], 0.5625, rtol=1e-6)


def test_no_gradient_crosses_the_end_of_an_episode():
    """Three episodes of one step each: f(k) = (1 + k)²."""
    metrics = stepped(gain(Line(episode_length=1), 3))
    np.testing.assert_allclose(metrics["losses/policy_loss"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(metrics["losses/grad_norm"], 1.0, rtol=1e-6)  # 2·(1 + k)
    np.testing.assert_allclose(metrics["charts/episodes"], 3.0)


@pytest.fixture(scope="module")
def on_inventory():
    config = pathwise.Config(**SIZES, total_steps=20 * 20)
    return pathwise.make(envs.make("inventory/store", lead_time=2), config)


def test_the_gradient_is_that_of_differences(on_inventory):
    """Of the loss along one direction of the parameters, with the same demands."""
    algorithm = on_inventory
    env = algorithm.env
    state = jax.jit(algorithm.init)(jax.random.key(0))
    networks = pathwise.make_networks(env, algorithm.config)
    policy = loop.make_policy(env, networks)
    collector = collect.make_collector(env, policy.memory, networks.head.to_env)
    room = loop.Room(collector, policy, networks, algorithm.config)

    @jax.jit
    def loss(params):
        return pathwise.loss(params, state.collection, jax.random.key(1), room)[0]

    params = state.learner.params
    keys = iter(jax.random.split(jax.random.key(2), 10))
    way = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    slope = sum(map(jnp.vdot, jax.tree.leaves(jax.grad(loss)(params)), jax.tree.leaves(way)))
    up, down = (loss(jax.tree.map(lambda x, y, e=e: x + e * y, params, way)) for e in (2e-3, -2e-3))
    assert abs(slope) > 1e-2
    np.testing.assert_allclose(slope, (up - down) / 4e-3, rtol=2e-2)


def test_seeds_and_learning_rates_side_by_side_equal_single_runs(on_inventory):
    def run(key, rate):
        config = on_inventory.config.replace(learning_rate=rate)
        return algos.train(on_inventory, key, config=config, num_iterations=3)[0].learner.params

    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([1e-3, 1e-1])
    many = jax.jit(jax.vmap(run))(keys, rates)
    single = jax.jit(run)
    for i in range(2):
        one = single(jax.random.clone(keys)[i], rates[i])
        mine = jax.tree.map(lambda x, i=i: x[i], many)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6), mine, one)
    kernel = jax.tree.leaves(many)[-1]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_resume_is_exact(on_inventory, assert_resume_is_exact):
    init, step = jax.jit(on_inventory.init), jax.jit(on_inventory.step)
    assert_resume_is_exact(on_inventory, init, step, 2)


def test_a_gradient_that_is_not_finite_writes_nothing():
    """At 1e25 the cost overflows."""
    algorithm = gain(Line(start=1e25), 2)
    state = algorithm.init(jax.random.key(0))
    after, metrics = jax.jit(algorithm.step)(state)
    assert algos.describe_fault(after.learner.fault).startswith("non-finite reward in iteration 0")
    assert after.learner.params == -0.5
    assert metrics["charts/fault"] > 0


def test_samples_have_a_gradient_by_the_standard_deviation():
    """Without exploring the policy's own has none."""
    norms = []
    for explore in (False, True):
        algorithm = pathwise.make(Line(), pathwise.Config(**SIZES, explore=explore))
        state = jax.jit(algorithm.init)(jax.random.key(0))
        before = jax.device_get(state.learner.params)["params"]["log_std"]
        after = jax.jit(algorithm.step)(state)[0].learner.params["params"]["log_std"]
        norms.append(np.abs(after - before).max())
    assert norms[0] == 0.0
    assert norms[1] > 1e-4


def test_the_whole_training_lowers_for_tpu_and_cuda(on_inventory):
    run = jax.jit(lambda key: algos.train(on_inventory, key, num_iterations=2))
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


def test_it_finds_the_best_cost(jit_to_learn):
    """Within 1 % of the least possible cost, over whole episodes of 50 periods, beside the policy
    that orders up to the best level from the same starts and demands.
    """
    env = envs.make("inventory/store")
    config = pathwise.Config(horizon=50, learning_rate=3e-3, hidden_sizes=(32, 32, 32))
    algorithm = pathwise.make(env, config.replace(total_steps=300 * 64 * 50))
    run = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=300)[0])
    state = run(jax.random.key(0))

    @jax.jit
    def cost(act):
        return algos.evaluate(env, act, jax.random.key(1), num_episodes=1024).returns.mean()

    learned = cost(jax.tree_util.Partial(lambda obs, key: algorithm.act(state, obs, key, True)))
    best = cost(jax.tree_util.Partial(lambda obs, key: env.order_up_to(env.level, obs)))
    assert learned >= 1.01 * best  # both are below 0


def test_the_default_fits_a_laptop():
    algorithm = pathwise.make(envs.make("inventory/store"))
    shape = jax.eval_shape(algorithm.init, jax.random.key(0))
    memory = jax.jit(algorithm.step).lower(shape).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes < 1e9


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="env.action_space"):
        pathwise.make(envs.make("gymnax/CartPole-v1"))
    with pytest.raises(ConfigError, match="total_steps=10: must be at least one"):
        pathwise.make(envs.make("inventory/store"), pathwise.Config(total_steps=10))
    with pytest.raises(ConfigError, match="num_envs"):
        pathwise.make(
            envs.make("inventory/store"),
            pathwise.Config(num_envs=10**7, horizon=200, total_steps=2**31 - 1),
        )
