"""Own networks with dropout and with running statistics, and any number of critics."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fast_td3, td3
from onejit.algos.core.masks import Masked
from onejit.algos.off_policy.networks import apply_in_training

CONFIG = td3.Config(
    num_envs=4,
    batch_size=16,
    learning_starts=16,
    buffer_size=400,
    num_updates=2,
    actor_hidden_sizes=(8,),
    critic_hidden_sizes=(8,),
)
ENV = envs.make("gymnax/Pendulum-v1")


class Critic(nn.Module):
    """With batch normalisation and dropout, which are on where it is trained."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, obs, action, train=False):
        x = nn.Dense(16)(jnp.concatenate([obs, action], axis=-1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.relu(x))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(1)(x)[..., 0]


@pytest.mark.slow
def test_running_statistics_follow_the_minibatches_and_dropout_is_for_training_alone():
    networks = td3.make_networks(ENV, CONFIG)._replace(critic=Critic())
    algorithm = td3.make(ENV, CONFIG, networks)
    start = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(start)
    assert metrics["charts/fault"] == 0
    learner, before = state.learner, start.learner
    assert set(learner.params["critic"]) == {"params", "batch_stats"}
    # The optimiser knows nothing of the statistics, and the targets have followed them.
    moments = jax.tree.structure(learner.opt_state["critic"][0].mu)
    assert moments == jax.tree.structure(learner.params["critic"]["params"])
    for new, old in ((learner.params, before.params), (learner.targets, before.targets)):
        moved = jax.tree.map(
            lambda a, b: float(jnp.abs(a - b).max()),
            new["critic"]["batch_stats"],
            old["critic"]["batch_stats"],
        )
        assert min(jax.tree.leaves(moved)) > 0.0

    batch = jax.tree.map(
        lambda x: x[None, :16],
        td3.Batch(
            obs=jax.random.normal(jax.random.key(1), (16, 3)),
            action=jnp.zeros((16, 1)),
            reward=jnp.ones(16),
            discount=jnp.zeros(16),
            next_obs=jax.random.normal(jax.random.key(2), (16, 3)),
        ),
    )
    config = CONFIG.replace(policy_delay=1)

    @partial(jax.jit, static_argnums=1)
    def loss(key, rate):
        parts = networks._replace(critic=Critic(rate))
        _, metrics = td3.update(learner, batch, key, networks=parts, config=config)
        return metrics["losses/critic_loss"]

    # With a discount of 0 the loss depends on the key by dropout alone.
    assert loss(jax.random.key(3), 0.5) != loss(jax.random.key(4), 0.5)
    assert loss(jax.random.key(3), 0.0) == loss(jax.random.key(4), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("module, num_critics", [(td3, 1), (fast_td3, 3)])
def test_any_number_of_critics(module, num_critics):
    fields = {name: getattr(CONFIG, name) for name in ("num_envs", "batch_size", "buffer_size")}
    sizes = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,), "learning_starts": 16}
    config = module.Config(num_critics=num_critics, **fields, **sizes)
    algorithm = module.make(ENV, config)
    state, metrics = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
    assert algos.describe_fault(state.learner.fault) is None
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(state.learner.params["critic"])}
    assert sizes == {num_critics}
    assert np.isfinite(metrics["losses/critic_loss"])


def start(networks, config):
    """A fresh learner."""
    init = partial(td3.init_learner, env=ENV, networks=networks, config=config)
    return jax.jit(init)(jax.random.key(0))


def test_the_target_is_the_smallest_of_all_critics():
    config = CONFIG.replace(policy_noise=0.0, policy_delay=1)
    networks = td3.make_networks(ENV, config)
    many = config.replace(num_critics=3)
    learner = start(networks, many)
    obs = jax.random.normal(jax.random.key(1), (64, 3))
    batch = td3.Batch(obs, jnp.zeros((64, 1)), jnp.zeros(64), jnp.ones(64), obs)
    action = networks.actor.apply(learner.targets["actor"], obs)
    q = jax.vmap(lambda each: networks.critic.apply(each, obs, action))(learner.targets["critic"])
    assert len(set(np.asarray(q).argmin(axis=0).tolist())) == 3
    present = jax.vmap(lambda each: networks.critic.apply(each, obs, batch.action))(
        learner.params["critic"]
    )
    critic_update = jax.jit(partial(td3.critic_update, networks=networks, config=many))
    _, metrics = critic_update(learner, batch, jax.random.key(2))
    # The loss sums over the critics.
    expected = np.sum(np.mean((np.asarray(present) - np.asarray(q).min(axis=0)) ** 2, axis=1))
    np.testing.assert_allclose(metrics["losses/critic_loss"], expected, rtol=1e-5)


