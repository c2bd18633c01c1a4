"""The store: its period by hand, what its optimum says, and that it is an environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import inventory

COSTS = {"holding_cost": 1.0, "shortage_cost": 9.0}


def cost_of(level, key, env=None, num_periods=400, num_stores=256):
    """Mean cost per period of ordering up to a level, but for the first periods."""
    env = env or inventory.make("store", episode_length=10_000)
    stores = envs.VectorEnv(env, num_stores)
    state, obs = stores.reset(key)

    def step(carry, key):
        state, obs = carry
        state, result = stores.step(key, state, env.order_up_to(level, obs))
        return (state, result.obs), jnp.mean(result.reward)

    keys = jax.random.split(jax.random.key(1), num_periods)
    _, rewards = jax.lax.scan(step, (state, obs), keys)
    return -jnp.mean(rewards[30:])


def test_lost_sales_are_not_owed():
    stock, order, demand = jnp.array([3.0, 2.0]), jnp.float32(1.0), jnp.float32(5.0)
    # 3 − 5 = −2 are short: 9·2 = 18; what is owed comes off the 2 that arrive next
    waits, cost = inventory.period(stock, order, demand, **COSTS, lost_sales=False)
    np.testing.assert_allclose(waits, [0.0, 1.0])
    np.testing.assert_allclose(cost, 18.0)
    lost, cost = inventory.period(stock, order, demand, **COSTS, lost_sales=True)
    np.testing.assert_allclose(lost, [2.0, 1.0])
    np.testing.assert_allclose(cost, 18.0)


def test_with_a_lead_time_of_one_period_an_order_is_on_hand_in_the_next():
    stock, cost = inventory.period(
        jnp.array([4.0]), jnp.float32(2.0), jnp.float32(1.0), **COSTS, lost_sales=False
    )
    np.testing.assert_allclose(stock, [5.0])  # 4 − 1 + 2
    np.testing.assert_allclose(cost, 3.0)


def test_simulated_the_best_level_costs_what_the_formula_says_and_others_cost_more():
    env = inventory.make("store", episode_length=10_000)
    run = jax.jit(jax.vmap(lambda level: cost_of(level, jax.random.key(0), env)))
    below, best, above = run(env.level + jnp.array([-1.5, 0.0, 1.5]))
    np.testing.assert_allclose(best, env.best_cost, atol=0.05)
    assert min(below, above) > best + 0.1


def test_a_unit_more_on_hand_costs_h_where_some_is_left_and_saves_p_where_not():
    def cost(stock, demand):
        return inventory.period(stock, jnp.float32(0.0), demand, **COSTS, lost_sales=False)[1]

    slope = jax.vmap(jax.grad(cost), (None, 0))(jnp.array([3.0, 0.0]), jnp.array([2.0, 4.0]))
    np.testing.assert_allclose(slope, [[1.0, 0.0], [-9.0, 0.0]])


@pytest.mark.parametrize("lost_sales", [False, True])
def test_it_is_an_environment(lost_sales):
    env = envs.make("inventory/store", lead_time=2, lost_sales=lost_sales, episode_length=7)
    envs.check(env, num_steps=16)
    assert env.observation_space.shape == (2,)


@pytest.mark.parametrize("option", [{"lead_time": 0}, {"demand_std": -1.0}, {"backlog": True}])
def test_wrong_options_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=rf"inventory/store.*{name}"):
        envs.make("inventory/store", **option)
