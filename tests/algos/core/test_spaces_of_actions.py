"""Actions of several choices, own heads for spaces of one's own, and networks of flax.nnx."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from onejit import algos, envs
from onejit.algos import gorl, hnpg, mdpo, pathwise, ppo, sac, spo, staq, td3
from onejit.algos.core import heads
from onejit.algos.core.config import ConfigError
from onejit.algos.core.networks import VECTOR, Networks, Policy, Value, make_torso

SMALL = {"num_envs": 16, "num_steps": 8, "num_minibatches": 2, "hidden_sizes": (8,)}


class Locks:
    """Two dials at once: pays 1 for each that stands where the observation says, one step long."""

    observation_space = envs.Box(0.0, 1.0, (5,))
    action_space = envs.MultiDiscrete((2, 3))

    def reset(self, key):
        right = self.action_space.sample(key)
        shown = [jax.nn.one_hot(right[i], n) for i, n in enumerate((2, 3))]
        return right, jnp.concatenate(shown)

    def step(self, key, state, action):
        reward = jnp.sum(action == state, dtype=jnp.float32)
        after = self.reset(key)[1]
        return state, envs.Step(after, reward, jnp.bool_(True), jnp.bool_(False), {})


def test_several_choices_are_independent_categoricals():
    head = heads.multi_categorical_head(envs.MultiDiscrete((2, 3)))
    first, second = jnp.log(jnp.array([0.25, 0.75])), jnp.log(jnp.array([0.5, 0.3, 0.2]))
    logits = jnp.concatenate([first, second])
    action = jnp.array([1, 2])
    # log(0.75 · 0.2)
    np.testing.assert_allclose(head.log_prob(action, logits), math.log(0.75 * 0.2), rtol=1e-6)
    entropy = -sum(p * math.log(p) for p in (0.25, 0.75, 0.5, 0.3, 0.2))
    np.testing.assert_allclose(head.entropy(None, logits), entropy, rtol=1e-6)
    uniform = jnp.zeros(5)
    # KL to the uniform is log 2 + log 3 less the entropy.
    np.testing.assert_allclose(head.kl(logits, uniform), math.log(6.0) - entropy, rtol=1e-5)
    np.testing.assert_array_equal(head.mode(logits), [1, 0])
    assert head.size == 5 and head.mode(logits).dtype == jnp.int32
    many = jnp.broadcast_to(logits, (4000, 5))
    drawn = np.asarray(head.sample(jax.random.key(0), many))
    assert drawn.shape == (4000, 2)
    np.testing.assert_allclose(np.mean(drawn == [1, 2], axis=0), [0.75, 0.2], atol=0.03)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05
    assert head.log_prob(jnp.asarray(drawn), many).shape == (4000,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [ppo, spo, mdpo],
    ids=["ppo", "spo", "mdpo"],
)
def test_both_dials_are_learned(module, jit_to_learn):
    env = Locks()
    envs.check(env)
    config = module.Config(**SMALL, learning_rate=1e-2, total_steps=12_800)
    algorithm = module.make(env, config)
    state, _ = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=100))(
        jax.random.key(0)
    )
    evaluated = jax.jit(algos.evaluator(algorithm))(state, jax.random.key(1))
    assert evaluated["eval/episodic_return"] == 2.0


@pytest.mark.parametrize("module", [sac, td3, staq], ids=["sac", "td3", "staq"])
def test_who_knows_no_several_choices_says_so(module):
    with pytest.raises(ConfigError, match="env.action_space=MultiDiscrete"):
        module.make(Locks())


@pytest.mark.parametrize("nvec", [(), (0,), (2.5,), 3, (2, True)])
def test_what_are_no_choices_is_refused(nvec):
    with pytest.raises(ValueError, match="MultiDiscrete: nvec must be integers of at least 1"):
        envs.MultiDiscrete(nvec)


def test_elements_of_several_choices():
    space = envs.MultiDiscrete([2, 3])
    assert space == envs.MultiDiscrete((2, 3)) and space.shape == (2,)
    assert space.contains(np.array([1, 2])) and not space.contains(np.array([2, 0]))
    assert not space.contains(np.array([0.5, 1.0])) and not space.contains(1)
    drawn = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 200))
    assert set(map(tuple, np.asarray(drawn))) == {(i, j) for i in range(2) for j in range(3)}


@dataclasses.dataclass(frozen=True)
class Aim:
    """A space of one's own: whether to shoot, 0 or 1, and where, in [−1, 1]."""

    shape = (2,)
    dtype = np.dtype("float32")

    def contains(self, x):
        return np.shape(x) == (2,) and x[0] in (0.0, 1.0) and abs(x[1]) <= 1.0

    def sample(self, key):
        shoot, where = jax.random.split(key)
        shot = jax.random.bernoulli(shoot).astype(jnp.float32)
        return jnp.stack([shot, jax.random.uniform(where, minval=-1.0, maxval=1.0)])


