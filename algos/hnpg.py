"""Hybrid natural policy gradient (Zhou et al., 2023, "Offline Data Enhanced On-Policy Policy
Gradient with Provable Guarantees", arXiv 2311.08384): TRPO whose critic, and whose step, see rows
of offline data too.

The critic is Q(s, a), and V(s) its mean over sampled actions. It regresses to the returns of the
rollout, and on offline rows to r + γV(s'), fitted Q-evaluation of the present policy; the two means
are added. The policy takes TRPO's step on rollout and offline rows together: at an offline
observation with an action of its own and the advantage Q − V. One `step` is as in TRPO. Without
offline rows (offline_batch = 0) it is TRPO with such a critic.

Differs from the released code, which has a policy and a critic for each step of a finite horizon
and fits them backwards, in that there is one network each, which sees the time where the
observation has it, and that targets on offline rows are those of the critic before the iteration;
in that returns are λ-returns, Monte-Carlo's with gae_lambda = 1; and as PPO does here.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses
from ..envs import Box, Environment
from .core import device_memory, keys, normalize, parallel
from .core.algorithm import Algorithm, Metrics
from .core.collect import Transition
from .core.config import ConfigError, configclass, static
from .core.dataset import Dataset
from .core.device_memory import Part
from .core.initialisers import dense
from .core.networks import (
    Networks,
    actor_space,
    critic_obs,
    critic_space,
    make_actor_critic,
    make_torso,
)
from .core.optimisers import Optimiser
from .on_policy import estimation, loop, trust_region
from .on_policy.policy_gradient import Learner, init_learner
from .on_policy.trust_region import TrustRegionConfig, policy_loss

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "critic_loss",
    "init_learner",
    "make",
    "make_networks",
    "policy_loss",
    "update",
]


@configclass
class Config(TrustRegionConfig):
    """Hyperparameters of HNPG."""

    offline_batch: int = static(
        0, "Rows of offline data that an iteration draws; 0 uses none of them.", low=0
    )
    offline_episodes: int = static(
        500, "Episodes that the environment is asked for where no data are handed over.", low=1
    )
    action_samples: int = static(8, "Actions over which V(s) is a mean of Q(s, a).", low=1)
    gae_lambda: float = 0.97
    normalize_advantage: bool = False

    ACTION_SPACES = (Box,)
    MAY_REMEMBER = False
    SHARED = ("num_envs", "offline_batch")

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.rows % self.num_minibatches:
            allowed = f"must divide num_envs·num_steps + offline_batch = {self.rows}"
            raise ConfigError("num_minibatches", self.num_minibatches, allowed)
        for name, only in (
            ("policy", "gaussian"),  # whose stored actions are those that the critic and data have
            ("shared_torso", False),
            ("normalize_reward", False),
        ):
            if getattr(self, name) != only:
                raise ConfigError(name, getattr(self, name), f"must be {only}")
        clip = self.vf_clip_eps
        if not isinstance(clip, jax.core.Tracer) and not np.all(np.isinf(clip)):
            raise ConfigError("vf_clip_eps", clip, "must be inf: the critic's loss is not clipped")

    @property
    def rows(self) -> int:
        """What an iteration cuts into minibatches: the rollout and the offline rows."""
        return super().rows + self.offline_batch

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once: also offline rows, and the actions that V(s) is a mean over."""
        obs, action = map(device_memory.space_bytes, (env.observation_space, env.action_space))
        sampled = (
            float(self.action_samples) * self.rows * (obs + action + 4 * max(self.hidden_sizes))
        )
        sizes = ("action_samples", "num_envs", "num_steps", "offline_batch")
        return [
            *super().memory_parts(env),
            Part(
                ("offline_batch",),
                self.offline_batch * (2.0 * obs + 2 * action + 32),
                "offline rows",
            ),
            Part(sizes, sampled, "the actions for V(s)"),
        ]


class Minibatch(NamedTuple):
    """`estimation.Minibatch`, of the rollout's rows and then of the offline ones; and

    Attributes:
      taken: the action that the target is of, which offline is not the policy's own.
      weight: of a row in the critic's loss, so that a mean over all is the sum of the two means.
    """

    obs: Any
    action: chex.Array
    log_prob: chex.Array
    distribution: Any
    value: chex.Array
    advantage: chex.Array
    target: chex.Array
    taken: chex.Array
    weight: chex.Array


class Critic(nn.Module):
    """Q(s, a), `[...]`; without an action that of the middle of the Box, which is what checks need.

    Attributes:
      torso: the hidden layers.
      action_size: numbers of an action.
      initialiser: of the last layer.
    """

    torso: nn.Module
    action_size: int
    initialiser: str = "orthogonal"

    @nn.compact
    def __call__(self, obs: Any, action: chex.Array | None = None) -> chex.Array:
        seen = critic_obs(obs)
        if action is None:
            action = jnp.zeros((*seen.shape[:-1], self.action_size), jnp.float32)
        both = jnp.concatenate([seen, jnp.clip(action, -1.0, 1.0)], axis=-1)
        return jnp.squeeze(dense(1, self.initialiser, scale=1.0)(self.torso(both)), axis=-1)


def make_networks(env: Environment, config: Config) -> Networks:
    """A policy and a critic, as the config says.

    Raises:
      ConfigError: observations are no vectors, or have entries that these networks would ignore.
    """
    space = critic_space(env)
    if len(space.shape) != 1 or len(actor_space(env).shape) != 1:
        raise ConfigError("env.observation_space", space, "must be of vectors")
    size = space.shape[0] + env.action_space.shape[0]
    torso = make_torso(
        Box(-jnp.inf, jnp.inf, (size,)), config.hidden_sizes, config.activation, config.initialiser
    )
    critic = Critic(torso, env.action_space.shape[0], config.initialiser)
    return make_actor_critic(env, config)._replace(value=critic)


