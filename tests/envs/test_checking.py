"""`check`: each mistake of an environment of one's own is named in plain words."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.envs import (
    Adversary,
    Box,
    Discrete,
    Flattened,
    FrameStack,
    NoisyObservations,
    Step,
    check,
)


class WalkState(NamedTuple):
    position: Any
    time: Any


class Walk:
    """A correct toy environment: a walk on a line until |position| is above 2 or ten steps are
    over.
    """

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

    observation_space = {
        "state": Box(-4.0, 4.0, (1,)),
        "privileged_state": Box(-np.inf, np.inf, (2,)),
    }

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


class Camera:
    """Correct too: shows grey pictures, brighter from step to step; the middle action is to stand
    still.
    """

    action_space = Box(2.0, 4.0, (1,))

    def __init__(self, shape=(4, 3, 1)):
        self.observation_space = Box(0, 255, shape, np.uint8, normalize=False)

    def reset(self, key):
        return jnp.int32(0), self._show(0)

    def step(self, key, state, action):
        inside = (action[0] >= 2.0) & (action[0] <= 4.0)
        return state + 1, Step(
            self._show(state + 1), jnp.where(inside, 1.0, jnp.nan), state < 0, state >= 9, {}
        )

    def _show(self, state):
        return jnp.full(self.observation_space.shape, state, jnp.uint8)


@pytest.mark.parametrize(
    "shape", [(3, 3, 1), (4, 4, 16), (84, 84, 3), (5, 16, 16), (3, 6, 12), (10, 10, 4)]
)
def test_pictures_of_height_width_and_channels_pass(shape):
    check(Camera(shape), num_steps=1)


@pytest.mark.parametrize(
    ("wrap", "dtype"),
    [
        (lambda env: FrameStack(env, 3), np.uint8),
        (lambda env: FrameStack(env, 1), np.uint8),
        (Flattened, np.uint8),
        (lambda env: Flattened(FrameStack(env, 2)), np.uint8),
        (
            lambda env: NoisyObservations(
                env, 0.5, Adversary(lambda key, frames, obs, left: obs, 2), 1.0
            ),
            np.float32,
        ),
    ],
)
def test_wrappers_keep_the_dtype_and_what_is_not_to_be_normalised(wrap, dtype):
    env = wrap(Camera())
    check(env)
    assert (env.observation_space.dtype, env.observation_space.normalize) == (dtype, False)
    assert env.reset(jax.random.key(0))[1].dtype == dtype


def test_actions_are_those_of_a_policy(monkeypatch):
    monkeypatch.setattr(Box, "sample", lambda self, key: pytest.fail("no policy acts like this"))
    check(Camera())


def replacing(**fields):
    """A Walk of which the step's fields are computed from the correct step."""

    class Wrong(Walk):
        def step(self, key, state, action):
            state, step = super().step(key, state, action)
            return state, step._replace(
                **{name: function(step) for name, function in fields.items()}
            )

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
    "action matrix": (
        having(action_space=Box(-1.0, 1.0, (2, 2))),
        ["one axis, got the shape (2, 2)"],
    ),
    "integers as actions": (
        having(action_space=Box(0, 3, (1,), np.int32)),
        ["action_space must be a Box of floats, got int32; choices are a Discrete(n)"],
    ),
    **{
        f"picture {shape}": (
            having(observation_space=Box(0, 255, shape, np.uint8)),
            [
                f"observation_space has the shape {shape}, which looks like channels × height ×"
                " width; pictures are "
            ],
        )
        for shape in ((3, 16, 16), (1, 16, 16), (2, 16, 16), (4, 84, 84), (3, 10, 8))
    },
    **{
        f"picture {shape}": (
            having(
                observation_space={"state": Box(-4.0, 4.0, (1,)), "camera": Box(0.0, 1.0, shape)}
            ),
            [
                f"observation_space['camera'] has the shape {shape}: a picture, height × width ×"
                " channels, has at least "
            ],
        )
        for shape in ((16, 2, 3), (2, 16, 3), (1, 1, 1))
    },
    "foreign action space": (
        having(action_space=range(2)),
        ["must be a Box, a Discrete, a MultiDiscrete, or have shape, dtype, sample and contains"],
    ),
    "discrete observation": (
        having(observation_space=Discrete(3)),
        ["observation_space must be a Box or a dict of Boxes, got Discrete"],
    ),
    "dict without state": (
        having(observation_space={"pixels": Box(0.0, 1.0, (4,))}),
        ['a dict observation_space must have the entry "state", what the policy sees'],
    ),
    "reset not traceable": (
        LeavesJax,
        ["reset(key) cannot be traced by jax: ConcretizationTypeError"],
    ),
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
    "no time limit": (
        replacing(truncated=lambda step: None),
        ["truncated must be a bool scalar, got None"],
    ),
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
    "nan reward": (
        replacing(reward=lambda step: step.reward * jnp.nan),
        ["the reward is nan at step 0"],
    ),
    "three mistakes": (
        replacing(
            reward=lambda step: step.obs, terminated=lambda step: 0, obs=lambda step: step.obs[0]
        ),
        ["reward must be", "terminated must be", "the observation is float32[1] after reset"],
    ),
}


@pytest.mark.parametrize(("env", "words"), IN_WORDS.values(), ids=IN_WORDS.keys())
def test_each_mistake_is_named(env, words):
    with pytest.raises(
        ValueError, match=f"{env.__name__} breaks the environment contract:"
    ) as caught:
        check(env())
    _, *problems = str(caught.value).splitlines()
    assert len(problems) == len(words), problems
    for expected in words:
        assert any(expected in problem for problem in problems), problems


def test_a_dict_observation_is_named_by_its_entry():
    class Wrong(WalkWithDict):
        def _dict(self, obs):
            return {"state": obs, "privileged_state": jnp.full(2, jnp.nan)}

    with pytest.raises(
        ValueError, match=r"the observation\['privileged_state'\] is not finite at reset"
    ):
        check(Wrong())


def test_episodes_that_ended_are_reset():
    def pay(
        state, step
    ):  # nothing that can be relied on, once the ten steps of an episode are over
        return state, step._replace(reward=jnp.where(state.time > 10, jnp.nan, step.reward))

    check(stepping(pay)(), num_steps=40)


def test_mistakes_are_found_in_later_steps():
    late = replacing(reward=lambda step: jnp.where(step.truncated, jnp.nan, step.reward))
    late.action_space = Box(0.0, 0.0, (1,))  # stands still, so that the time limit comes at step 9
    check(late(), num_steps=9)
    with pytest.raises(ValueError, match="the reward is nan at step 9"):
        check(late(), num_steps=10)
