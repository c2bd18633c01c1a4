"""`check`: each mistake of an environment of one's own is named in plain words."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.envs import Box, Discrete, Step, check


class WalkState(NamedTuple):
    position: Any
    time: Any


class Walk:
    """A correct toy environment: a walk on a line until |position| is above 2 or ten steps are over."""

    observation_space = Box(-4.0, 4.0, (1,))
    action_space = Box(-1.0, 1.0, (1,))

    def reset(self, key):
        position = jax.random.uniform(key, (), minval=-1.0, maxval=1.0)
        return WalkState(position, jnp.int32(0)), position[None]

    def step(self, key, state, action):
        position = state.position + action[0]
        time = state.time + 1
        step = Step(position[None], -jnp.abs(position), jnp.abs(position) > 2.0, time >= 10, {})
        return WalkState(position, time), step


class WalkWithDict(Walk):
    """Correct too: what the policy sees, and what only a critic sees."""

    observation_space = {"state": Box(-4.0, 4.0, (1,)), "privileged_state": Box(-np.inf, np.inf, (2,))}

    def _dict(self, obs):
        return {"state": obs, "privileged_state": jnp.concatenate([obs, obs])}

    def reset(self, key):
        state, obs = super().reset(key)
        return state, self._dict(obs)

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(obs=self._dict(step.obs))


class WalkWithChoices(Walk):
    """Correct too: discrete actions."""

    action_space = Discrete(3)

    def step(self, key, state, action):
        return super().step(key, state, (action[None] - 1).astype(jnp.float32))


class WalkWithNoise(Walk):
    """Correct too: its state holds a key."""

    def reset(self, key):
        key, reset_key = jax.random.split(key)
        state, obs = super().reset(reset_key)
        return (key, state), obs

    def step(self, key, state, action):
        noise_key, key = jax.random.split(state[0])
        state, step = super().step(key, state[1], action + 0.1 * jax.random.normal(noise_key, (1,)))
        return (key, state), step


@pytest.mark.parametrize("env", [Walk, WalkWithDict, WalkWithChoices, WalkWithNoise])
def test_correct_environments_pass(env):
    assert check(env()) is None


def replacing(**fields):
    """A Walk of which the step's fields are computed from the correct step."""

    class Wrong(Walk):
        def step(self, key, state, action):
            state, step = super().step(key, state, action)
            return state, step._replace(**{name: function(step) for name, function in fields.items()})

    return Wrong


def stepping(function):
    """A Walk of which the result of step is something else."""

    class Wrong(Walk):
        def step(self, key, state, action):
            return function(*super().step(key, state, action))

    return Wrong


def resetting(function):
    """A Walk of which the result of reset is something else."""

    class Wrong(Walk):
        def reset(self, key):
            return function(*super().reset(key))

    return Wrong


def having(**attributes):
    """A Walk with other attributes."""
    return type("Wrong", (Walk,), attributes)


class WithoutActions:
    observation_space = Box(-4.0, 4.0, (1,))
    reset = Walk.reset


class BranchesOnData(Walk):
    def step(self, key, state, action):
        if action[0] > 0:
            return super().step(key, state, action)
        return super().step(key, state, -action)


class LeavesJax(Walk):
    def reset(self, key):
        return super().reset(jax.random.key(int(jax.random.randint(key, (), 0, 10))))