def value_of(
    params: Any, obs: Any, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> chex.Array:
    """V(s), `[...]`: the mean of Q(s, a) over config.action_samples actions of the policy."""
    distribution = networks.policy.apply(params["policy"], obs)

    def one(key):
        action = networks.head.sample(key, distribution)
        return networks.value.apply(params["value"], obs, action)

    return jnp.mean(jax.vmap(one)(jax.random.split(key, config.action_samples)), axis=0)


def estimate(
    learner: Learner,
    batch: Transition,
    networks: Networks,
    config: Config,
    *,
    key: chex.PRNGKey,
    rows: Any,
) -> tuple[Minibatch, Any]:
    """In the place of `estimation.estimate`: the rollout's rows, and as many offline ones as the
    config says.
    """
    value_key, next_key, row_key, *offline_keys = jax.random.split(key, 6)
    value = partial(value_of, networks=networks, config=config)

    def values_of(learner, obs, next_obs, networks):
        del networks
        return value(learner.params, obs, value_key), value(learner.params, next_obs, next_key)

    online, statistics = estimation.estimate(learner, batch, networks, config, values_of=values_of)
    size, num_offline = online.target.size, parallel.share(config.offline_batch)
    if not num_offline:
        return Minibatch(*online, online.action, jnp.ones(size)), statistics
    index = jax.random.randint(row_key, (num_offline,), 0, len(rows.reward))
    rows = jax.tree.map(lambda x: x[index], rows)
    obs, next_obs = normalize.obs(learner, rows.obs), normalize.obs(learner, rows.next_obs)
    action_key, own_key, target_key = offline_keys
    distribution = networks.policy.apply(learner.params["policy"], obs)
    action = networks.head.sample(action_key, distribution)
    values = value(learner.params, obs, own_key)
    target = losses.bootstrapped_target(
        rows.reward * config.reward_scale,
        config.gamma * (1.0 - rows.terminated),
        value(learner.params, next_obs, target_key),
    )
    offline = estimation.Minibatch(
        obs,
        action,
        networks.head.log_prob(action, distribution),
        distribution,
        values,
        networks.value.apply(learner.params["value"], obs, action) - values,
        target,
    )
    both = jax.tree.map(lambda *x: jnp.concatenate(x), online, offline)
    taken = jnp.concatenate([online.action, rows.action])
    shares = (size + num_offline) / jnp.array([size, num_offline], jnp.float32)
    weight = jnp.repeat(shares, jnp.array([size, num_offline]), total_repeat_length=len(taken))
    return Minibatch(*both, taken, weight), statistics


def critic_loss(
    params: Any, minibatch: Minibatch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[chex.Array, Metrics]:
    """vf_coef · the loss of the critic, averaged to a scalar, and metrics of each sample."""
    del key  # nothing is sampled
    q = networks.value.apply(params["value"], minibatch.obs, minibatch.taken)
    value_loss = minibatch.weight * losses.squared_td_loss(q, minibatch.target)
    return config.vf_coef * jnp.mean(value_loss), {"losses/value_loss": value_loss}


def update(
    learner: Learner,
    batch: Transition,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: Config,
    rows: Any = None,
) -> tuple[Learner, Metrics]:
    """`policy_gradient.update` on the rollout and on offline rows.

    Args:
      learner: what is to be updated.
      batch: the rollout, leaves `[T, N, ...]`.
      key: a typed key.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      rows: offline data, arrays `[M, ...]` with the names of a `Transition`, actions in
        [−1, 1]^d; not looked at where config.offline_batch is 0.

    Returns:
      (learner, metrics), as `policy_gradient.update`.
    """
    key, estimate_key = jax.random.split(key)
    return trust_region.update(
        learner,
        batch,
        key,
        networks=networks,
        config=config,
        objectives={"losses/policy_grad_norm": policy_loss, "losses/value_grad_norm": critic_loss},
        estimate=partial(estimate, key=estimate_key, rows=rows),
    )


def make(
    env: Environment,
    config: Config | None = None,
    networks: Networks | None = None,
    *,
    data: Dataset | None = None,
    optimiser: Optimiser = None,
) -> Algorithm:
    """The algorithm on an environment, see `on_policy.loop.maker`.

    Args:
      env: a single environment.
      config: the hyperparameters; `Config()` by default.
      networks: own networks, of which `value` is called with observations and actions, and by
        checks with observations alone.
      data: offline data; by default those that the environment gives (`demonstrations`), where
        config.offline_batch asks for any.
      optimiser: an own optimiser of the critic.

    Raises:
      ConfigError: as for the other algorithms; and there are no offline data where config asks for
        some, or some where it asks for none.
      DatasetError: something is wrong with the data, or they are of other spaces.
    """
    config = Config.of(config)
    config.validate(env)
    rows = None
    if data is not None:
        if not config.offline_batch:
            raise ConfigError("offline_batch", 0, "must be above 0 to learn from data")
        data.check(env)
        rows = jax.tree.map(jnp.asarray, data.transitions)
    elif config.offline_batch:
        if not hasattr(env, "demonstrations"):
            allowed = "must be 0 without data: the environment has no demonstrations"
            raise ConfigError("offline_batch", config.offline_batch, allowed)
        rows = jax.jit(env.demonstrations, static_argnums=1)(
            keys.seed_key(0), config.offline_episodes
        )
    networks = make_networks(env, config) if networks is None else networks
    whole = loop.maker(Config, partial(update, rows=rows))
    return whole(env, config, networks, optimiser=optimiser)