class Range:
    """Pays for shooting at the target, which the observation shows."""

    observation_space = envs.Box(-1.0, 1.0, (1,))
    action_space = Aim()

    def reset(self, key):
        obs = jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
        return obs, obs

    def step(self, key, state, action):
        reward = action[0] * (1.0 - jnp.abs(action[1] - state[0]))
        after = self.reset(key)[1]
        return state, envs.Step(after, reward, jnp.bool_(True), jnp.bool_(False), {})


def aiming():
    """The head for `Aim`: a choice by the first two numbers, a Gaussian of a fixed width around the
    third.
    """
    choice = heads.categorical_head(envs.Discrete(2))

    def place(d):
        return heads.Gaussian(d[..., 2], jnp.full(d.shape[:-1], -1.0))

    def log_prob(action, d):
        shot = choice.log_prob(action[..., 0].astype(jnp.int32), d[..., :2])
        mean, log_std = place(d)
        z = (action[..., 1] - mean) / jnp.exp(log_std)
        return shot - 0.5 * z**2 - log_std - 0.5 * math.log(2.0 * math.pi)

    def sample(key, d):
        shoot, where = jax.random.split(key)
        shot = choice.sample(shoot, d[..., :2]).astype(jnp.float32)
        return jnp.stack([shot, heads.sample_gaussian(where, place(d))], axis=-1)

    def mode(d):
        return jnp.stack([choice.mode(d[..., :2]).astype(jnp.float32), d[..., 2]], axis=-1)

    def kl(p, q):
        z = (p[..., 2] - q[..., 2]) / math.exp(-1.0)
        return choice.kl(p[..., :2], q[..., :2]) + 0.5 * z**2

    return heads.ActionHead(
        size=3,
        sample=sample,
        log_prob=log_prob,
        entropy=lambda key, d: choice.entropy(key, d[..., :2]),
        kl=kl,
        mode=mode,
        to_env=lambda action: action.at[..., 1].set(jnp.clip(action[..., 1], -1.0, 1.0)),
        space=Aim(),
    )


@pytest.mark.slow
def test_an_own_head_acts_in_a_space_of_ones_own(jit_to_learn):
    env = Range()
    envs.check(env)
    with pytest.raises(ConfigError, match="own networks can have a head for it"):
        ppo.make(env)

    def torso():
        return make_torso(VECTOR, (16,), "tanh", "orthogonal")

    networks = Networks(Policy(torso(), 3, gaussian=False), Value(torso()), aiming())
    config = ppo.Config(**SMALL | {"num_envs": 32}, learning_rate=1e-2, total_steps=25_600)
    algorithm = ppo.make(env, config, networks)
    state, _ = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=100))(
        jax.random.key(0)
    )
    evaluated = jax.jit(algos.evaluator(algorithm, num_episodes=64))(state, jax.random.key(1))
    assert evaluated["eval/episodic_return"] > 0.85  # never shooting has 0, always the middle 0.5


class Plain(Range):
    """Takes any number."""

    action_space = envs.Box(-np.inf, np.inf, (1,))

    def step(self, key, state, action):
        return super().step(key, state, jnp.append(jnp.ones(1), action))


@pytest.mark.parametrize("module", [gorl, hnpg, pathwise])
def test_what_is_for_continuous_actions_says_so_of_discrete_ones(module):
    with pytest.raises(ConfigError, match="must be a Box: the algorithm is for continuous"):
        module.make(envs.make("gymnax/CartPole-v1"))


