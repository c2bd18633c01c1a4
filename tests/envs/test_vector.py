"""VectorEnv: the true successor, the three resets, the accounts of an episode, one compilation."""

import operator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import Box, Discrete, Step, VectorEnv

RESETS = ("full", "bank", "first")
TIME_LIMIT = 3


class CountState(NamedTuple):
    start: jax.Array
    time: jax.Array


class Count:
    """Pays 1, 2, 3, ...; action 1 terminates, the third step is truncated. Shows (start, steps so
    far).

    The start is a random number, so that it tells every reset from every other.
    """

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Discrete(2)

    def reset(self, key):
        return self._show(CountState(jax.random.uniform(key), jnp.int32(0)))

    def step(self, key, state, action):
        state, obs = self._show(CountState(state.start, state.time + 1))
        reward = state.time.astype(jnp.float32)
        return state, Step(obs, reward, action == 1, state.time >= TIME_LIMIT, {"time": state.time})

    def _show(self, state):
        return state, jnp.stack([state.start, state.time.astype(jnp.float32)])


def rollout(env, actions, seed=0):
    """Plays `[T, N]` actions; returns the first observation, the T + 1 states and the T steps, as
    numpy.
    """
    reset_key, steps_key = jax.random.split(jax.random.key(seed))
    state, obs = jax.jit(env.reset)(reset_key)
    first = obs
    step = jax.jit(env.step)
    states = [state]
    steps = []
    for key, action in zip(jax.random.split(steps_key, len(actions)), actions, strict=True):
        state, result = step(key, state, jnp.asarray(action))
        states.append(state)
        steps.append(result)
    return np.asarray(first), jax.device_get(states), jax.device_get(steps)


def random_actions(num_steps, num_envs):
    return np.random.default_rng(0).integers(0, 2, (num_steps, num_envs), dtype=np.int32)


def test_episode_accounts_by_hand():
    # Copy 0 is truncated twice, at 3 steps. Copy 1 terminates at 2 steps, then does both at 3.
    actions = np.array([[0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]], np.int32).T
    _, states, steps = rollout(VectorEnv(Count(), num_envs=2), actions)
    for name, dtype, expected in (
        ("reward", np.float32, [[1, 2, 3, 1, 2, 3], [1, 2, 1, 2, 3, 1]]),
        ("terminated", np.bool_, [[0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]]),
        ("truncated", np.bool_, [[0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0]]),
        ("episode_return", np.float32, [[1, 3, 6, 1, 3, 6], [1, 3, 1, 3, 6, 1]]),
        ("episode_length", np.int32, [[1, 2, 3, 1, 2, 3], [1, 2, 1, 2, 3, 1]]),
    ):
        by_copy = np.stack([getattr(step, name) for step in steps], axis=1)
        np.testing.assert_array_equal(by_copy, expected, err_msg=name)
        assert by_copy.dtype == dtype, name
    # The state keeps the accounts of the running episode only.
    np.testing.assert_array_equal(
        [state.episode_return for state in states],
        [[0, 0], [1, 1], [3, 0], [0, 1], [1, 3], [3, 0], [0, 1]],
    )
    np.testing.assert_array_equal(
        [state.episode_length for state in states],
        [[0, 0], [1, 1], [2, 0], [0, 1], [1, 2], [2, 0], [0, 1]],
    )
    np.testing.assert_array_equal(steps[2].info["time"], [3, 1])


