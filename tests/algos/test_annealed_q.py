"""Annealed Q-learning: with ½ it is TD3, SAC and FastSAC with squared errors, and its schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import aq_fast_sac, aq_sac, aq_td3, sac, td3
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import expectile, soft

pytestmark = pytest.mark.slow

SMALL = {
    "num_envs": 4,
    "batch_size": 16,
    "buffer_size": 400,
    "learning_starts": 16,
    "total_steps": 416,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
    "learning_rate": 1e-2,
}
ENV = envs.make("probe/delay", continuous=True)


def trained(module, **changes):
    algorithm = module.make(ENV, module.Config(**SMALL, **changes))
    run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=20))
    return run(jax.random.key(0))


@pytest.mark.parametrize(
    "module, sibling",
    [
        pytest.param(aq_td3, td3, id="td3"),
        pytest.param(aq_sac, sac, id="sac"),
    ],
)
def test_with_one_half_it_is_its_sibling_and_else_it_is_not(module, sibling):
    """To rounding where the program is compiled: XLA fuses it otherwise, and adds up in another
    order.
    """
    expected = trained(sibling)[0].learner
    actual = trained(module, expectile=0.5)[0].learner
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, actual.params, expected.params)
    other = trained(module)[0].learner
    kernel = lambda learner: jax.tree.leaves(learner.params["critic"])[1]  # noqa: E731
    assert np.abs(kernel(other) - kernel(expected)).max() > 1e-3


def after_an_update(module, **changes):
    """The learner after an update of the critics and one of the actor, one operation at a time."""
    config = module.Config(**SMALL | {"num_updates": 1, "policy_delay": 1}).replace(**changes)
    networks = module.make_networks(ENV, config)
    keys = jax.random.split(jax.random.key(0), 5)
    size = ENV.observation_space.shape[0]
    learner = module.init_learner(keys[0], env=ENV, networks=networks, config=config)
    batch = module.Batch(
        obs=jax.random.normal(keys[1], (1, 16, size)),
        action=jax.random.uniform(keys[2], (1, 16, 1), minval=-1.0),
        reward=jax.random.normal(keys[3], (1, 16)),
        discount=jnp.full((1, 16), 0.9),
        next_obs=jax.random.normal(keys[4], (1, 16, size)),
    )
    with jax.disable_jit():
        return module.update(learner, batch, jax.random.key(1), networks=networks, config=config)[0]


@pytest.mark.parametrize("module, sibling", [(aq_td3, td3), (aq_sac, sac)])
def test_with_one_half_an_update_is_its_siblings_bit_for_bit(module, sibling, assert_bitwise_equal):
    """Operation by operation, where nothing is fused."""
    half = {"expectile": 0.5, "final_expectile": 0.5}
    assert_bitwise_equal(after_an_update(module, **half), after_an_update(sibling))


def test_with_one_half_fast_sac_has_squared_errors_bit_for_bit(monkeypatch, assert_bitwise_equal):
    """FastSAC has categorical critics; the sibling is what it is with `losses.squared_td_loss`."""
    half = after_an_update(aq_fast_sac, expectile=0.5, final_expectile=0.5)
    optimistic = after_an_update(aq_fast_sac, expectile=0.9)
    monkeypatch.setattr(expectile, "update_soft_expectile_critics", soft.update_soft_critics)
    sibling = after_an_update(aq_fast_sac)
    assert_bitwise_equal(half, sibling)
    kernel = lambda learner: jax.tree.leaves(learner.params["critic"])[1]  # noqa: E731
    assert np.abs(kernel(optimistic) - kernel(sibling)).max() > 1e-4


def test_each_fast_critic_regresses_to_its_own_target():
    """The loss is half the mean squared distance of each from its own soft target, summed."""
    config = aq_fast_sac.Config(**SMALL, expectile=0.5, final_expectile=0.5)
    networks = aq_fast_sac.make_networks(ENV, config)
    parts = {"networks": networks, "config": config}
    learner = aq_fast_sac.init_learner(jax.random.key(0), env=ENV, **parts)
    size = ENV.observation_space.shape[0]
    obs = jnp.eye(16, size)
    batch = aq_fast_sac.Batch(obs, jnp.zeros((16, 1)), jnp.ones(16), jnp.full(16, 0.9), obs)
    key = jax.random.key(1)
    _, metrics = aq_fast_sac.critic_update(learner, batch, key, **parts)
    distribution = networks.actor.apply(learner.params["actor"], obs)
    action, log_prob = soft.sample_action(distribution, jax.random.clone(key))
    alpha, expected, errors = config.initial_alpha, 0.0, []
    for i in range(2):
        critic = jax.tree.map(lambda x, i=i: x[i], learner.params["critic"])
        target = 1.0 + 0.9 * (networks.critic.apply(critic, obs, action) - alpha * log_prob)
        errors.append(networks.critic.apply(critic, obs, batch.action) - target)
        expected += 0.5 * np.mean(errors[-1] ** 2)
    np.testing.assert_allclose(metrics["losses/critic_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], np.abs(errors).mean(axis=0), rtol=1e-4)


def test_the_expectile_falls_over_its_part_of_total_steps():
    """16 of 416 steps are done when the first update comes, and 8 more with each of policy_delay 2:
    over half of 416 steps 0.9 falls by 0.4·(16 + 8·i)/208.
    """
    history = trained(aq_td3, anneal_fraction=0.5)[1]["charts/expectile"]
    expected = np.maximum(0.9 - 0.4 * (16 + 8 * np.arange(20)) / 208, 0.5)
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    fixed = aq_td3.Config(expectile=0.8, final_expectile=0.8)
    assert fixed.schedules(0.3)["expectile"] == pytest.approx(0.8)
    both = aq_td3.Config(anneal_lr=True, learning_rate=1.0).annealed(jnp.int32(0))
    assert both.learning_rate == pytest.approx(0.999)  # 1000 of a million steps are done
    assert both.expectile == pytest.approx(0.8996)


@pytest.mark.parametrize("module", [aq_td3, aq_sac, aq_fast_sac])
def test_vmapped_seeds_and_expectiles_equal_single_runs_and_differ_from_each_other(module):
    algorithm = module.make(ENV, module.Config(**SMALL))

    def run(key, expectile):
        config = algorithm.config.replace(expectile=expectile)
        return algos.train(algorithm, key, config=config, num_iterations=5)[0].learner.params

    keys, expectiles = jax.random.split(jax.random.key(0), 2), jnp.array([0.6, 0.9])
    many = jax.jit(jax.vmap(run))(keys, expectiles)
    single = jax.jit(run)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=5e-6)
    for i in range(2):
        one = single(jax.random.clone(keys)[i], expectiles[i])
        jax.tree.map(lambda many, one, i=i: close(many[i], one), many, one)
    kernel = jax.tree.leaves(many["critic"])[1]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-2


@pytest.mark.parametrize("value", [0.4, 1.0])
def test_what_is_no_expectile_is_refused(value):
    with pytest.raises(ConfigError, match="expectile="):
        aq_td3.make(ENV, aq_td3.Config(**SMALL, expectile=value))
