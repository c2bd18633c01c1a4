"""Hyperparameters: what is traced, what is static, and that nonsense is refused before anything
compiles.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fast_sac, fast_td3, ppo, sac
from onejit.algos.core import device_memory
from onejit.algos.core.config import ConfigError, configclass, field_docs
from onejit.algos.host import presets

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
    ("hidden_sizes", (64,) * 101, "at most 100"),
    ("learning_rate", 1e39, "above 0"),
    ("adam_eps", 1e-50, "above 0"),
    ("learning_rate", [1e-3, 1e-4], "a number"),
    ("learning_rate", jnp.array([]), "a number"),
    ("num_envs", 2**31, "at most 2147483647"),
    ("num_envs", 2**64, "an integer"),
    ("num_envs", 64 * 10**6, "would take .* GiB, the device has .* GiB"),
    (
        "hidden_sizes",
        (10**6, 10**6),
        r"the networks and their optimiser would take 22,\d+.* GiB, the device has",
    ),
]


class UnboundedEnv:
    observation_space = envs.Box(-1.0, 1.0, (2,))
    action_space = envs.Box(-np.inf, np.inf, (2,))

    def reset(self, key):
        raise NotImplementedError

    step = reset


ALGORITHMS = (
    "ppo",
    "ppo_ewma",
    "fixpo",
    "props",
    "r2vpo",
    "spo",
    "mdpo",
    "td3",
    "aq_td3",
    "aq_sac",
    "aq_fast_sac",
    "avg",
    "fast_td3",
    "sac",
    "fast_sac",
    "mdpo_off_policy",
    "staq",
    "tokens",
)
CONTINUOUS = ("td3", "aq_td3", "avg", "fast_td3", "fast_sac", "aq_fast_sac", "mdpo_off_policy")


def env_of(name):
    """A probe, or a task of tokens, that the algorithm takes."""
    if name == "tokens":
        return envs.make("tokens/brackets")
    return envs.make("probe/value", continuous=name in CONTINUOUS)


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
    with pytest.raises(
        ConfigError, match="num_envs=4: decides shapes or structure, and was made as 8"
    ):
        algorithm.init(jax.random.key(0), ppo.Config(num_envs=4))


@pytest.mark.parametrize(
    "field, value", [("learning_rate", -1.0), ("gamma", 3.0), ("clip_eps", NAN)]
)
def test_a_config_is_validated_wherever_it_enters(field, value):
    algorithm = ppo.make(envs.make("probe/value"), ppo.Config(num_envs=8))
    config = algorithm.config.replace(**{field: value})
    message = f"{field}={value}: must be a number"
    with pytest.raises(ConfigError, match=message):
        algorithm.init(jax.random.key(0), config)
    with pytest.raises(ConfigError, match=message):
        algos.train(algorithm, jax.random.key(0), config=config, num_iterations=1)
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(
            lambda key: algos.train(algorithm, key, config=config, num_iterations=1),
            jax.random.key(0),
        )
    # Not known yet, which is not refused.
    configs = jax.tree.map(lambda x: jnp.broadcast_to(x, 2), config.as_leaves())
    jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), 2), configs)
    with pytest.raises(ConfigError, match=message):
        configs.validate(algorithm.env)


@functools.cache
def made(name):
    """An algorithm as its defaults have it; making one takes a while."""
    return getattr(algos, name).make(env_of(name))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"gamma": 0.9},
            "config={'gamma': 0.9}: must be a {name}.Config: write {name}.Config(**config)",
        ),
        ({}, "config={}: must be a {name}.Config: write {name}.Config(**config)"),
        (0.9, "config=0.9: must be a {name}.Config: write {name}.Config()"),
        ("other", "config={other}.Config: must be a {name}.Config: write {name}.Config()"),
    ],
    ids=["dict", "empty", "number", "other"],
)
def test_what_is_no_config_is_refused_with_what_to_write(name, config, message):
    other = "sac" if name != "sac" else "ppo"
    config = getattr(algos, other).Config() if config == "other" else config
    message = message.replace("{name}", name).replace("{other}", other)
    algorithm = made(name)
    for call in (
        lambda: getattr(algos, name).make(algorithm.env, config),
        lambda: algorithm.init(jax.random.key(0), config),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            call()


@pytest.mark.parametrize(
    "env, message",
    [
        ("probe/value", "envs.make"),
        (UnboundedEnv, "is a class"),
        (envs.VectorEnv(envs.make("probe/value"), 2), "VectorEnv"),
    ],
)
def test_what_is_no_environment_is_refused(env, message):
    with pytest.raises(envs.ContractError, match=message):
        ppo.make(env)


def test_init_takes_one_value_of_each_field():
    algorithm = ppo.make(envs.make("probe/value"))
    config = algorithm.config.replace(gamma=jnp.array([0.9, 0.8]))
    with pytest.raises(
        ConfigError,
        match=r"gamma=an array of the shape \(2,\): a run has one value; several take jax.vmap",
    ):
        algorithm.init(jax.random.key(0), config)


def test_what_is_swept_together_has_one_shape():
    config = ppo.Config(learning_rate=jnp.ones(3), gamma=jnp.ones(2), gae_lambda=0.9)
    with pytest.raises(
        ConfigError, match=r"gamma=.*\(2,\): must have the shape of learning_rate, \(3,\)"
    ):
        config.validate(envs.make("probe/value"))


def test_static_fields_cannot_be_swept_or_traced():
    for sweep in (
        lambda: ppo.Config(num_envs=jnp.array([4, 8])),
        lambda: jax.eval_shape(lambda n: ppo.Config().replace(num_envs=n).gamma, 4),
        lambda: jax.eval_shape(lambda n: ppo.Config().replace(hidden_sizes=(64, n)).gamma, 4),
    ):
        with pytest.raises(
            ConfigError,
            match="decides shapes or structure, and cannot be traced or differ within a sweep",
        ):
            sweep()


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, np.array, jnp.int32])
def test_scalars_of_numpy_and_jax_in_static_fields_are_those_of_python(integer):
    config = ppo.Config(
        num_envs=integer(8), hidden_sizes=(integer(16), 4), anneal_lr=np.bool_(False)
    )
    plain = ppo.Config(num_envs=8, hidden_sizes=(16, 4), anneal_lr=False)
    assert repr(config) == repr(plain)
    assert jax.tree.structure(config) == jax.tree.structure(plain)
    jax.eval_shape(ppo.make(envs.make("probe/value"), config).init, jax.random.key(0))


ANY = [
    *(10**9, 10**10, 1e9, -1, 0, 1, 2, 2**31, 2**63, 2**64, 10**400, -(2**63)),
    *(
        NAN,
        INF,
        -INF,
        1e39,
        1e-50,
        0.5,
        1.5,
        True,
        False,
        None,
        "",
        "3",
        "relu",
        b"3",
        1j,
        object(),
    ),
    *(
        [],
        [1],
        (),
        (1,),
        (10**9,),
        (10**9, 10**9),
        (0.5,),
        ("3",),
        ((1,),),
        (None,),
        {},
        {"a": 1},
        {1},
        range(3),
    ),
    *(
        np.int64(3),
        np.uint64(2**63),
        np.float32(0.5),
        np.float64(NAN),
        np.bool_(True),
        np.str_("relu"),
        np.array(3),
    ),
    *(
        np.array([1, 2]),
        np.array([]),
        np.array([None]),
        np.array(["a"]),
        np.datetime64("2026-01-01"),
        np.ones((2, 2)),
    ),
    *(
        jnp.int32(3),
        jnp.float32(0.5),
        jnp.bfloat16(0.5),
        jnp.bool_(True),
        jnp.array([1, 2]),
        jax.random.key(0),
    ),
]


# One of each loop; the others share their fields' checks.
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("ppo", "td3", "staq") else pytest.param(name, marks=pytest.mark.slow)
        for name in ALGORITHMS
    ],
)
def test_any_value_of_any_field_is_taken_or_refused(name, monkeypatch):
    monkeypatch.setattr(device_memory, "device_bytes", lambda: 8 * 2**30)
    module = getattr(algos, name)
    env = env_of(name)
    taken = refused = 0
    for field in dataclasses.fields(module.Config):
        for value in ANY:
            try:
                config = module.Config(**{field.name: value})
                config.validate(env)
                plain = getattr(config, field.name)
                if field.metadata["static"]:
                    assert type(plain) is (field.type if field.type in (int, bool, str) else tuple)
                    hash(jax.tree.structure(config))
                    if np.max(plain if field.type in (int, tuple[int, ...]) else 0) >= 10**9:
                        module.make(env, config)
                else:
                    assert np.all(np.isfinite(getattr(config.as_leaves(), field.name))) or np.any(
                        plain == INF
                    )
                taken += 1
            except ConfigError as error:
                assert str(error).startswith(f"{error.field}=")
                refused += 1
    assert taken > len(dataclasses.fields(module.Config))
    assert refused > taken


HUGE = {
    "ppo": ("num_envs", "num_steps", "update_epochs", "hidden_sizes"),
    "mdpo": ("policy_steps", "update_epochs"),
    "td3": (
        "batch_size",
        "buffer_size",
        "learning_starts",
        "num_updates",
        "policy_delay",
        "n_step",
        "num_envs",
    ),
    "fast_td3": ("num_atoms", "critic_hidden_sizes", "actor_hidden_sizes"),
    "staq": ("memory", "num_critics", "updates_per_step", "num_steps", "bins", "batch_size"),
    "tokens": ("num_prompts", "group_size", "update_passes", "hidden_size", "eval_samples"),
}


@pytest.mark.parametrize(
    "name, field", [(name, field) for name, fields in HUGE.items() for field in fields]
)
def test_sizes_that_cannot_fit_are_refused(name, field, monkeypatch):
    monkeypatch.setattr(device_memory, "device_bytes", lambda: 8 * 2**30)
    module = getattr(algos, name)
    env = env_of(name) if name != "staq" else envs.make("probe/value", continuous=True)
    room = {"total_steps": 2**31 - 1}  # nothing else is in the way
    value = (10**6, 10**6) if "hidden_sizes" in field else 10**9
    with pytest.raises(ConfigError) as caught:
        module.make(env, module.Config(**room, **{field: value}))
    assert isinstance(caught.value.value, int | tuple)


def test_the_noise_of_fast_td3_is_between_its_bounds():
    env = envs.make("probe/value", continuous=True)
    with pytest.raises(ConfigError, match="min_noise=0.5: must be at most max_noise = 0.4"):
        fast_td3.Config(min_noise=0.5).validate(env)
    with pytest.raises(ConfigError, match="min_noise"):
        fast_td3.Config(min_noise=jnp.array([0.1, 0.3]), max_noise=jnp.array([0.2, 0.2])).validate(
            env
        )
    jax.eval_shape(lambda low: fast_td3.Config(min_noise=low).validate(env), 0.5)


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


class MatrixActionEnv(UnboundedEnv):
    action_space = envs.Box(-1.0, 1.0, (2, 2))


@pytest.mark.parametrize("env", [UnboundedEnv(), MatrixActionEnv()])
def test_action_spaces_that_no_policy_fits_are_refused(env):
    with pytest.raises(ConfigError, match="one axis and finite bounds"):
        ppo.make(env)


class IntegerActionEnv(UnboundedEnv):
    action_space = envs.Box(0, 3, (2,), np.int32)


def test_whole_numbers_as_actions_are_discrete():
    with pytest.raises(ConfigError, match="Box of floats; for whole numbers use Discrete"):
        ppo.make(IntegerActionEnv())


class BlindEnv(UnboundedEnv):
    observation_space = {
        "state": envs.Box(-1.0, 1.0, (2,)),
        "privileged_state": envs.Box(-1.0, 1.0, (4, 0)),
    }
    action_space = envs.Discrete(2)


def test_observations_without_elements_are_refused():
    with pytest.raises(ConfigError, match="must not have an axis of 0"):
        sac.make(BlindEnv())


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


def test_a_new_default_alone_keeps_what_the_base_says_of_a_field():
    @configclass
    class Mine(fast_sac.Config):
        gamma: float = 0.5
        initial_alpha: float = 2.0

    assert (Mine().gamma, Mine().initial_alpha, Mine(gamma=0.7).gamma) == (0.5, 2.0, 0.7)
    docs, inherited = field_docs(Mine), field_docs(fast_sac.Config)
    assert docs == inherited
    with pytest.raises(ConfigError, match="gamma=2.0: must be a number at least 0 and at most 1"):
        Mine(gamma=2.0).validate(envs.make("probe/value"))
    assert fast_sac.Config().gamma == 0.97


@pytest.mark.parametrize("annotations", [{"mine": float}, {"gamma": float}])
def test_a_field_that_says_nothing_of_itself_is_refused(annotations):
    body = {"__annotations__": annotations} | ({"mine": 0.1} if "mine" in annotations else {})
    with pytest.raises(TypeError, match=r"\.(mine|gamma) must be traced\(default, doc\) or static"):
        configclass(type("Config", (ppo.Config,), body))


def test_every_field_is_documented():
    assert all(len(doc) > 10 for doc in field_docs(ppo.Config).values())


def known(name):
    """The environments that there is a preset of an algorithm for."""
    return [*presets.PRESETS.get(name, {}), *presets.PUBLISHED.get(name, {})]


def every_preset():
    """Of all algorithms, the published ones too; those of CrossQ for robots, which take seconds to
    make, are slow.
    """
    for name in presets.PRESETS | presets.PUBLISHED:
        for env_id in known(name):
            slow = name == "crossq" and env_id.startswith("mjx/")
            yield pytest.param(name, env_id, marks=[pytest.mark.slow] if slow else [])


@functools.cache
def loaded(env_id):
    """An environment, whose model takes a while to load."""
    return envs.make(env_id)


@pytest.mark.parametrize("name, env_id", list(every_preset()))
def test_presets_are_valid(name, env_id):
    # Presets for suites that are not installed are checked against an environment that stands in
    # for them.
    env = loaded("gymnax/Pendulum-v1" if env_id.startswith("playground/") else env_id)
    getattr(algos, name).Config(**presets.get(name, env_id)).validate(env)
