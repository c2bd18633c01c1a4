"""PPO: what an update does, and that its hyperparameters do what they say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo
from onejit.algos.core import collect, normalize
from onejit.algos.core.networks import Networks

SMALL = ppo.Config(
    num_envs=8,
    num_steps=8,
    num_minibatches=2,
    update_epochs=2,
    hidden_sizes=(8,),
    total_steps=64 * 4,
)


def collected(env, config, key):
    """A fresh learner, its networks and one rollout."""
    networks = ppo.make_networks(env, config)
    return networks, *jax.jit(partial(first_rollout, env, config, networks))(key)


def first_rollout(env, config, networks, key):
    """A fresh learner, and what it collects."""
    learner_key, env_key, rollout_key = jax.random.split(key, 3)
    learner = ppo.init_learner(learner_key, env=env, networks=networks, config=config)
    collector = collect.make_collector(env, collect.no_memory, networks.head.to_env)

    def explore(memory, obs, key):
        distribution = networks.policy.apply(learner.params["policy"], normalize.obs(learner, obs))
        action = networks.head.sample(key, distribution)
        return action, networks.head.log_prob(action, distribution), memory

    carry = collector.reset(env_key, config)
    return learner, collector.collect(explore, config, carry, rollout_key, config.num_steps)[2]


@pytest.mark.parametrize("continuous", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_first_minibatch_has_ratio_one(continuous):
    config = SMALL.replace(
        num_minibatches=1, update_epochs=1, normalize_obs=True, normalize_reward=True
    )
    env = envs.make("probe/observation", continuous=continuous)
    networks, learner, batch = collected(env, config, jax.random.key(0))
    update = jax.jit(partial(ppo.update, networks=networks, config=config))
    learner, metrics = update(learner, batch, jax.random.key(1))
    assert abs(metrics["losses/approx_kl"]) < 1e-10
    assert metrics["losses/clip_fraction"] == 0.0
    # and the statistics did change, after the gradient steps
    assert learner.obs_statistics.count == batch.reward.size


def test_normalised_rewards_have_one_scale_from_the_first_rollout_on():
    env = envs.make("probe/observation")
    networks, learner, batch = collected(
        env, SMALL.replace(normalize_reward=True), jax.random.key(0)
    )
    config = SMALL.replace(normalize_reward=True)
    update = jax.jit(
        lambda batch: ppo.update(
            learner, batch, jax.random.key(1), networks=networks, config=config
        )[1]
    )
    losses = [
        float(update(batch._replace(reward=k * batch.reward))["losses/value_loss"])
        for k in (1.0, 1000.0)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_observations_that_may_not_be_normalised_reach_the_networks_as_they_are():
    class Masked:
        observation_space = {
            "state": envs.Box(-9.0, 9.0, (2,)),
            "mask": envs.Box(0.0, 1.0, (3,), normalize=False),
        }
        action_space = envs.Discrete(2)

    networks = ppo.make_networks(envs.make("probe/value"), SMALL)
    learner = ppo.init_learner(
        jax.random.key(0), env=Masked(), networks=networks, config=SMALL.replace(normalize_obs=True)
    )
    obs = {"state": jnp.full((4, 2), 20.0), "mask": jnp.full((4, 3), 20.0)}
    seen = normalize.obs(learner, obs)
    np.testing.assert_array_equal(seen["mask"], obs["mask"])
    np.testing.assert_array_equal(seen["state"], 10.0)


def test_sweep_over_traced_hyperparameters_equals_single_runs():
    env = envs.make("probe/observation")
    algorithm = ppo.make(env, SMALL)
    rates = [1e-4, 1e-2]

    def run(key, config):
        return algos.train(algorithm, key, config=config, num_iterations=2)[0]

    key = jax.random.key(0)
    configs = jax.tree.map(
        lambda *x: jnp.stack([jnp.asarray(each) for each in x]),
        *[SMALL.replace(learning_rate=r) for r in rates],
    )
    many = jax.jit(jax.vmap(run, in_axes=(None, 0)))(key, configs)
    for i, rate in enumerate(rates):
        one = jax.jit(run)(jax.random.clone(key), SMALL.replace(learning_rate=rate))
        for a, b in zip(
            jax.tree.leaves(many.learner.params), jax.tree.leaves(one.learner.params), strict=True
        ):
            np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
def test_compiled_equals_not_compiled():
    config = SMALL.replace(
        num_envs=2, num_steps=2, num_minibatches=1, update_epochs=1, hidden_sizes=(4,)
    )
    # Not compiled, the 40 steps of the other one are slow.
    config = config.replace(initialiser="lecun")
    algorithm = ppo.make(envs.make("probe/delay", continuous=True), config)
    init = jax.jit(algorithm.init)
    compiled = jax.jit(algorithm.step)(init(jax.random.key(0)))
    state = init(jax.random.key(0))
    with jax.disable_jit():
        plain = algorithm.step(state)
    for a, b in zip(
        jax.tree.leaves(compiled[0].learner), jax.tree.leaves(plain[0].learner), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_one_compilation_for_a_whole_run_and_donation_without_shared_buffers():
    algorithm = ppo.make(
        envs.make("gymnax/Pendulum-v1"), SMALL.replace(normalize_obs=True, reset="first")
    )
    state = jax.jit(algorithm.init)(jax.random.key(0))
    pointers = [
        leaf.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(state)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]
    assert len(set(pointers)) == len(pointers)
    step = jax.jit(algorithm.step, donate_argnums=0)
    for _ in range(3):
        state, _ = step(state)
    assert step._cache_size() == 1
    changed = state._replace(config=state.config.replace(learning_rate=jnp.float32(1e-5)))
    step(changed)
    assert step._cache_size() == 1


def test_learning_rate_anneals_over_total_steps():
    algorithm = ppo.make(
        envs.make("probe/value"), SMALL.replace(learning_rate=1.0, max_grad_norm=1e-6)
    )
    history = jax.jit(lambda k: algos.train(algorithm, k, num_iterations=6))(jax.random.key(0))[1]
    # 4 iterations of 64 steps are total_steps: 1, 3/4, 1/2, 1/4, then 0
    np.testing.assert_allclose(
        history["charts/learning_rate"], [1.0, 0.75, 0.5, 0.25, 0.0, 0.0], atol=1e-6
    )


def test_own_networks_are_used():
    import flax.linen as nn

    class OneLayer(nn.Module):
        size: int

        @nn.compact
        def __call__(self, obs):
            out = nn.Dense(self.size, name="mine")(obs)
            return out[..., 0] if self.size == 1 else out

    env = envs.make("probe/observation")
    default = ppo.make_networks(env, SMALL)
    algorithm = ppo.make(env, SMALL, Networks(OneLayer(2), OneLayer(1), default.head))
    state, _ = jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))
    assert set(state.learner.params["policy"]["params"]) == {"mine"}
