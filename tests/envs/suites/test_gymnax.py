"""The gymnax adapter: types of every environment, spaces, time limits, physics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment
from gymnax.environments import spaces as gymnax_spaces

from onejit import envs
from onejit.envs import Box, Discrete, VectorEnv

REFUSED = "gymnax/MNISTBandit-bsuite"
OFFERED = [env_id for env_id in envs.env_ids("gymnax") if env_id != REFUSED]


def types(tree):
    """Structure, shapes, dtypes and weak types of a pytree, to be compared."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


def test_all_of_gymnax_is_offered():
    assert len(OFFERED) == 25
    assert REFUSED in envs.env_ids("gymnax")


@pytest.mark.parametrize("env_id", OFFERED)
def test_types_are_strong_and_stay_equal(env_id):
    env = envs.make(env_id)
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct(env.action_space.shape, env.action_space.dtype)
    next_state, step = jax.eval_shape(env.step, key, state, action)
    assert types((state, obs)) == types((next_state, step.obs))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((next_state, step)))
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, jnp.float32)
    assert (step.reward.shape, step.reward.dtype) == ((), jnp.float32)
    assert (step.terminated.shape, step.terminated.dtype) == ((), jnp.bool_)
    assert (step.truncated.shape, step.truncated.dtype) == ((), jnp.bool_)


@pytest.mark.parametrize(
    "env_id", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", "FrozenLake-misc"]
)
def test_the_contract_is_kept(env_id):
    envs.check(envs.make(f"gymnax/{env_id}"))


@pytest.mark.parametrize("env_id", ["GaussianBandit-misc", "MemoryChain-bsuite", "MetaMaze-misc"])
def test_observations_stay_in_their_space_where_upstream_is_wrong(env_id):
    env = VectorEnv(envs.make(f"gymnax/{env_id}"), num_envs=8)

    def step(state, key):
        action_key, step_key = jax.random.split(key)
        action = jax.vmap(env.action_space.sample)(jax.random.split(action_key, 8))
        state, result = env.step(step_key, state, action)
        return state, result.next_obs

    state, _ = jax.jit(env.reset)(jax.random.key(0))
    _, obs = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 500))
    obs = obs.reshape(-1, *obs.shape[2:])
    assert all(env.observation_space.contains(each) for each in np.asarray(obs))
    # The bounds that gymnax declares are left; were they not, the exception for this environment
    # could go.
    raw = env.env._env.observation_space(env.env._params)
    assert not all(Box(raw.low, raw.high, raw.shape).contains(each) for each in np.asarray(obs))


def test_spaces():
    cartpole = envs.make("gymnax/CartPole-v1")
    assert cartpole.action_space == Discrete(2)
    high = cartpole.observation_space.high
    np.testing.assert_allclose(high, [4.8, np.inf, 24 * np.pi / 180, np.inf], rtol=1e-6)
    pendulum = envs.make("gymnax/Pendulum-v1")
    np.testing.assert_array_equal(
        [pendulum.action_space.low, pendulum.action_space.high], [[-2.0], [2.0]]
    )
    assert envs.make("gymnax/Breakout-MinAtar").observation_space.shape == (10, 10, 4)


def test_a_discrete_observation_is_one_hot():
    env = envs.make("gymnax/FrozenLake-misc")
    state, obs = jax.jit(env.reset)(jax.random.key(0))
    _, step = jax.jit(env.step)(jax.random.key(1), state, jnp.int32(2))
    np.testing.assert_array_equal(obs, np.eye(16)[0])
    assert step.obs.sum() == step.obs.max() == 1.0