IN_WORDS = {
    "missing attributes": (WithoutActions, ["it has no action_space", "it has no step"]),
    "unbounded action": (
        having(action_space=Box(-1.0, np.inf, (1,))),
        ["action_space must have finite bounds, policies act in [-1, 1] and are mapped to them"],
    ),
    "action matrix": (having(action_space=Box(-1.0, 1.0, (2, 2))), ["one axis, got the shape (2, 2)"]),
    "foreign action space": (having(action_space=range(2)), ["must be a Box or a Discrete, got range"]),
    "discrete observation": (
        having(observation_space=Discrete(3)),
        ["observation_space must be a Box or a dict of Boxes, got Discrete"],
    ),
    "dict without state": (
        having(observation_space={"pixels": Box(0.0, 1.0, (4,))}),
        ['a dict observation_space must have the entry "state", what the policy sees'],
    ),
    "reset not traceable": (LeavesJax, ["reset(key) cannot be traced by jax: ConcretizationTypeError"]),
    "step not traceable": (
        BranchesOnData,
        ["step(key, state, action) cannot be traced by jax: TracerBoolConversionError"],
    ),
    "reset returns the observation only": (
        resetting(lambda state, obs: obs),
        ["reset must return (state, observation)"],
    ),
    "step returns gym's tuple": (
        stepping(lambda state, step: (step.obs, state, step.reward, step.terminated, {})),
        ["step must return (state, Step(obs, reward, terminated, truncated, info))"],
    ),
    "step returns a bare tuple": (
        stepping(lambda state, step: (state, tuple(step))),
        ["step must return (state, Step(obs, reward, terminated, truncated, info))"],
    ),
    "weak type": (
        resetting(lambda state, obs: (state._replace(position=0.0), obs)),
        [
            "the state.position is float32[] (weak type) after reset and float32[] after step; "
            "jnp.asarray(x, dtype) makes a type strong"
        ],
    ),
    "dtype changes": (
        stepping(lambda state, step: (state._replace(time=state.time.astype(jnp.float32)), step)),
        ["the state.time is int32[] after reset and float32[] after step"],
    ),
    "shape changes": (
        replacing(obs=lambda step: jnp.concatenate([step.obs, step.obs])),
        ["the observation is float32[1] after reset and float32[2] after step"],
    ),
    "structure changes": (
        stepping(lambda state, step: (state._asdict(), step)),
        ["the state changes its structure between reset and step"],
    ),
    "integer reward": (
        replacing(reward=lambda step: jnp.int32(1)),
        ["reward must be a float32 scalar, got int32[]"],
    ),
    "reward vector": (
        replacing(reward=lambda step: step.obs),
        ["reward must be a float32 scalar, got float32[1]"],
    ),
    "float flags": (
        replacing(terminated=lambda step: step.terminated.astype(jnp.float32)),
        ["terminated must be a bool scalar, got float32[]"],
    ),
    "no time limit": (replacing(truncated=lambda step: None), ["truncated must be a bool scalar, got None"]),
    "other shape than the space": (
        having(observation_space=Box(-4.0, 4.0, (3,))),
        ["the observation is float32[1], observation_space says float32[3]"],
    ),
    "other form than the space": (
        having(observation_space=WalkWithDict.observation_space),
        ["is not of the form of observation_space"],
    ),
    "tuple observation": (
        stepping(lambda state, step: (state, step._replace(obs=(step.obs, step.obs)))),
        ["the observation changes its structure between reset and step"],
    ),
    "outside at reset": (
        resetting(lambda state, obs: (state, obs + 9.0)),
        ["the observation is outside of its space at reset: ["],
    ),
    "outside at step": (
        replacing(obs=lambda step: step.obs + 9.0),
        ["the observation is outside of its space at step 0: ["],
    ),
    "nan observation": (
        replacing(obs=lambda step: step.obs * jnp.nan),
        ["the observation is not finite at step 0: [nan]"],
    ),
    "nan reward": (replacing(reward=lambda step: step.reward * jnp.nan), ["the reward is nan at step 0"]),
    "three mistakes": (
        replacing(reward=lambda step: step.obs, terminated=lambda step: 0, obs=lambda step: step.obs[0]),
        ["reward must be", "terminated must be", "the observation is float32[1] after reset"],
    ),
}


@pytest.mark.parametrize(("env", "words"), IN_WORDS.values(), ids=IN_WORDS.keys())
def test_each_mistake_is_named(env, words):
    with pytest.raises(ValueError, match=f"{env.__name__} breaks the environment contract:") as caught:
        check(env())
    _, *problems = str(caught.value).splitlines()
    assert len(problems) == len(words), problems
    for expected in words:
        assert any(expected in problem for problem in problems), problems


def test_a_dict_observation_is_named_by_its_entry():
    class Wrong(WalkWithDict):
        def _dict(self, obs):
            return {"state": obs, "privileged_state": jnp.full(2, jnp.nan)}

    with pytest.raises(ValueError, match=r"the observation\['privileged_state'\] is not finite at reset"):
        check(Wrong())


def test_episodes_that_ended_are_reset():
    def pay(state, step):  # nothing that can be relied on, once the ten steps of an episode are over
        return state, step._replace(reward=jnp.where(state.time > 10, jnp.nan, step.reward))

    check(stepping(pay)(), num_steps=40)


def test_mistakes_are_found_in_later_steps():
    late = replacing(reward=lambda step: jnp.where(step.truncated, jnp.nan, step.reward))
    late.action_space = Box(0.0, 0.0, (1,))  # stands still, so that the time limit comes at step 9
    check(late(), num_steps=9)
    with pytest.raises(ValueError, match="the reward is nan at step 9"):
        check(late(), num_steps=10)
