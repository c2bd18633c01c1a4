"""Smoothed policies: certificates hold against the best adversary, attacks find it, logits are what
acts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from onejit import algos, envs
from onejit.algos import smoothing
from onejit.algos.off_policy import q_stack
from onejit.algos.smoothing import attacks
from onejit.envs import Adversary, Box, Discrete, MultiDiscrete


class Total:
    """Shows 0 for four steps; pays at the end for each threshold that the mean action, times 2,
    exceeds.

    The agent that says what it sees has the sum of four draws of noise, divided by 2, which is one
    draw.
    """

    observation_space = Box(-10.0, 10.0, (1,))
    action_space = Box(-1e6, 1e6, (1,))
    thresholds = np.array([-0.8, -0.4, 0.0])

    def reset(self, key):
        return (jnp.int32(0), jnp.float32(0.0)), jnp.zeros(1)

    def step(self, key, state, action):
        t, total = state[0] + 1, state[1] + 0.5 * action[0]
        reward = jnp.where(
            t == 4, jnp.sum(total > jnp.asarray(self.thresholds, jnp.float32)), 0
        ).astype(jnp.float32)
        return (t, total), envs.Step(jnp.zeros(1), reward, t == 4, jnp.bool_(False), {})


class Right:
    """Shows 0 for `num_steps` steps; action 1 pays 1."""

    observation_space = Box(-10.0, 10.0, (1,))
    action_space = Discrete(2)

    def __init__(self, num_steps):
        self.num_steps = num_steps

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        reward = (action == 1).astype(jnp.float32)
        return state + 1, envs.Step(
            jnp.zeros(1), reward, state + 1 == self.num_steps, jnp.bool_(False), {}
        )


class Twice(Right):
    """Two choices at once, of which the second pays."""

    action_space = MultiDiscrete((2, 3))

    def step(self, key, state, action):
        return super().step(key, state, action[1])


def echo(obs, key=None):
    del key
    return obs


def right_above_minus_one(obs):
    """Takes action 1 where what it sees is above −1."""
    return jnp.concatenate([jnp.zeros_like(obs), obs + 1.0], axis=-1)


def test_the_certificate_holds_against_the_best_adversary_and_is_near_it():
    sigma = 0.5
    budgets = np.array([0.0, 0.3, 0.6, 1.0])
    worst = np.sum(stats.norm.cdf((-Total.thresholds[:, None] - budgets) / sigma), axis=0)
    certificate = smoothing.certify(Total(), echo, sigma, budgets, thresholds=[1, 2, 3])
    assert len(certificate.returns) == 10_000
    assert certificate.returns.mean() == pytest.approx(worst[0], abs=0.03)
    assert np.all(certificate.lower <= worst)
    np.testing.assert_allclose(certificate.lower, worst, atol=0.06)

    # Best against it: the same push at each of the four observations.
    @jax.jit
    def attacked(budget, key):
        push = Adversary(lambda key, frames, obs, remaining: -0.5 * budget * jnp.ones_like(obs))
        env = smoothing.smoothed(Total(), sigma, adversary=push, budget=budget)
        return algos.evaluate(env, echo, key, num_episodes=20_000).returns.mean()

    keys = jax.random.split(jax.random.key(1), len(budgets))
    found = np.array([attacked(budget, key) for budget, key in zip(budgets, keys, strict=True)])
    np.testing.assert_allclose(found, worst, atol=0.04)
    # Four standard errors of what was found.
    assert np.all(found >= certificate.lower - 4 * 1.5 / np.sqrt(20_000))


def test_batches_successes_and_the_default_bound():
    options = {"num_episodes": 70, "batch_size": 32, "seed": 3}
    certificate = smoothing.certify(Total(), echo, 0.5, [0.0, 0.5], **options)
    assert certificate.bound == "dkw"
    assert certificate.returns.shape == (70,)
    success = smoothing.certify(Total(), echo, 0.5, [0.0, 0.5], success_threshold=2.0, **options)
    np.testing.assert_array_equal(success.returns, certificate.returns >= 2.0)
    # one Clopper–Pearson bound at α
    p = stats.beta.ppf(0.05, success.returns.sum(), 71 - success.returns.sum())
    np.testing.assert_allclose(success.lower, [p, stats.norm.cdf(stats.norm.ppf(p) - 1.0)])


def test_several_choices_at_once_are_certified():
    def act(obs, key):
        return jnp.ones((len(obs), 2), jnp.int32)

    certificate = smoothing.certify(Twice(2), act, 0.5, [0.0], 50, thresholds=[2.0])
    np.testing.assert_array_equal(certificate.returns, 2.0)


@pytest.mark.slow
def test_the_targeted_attack_pays_once_for_each_flip_and_carries_the_rest_over():
    """A flip costs 1: with B² = 0.8, 1.3, 2.5 and 9 the agent loses 0, 1, 2 and all of 3 steps."""
    budgets = np.sqrt([0.8, 1.3, 2.5, 9.0])
    options = {"num_episodes": 3, "strengths": [0.0], "num_steps": 80}
    found = smoothing.attack(Right(3), right_above_minus_one, 0.0, budgets, **options)
    np.testing.assert_array_equal(found.returns, np.repeat([[3.0], [2.0], [1.0], [0.0]], 3, axis=1))
    # The logits are 1 apart: with a gap of 1.5 no step is worth it. The worst of several strengths
    # counts.
    found = smoothing.attack(
        Right(3), right_above_minus_one, 0.0, [3.0], strengths=[1.5, 0.5], num_episodes=3
    )
    np.testing.assert_array_equal(found.returns, 0.0)
    np.testing.assert_array_equal(found.strengths, [0.5])


def test_the_attack_on_a_smoothed_agent_is_between_certificate_and_clean_return():
    env = Right(1)
    sigma = 0.8
    found = smoothing.attack(env, right_above_minus_one, sigma, [1.3], 4000, strengths=[0.0])
    # One step: worst is Φ((1 − 1.3)/0.8) = Φ(−0.375) = 0.3538, with all of the budget. The attack
    # stops where the mean of 16 draws flips, at 1 and a little, which leaves about Φ(0) = 0.5.
    assert 0.3538 - 0.03 < found.returns.mean() < 0.55
    clean = stats.norm.cdf(1.0 / 0.8)
    untouched = smoothing.attack(env, right_above_minus_one, sigma, [0.0], 4000, strengths=[0.0])
    assert untouched.returns.mean() == pytest.approx(clean, abs=0.03)


def test_the_attack_knows_the_frames_that_the_agent_has_seen():
    """The agent sums three frames, so that what was seen before helps: flips cost 1, then nothing
    for two steps.
    """

    def policy(obs):
        return jnp.stack([jnp.zeros(obs.shape[:-1]), jnp.sum(obs, axis=-1) + 1.0], axis=-1)

    options = {"strengths": [0.0], "num_frames": 3, "num_episodes": 2, "num_steps": 80}
    found = smoothing.attack(Right(4), policy, 0.0, np.sqrt([1.3, 2.5]), **options)
    np.testing.assert_array_equal(found.returns[:, 0], [1.0, 0.0])


@pytest.mark.slow
def test_the_deviation_attack_moves_a_linear_policy_along_its_weights():
    weights = np.array([3.0, -4.0], np.float32)
    adversary = attacks.deviation_adversary(lambda obs: (obs @ weights)[..., None], 0.1, 0.5)
    delta = adversary.perturb(
        jax.random.key(0), envs.Frames(jnp.zeros((0, 2)), jnp.zeros((0, 2))), jnp.ones(2), 2.0
    )
    assert np.linalg.norm(delta) == pytest.approx(0.5, rel=1e-5)
    assert abs(weights @ delta) == pytest.approx(0.5 * 5.0, rel=0.01)  # |w| = 5
    found = smoothing.attack(Total(), echo, 0.0, [0.1], 64, strengths=[1.0, 0.5])
    assert found.strengths.shape == (1,)
    assert np.all(np.isfinite(found.returns))


# PPO's are attacked in the test of scripts/smoothing.py.
@pytest.mark.parametrize("name", ["sac", pytest.param("staq", marks=pytest.mark.slow)])
def test_the_largest_logit_is_the_deterministic_action_and_has_a_gradient(name):
    module = getattr(algos, name)
    env = smoothing.smoothed(envs.make("gymnax/CartPole-v1"), 0.2, num_frames=2)
    sizes = {"sac": {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,)}}.get(
        name, {"hidden_sizes": (8,)}
    )
    algorithm = module.make(env, module.Config(num_envs=4, **sizes))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    if name == "staq":  # with something on its stack
        learner = state.learner
        state = state._replace(
            learner=learner._replace(stack=q_stack.push(learner.stack, learner.params))
        )
    obs = jax.random.normal(jax.random.key(1), (16, 8))
    policy = smoothing.policy_of(algorithm, state)
    logits = policy(obs)
    assert logits.shape == (16, 2)
    action = algorithm.act(state, obs, jax.random.key(2), True)
    np.testing.assert_array_equal(action, jnp.argmax(logits, axis=-1))
    assert len(set(np.asarray(action).tolist())) == 2
    grad = jax.grad(lambda obs: policy(obs)[0, 0])(obs)
    assert np.all(np.isfinite(grad))
    assert np.abs(grad[0]).max() > 0.0


def test_continuous_algorithms_have_no_logits():
    env = envs.make("gymnax/Pendulum-v1")
    algorithm = algos.ppo.make(env, algos.ppo.Config(hidden_sizes=(8,)))
    assert algorithm.logits is None
    state = jax.jit(algorithm.init)(jax.random.key(0))
    assert smoothing.policy_of(algorithm, state)(jnp.zeros((5, 3))).shape == (5, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smoothing.certify(Total(), echo, 0.0, [0.1]), "sigma=0.0: must be above 0"),
        (lambda: smoothing.certify(Total(), echo, 0.1, [-0.1]), "budget=.*must be at least 0"),
        (lambda: smoothing.certify(Total(), echo, 0.1, [0.1], 3), "3 episodes are too few"),
        (
            lambda: smoothing.certify(Total(), echo, 0.1, [0.1], 0),
            "num_episodes=0: must be at least 1",
        ),
        (
            lambda: smoothing.certify(Total(), echo, 0.1, [0.1], 70.5),
            "num_episodes=70.5: must be at least 1, an integer",
        ),
        (
            lambda: smoothing.certify(Total(), echo, 0.1, [0.1], seed=2**32),
            "seed=4294967296: must be an integer between",
        ),
        (
            lambda: smoothing.attack(Total(), echo, 0.1, [0.1], seed=-1),
            "seed=-1: must be an integer between",
        ),
        (
            lambda: smoothing.certify(Total(), echo, 0.1, [0.1], bound="clopper_pearson"),
            "needs thresholds",
        ),
        (
            lambda: smoothing.certify(
                Total(), echo, 0.1, [0.1], thresholds=[1], success_threshold=1.0
            ),
            "success_threshold: goes with none",
        ),
        (
            lambda: smoothing.certify(Right(1), echo, 0.1, [0.1]),
            "the policy's actions are float32.1., the env",
        ),
        (
            lambda: smoothing.attack(Total(), right_above_minus_one, 0.1, [0.1]),
            "the policy's actions are float32.2., the environment's Box.*give envs.Discretized",
        ),
        (
            lambda: smoothing.certify(Twice(1), echo, 0.1, [0.1]),
            "the policy's actions are float32.1., the env",
        ),
        (
            lambda: smoothing.attack(Twice(1), echo, 0.1, [0.1]),
            "env.action_space=MultiDiscrete.*must be a Box or Discrete",
        ),
        (
            lambda: smoothing.attack(Total(), echo, -0.1, [0.1]),
            "sigma: must be finite and at least 0, got -0.1",
        ),
        (
            lambda: smoothing.attack(Total(), echo, 0.1, [-1.0]),
            "budgets: must be finite and at least 0, got -1.0",
        ),
        (
            lambda: smoothing.attack(Total(), echo, 0.1, [0.1], strengths=[]),
            "strengths: must not be empty",
        ),
        (
            lambda: smoothing.attack(Total(), echo, 0.1, [0.1], num_draws=0),
            "num_draws=0: must be at least 1",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_episodes_have_nothing_in_common_with_a_training_from_the_same_seed():
    seen = []

    class Spy(Total):
        def reset(self, key):
            jax.debug.callback(
                lambda data: seen.append(tuple(np.ravel(data).tolist())), jax.random.key_data(key)
            )
            return super().reset(key)

    smoothing.certify(Spy(), echo, 0.5, [0.1], 8)
    jax.effects_barrier()
    algorithm = algos.ppo.make(
        smoothing.smoothed(Spy(), 0.5), algos.ppo.Config(num_envs=8, num_steps=4)
    )
    jax.block_until_ready(algorithm.init(jax.random.split(jax.random.key(0))[0]))
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) >= 16


def test_an_unknown_lower_bound_on_returns_is_refused():
    with pytest.raises(ValueError, match="below minimum=0: give a lower bound"):
        smoothing.certify(
            envs.make("gymnax/Pendulum-v1"),
            lambda obs, key: obs[:, :1],
            0.1,
            [0.1],
            10,
            max_steps=3,
        )
