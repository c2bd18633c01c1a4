"""The boundary between environments and the programs that step them: what is refused, in which
words, what is cast.
"""

import os
import subprocess
import sys

import brax.envs
import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.core.evaluation import evaluate
from onejit.envs import Box, ContractError, Discrete, Step, VectorEnv
from onejit.envs.contract import Contracted, require_environment


class Walk:
    """A correct toy environment: a walk on a line for ten steps."""

    observation_space = Box(-20.0, 20.0, (1,))
    action_space = Discrete(2)

    def reset(self, key):
        position = jax.random.uniform(key)
        return (position, jnp.int32(0)), position[None]

    def step(self, key, state, action):
        position, time = state[0] + action - 0.5, state[1] + 1
        return (position, time), Step(
            position[None], -jnp.abs(position), position > 5.0, time >= 10, {}
        )


def stepping(change):
    """A Walk of which step returns something else."""

    class Mine(Walk):
        def step(self, key, state, action):
            return change(*super().step(key, state, action))

    return Mine()


def replacing(**fields):
    """A Walk of which the step's fields are computed from the correct step."""
    return stepping(
        lambda state, step: (state, step._replace(**{name: f(step) for name, f in fields.items()}))
    )


def resetting(change):
    """A Walk of which reset returns something else."""

    class Mine(Walk):
        def reset(self, key):
            return change(*super().reset(key))

    return Mine()


def branching(state, step):
    if step.reward > 0:
        return state, step
    return state, step


def failing(state, obs):
    raise KeyError("goal")


BROKEN = {
    "reward vector": (
        replacing(reward=lambda step: step.obs),
        "reward must be a float32 scalar, got float32[1]",
    ),
    "integer reward": (
        replacing(reward=lambda step: jnp.int32(1)),
        "reward must be a float32 scalar, got int32[]",
    ),
    "integer done": (
        replacing(terminated=lambda step: step.terminated.astype(jnp.int32)),
        "terminated must be a bool scalar, got int32[]",
    ),
    "no time limit": (
        replacing(truncated=lambda step: None),
        "truncated must be a bool scalar, got None",
    ),
    "observation at reset": (
        resetting(lambda state, obs: (state, jnp.zeros(2))),
        "the observation is float32[2], observation_space says float32[1]",
    ),
    "observation at step": (
        replacing(obs=lambda step: step.obs[0]),
        "the observation is float32[1] after reset and float32[] after step",
    ),
    "form of the observation": (
        resetting(lambda state, obs: (state, {"state": obs})),
        "the observation PyTreeDef({'state': *}) is not of the form of observation_space",
    ),
    "state": (
        stepping(lambda state, step: (state[0], step)),
        "the state changes its structure between reset and step",
    ),
    "reset of one thing": (
        resetting(lambda state, obs: obs),
        "reset must return (state, observation)",
    ),
    "gym's tuple": (
        stepping(lambda state, step: (step.obs, step.reward, step.terminated, step.truncated, {})),
        "step must return (state, Step(obs, reward, terminated, truncated, info))",
    ),
    "branch on data": (
        stepping(branching),
        (
            "step(key, state, action) cannot be traced by jax: TracerBoolConversionError: Attempted"
            " boolean conversion"
        ),
    ),
    "error in reset": (resetting(failing), "reset(key) cannot be traced by jax: KeyError: 'goal'"),
    "text in info": (
        replacing(info=lambda step: {"map": "maze"}),
        "step(key, state, action) cannot be traced by jax: TypeError: ",
    ),
}


def through_vector_env(env):
    env = VectorEnv(env, 2)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(2, jnp.int32))


def through_evaluation(env):
    def act(obs, key):
        return jnp.zeros(2, jnp.int32)

    jax.eval_shape(lambda key: evaluate(env, act, key, num_episodes=2), jax.random.key(0))


def through_an_algorithm(env):
    algorithm = ppo.make(
        env, ppo.Config(num_envs=2, num_steps=2, num_minibatches=1, hidden_sizes=(4,))
    )
    jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))


@pytest.mark.parametrize("through", [through_vector_env, through_evaluation, through_an_algorithm])
@pytest.mark.parametrize(("env", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_what_an_environment_does_wrong_ends_in_the_words_of_check(env, words, through):
    with pytest.raises(ContractError) as caught:
        through(env)
    header, problem, advice = str(caught.value).splitlines()
    assert (header, advice) == (
        "Mine breaks the environment contract:",
        "envs.check(env) tells more",
    )
    assert problem.startswith(f"- {words}")
    with pytest.raises(ContractError) as checked:
        envs.check(env)
    assert any(line.startswith(f"- {words}") for line in str(checked.value).splitlines())


def test_the_error_of_the_environments_own_code_is_kept():
    with pytest.raises(ContractError) as caught:
        through_vector_env(BROKEN["branch on data"][0])
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)


def test_wrapped_environments_are_named_from_outside_to_inside():
    with pytest.raises(ContractError, match=r"^FrameStack\(Mine\) breaks"):
        through_vector_env(envs.FrameStack(BROKEN["reward vector"][0], 2))


def test_an_action_of_another_shape_is_not_the_environments_fault():
    with pytest.raises(
        ValueError, match=r"Walk.step: the action is float32\[2\], action_space says int32\[\]"
    ):
        Contracted(Walk()).step(jax.random.key(0), (jnp.float32(0), jnp.int32(0)), jnp.zeros(2))


def test_the_boundary_adds_nothing_to_the_program_and_traces_once():
    calls = []

    class Counting(Walk):
        def step(self, key, state, action):
            calls.append("step")
            return super().step(key, state, action)

    env = envs.make("gymnax/CartPole-v1")
    state, _ = env.reset(jax.random.key(0))
    arguments = (jax.random.key(1), state, jnp.int32(0))
    assert str(jax.make_jaxpr(env.step)(*arguments)) == str(
        jax.make_jaxpr(Contracted(env).step)(*arguments)
    )
    through_vector_env(Counting())
    assert calls == ["step"]


def test_weak_types_become_strong():
    env = VectorEnv(resetting(lambda state, obs: ((0.5, state[1]), obs)), 2)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    after, _ = jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(2, jnp.int32))
    for leaf in jax.tree.leaves((state, after)):
        assert not leaf.weak_type