@pytest.mark.parametrize("reset", RESETS)
def test_next_obs_is_the_true_successor(reset):
    env = VectorEnv(Count(), num_envs=4, reset=reset, bank_size=3)
    first, states, steps = rollout(env, random_actions(30, 4))
    obs = first
    for state, step in zip(states[1:], steps, strict=True):
        # One more step of the same episode, whatever happened at its end.
        np.testing.assert_array_equal(step.next_obs, obs + np.array([0, 1], np.float32))
        done = step.terminated | step.truncated
        np.testing.assert_array_equal(np.all(step.obs == step.next_obs, axis=1), ~done)
        # After an end it is a reset observation that is acted on, and the state is the one that it
        # shows.
        np.testing.assert_array_equal(step.obs[done, 1], 0.0)
        np.testing.assert_array_equal(state.env_state.start, step.obs[:, 0])
        np.testing.assert_array_equal(state.env_state.time, step.obs[:, 1])
        obs = step.obs
    ends = np.array([step.terminated | step.truncated for step in steps])
    assert 0 < ends.sum() < ends.size


def test_full_reset_never_starts_twice_from_the_same_state():
    first, states, steps = rollout(VectorEnv(Count(), num_envs=3), np.ones((20, 3), np.int32))
    starts = np.concatenate([first[:, 0], *(step.obs[:, 0] for step in steps)])
    assert len(set(starts.tolist())) == 3 * 21
    assert states[-1].bank == ()


def test_first_reset_returns_each_copy_to_its_own_first_state():
    first, _, steps = rollout(VectorEnv(Count(), num_envs=4, reset="first"), random_actions(20, 4))
    assert len(set(first[:, 0].tolist())) == 4
    for step in steps:
        done = step.terminated | step.truncated
        np.testing.assert_array_equal(step.obs[done], first[done])


def test_bank_reset_draws_from_the_bank():
    env = VectorEnv(Count(), num_envs=64, reset="bank", bank_size=4)
    _, states, steps = rollout(env, np.ones((6, 64), np.int32))
    for state, step in zip(states[1:], steps, strict=True):
        bank_states, bank_obs = state.bank
        np.testing.assert_array_equal(bank_obs, np.stack([bank_states.start, np.zeros(4)], axis=1))
        # 64 draws of 4 miss none.
        assert set(step.obs[:, 0].tolist()) == set(bank_states.start.tolist())


def test_bank_is_refreshed_every_eighth_step_one_entry_after_the_other():
    env = VectorEnv(Count(), num_envs=2, reset="bank", bank_size=3)  # episodes end all the while
    _, states, _ = rollout(env, np.zeros((26, 2), np.int32))
    banks = np.stack([state.bank[0].start for state in states])
    changed = banks[1:] != banks[:-1]
    expected = np.zeros((26, 3), bool)
    expected[[0, 8, 16, 24], [0, 1, 2, 0]] = True
    np.testing.assert_array_equal(changed, expected)
    assert len(set(banks.ravel().tolist())) == 3 + 4  # never refreshed with what was there before
    assert states[-1].bank_cursor == 26 % (8 * 3)


