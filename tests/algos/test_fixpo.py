"""FixPO: its bound holds at every state, what happens where it cannot be kept, and the limit in
which it is MDPO without a penalty.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fixpo, mdpo
from onejit.algos.core.config import ConfigError

pytestmark = pytest.mark.slow

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 3,
    "hidden_sizes": (8,),
    "anneal_lr": False,
}
close = np.testing.assert_allclose


class Wide:
    observation_space = envs.Box(-9.0, 9.0, (4,))
    action_space = envs.Box(-1.0, 1.0, (2,))

    def reset(self, key):
        raise AssertionError("only its spaces are asked for")

    step = reset


def updated(config, env, bounds, num_seeds, num_updates=4):
    """After each update with each bound of each seed: the largest KL(old‖new) of the rollout, which
    networks are what they were, and the metrics, all `[updates, bounds, seeds]`.
    """
    networks = fixpo.make_networks(env, config)
    head = networks.head

    def rollout(params, key):
        """Random observations and rewards, and what the policy does there."""
        obs_key, action_key, reward_key, next_key = jax.random.split(key, 4)
        shape = (config.num_steps, config.num_envs)
        obs = jax.random.normal(obs_key, (*shape, *env.observation_space.shape))
        distribution = networks.policy.apply(params["policy"], obs)
        action = head.sample(action_key, distribution)
        over = jnp.zeros(shape, bool)
        return distribution, fixpo.Transition(
            obs=obs,
            action=action,
            log_prob=head.log_prob(action, distribution),
            reward=10.0 * jax.random.normal(reward_key, shape),
            terminated=over,
            truncated=over,
            next_obs=jax.random.normal(next_key, obs.shape),
        )

    def is_same(new, old):
        leaves = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
        return jnp.all(jnp.array([jnp.all(a == b) for a, b in leaves]))

    def init(bound, key):
        return fixpo.init_learner(key, env=env, networks=networks, config=config)

    def one(bound, key, learner):
        rollout_key, update_key = jax.random.split(key)
        old, batch = rollout(learner.params, rollout_key)
        changed = config.replace(kl_bound=bound)
        new, metrics = fixpo.update(learner, batch, update_key, networks=networks, config=changed)
        max_kl = jnp.max(head.kl(old, networks.policy.apply(new.params["policy"], batch.obs)))
        same = {name: is_same(new.params[name], learner.params[name]) for name in new.params}
        return new, (max_kl, same, metrics)

    def each(function, learner_axis=()):
        seeds = jax.vmap(function, (None, 0, *learner_axis))
        return jax.jit(jax.vmap(seeds, (0, None, *learner_axis)))

    start, *keys = jax.random.split(jax.random.key(0), (num_updates + 1, num_seeds))
    bounds = jnp.array(bounds)
    learner = each(init)(bounds, start)
    update = each(one, (0,))
    results = []
    for key in keys:
        learner, result = update(bounds, key, learner)
        results.append(result)
    return jax.tree.map(lambda *x: np.stack(x), *results)


def test_no_state_of_a_rollout_is_beyond_the_bound_after_any_update():
    config = fixpo.Config(**SIZES, learning_rate=0.03)
    bounds = [0.01, 0.05, 0.1, 1e6]
    max_kl, _, metrics = updated(config, Wide(), bounds, num_seeds=3)
    # float32's rounding of a KL that is computed in batches of another shape
    assert np.all(max_kl <= np.array(bounds)[:, None] * (1.0 + 1e-5))
    close(metrics["losses/max_kl"], max_kl, rtol=1e-4, atol=1e-6)
    assert np.all(metrics["losses/fixup_steps"][:, 0] > 0.0)
    # Without the second phase the bounds would not have held, and nothing is done where they do.
    assert max_kl[:, 3].max() > 0.1
    assert np.all(metrics["losses/fixup_steps"][:, 3] == 0.0)
    # It is the policy that learned, and not the old one that stood again.
    assert np.all(max_kl[:, 1:] > 0.0)


def test_where_the_bound_cannot_be_kept_the_old_policy_stands():
    config = fixpo.Config(**SIZES, learning_rate=1.0, max_fixup_passes=1)
    max_kl, same, metrics = updated(config, Wide(), [1e-4], num_seeds=2)
    failed = metrics["losses/fixup_failed"] == 1.0  # after each of the passes
    assert failed.any()
    np.testing.assert_array_equal(same["policy"][failed], True)
    np.testing.assert_array_equal(max_kl[failed], 0.0)
    assert not same["value"].any()


def test_without_a_penalty_and_a_bound_it_is_mdpo_without_a_divergence():
    env = envs.make("probe/observation")
    same = SIZES | {"num_minibatches": 1, "vf_coef": 0.5, "normalize_advantage": False}
    nothing = {"initial_beta": 0.0, "beta_learning_rate": 0.0, "kl_bound": jnp.inf}
    free = {"step_size": 1e30, "min_step_size": 1e30, "anneal_step_size": False}
    configs = {
        fixpo: fixpo.Config(**same, **nothing),
        mdpo: mdpo.Config(**same, **free, policy_steps=3),
    }
    params = []
    for module, config in configs.items():
        algorithm = module.make(env, config)
        run = jax.jit(lambda key, a=algorithm: algos.train(a, key, num_iterations=2)[0])
        params.append(run(jax.random.key(0)).learner.params)
    jax.tree.map(partial(close, rtol=1e-5, atol=1e-6), *params)


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("fixup_minibatches", 3, "must divide num_envs·num_steps = 64"),
        ("kl_bound", 0.0, "above 0"),
        ("initial_beta", -1.0, "at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, allowed):
    config = fixpo.Config(**SIZES).replace(**{field: value})
    with pytest.raises(ConfigError, match=allowed):
        fixpo.make(envs.make("probe/observation"), config)
