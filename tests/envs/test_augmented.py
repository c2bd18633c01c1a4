"""Wrappers that have the agent decide on more than its action: a memory, a threshold of risk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo
from onejit.envs import risk

PENDULUM = envs.make("gymnax/Pendulum-v1")
GAMBLE = envs.make("probe/gamble")


class Both:
    """Observations for actor and critic, and actions of two dimensions that they repeat."""

    observation_space = {
        "state": envs.Box(-1.0, 1.0, (1,)),
        "privileged_state": envs.Box(-1.0, 1.0, (2,), normalize=False),
        "other": envs.Box(-1.0, 1.0, (2, 2)),
    }
    action_space = envs.Box(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), (2,))

    def reset(self, key):
        return (), self._seen(jnp.zeros(2, jnp.float32))

    def step(self, key, state, action):
        false = jnp.bool_(False)
        return (), envs.Step(self._seen(action), jnp.float32(0.0), false, false, {})

    def _seen(self, x):
        return {"state": x[:1], "privileged_state": x, "other": jnp.zeros((2, 2), jnp.float32)}


def key(seed=0):
    return jax.random.key(seed)


def test_what_is_written_with_an_action_is_read_with_the_next_observation():
    env = envs.Stateful(Both(), 2)
    np.testing.assert_array_equal(env.action_space.low, [-2, 0, -1, -1])
    np.testing.assert_array_equal(env.action_space.high, [2, 1, 1, 1])
    state, obs = env.reset(key())
    np.testing.assert_array_equal(obs["state"], [0, 0, 0])
    state, result = env.step(key(), state, jnp.array([1.5, 0.5, -0.25, 0.75]))
    np.testing.assert_array_equal(result.obs["state"], [1.5, -0.25, 0.75])
    np.testing.assert_array_equal(result.obs["privileged_state"], [1.5, 0.5, -0.25, 0.75])
    assert result.obs["other"].shape == env.observation_space["other"].shape == (2, 2)
    assert env.observation_space["privileged_state"].shape == (4,)
    assert env.observation_space["state"].normalize
    assert not env.observation_space["privileged_state"].normalize


@pytest.mark.slow
def test_a_memory_of_no_size_is_the_environment_itself():
    env = envs.Stateful(PENDULUM, 0)
    assert env.action_space.shape == PENDULUM.action_space.shape
    (state, obs), (inner, inner_obs) = env.reset(key()), PENDULUM.reset(key())
    np.testing.assert_array_equal(obs, inner_obs)
    for action in (-2.0, 0.5):
        state, result = env.step(key(), state, jnp.array([action], jnp.float32))
        inner, inner_result = PENDULUM.step(key(), inner, jnp.array([action], jnp.float32))
        jax.tree.map(
            np.testing.assert_array_equal, (result, state.env_state), (inner_result, inner)
        )


@pytest.mark.slow
def test_the_greatest_of_n_scores_is_a_discrete_action_and_an_episode_begins_with_no_memory():
    env = envs.Stateful(envs.make("probe/delay"), 1)
    vector = envs.VectorEnv(env, 1)
    state, obs = vector.reset(key())
    scores = jnp.array([[-0.5, 0.25, 0.7]], jnp.float32)  # action 1, which leads to state 2
    state, result = vector.step(key(), state, scores)
    np.testing.assert_allclose(result.obs, [[0, 0, 1, 0.7]])
    state, result = vector.step(key(), state, scores)
    assert result.terminated[0]
    np.testing.assert_allclose(result.next_obs, [[0, 0, 1, 0.7]])
    np.testing.assert_array_equal(result.obs, [[1, 0, 0, 0]])


@pytest.mark.parametrize(
    "env",
    [
        envs.Stateful(PENDULUM, 2),
        envs.RiskAverse(GAMBLE, lam=0.5, low=0.0, high=6.0),
        GAMBLE,
    ],
    ids=["stateful", "risk", "gamble"],
)
def test_they_keep_the_contract(env):
    envs.check(env)


def test_the_costs_of_the_first_period_and_of_the_last_by_hand():
    numbers = {"lam": 0.5, "tail": 0.1, "gamma": 0.95}
    # The first period: 3 + 0.95·0.5·2.
    assert risk.risk_cost(3.0, 1.0, 2.0, True, False, **numbers) == pytest.approx(3.95)
    # It ends with η' = −2: 1.5 + 10 − 0.95, and the 0 that follow are 2 above: 0.95·5·2.
    cost = risk.risk_cost(3.0, 1.0, -2.0, False, jnp.array([False, True]), **numbers)
    np.testing.assert_allclose(cost, [10.55, 20.05], rtol=1e-6)


def test_without_aversion_the_reward_is_the_environments_own():
    env = envs.RiskAverse(PENDULUM, lam=0.0, low=0.0, high=17.0)
    (state, _), (inner, _) = env.reset(key()), PENDULUM.reset(key())
    for action in ([1.0, 3.0], [-2.0, 16.0]):
        action = jnp.array(action, jnp.float32)
        state, result = env.step(key(), state, action)
        inner, inner_result = PENDULUM.step(key(), inner, action[:1])
        assert result.reward == inner_result.reward == result.info["reward"]


@pytest.mark.parametrize("tail", [0.1, 0.3, 1.0])
def test_the_best_threshold_makes_the_expected_cost_the_risk_measure(tail):
    values, probs = np.array([0.0, 1.0, 5.0, 20.0]), np.array([0.5, 0.3, 0.15, 0.05])
    lam, gamma = 0.4, 0.9

    def expected(threshold):  # a first cost of 0, then one of the values, then nothing more
        numbers = {"lam": lam, "tail": tail, "gamma": gamma}
        first = risk.risk_cost(0.0, 0.0, threshold, True, False, **numbers)
        second = risk.risk_cost(values, threshold, 0.0, False, True, **numbers)
        return float(first + gamma * np.sum(probs * second))

    worst, left = 0.0, tail  # the mean of the worst `tail`, from the top
    for value, prob in zip(values[::-1], probs[::-1], strict=True):
        taken = min(prob, left)
        worst, left = worst + value * taken / tail, left - taken
    measure = gamma * ((1 - lam) * np.sum(values * probs) + lam * worst)
    costs = [expected(threshold) for threshold in np.linspace(0.0, 20.0, 81)]
    np.testing.assert_allclose(min(costs), measure, rtol=1e-5)
    found, best = risk.conditional_value_at_risk(values, probs, tail=tail)
    np.testing.assert_allclose(found, worst, rtol=1e-6)
    np.testing.assert_allclose(expected(float(best)), measure, rtol=1e-5)


def test_the_gamble_costs_what_it_says():
    step = jax.vmap(GAMBLE.step, in_axes=(0, None, None))
    state, _ = GAMBLE.reset(key())
    state, result = GAMBLE.step(key(), state, jnp.int32(1))
    assert result.reward == 0.0 and not result.terminated
    safe, risky = (
        step(jax.random.split(key(), 4000), state, jnp.int32(action))[1] for action in (0, 1)
    )
    assert np.all(safe.reward == -1.0) and np.all(safe.terminated)
    assert set(np.unique(risky.reward)) == {-6.0, 0.0}
    # 0.6 ± 4 standard errors, √(0.1·0.9)·6/√4000 = 0.028
    assert abs(np.mean(risky.reward) + 0.6) < 0.114


def test_what_does_not_fit_is_refused():
    bad = {"lam": 1.5, "tail": 0.0, "gamma": -0.1}
    for name, value in bad.items():
        numbers = {"lam": 0.5, "low": 0.0, "high": 1.0} | {name: value}
        with pytest.raises(ValueError, match=f"{name}={value}"):
            envs.RiskAverse(GAMBLE, **numbers)
    with pytest.raises(ValueError, match="low below high"):
        envs.RiskAverse(GAMBLE, lam=0.5, low=1.0, high=1.0)
    with pytest.raises(ValueError, match="size=-1: must be at least 0"):
        envs.Stateful(GAMBLE, -1)
    with pytest.raises(ValueError, match="scores are not masked"):
        envs.Stateful(envs.make("probe/mask"), 1)
    with pytest.raises(ValueError, match="must be Discrete or a Box with one axis"):
        many = Both()
        many.action_space = envs.MultiDiscrete((2, 3))
        envs.Stateful(many, 1)


def best_arm(lam):
    """Of the gamble, with the best threshold for each arm; tail 0.1, γ = 1."""
    thresholds, numbers = np.linspace(0.0, 6.0, 61), {"lam": lam, "tail": 0.1, "gamma": 1.0}
    first = risk.risk_cost(0.0, 0.0, thresholds, True, False, **numbers)
    sure, lost, won = (
        risk.risk_cost(cost, thresholds, 0.0, False, True, **numbers) for cost in (1.0, 6.0, 0.0)
    )
    return int(np.min(first + 0.1 * lost + 0.9 * won) < np.min(first + sure))


def test_the_sure_cost_is_better_above_an_aversion_of_two_27ths():
    # The sure cost is 1 for every λ, the gamble (1 − λ)·0.6 + λ·6: equal at λ = 0.4/5.4.
    assert best_arm(2 / 27 - 1e-3) == 1
    assert best_arm(2 / 27 + 1e-3) == 0


@pytest.mark.slow
def test_ppo_takes_the_arm_that_the_aversion_says(jit_to_learn):
    """All aversions at once: lam may be traced."""
    config = ppo.Config(num_envs=64, num_steps=16, learning_rate=1e-3, total_steps=200_000)
    aversions = jnp.array([0.0, 0.03, 0.3, 1.0])

    def learn(lam):
        env = envs.RiskAverse(GAMBLE, lam=lam, gamma=0.99, low=0.0, high=6.0)
        algorithm = ppo.make(env, config)
        iterations = algorithm.iterations(config.total_steps)
        state, _ = algos.train(algorithm, key(), num_iterations=iterations)
        _, obs = env.reset(key())
        obs = obs.at[0].set(1.0)  # the second step
        return jnp.argmax(algorithm.act(state, obs[None], key(), True)[0, :2])

    arms = jit_to_learn(jax.vmap(learn))(aversions)
    np.testing.assert_array_equal(arms, [best_arm(float(lam)) for lam in aversions])