@pytest.mark.parametrize("reset", RESETS)
def test_many_steps_compile_once(reset):
    env = VectorEnv(Count(), num_envs=2, reset=reset)
    step = jax.jit(env.step)
    # Not compiled: its leaves have strong types all the same.
    state, _ = env.reset(jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 5):
        state, _ = step(key, state, jnp.zeros(2, jnp.int32))
    assert step._cache_size() == 1
    assert not any(leaf.aval.weak_type for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("reset", RESETS)
def test_the_state_can_be_donated(reset):
    env = VectorEnv(Count(), num_envs=2, reset=reset)
    step = jax.jit(env.step, donate_argnums=1)
    state, _ = env.reset(jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 2):
        state, result = step(key, state, jnp.ones(2, jnp.int32))
    np.testing.assert_array_equal(result.episode_return, [1.0, 1.0])


def test_a_scan_swept_over_seeds_equals_the_loop():
    env = VectorEnv(Count(), num_envs=2, reset="bank", bank_size=3)
    actions = random_actions(8, 2)

    def run(seed):
        reset_key, steps_key = jax.random.split(jax.random.key(seed))
        state, _ = env.reset(reset_key)
        keys = jax.random.split(steps_key, 8)
        return jax.lax.scan(lambda state, x: env.step(x[0], state, x[1]), state, (keys, actions))[1]

    with jax.debug_key_reuse(False):  # jax's checker knows no rule for keys that vmap transposes
        swept = jax.jit(jax.vmap(run))(jnp.arange(3))
    for seed in range(3):
        _, _, steps = rollout(env, actions, seed)
        looped = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
        chex.assert_trees_all_equal(jax.tree.map(operator.itemgetter(seed), swept), looped)


class CountWithDict(Count):
    """Shows a dict: "state" for the policy, "privileged_state" for a critic."""

    observation_space = {
        "state": Box(-np.inf, np.inf, (2,)),
        "privileged_state": Box(0.0, TIME_LIMIT, ()),
    }

    def _show(self, state):
        state, obs = super()._show(state)
        return state, {"state": obs, "privileged_state": state.time.astype(jnp.float32)}


def test_dict_observations():
    env = VectorEnv(CountWithDict(), num_envs=2)
    state, _ = env.reset(jax.random.key(0))
    _, step = env.step(jax.random.key(1), state, jnp.array([0, 1], jnp.int32))
    assert env.observation_space is CountWithDict.observation_space
    np.testing.assert_array_equal(step.obs["privileged_state"], [1.0, 0.0])
    np.testing.assert_array_equal(step.next_obs["privileged_state"], [1.0, 1.0])
    np.testing.assert_array_equal(step.next_obs["state"][:, 1], [1.0, 1.0])


class CountWithKey(Count):
    """Keeps a typed key in its state; pays what it draws."""

    def reset(self, key):
        state_key, key = jax.random.split(key)
        state, obs = super().reset(key)
        return (state_key, state), obs

    def step(self, key, state, action):
        draw_key, state_key = jax.random.split(state[0])
        state, step = super().step(key, state[1], action)
        return (state_key, state), step._replace(reward=jax.random.uniform(draw_key))


def test_keys_in_the_state_stay_fresh():
    with jax.debug_key_reuse(
        False
    ):  # jax's checker knows no rule for keys that pass through `where`
        _, _, steps = rollout(VectorEnv(CountWithKey(), num_envs=2), random_actions(10, 2))
    assert len({float(reward) for step in steps for reward in step.reward}) == 20


def changing(**change):
    """A Count of which step returns other types than reset."""

    class Wrong(Count):
        def step(self, key, state, action):
            state, step = super().step(key, state, action)
            state = change.get("state", lambda state: state)(state)
            return state, step._replace(obs=change.get("obs", lambda obs: obs)(step.obs))

    return Wrong()


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            changing(obs=lambda obs: obs[:1]),
            "observation is float32[2] after reset and float32[1] after step",
        ),
        (
            changing(state=lambda state: state._replace(time=state.time.astype(jnp.float32))),
            "state.time is int32[] after reset and float32[] after step",
        ),
        (changing(state=tuple), "state changes its structure between reset and step: "),
        (
            changing(obs=lambda obs: [obs]),
            "observation changes its structure between reset and step: ",
        ),
    ],
    ids=["shape", "dtype", "state structure", "observation structure"],
)
def test_types_that_change_are_named(env, words, reset):
    env = VectorEnv(env, num_envs=2, reset=reset)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    with pytest.raises(envs.ContractError) as caught:
        jax.eval_shape(env.step, jax.random.key(0), state, jax.ShapeDtypeStruct((2,), jnp.int32))
    header, problem, advice = str(caught.value).splitlines()
    assert header == "Wrong breaks the environment contract:"
    assert problem.startswith(f"- the {words}")
    assert advice == "envs.check(env) tells more"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs=0: must be at least 1"),
        ({"num_envs": 2, "bank_size": 0}, "bank_size=0: must be at least 1"),
        ({"num_envs": 2, "reset": "fresh"}, "reset='fresh': must be one of full, bank, first"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        VectorEnv(Count(), **arguments)


def test_the_toy_is_correct():
    envs.check(Count())
    envs.check(CountWithDict())