NO_ENVIRONMENT = {
    "name": (lambda: "gymnax/CartPole-v1", "is a name: write envs.make.'gymnax/CartPole-v1'."),
    "class": (lambda: Walk, "env=Walk is a class: write an instance of it, Walk()"),
    "gymnasium": (
        lambda: gymnasium.make("CartPole-v1"),
        "is a Gymnasium environment, .*: write envs.make",
    ),
    "brax": (
        lambda: brax.envs.get_environment("fast"),
        'raw Brax environment: write envs.make."brax/halfcheetah"',
    ),
    "gymnax": (
        lambda: gymnax.make("CartPole-v1")[0],
        "raw gymnax environment: write envs.from_gymnax.env, params",
    ),
    "gymnax's pair": (
        lambda: gymnax.make("CartPole-v1"),
        "is a tuple, .* raw gymnax environment: write envs.from",
    ),
    "vector": (
        lambda: VectorEnv(Walk(), 2),
        "env=VectorEnv is a VectorEnv: write the single environment",
    ),
    "nothing": (
        lambda: None,
        "NoneType breaks the environment contract:\n- it has no observation_space\n- ",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "taken_by", [require_environment, envs.check, lambda env: VectorEnv(env, 2), through_evaluation]
)
@pytest.mark.parametrize(("make", "words"), NO_ENVIRONMENT.values(), ids=NO_ENVIRONMENT.keys())
def test_what_is_no_environment_is_told_what_to_write_instead(make, words, taken_by):
    with pytest.raises(ContractError, match=words):
        taken_by(make())


DOUBLE_PRECISION = """
import sys
import jax, jax.numpy as jnp, numpy as np
from onejit import envs
from onejit.algos.core.evaluation import evaluate

assert jax.config.jax_enable_x64

class Mine:
    observation_space = {"state": envs.Box(-np.inf, np.inf, (2,)), "count": envs.Box(0, 9, (),
        np.int64)}
    action_space = envs.Box(-1.0, 1.0, (1,))

    def _show(self, x):
        return {"state": jnp.stack([x, x]), "count": jnp.asarray(3)}

    def reset(self, key):
        x = jax.random.uniform(key)
        return x, self._show(x)

    def step(self, key, x, action):
        x = (x + action[0]).astype(jnp.float32)
        return x, envs.Step(self._show(x.astype(jnp.float64)), jnp.float64(1.0), x > 2, x < -2, {})

raw = jax.eval_shape(Mine().step, jax.random.key(0), jnp.float32(0), jnp.zeros(1))[1]
assert raw.obs["state"].dtype == raw.reward.dtype == jnp.float64
assert raw.obs["count"].dtype == jnp.int64
envs.check(Mine(), num_steps=0)
for env in (Mine(), *map(envs.make, sys.argv[1:])):
    vector, action = envs.VectorEnv(env, 2, reset="first"), np.zeros((2, *env.action_space.shape))
    state, obs = jax.eval_shape(vector.reset, jax.random.key(0))
    after, step = jax.eval_shape(vector.step, jax.random.key(0), state, action)
    types = [[(x.shape, x.dtype) for x in jax.tree.leaves(each)] for each in (state, after)]
    assert types[0] == types[1]
    says = jax.tree.map(lambda box: box.dtype, env.observation_space)
    for each in (obs, step.obs, step.next_obs):
        assert jax.tree.map(lambda x: x.dtype, each) == says, (says, each)
    assert not any(dtype.itemsize == 8 for dtype in jax.tree.leaves(says))
    assert step.reward.dtype == step.episode_return.dtype == jnp.float32
    if isinstance(env, Mine):
        jax.eval_shape(lambda key: evaluate(env, lambda obs, key: action, key, num_episodes=2),
            jax.random.key(0))
"""


@pytest.mark.parametrize(
    "names",
    [
        ["gymnax/Pendulum-v1"],
        pytest.param(["brax/fast", "mjx/InvertedPendulum-v5"], marks=pytest.mark.slow),
    ],
)
def test_double_precision_is_cast_at_the_boundary(names):
    environment = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-W", "ignore", "-c", DOUBLE_PRECISION, *names]
    result = subprocess.run(program, capture_output=True, text=True, timeout=240, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]


def test_double_precision_of_numpy_is_no_other_type():
    assert Box(0.0, 1.0, (2,), np.float64).dtype == np.float32
