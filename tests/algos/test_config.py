"""Hyperparameters: what is traced, what is static, and that nonsense is refused before anything compiles."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo, presets
from onejit.algos.config import ConfigError, field_docs

NAN, INF = float("nan"), float("inf")
INVALID = [
    ("learning_rate", 0.0, "above 0"),
    ("learning_rate", -1e-3, "above 0"),
    ("learning_rate", NAN, "above 0"),
    ("learning_rate", INF, "above 0"),
    ("learning_rate", "1e-3", "a number"),
    ("learning_rate", None, "a number"),
    ("gamma", 1.01, "at most 1"),
    ("gamma", -0.1, "at least 0"),
    ("gae_lambda", 2, "at most 1"),
    ("gae_lambda", NAN, "at least 0"),
    ("clip_eps", 0.0, "above 0"),
    ("clip_eps", -0.2, "above 0"),
    ("vf_clip_eps", 0, "above 0"),
    ("vf_coef", -0.5, "at least 0"),
    ("ent_coef", -0.01, "at least 0"),
    ("max_grad_norm", 0.0, "above 0"),
    ("adam_eps", 0.0, "above 0"),
    ("reward_scale", 0.0, "above 0"),
    ("total_steps", 0, "at least 1"),
    ("total_steps", 100, "at least one rollout"),
    ("total_steps", 2**31, "at most"),
    ("total_steps", 1e6, "an integer"),
    ("num_envs", 0, "at least 1"),
    ("num_envs", -4, "at least 1"),
    ("num_envs", 1.5, "an integer"),
    ("num_envs", True, "an integer"),
    ("num_envs", np.array([1, 2]), "one integer"),
    ("num_steps", 0, "at least 1"),
    ("num_minibatches", 0, "at least 1"),
    ("num_minibatches", 7, "must divide"),
    ("num_minibatches", 64 * 32, "at least 2 samples"),
    ("update_epochs", 0, "at least 1"),
    ("anneal_lr", 1, "True or False"),
    ("normalize_obs", "yes", "True or False"),
    ("policy", "beta", "'gaussian', 'tanh_gaussian'"),
    ("activation", "gelu", "'tanh'"),
    ("initialiser", "he", "'orthogonal'"),
    ("reset", "never", "'full', 'bank', 'first'"),
    ("hidden_sizes", (), "at least one integer"),
    ("hidden_sizes", (64, 0), "at least 1"),
    ("hidden_sizes", [64, 64], "tuple"),
    ("hidden_sizes", 64, "tuple"),
    ("num_envs", 64 * 10**6, "would take .* GiB, the device has .* GiB"),
    ("hidden_sizes", (10**6, 10**6), r"the networks and their optimiser would take 22,\d+.* GiB, the device has"),
]


@pytest.mark.parametrize("field, value, allowed", INVALID)
def test_invalid_values_are_refused_with_field_value_and_what_is_allowed(field, value, allowed):
    env = envs.make("probe/value")
    with pytest.raises(ConfigError) as caught:
        ppo.make(env, ppo.Config(total_steps=2**31 - 1).replace(**{field: value}))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}=")
    assert re.search(allowed, str(caught.value))


def test_init_refuses_a_config_that_the_algorithm_was_not_made_for():
    algorithm = ppo.make(envs.make("probe/value"), ppo.Config(num_envs=8))
    with pytest.raises(ConfigError, match="num_envs=4: decides shapes or structure, and was made as 8"):
        algorithm.init(jax.random.key(0), ppo.Config(num_envs=4))


def test_sweeps_are_checked_element_by_element():
    config = ppo.Config(learning_rate=jnp.array([1e-3, -1.0, 1e-4]))
    with pytest.raises(ConfigError, match=r"learning_rate=-1.0: must be a number above 0"):
        config.validate(envs.make("probe/value"))
    ppo.Config(learning_rate=jnp.array([1e-3, 1e-4])).validate(envs.make("probe/value"))


def test_tracers_are_skipped():
    @jax.jit
    def build(rate):
        config = ppo.Config(learning_rate=rate)
        config.validate(envs.make("probe/value"))
        return config.learning_rate

    assert build(-1.0) == -1.0


class UnboundedEnv:
    observation_space = envs.Box(-1.0, 1.0, (2,))
    action_space = envs.Box(-np.inf, np.inf, (2,))


class MatrixActionEnv(UnboundedEnv):
    action_space = envs.Box(-1.0, 1.0, (2, 2))


@pytest.mark.parametrize("env", [UnboundedEnv(), MatrixActionEnv()])
def test_action_spaces_that_no_policy_fits_are_refused(env):
    with pytest.raises(ConfigError, match="one axis and finite bounds"):
        ppo.make(env)


class NoStateEnv(UnboundedEnv):
    observation_space = {"pixels": envs.Box(0.0, 1.0, (2,))}
    action_space = envs.Discrete(2)


class DiscreteObservationEnv(NoStateEnv):
    observation_space = envs.Discrete(4)


@pytest.mark.parametrize("env", [NoStateEnv(), DiscreteObservationEnv()])
def test_observation_spaces_that_no_network_fits_are_refused(env):
    with pytest.raises(ConfigError, match='a dict of them with the entry "state"'):
        ppo.make(env)


def test_traced_fields_are_leaves_and_static_ones_are_not():
    config = ppo.Config()
    traced = [field for field in dataclasses.fields(config) if not field.metadata["static"]]
    assert len(jax.tree.leaves(config)) == len(traced)
    assert jax.tree.structure(config) == jax.tree.structure(config.replace(gamma=0.5))
    assert jax.tree.structure(config) != jax.tree.structure(config.replace(num_envs=8))


def test_as_leaves_gives_arrays_of_the_declared_kind():
    leaves = ppo.Config(total_steps=12345, learning_rate=1).as_leaves()
    assert leaves.total_steps.dtype == jnp.int32
    assert leaves.learning_rate.dtype == jnp.float32
    assert not leaves.learning_rate.aval.weak_type
    assert leaves.num_envs == ppo.Config().num_envs


def test_every_field_is_documented():
    assert all(len(doc) > 10 for doc in field_docs(ppo.Config).values())


@pytest.mark.parametrize(
    "name, env_id", [(name, env_id) for name, known in presets.PRESETS.items() for env_id in known]
)
def test_presets_are_valid(name, env_id):
    # Presets for suites that are not installed are checked against an environment that stands in for them.
    env = envs.make("gymnax/Pendulum-v1" if env_id.startswith("playground/") else env_id)
    getattr(algos, name).Config(**presets.get(name, env_id)).validate(env)