def test_an_own_head_may_take_a_box_that_the_default_ones_cannot():
    env = Plain()
    with pytest.raises(ConfigError, match="must be a Box with one axis and finite bounds"):
        ppo.make(env)
    bounded = heads.gaussian_head(envs.Box(-1.0, 1.0, (1,)))
    head = bounded._replace(to_env=lambda action: 10.0 * action, space=env.action_space)
    torso = make_torso(VECTOR, (4,), "tanh", "orthogonal")
    networks = Networks(Policy(torso, 1, gaussian=True), Value(torso), head)
    algorithm = ppo.make(env, ppo.Config(**SMALL), networks)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert jax.tree.structure(jax.eval_shape(algorithm.step, state)[0]) == jax.tree.structure(state)


class Layers(nnx.Module):
    """Two layers of flax.nnx."""

    def __init__(self, inputs, outputs, rngs, scalar=False):
        self.hidden = nnx.List([nnx.Linear(inputs, 8, rngs=rngs)])
        self.params = nnx.Param(jnp.ones(()))  # as flax.linen calls all of them
        self.out = nnx.Linear(8, outputs, rngs=rngs)
        self.scalar = scalar

    def __call__(self, *inputs):
        x = jnp.concatenate(inputs, axis=-1)
        for layer in self.hidden:
            x = nnx.tanh(layer(x))
        out = self.params[...] * self.out(x)
        return out[..., 0] if self.scalar else out


@pytest.mark.slow
def test_networks_of_nnx_put_out_what_those_of_linen_do_and_learn(assert_resume_is_exact):
    env = envs.make("probe/observation")
    config = ppo.Config(**SMALL, learning_rate=1e-2, total_steps=12_800)
    default = ppo.make_networks(env, config)
    policy = algos.NnxNetwork(lambda rngs: Layers(2, 2, rngs))
    value = algos.NnxNetwork(lambda rngs: Layers(2, 1, rngs, scalar=True))
    obs = jax.random.normal(jax.random.key(0), (3, 2))
    variables = default.policy.init(jax.random.key(1), obs[0])
    params = variables["params"]
    mine = {"hidden": {0: params["torso"]["Dense_0"]}, "out": params["Dense_0"]}
    mine = {"params": mine | {"params": jnp.ones(())}}
    np.testing.assert_array_equal(policy.apply(mine, obs), default.policy.apply(variables, obs))
    algorithm = ppo.make(env, config, Networks(policy, value, default.head))
    init, step = jax.jit(algorithm.init), jax.jit(algorithm.step)
    assert_resume_is_exact(algorithm, init, step, 2)
    state = init(jax.random.key(0))
    for _ in range(40):
        state, _ = step(state)
    action = algorithm.act(state, jnp.eye(2), jax.random.key(2), True)
    np.testing.assert_array_equal(action, [0, 1])


@pytest.mark.slow
def test_critics_of_nnx_are_an_ensemble_as_others():
    env = envs.make("probe/observation", continuous=True)
    config = td3.Config(num_envs=2, learning_starts=8, buffer_size=64, batch_size=8)

    def actor(rngs):
        return Layers(2, 1, rngs)

    critic = algos.NnxNetwork(lambda rngs: Layers(3, 1, rngs, scalar=True))
    algorithm = td3.make(env, config, td3.Networks(algos.NnxNetwork(actor), critic))
    before = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(before)
    assert not metrics["charts/fault"]
    params = [each.learner.params["critic"]["params"] for each in (before, state)]
    kernels = [each["hidden"][0]["kernel"] for each in params]
    assert kernels[0].shape == (2, 3, 8) and not np.any(kernels[0][0] == kernels[0][1])
    # All of them are trained.
    for old, new in zip(*map(jax.tree.leaves, params), strict=True):
        assert np.any(old != new)


def test_nnx_variables_that_nobody_would_carry_are_refused():
    with pytest.raises(TypeError, match="BatchNorm has variables that are no nnx.Param: BatchStat"):
        algos.NnxNetwork(lambda rngs: nnx.BatchNorm(3, rngs=rngs))
