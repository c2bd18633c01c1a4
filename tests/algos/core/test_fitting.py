"""What a user hands over is checked by shape where it enters: networks, heads and data that do not
fit are refused.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from onejit import envs
from onejit.algos import fast_sac, fast_td3, mdpo, mdpo_off_policy, ppo, sac, staq, td3
from onejit.algos.core import heads, networks
from onejit.algos.core.config import ConfigError


class Stub:
    """Spaces alone: nothing here steps an environment."""

    def __init__(self, action_space, observation_space=None):
        self.action_space = action_space
        self.observation_space = observation_space or envs.Box(-1.0, 1.0, (4,))

    def reset(self, key):
        raise NotImplementedError

    step = reset


THREE, BOX = Stub(envs.Discrete(3)), Stub(envs.Box(-1.0, 1.0, (1,)))


class Numbers(nn.Module):
    """A linear layer on what `read` takes from the observation."""

    size: int
    read: tuple[str, ...] = ()
    scalar: bool = False
    num_features: int | None = None

    @nn.compact
    def __call__(self, obs, action=None):
        x = jnp.concatenate([obs[name] for name in self.read], axis=-1) if self.read else obs
        x = x if action is None else jnp.concatenate([x, action], axis=-1)
        out = nn.Dense(self.size, kernel_init=nn.initializers.ones)(x[..., : self.num_features])
        return out[..., 0] if self.scalar else out


class Normal(nn.Module):
    """A Gaussian of a number of dimensions."""

    size: int

    @nn.compact
    def __call__(self, obs):
        mean = nn.Dense(self.size)(obs)
        return heads.Gaussian(mean, jnp.zeros_like(mean))


def actor_critic(env, **parts):
    """Own networks that fit, with some parts that do not."""
    head = heads.make_head(env.action_space, "gaussian")
    policy = Numbers(3) if env is THREE else Normal(1)
    return networks.Networks(policy, Numbers(1, scalar=True), head)._replace(**parts)


def replaced(**functions):
    return heads.make_head(BOX.action_space, "gaussian")._replace(**functions)


ON_POLICY = [
    (THREE, {"policy": Numbers(5)}, r"networks.policy=float32\[7, 5, 5\]: must put out 3 numbers"),
    (THREE, {"policy": Numbers(2)}, r"networks.policy=float32\[7, 5, 2\]: must put out 3 numbers"),
    (
        THREE,
        {"policy": Numbers(3, scalar=True)},
        r"networks.policy=float32\[7, 5\]: must put out 3 numbers",
    ),
    (
        BOX,
        {"policy": Normal(2)},
        r"networks.policy=Gaussian\(mean=float32\[7, 5, 2\].*must put out 1 numbers",
    ),
    (BOX, {"policy": Numbers(3)}, "networks.policy=float32.*must put out 1 numbers"),
    (THREE, {"value": Numbers(1)}, r"networks.value=float32\[7, 5, 1\]: must be float32\[7, 5\]"),
    (
        THREE,
        {"value": Numbers(1, scalar=True, num_features=0)},
        r"networks=a parameter value/.* float32\[0, 1\]: .*axis of 0",
    ),
    (
        THREE,
        {"policy": Numbers(5), "head": heads.categorical_head(envs.Discrete(5))},
        r"networks.head=a head for Discrete\(n=5\): must be for env.action_space = Discrete\(n=3\)",
    ),
    (
        BOX,
        {"head": heads.gaussian_head(envs.Box(-2.0, 2.0, (1,)))},
        "networks.head=a head for Box.*-2.*must be for",
    ),
    (
        BOX,
        {"head": replaced(log_prob=lambda action, d: d.mean)},
        r"networks.head.log_prob=.*\[7, 5, 1\]: must be .*\[7, 5\]",
    ),
    (
        BOX,
        {"head": replaced(entropy=lambda key, d: 0.0)},
        r"networks.head.entropy=.*: must be float32\[7, 5\]",
    ),
    (
        BOX,
        {"head": replaced(kl=lambda p, q: p.mean)},
        r"networks.head.kl=.*: must be float32\[7, 5\]",
    ),
    (
        BOX,
        {"head": replaced(mode=lambda d: d.mean[..., 0])},
        r"networks.head.mode=.*\[7, 5\]: must be float32\[7, 5, 1\]",
    ),
    (BOX, {"head": replaced(sample=lambda key, d: d.mean[0])}, "networks.head"),
    (
        BOX,
        {"head": replaced(to_env=lambda a: a[..., 0])},
        r"networks.head.to_env=.*\[7, 5\]: must be .*\[7, 5, 1\]",
    ),
    (
        BOX,
        {"head": replaced(to_env=lambda a: a.astype(int))},
        r"networks.head.to_env=int32.*: must be float32",
    ),
    (
        BOX,
        {"head": replaced(kl=lambda p: p)},
        "networks.head.kl=a function of .*: cannot be traced by jax: TypeError",
    ),
]


@pytest.mark.parametrize("env, parts, message", ON_POLICY)
def test_own_parts_of_an_on_policy_algorithm_that_do_not_fit_are_refused(env, parts, message):
    with pytest.raises(ConfigError, match=message):
        ppo.make(env, None, actor_critic(env, **parts))


def critic(size=None):
    return Numbers(size or 1, scalar=size is None)


OFF_POLICY = [
    (td3, BOX, (Numbers(2), critic()), r"networks.actor=float32\[7, 2\]: must be float32\[7, 1\]"),
    (td3, BOX, (Numbers(1), critic(2)), r"networks.critic=float32\[7, 2\]: must be float32\[7\]"),
    (
        fast_td3,
        BOX,
        (Numbers(1), critic(51)),
        r"networks.critic=float32\[7, 51\]: must be float32\[7, 101\]",
    ),
    (
        fast_td3,
        BOX,
        (Numbers(2), critic(101)),
        r"networks.actor=float32\[7, 2\]: must be float32\[7, 1\]",
    ),
    (sac, BOX, (Normal(2), critic()), r"networks.actor=Gaussian\(mean=float32\[7, 2\]"),
    (
        sac,
        BOX,
        (Numbers(1), critic()),
        r"networks.actor=float32\[7, 1\]: must be Gaussian\(mean=float32\[7, 1\]",
    ),
    (
        sac,
        THREE,
        (Numbers(5), critic(3)),
        r"networks.actor=float32\[7, 5\]: must be float32\[7, 3\]",
    ),
    (
        sac,
        THREE,
        (Numbers(3), critic(5)),
        r"networks.critic=float32\[7, 5\]: must be float32\[7, 3\]",
    ),
    (sac, THREE, (Numbers(3), critic()), r"networks.critic=float32\[7\]: must be float32\[7, 3\]"),
    (fast_sac, BOX, (Normal(2), critic(101)), r"networks.actor=Gaussian\(mean=float32\[7, 2\]"),
    (
        fast_sac,
        BOX,
        (Normal(1), critic()),
        r"networks.critic=float32\[7\]: must be float32\[7, 101\]",
    ),
    (mdpo_off_policy, BOX, (Normal(2), critic()), r"networks.actor=Gaussian\(mean=float32\[7, 2\]"),
    (
        mdpo_off_policy,
        BOX,
        (Normal(1), critic(2)),
        r"networks.critic=float32\[7, 2\]: must be float32\[7\]",
    ),
]


@pytest.mark.parametrize("module, env, parts, message", OFF_POLICY)
def test_own_networks_of_an_off_policy_algorithm_that_do_not_fit_are_refused(
    module, env, parts, message
):
    with pytest.raises(ConfigError, match=message):
        module.make(env, None, module.Networks(*parts))


def test_an_own_q_function_of_staq_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"networks=float32\[7, 5\]: must be float32\[7, 3\]"):
        staq.make(THREE, None, Numbers(5))


@pytest.mark.parametrize(
    "module, own", [(ppo, {}), (ppo, Numbers(3)), (sac, Numbers(3)), (staq, ())]
)
def test_what_are_no_networks_is_refused(module, own):
    with pytest.raises(ConfigError, match="networks=a .*: must have "):
        module.make(THREE, None, own)


SEEN = {
    "state": envs.Box(-1.0, 1.0, (4,)),
    "mask": envs.Box(0.0, 1.0, (3,)),
    "goal": envs.Box(0.0, 1.0, (2,)),
}
READ = ("state", "mask", "goal")
DISCRETE_READERS = [
    (
        ppo,
        networks.Networks(
            Numbers(3, READ),
            Numbers(1, READ, scalar=True),
            heads.make_head(envs.Discrete(3), ""),
        ),
    ),
    (sac, sac.Networks(Numbers(3, READ), Numbers(3, READ))),
    (staq, Numbers(3, READ)),
]


@pytest.mark.parametrize("module, own", DISCRETE_READERS)
def test_entries_that_the_default_networks_would_ignore_are_for_own_ones(module, own):
    env = Stub(envs.Discrete(3), SEEN)
    for call in (module.make, lambda env: module.make_networks(env, module.Config())):
        with pytest.raises(
            ConfigError,
            match="env.observation_space=a dict with 'goal', 'mask': the default networks see",
        ):
            call(env)
    module.make(env, None, own)
    privileged = {"state": SEEN["state"], "privileged_state": SEEN["goal"]}
    module.make(Stub(envs.Discrete(3), privileged))


@pytest.mark.parametrize("module", [td3, fast_td3, fast_sac, mdpo_off_policy])
def test_entries_that_default_actors_would_ignore_are_refused(module):
    with pytest.raises(ConfigError, match="env.observation_space=a dict with 'goal', 'mask'"):
        module.make(Stub(BOX.action_space, SEEN))


def shapes(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def rollout_of(**fields):
    """A rollout of 4 steps of 6 environments, by shape, with some fields that do not fit."""
    flag = shapes(4, 6, dtype=bool)
    fit = ppo.Transition(
        obs=shapes(4, 6, 4),
        action=shapes(4, 6, dtype=jnp.int32),
        log_prob=shapes(4, 6),
        reward=shapes(4, 6),
        terminated=flag,
        truncated=flag,
        next_obs=shapes(4, 6, 4),
    )
    return fit._replace(**fields)


ROLLOUTS = [
    ({"reward": shapes(4, 6, 1)}, r"batch.reward=float32\[4, 6, 1\]: must be an array \[T, N\]"),
    ({"reward": shapes(24)}, r"batch.reward=float32\[24\]: must be an array \[T, N\]"),
    (
        {"reward": shapes(0, 6)},
        r"batch.reward=float32\[0, 6\]: must be an array \[T, N\], none of them 0",
    ),
    ({"reward": 1.0}, r"batch.reward=float32\[\]: must be an array"),
    (
        {"obs": shapes(4, 5, 4)},
        r"batch.obs=float32\[4, 5, 4\]: must be \[T, N, ...\] with \[T, N\] = \[4, 6\]",
    ),
    (
        {"next_obs": shapes(4, 6, 5)},
        r"batch.next_obs=float32\[4, 6, 5\]: must be float32\[4, 6, 4\]",
    ),
    (
        {"obs": shapes(4, 6, 5), "next_obs": shapes(4, 6, 5)},
        r"batch.obs=.*\[4, 6, 5\]: cannot be traced by jax",
    ),
    (
        {"terminated": shapes(4, 7, dtype=bool)},
        r"batch.terminated=bool\[4, 7\]: must be \[T, N\] with \[T, N\] = \[4, 6\]",
    ),
    (
        {"truncated": shapes(4, 6, 1, dtype=bool)},
        r"batch.truncated=bool\[4, 6, 1\]: must be \[T, N\]",
    ),
    ({"log_prob": shapes(6, 4)}, r"batch.log_prob=float32\[6, 4\]: must be \[T, N\]"),
    ({"action": shapes(4, 6, 1, dtype=jnp.int32)}, "batch.action="),
    ({"action": shapes(4, dtype=jnp.int32)}, r"batch.action=int32\[4\]: must be \[T, N, ...\]"),
]


def update(module, env, batch, **settings):
    """An update by shape alone, with networks that fit."""
    config = module.Config(**settings)
    nets = module.make_networks(env, config)
    init_learner = module.init_learner
    learner = jax.eval_shape(
        lambda key: init_learner(key, env=env, networks=nets, config=config), jax.random.key(0)
    )
    key = jax.random.key(1)
    return jax.eval_shape(
        lambda *args: module.update(*args, networks=nets, config=config), learner, batch, key
    )


@pytest.mark.parametrize("fields, message", ROLLOUTS)
def test_a_rollout_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        update(ppo, THREE, rollout_of(**fields), num_envs=6, num_minibatches=4, hidden_sizes=(4,))


@pytest.mark.parametrize(
    "module, settings, message",
    [
        (ppo, {"num_minibatches": 5}, "T·N must be divisible by the number of minibatches, 5"),
        (mdpo, {"num_minibatches": 7}, "T·N must be divisible by the number of minibatches, 7"),
        (
            ppo,
            {"num_envs": 8, "normalize_reward": True},
            "N must be config.num_envs = 8, for normalize_reward",
        ),
    ],
)
def test_a_rollout_that_does_not_fit_the_config_is_refused(module, settings, message):
    with pytest.raises(ConfigError, match=message):
        update(module, THREE, rollout_of(), hidden_sizes=(4,), **settings)


def minibatches_of(**fields):
    """4 minibatches of 8, by shape, with some fields that do not fit."""
    obs = shapes(4, 8, 4)
    return td3.Batch(obs, shapes(4, 8, 1), shapes(4, 8), shapes(4, 8), obs)._replace(**fields)


SIZES = {"actor_hidden_sizes": (4,), "critic_hidden_sizes": (4,)}
MINIBATCHES = [
    (td3, BOX, {"reward": shapes(8)}, r"batch.reward=float32\[8\]: must be an array \[K, B\]"),
    (
        td3,
        BOX,
        {"discount": shapes(4, 8, 1)},
        r"batch.discount=float32\[4, 8, 1\]: must be \[K, B\]",
    ),
    (
        td3,
        BOX,
        {"action": shapes(4, 8, 2)},
        r"batch.action=float32\[4, 8, 2\]: must be float32\[4, 8, 1\]",
    ),
    (
        sac,
        BOX,
        {"action": shapes(4, 8)},
        r"batch.action=float32\[4, 8\]: must be float32\[4, 8, 1\]",
    ),
    (
        sac,
        THREE,
        {"action": shapes(4, 8, 1, dtype=jnp.int32)},
        r"batch.action=.*: must be int32\[4, 8\]",
    ),
    (
        sac,
        BOX,
        {"obs": shapes(4, 8, 3), "next_obs": shapes(4, 8, 3)},
        "batch.obs=.*cannot be traced by jax",
    ),
    (
        sac,
        BOX,
        {"next_obs": shapes(8, 4, 4)},
        r"batch.next_obs=float32\[8, 4, 4\]: must be \[K, B, ...\]",
    ),
]


@pytest.mark.parametrize("module, env, fields, message", MINIBATCHES)
def test_minibatches_that_do_not_fit_are_refused(module, env, fields, message):
    with pytest.raises(ConfigError, match=message):
        update(module, env, minibatches_of(**fields), **SIZES)


def test_minibatches_that_do_not_fit_the_config_are_refused():
    with pytest.raises(ConfigError, match="K must be a multiple of config.policy_delay = 3"):
        update(td3, BOX, minibatches_of(), policy_delay=3, num_updates=3, **SIZES)
    obs = shapes(4, 8, 5)
    with pytest.raises(
        ConfigError, match=r"batch.obs=.*\[4, 8, 5\].*as the learner's running statistics"
    ):
        update(td3, BOX, minibatches_of(obs=obs, next_obs=obs), normalize_obs=True, **SIZES)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"reward": shapes(1, 8)}, r"batch.reward=float32\[1, 8\]: must be an array \[B\]"),
        (
            {"action": shapes(8, 1, dtype=jnp.int32)},
            r"batch.action=int32\[8, 1\]: must be int32\[8\]",
        ),
        (
            {"next_logits": shapes(8, 4)},
            r"batch.next_logits=float32\[8, 4\]: must be float32\[8, 3\]",
        ),
    ],
)
def test_a_minibatch_of_staq_that_does_not_fit_is_refused(fields, message):
    obs, action = shapes(8, 4), shapes(8, dtype=jnp.int32)
    batch = staq.Batch(obs, action, shapes(8), shapes(8), obs, shapes(8, 3))._replace(**fields)
    with pytest.raises(ConfigError, match=message):
        update(staq, THREE, batch, memory=2, hidden_sizes=(4,))


def test_data_that_fit_are_taken():
    update(
        ppo,
        THREE,
        rollout_of(),
        num_envs=6,
        hidden_sizes=(4,),
        normalize_reward=True,
        normalize_obs=True,
    )
    update(td3, BOX, minibatches_of(), **SIZES)
    update(sac, THREE, minibatches_of(action=shapes(4, 8, dtype=jnp.int32)), **SIZES)
    obs = shapes(8, 4)
    batch = staq.Batch(obs, shapes(8, dtype=jnp.int32), shapes(8), shapes(8), obs, shapes(8, 3))
    update(staq, THREE, batch, memory=2, hidden_sizes=(4,))


@pytest.mark.parametrize("module", [ppo, td3, sac, staq])
@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 16, 16), "channels × height × width"),
        ((3, 16, 16), "channels × height × width"),
        ((16, 2, 3), "at least 3 × 3 pixels"),
    ],
)
def test_pictures_that_the_default_networks_cannot_see_are_refused(module, shape, message):
    picture = envs.Box(0.0, 1.0, shape)
    for space in (
        picture,
        {"state": picture},
        {"state": envs.Box(0.0, 1.0, (4,)), "privileged_state": picture},
    ):
        with pytest.raises(
            ConfigError, match=f"env.observation_space={re.escape(str(shape))}: .*{message}"
        ):
            module.make(Stub(BOX.action_space, space))


def test_small_pictures_are_for_own_networks():
    head = heads.make_head(envs.Discrete(3), "")
    own = networks.Networks(Flat(3), Flat(1, scalar=True), head)
    ppo.make(Stub(envs.Discrete(3), envs.Box(0.0, 1.0, (2, 2, 3))), None, own)


class Flat(Numbers):
    """Sees a picture as a vector."""

    @nn.compact
    def __call__(self, obs):
        return super().__call__(obs.reshape(*obs.shape[:-3], -1))


def test_no_parameter_has_an_axis_of_0_also_in_own_networks():
    for bad in (Numbers(3, num_features=0), networks.MLP((4, 0, 3))):
        with pytest.raises(
            ConfigError, match=r"networks=a parameter policy/params/.*: must not have an axis of 0"
        ):
            ppo.make(THREE, None, actor_critic(THREE, policy=bad))