@pytest.mark.parametrize("env_id", ["gymnax/CartPole-v1", "gymnax/Pendulum-v1"])
def test_the_time_limit_truncates_and_keeps_the_final_observation(env_id):
    long, short = envs.make(env_id), envs.make(env_id, max_steps_in_episode=5)
    long, short = VectorEnv(long, num_envs=2), VectorEnv(short, num_envs=2)
    long_step, short_step = jax.jit(long.step), jax.jit(short.step)
    long_state, _ = long.reset(jax.random.key(0))
    short_state, _ = short.reset(jax.random.key(0))
    for t, key in enumerate(jax.random.split(jax.random.key(1), 5), start=1):
        action = jnp.zeros((2, *long.action_space.shape), long.action_space.dtype)
        long_state, expected = long_step(key, long_state, action)
        short_state, step = short_step(jax.random.clone(key), short_state, action)
        np.testing.assert_allclose(step.next_obs, expected.next_obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(step.truncated, [t == 5] * 2)
        assert not (step.terminated | expected.terminated | expected.truncated).any()
    assert (step.obs != step.next_obs).any(axis=1).all()
    np.testing.assert_array_equal(short_state.env_state.time, [0, 0])
    assert (long_step._cache_size(), short_step._cache_size()) == (1, 1)


def test_both_flags_may_be_set():
    env = envs.make("gymnax/DeepSea-bsuite")
    step = jax.jit(env.step)
    state, _ = env.reset(jax.random.key(0))
    flags = []
    for key in jax.random.split(jax.random.key(1), 8):
        state, result = step(key, state, jnp.int32(1))
        flags.append((bool(result.terminated), bool(result.truncated)))
    assert flags == [(False, False)] * 7 + [(True, True)]


def test_the_refused_one_says_why():
    with pytest.raises(
        ValueError, match=f"{REFUSED} is not offered: it downloads the MNIST data set"
    ):
        envs.make(REFUSED)


@struct.dataclass
class LineState:
    position: jax.Array
    time: int


@struct.dataclass
class LineParams:
    size: float = 0.5


@struct.dataclass
class LimitedParams:
    size: float = 0.5
    max_steps_in_episode: int = 4


class Line(environment.Environment):
    """A gymnax environment of one's own: a walk to 1, in steps of params.size."""

    def __init__(self, params=None):
        super().__init__()
        self.params = params

    @property
    def default_params(self):
        return self.params

    def reset_env(self, key, params):
        state = LineState(jnp.float32(0.0), 0)
        return state.position[None], state

    def step_env(self, key, state, action, params):
        state = LineState(state.position + params.size * (2 * action - 1), state.time + 1)
        return state.position[None], state, -1, state.position >= 1.0, {}

    def observation_space(self, params):
        return gymnax_spaces.Box(-100.0, 100.0, (1,))

    def action_space(self, params):
        return gymnax_spaces.Discrete(2)


def steps_of(env, num_steps, action):
    state, _ = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for t in range(num_steps):
        state, result = step(jax.random.key(t), state, jnp.int32(action))
    return result


@pytest.mark.parametrize("params", [LineParams(), LimitedParams()])
def test_an_environment_of_ones_own(params):
    for env in (envs.from_gymnax(Line(params)), envs.from_gymnax(Line(), params)):
        envs.check(env)
        assert env.action_space == Discrete(2)
    last = steps_of(env, 2, 1)
    assert (bool(last.terminated), float(last.reward), float(last.obs[0])) == (True, -1.0, 1.0)
    last = steps_of(env, 4, 0)
    assert (bool(last.truncated), bool(last.terminated)) == (
        isinstance(params, LimitedParams),
        False,
    )
    through = jax.eval_shape(VectorEnv(env, 2).reset, jax.random.key(0))
    assert through[1].shape == (2, 1)


def test_its_own_truncation_counts_without_a_limit():
    class Impatient(Line):
        def is_truncated(self, state, params):
            return state.time >= 2

    assert bool(steps_of(envs.from_gymnax(Impatient(LineParams())), 2, 0).truncated)


def test_a_mistake_in_it_is_named():
    class Wrong(Line):
        def step_env(self, key, state, action, params):
            return super().step_env(key, state, action, params)[:4]

    env = VectorEnv(envs.from_gymnax(Wrong(LineParams())), 2)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    with pytest.raises(
        envs.ContractError,
        match=r"Gymnax\(Wrong\) breaks .*\n- step\(key, state, action\) cannot be",
    ):
        jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize("wrong", ["CartPole-v1", Line, None])
def test_what_is_no_gymnax_environment_is_refused(wrong):
    with pytest.raises(
        envs.ContractError,
        match="must be a gymnax environment, an instance of gymnax's Environment",
    ):
        envs.from_gymnax(wrong)


def test_spaces_that_are_not_known_are_refused():
    class Tuple(Line):
        def observation_space(self, params):
            return gymnax_spaces.Tuple([gymnax_spaces.Discrete(2)])

    with pytest.raises(
        ValueError, match="Tuple: the observation space must be gymnax's Box or Discrete, got Tuple"
    ):
        envs.from_gymnax(Tuple(LineParams()))


class TestCartPolePhysics:
    """Side by side with gymnasium's CartPole-v1, which computes in float64."""

    @pytest.fixture
    def theirs(self):
        env = pytest.importorskip("gymnasium").make("CartPole-v1").unwrapped
        env.reset(seed=0)
        return env

    def play(self, theirs, policy, num_steps):
        """Plays until an end; yields the steps of both."""
        env = envs.make("gymnax/CartPole-v1")
        step = jax.jit(env.step)
        state, obs = env.reset(jax.random.key(0))
        theirs.state = np.asarray(obs, np.float64)
        for key in jax.random.split(jax.random.key(1), num_steps):
            action = policy(obs)
            state, ours = step(key, state, jnp.int32(action))
            yield ours, theirs.step(action)
            obs = ours.obs
            if ours.terminated:
                return

    def test_balancing(self, theirs):
        steps = list(self.play(theirs, lambda obs: int(obs[2] + obs[3] > 0), 50))
        assert len(steps) == 50
        for ours, (obs, reward, terminated, *_) in steps:
            np.testing.assert_allclose(ours.obs, obs, rtol=1e-4, atol=1e-5)
            assert (
                (float(ours.reward), bool(ours.terminated)) == (reward, terminated) == (1.0, False)
            )

    def test_falling(self, theirs):
        *before, last = self.play(theirs, lambda obs: 1, 50)
        assert 5 < len(before) < 20
        assert not any(ours.terminated or terminated for ours, (_, _, terminated, *_) in before)
        ours, (obs, reward, terminated, *_) = last
        np.testing.assert_allclose(ours.obs, obs, rtol=1e-4, atol=1e-5)
        assert terminated
        assert ours.terminated
        assert not ours.truncated
        assert float(ours.reward) == reward == 1.0
