"""PROPS: the limit in which it is PPO, what a fit of the behaviour policy does, and that a rollout
then looks more like the policy.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo, props
from onejit.algos.core import guard
from onejit.algos.core.config import ConfigError

pytestmark = pytest.mark.slow

SIZES = {
    "num_envs": 2,
    "num_steps": 16,
    "num_minibatches": 2,
    "update_epochs": 2,
    "hidden_sizes": (8,),
    "learning_rate": 1e-2,
}
FITS = {"refresh_every": 4, "behaviour_epochs": 8, "behaviour_minibatches": 2}
ENV = envs.make("probe/delay")


def states(module, config, iterations=3):
    """The States from the first to the last, and the metrics."""
    algorithm = module.make(ENV, config)
    step = jax.jit(algorithm.step)
    found, metrics = [jax.jit(algorithm.init)(jax.random.key(0))], []
    for _ in range(iterations):
        state, metric = step(found[-1])
        found.append(state)
        metrics.append(metric)
    return found, metrics


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


@pytest.mark.parametrize(
    "nothing",
    [
        {"behaviour_learning_rate": 0.0},
        {"behaviour_epochs": 0},
    ],
)
def test_without_fits_it_is_ppo(nothing, assert_bitwise_equal):
    """The rollouts bit for bit; the learner as XLA rounds a larger program."""
    found, metrics = states(props, props.Config(**SIZES, **FITS).replace(**nothing))
    expected, ppo_metrics = states(ppo, ppo.Config(**SIZES, clip_eps=0.2))
    for mine, theirs in zip(found, expected, strict=True):
        assert_bitwise_equal((mine.collection, mine.key), (theirs.collection, theirs.key))
        close(mine.learner, theirs.learner)
    close({name: metrics[-1][name] for name in ppo_metrics[-1]}, ppo_metrics[-1])


def test_where_nothing_is_fused_it_is_ppo_bit_for_bit(assert_bitwise_equal):
    """A whole iteration, one operation at a time."""
    sizes = SIZES | {"num_steps": 4, "update_epochs": 1}
    fits = {"refresh_every": 2, "behaviour_epochs": 1, "behaviour_minibatches": 2}

    def stepped(module, **changes):
        algorithm = module.make(ENV, module.Config(**sizes, **changes))
        state = jax.jit(algorithm.init)(jax.random.key(0))
        with jax.disable_jit():
            return algorithm.step(state)[0]

    mine = stepped(props, **fits, behaviour_learning_rate=0.0)
    theirs = stepped(ppo, clip_eps=0.2)
    assert_bitwise_equal(mine.learner, theirs.learner)
    assert_bitwise_equal(mine.collection, theirs.collection)


def test_with_fits_it_is_not_and_the_policy_still_starts_an_update_as_itself():
    """The ratio of the first minibatch is 1, though another policy drew the actions."""
    config = props.Config(**SIZES, **FITS, behaviour_learning_rate=0.05, normalize_obs=True)
    one = {"num_minibatches": 1, "update_epochs": 1}
    found, metrics = states(props, config.replace(**one))
    expected, _ = states(ppo, ppo.Config(**SIZES, normalize_obs=True).replace(**one))
    for metric in metrics:
        assert metric["losses/ratio_deviation"] < 1e-5
        assert metric["charts/behaviour_steps"] > 0.0
        assert metric["charts/behaviour_kl"] > 0.0
    flat = (jax.flatten_util.ravel_pytree(x[-1].learner.params)[0] for x in (found, expected))
    assert np.abs(np.subtract(*flat)).max() > 1e-3
    moments = jax.tree.leaves(found[-1].behaviour)
    assert any(np.abs(x).max() > 0.0 for x in moments)


def fitted(filled, garbage=0.0, **changes):
    """A policy of three actions at one observation that drew the first 12 times and the second 4
    times: its probabilities before and after a fit, the optimiser's states and the metrics.
    """
    config = props.Config(**SIZES, **FITS, behaviour_learning_rate=0.05).replace(**changes)
    env = envs.Discretized(envs.make("probe/action", continuous=True), 3)
    networks = props.make_networks(env, config)
    obs = jnp.zeros((32, *env.observation_space.shape), jnp.float32)
    params = networks.policy.init(jax.random.key(0), obs[0])
    action = jnp.where(jnp.arange(32) % 4 == 3, 1, 0)
    distribution = networks.policy.apply(params, obs)
    is_there = jnp.arange(32) < filled
    log_prob = networks.head.log_prob(action, distribution) + jnp.where(is_there, 0.0, garbage)
    data = props.Sampled(obs, action, log_prob, is_there)
    opt_state = props.behaviour_optimiser(config).init(jax.flatten_util.ravel_pytree(params)[0])
    fit = jax.jit(partial(props.fit_behaviour, networks=networks, config=config))
    new, new_state, metrics = fit(params, opt_state, data, jax.random.key(1))
    before, after = (jax.nn.softmax(networks.policy.apply(x, obs[0])) for x in (params, new))
    return before, after, opt_state, new_state, metrics


def test_a_fit_makes_what_was_sampled_less_likely_and_the_rest_more():
    before, after, _, _, metrics = fitted(16)
    assert after[0] < before[0] and after[2] > before[2] + 0.02
    assert after[0] - before[0] < after[1] - before[1]
    assert metrics["charts/behaviour_steps"] > 1.0


def test_a_fit_stops_where_it_is_far_enough():
    _, after, *_, metrics = fitted(16, behaviour_epochs=1000)
    stopped, taken = metrics["charts/behaviour_kl"], metrics["charts/behaviour_steps"]
    assert stopped > 0.1 and taken < 200.0
    _, closer, *_, metrics = fitted(16, behaviour_epochs=1000, behaviour_kl=0.01)
    assert 0.01 < metrics["charts/behaviour_kl"] < stopped
    assert metrics["charts/behaviour_steps"] < taken
    assert closer[2] < after[2]


def test_minibatches_without_a_row_say_nothing_of_the_divergence():
    """4 rows of 16 in minibatches of one: the last one of a pass is mostly empty."""
    _, before, *_ = fitted(4)
    _, after, *_, metrics = fitted(4, behaviour_minibatches=16, behaviour_kl=10.0)
    assert metrics["charts/behaviour_steps"] > 0.0
    assert metrics["charts/behaviour_kl"] > 0.0


def test_a_fit_looks_at_the_rows_that_there_are():
    _, after, _, state, _ = fitted(16)
    _, same, _, same_state, _ = fitted(16, garbage=5.0)
    np.testing.assert_array_equal(after, same)
    jax.tree.map(np.testing.assert_array_equal, state, same_state)


def test_where_there_are_none_nothing_moves():
    before, after, state, new_state, metrics = fitted(0)
    np.testing.assert_array_equal(after, before)
    jax.tree.map(np.testing.assert_array_equal, new_state, state)
    assert metrics["charts/behaviour_steps"] == 0.0


def test_a_rollout_looks_more_like_the_policy_than_one_of_the_policy():
    """Two actions of about ½ each, 64 steps of 40 seeds: KL of the share that was taken from what
    the policy says.
    """
    env = envs.make("probe/action")
    config = props.Config(
        **{**SIZES, "num_envs": 1, "num_steps": 64}, refresh_every=8, behaviour_minibatches=1
    )
    algorithm = props.make(env, config)

    @jax.jit
    @jax.vmap
    @partial(jax.vmap, in_axes=(None, 0))
    def error(key, rate):
        state = algorithm.init(key, config.replace(behaviour_learning_rate=rate))
        _, obs = env.reset(jax.random.key(0))
        share = jax.nn.softmax(algorithm.logits(state, obs))[1]
        _, metrics = algorithm.step(state)
        taken = metrics["charts/episodic_return"]  # action 1 pays 1, the other nothing
        return jax.scipy.special.rel_entr(taken, share) + jax.scipy.special.rel_entr(
            1.0 - taken, 1.0 - share
        )

    errors = error(jax.random.split(jax.random.key(0), 40), jnp.array([[0.0, 1e-2]] * 40))
    on_policy, adapted = errors.mean(axis=0)
    # That of on-policy sampling is about 1/(2·64) = 0.0078.
    assert 0.004 < on_policy < 0.012
    assert adapted < 0.6 * on_policy


class Breaks:
    """The reward of the 20th step is no number."""

    observation_space = envs.Box(-1.0, 1.0, (2,))
    action_space = envs.Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jax.random.uniform(key, (2,))

    def step(self, key, state, action):
        reward = jnp.where(state == 19, jnp.nan, 1.0)
        false = jnp.bool_(False)
        return state + 1, envs.Step(jax.random.uniform(key, (2,)), reward, false, false, {})


def test_after_a_fault_the_behaviour_policys_optimiser_stays_too(assert_bitwise_equal):
    algorithm = props.make(Breaks(), props.Config(**SIZES, **FITS))
    found = [jax.jit(algorithm.init)(jax.random.key(0))]
    step = jax.jit(algorithm.step)
    for _ in range(2):
        found.append(step(found[-1])[0])
    _, good, bad = found
    expected = "non-finite reward in iteration 1, step 3 of the rollout, environment 0"
    assert guard.describe(bad.learner.fault) == expected
    assert_bitwise_equal(bad.behaviour, good.behaviour)
    assert_bitwise_equal(bad.learner.params, good.learner.params)


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("refresh_every", 5, "must divide num_steps = 16"),
        ("behaviour_minibatches", 5, "must divide num_envs·num_steps = 32"),
        ("staleness", 1, "must be 0"),
        ("memory", "gru", "must be 'none'"),
        ("behaviour_learning_rate", -1.0, "at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, allowed):
    config = props.Config(**{**SIZES, **FITS, field: value})
    with pytest.raises(ConfigError, match=f"{field}=.*{allowed}"):
        props.make(ENV, config)


def test_networks_that_remember_are_refused():
    networks = ppo.make_networks(ENV, ppo.Config(**SIZES, memory="gru"))
    with pytest.raises(ConfigError, match="networks that remember: must not remember"):
        props.make(ENV, props.Config(**SIZES, **FITS), networks)