@pytest.mark.slow
def test_an_update_normalises_and_keeps_statistics_as_that_of_ppo_does():
    config = CONFIG.replace(normalize_obs=True, policy_delay=1, policy_noise=0.0)
    networks = td3.make_networks(ENV, config)
    learner = start(networks, config)
    known = learner.obs_statistics._replace(
        count=jnp.float32(100.0), mean=jnp.full(3, 5.0), var=jnp.full(3, 4.0)
    )
    learner = learner._replace(obs_statistics=known)
    obs = 5.0 + 2.0 * jax.random.normal(jax.random.key(1), (1, 16, 3))
    batch = td3.Batch(obs, jnp.zeros((1, 16, 1)), jnp.ones((1, 16)), jnp.ones((1, 16)), obs)
    update = jax.jit(partial(td3.update, networks=networks, config=config))
    after, metrics = update(learner, batch, jax.random.key(2))
    # The same, by hand: mean 5 and standard deviation 2.
    plain = config.replace(normalize_obs=False)
    seen = (obs - 5.0) / 2.0
    expected, theirs = jax.jit(partial(td3.update, networks=networks, config=plain))(
        learner._replace(obs_statistics=()),
        batch._replace(obs=seen, next_obs=seen),
        jax.random.key(2),
    )
    np.testing.assert_allclose(
        metrics["losses/critic_loss"], theirs["losses/critic_loss"], rtol=1e-5
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        after.params["critic"],
        expected.params["critic"],
    )
    assert after.obs_statistics.count == 116.0
    mean = (100 * 5.0 + 16 * np.asarray(obs).mean((0, 1))) / 116
    np.testing.assert_allclose(after.obs_statistics.mean, mean, rtol=1e-5)


class Counting(nn.Module):
    """With dropout, and perhaps with a count of how often it was trained."""

    counts: bool

    @nn.compact
    def __call__(self, obs, action, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(jnp.concatenate([obs, action], axis=-1))
        if self.counts:
            count = self.variable("counters", "steps", lambda: jnp.int32(0))
            if train:
                count.value += 1
        return nn.Dense(1)(x)[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize("counts", [False, True])
def test_dropout_alone_and_counters_beside_it(counts):
    config = CONFIG.replace(policy_delay=1)
    networks = td3.make_networks(ENV, config)._replace(critic=Counting(counts))
    learner = start(networks, config)
    obs = jax.random.normal(jax.random.key(1), (3, 16, 3))
    batch = td3.Batch(obs, jnp.zeros((3, 16, 1)), jnp.ones((3, 16)), jnp.zeros((3, 16)), obs)
    update = jax.jit(
        lambda learner: td3.update(
            learner, batch, jax.random.key(2), networks=networks, config=config
        )
    )
    after, metrics = update(update(learner)[0])
    assert algos.describe_fault(after.fault) is None
    assert np.isfinite(metrics["losses/critic_loss"])
    jax.tree.map(lambda a, b: chex.assert_equal_shape([a, b]), after, learner)
    if counts:  # two calls of three minibatches each; the targets have the count itself
        for critic in (after.params["critic"], after.targets["critic"]):
            np.testing.assert_array_equal(critic["counters"]["steps"], [6, 6])


class Around(nn.Module):
    """With dropout, around another network."""

    inner: nn.Module

    @nn.compact
    def __call__(self, obs, train=False):
        return nn.Dropout(0.5, deterministic=not train)(self.inner(obs))


def test_who_is_told_of_training_is_the_network_itself_and_under_a_mask_the_one_inside():
    network = Around(nn.Dense(2))
    variables = network.init(jax.random.key(0), jnp.zeros(3))
    for each in (network, Masked(network)):
        outputs = [
            apply_in_training(each, variables, jax.random.key(key), jnp.ones((8, 3)))[0]
            for key in (1, 2)
        ]
        assert np.any(outputs[0] != outputs[1])
