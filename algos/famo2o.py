"""FamO2O (Wang et al., 2023, arXiv 2310.17966): IQL with a family of policies, one for each inverse
temperature, of which each state chooses one.

The actor sees a coefficient beside the observation. Learning from data, each transition draws its
coefficient uniformly between `low` and `high`; a balance network learns by the critics which one to
act by, with an entropy of its own. Online, `make_online`, actor and environment have that one's
choice too. One `step` is num_updates updates of value, critics, balance, its temperature and actor
in turn; no environment is stepped by `make`. With low = high it is IQL. Differs from the published
code in what `algos.iql` says; the bounds of the balance's log_std are ours.

Data first, then the environment: `state._replace(learner=learner)` of a State of
`make_online(env, OnlineConfig(normalize_obs=True, ...), data=data)`, with the offline learner as
`learner._replace(iteration=jnp.int32(0))`, so that schedules begin anew.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Policy, Transition
from .core.config import ConfigError, configclass, require_at_most, static, traced
from .core.heads import Gaussian, sample_gaussian
from .core.networks import VECTOR, actor_obs, sample_obs
from .off_policy import actor_critic, deterministic, implicit, loop, offline, soft
from .off_policy.actor_critic import Batch, Learner, gradient_step
from .off_policy.config import OffPolicyConfig
from .off_policy.implicit import GaussianActor, ImplicitConfig, critic_update
from .off_policy.networks import SquashedGaussianActor, apply_ensemble, smallest, torso
from .off_policy.offline import OfflineConfig

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Networks",
    "OnlineConfig",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "make_online",
    "update",
    "update_online",
]


@configclass
class FamilyConfig(ImplicitConfig):
    """What learning from data and online have in common."""

    low: float = static(1.0, "The smallest inverse temperature.", low=0)
    high: float = static(5.0, "The largest inverse temperature.", low=0)
    target_entropy: float = traced(-0.5, "The balance's entropy that is held, in nats.")
    code_size: int = static(6, "Numbers by which the actor sees its coefficient, even.", low=2)
    code_base: float = static(10_000.0, "Base of the code's frequencies.", low=2)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, that actions are continuous, and that
        observations are vectors.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        deterministic.require_continuous(env)
        require_at_most(self, "low", "high")
        if self.code_size % 2:
            raise ConfigError("code_size", self.code_size, "must be even")
        if len(actor_obs(env.observation_space).shape) != 1:
            allowed = "must be a vector: the coefficient stands beside it"
            raise ConfigError("env.observation_space", env.observation_space, allowed)


@configclass
class Config(FamilyConfig, OfflineConfig):
    """Hyperparameters of FamO2O on data."""


@configclass
class OnlineConfig(FamilyConfig, OffPolicyConfig):
    """Hyperparameters of FamO2O in its environment."""


class FamilyActor(nn.Module):
    """(observations, choices `[...]` in [−1, 1]) to a `Gaussian`; without choices, that of 0, in
    the middle between low and high.
    """

    policy: nn.Module
    low: float
    high: float
    code_size: int
    code_base: float

    @nn.compact
    def __call__(self, obs: Any, raw: Any = None) -> Gaussian:
        obs = actor_obs(obs)
        raw = jnp.zeros(obs.shape[:-1]) if raw is None else raw
        coefficient = losses.famo2o_coefficient(raw, low=self.low, high=self.high)
        code = losses.famo2o_code(coefficient, base=self.code_base, size=self.code_size)
        return self.policy(jnp.concatenate([obs, code], axis=-1))


class Networks(NamedTuple):
    """Those of `implicit`, with a `FamilyActor`, and a balance: observations to a `Gaussian` of one
    dimension before a tanh.
    """

    actor: nn.Module
    critic: nn.Module
    value: nn.Module
    balance: nn.Module
    optimiser: Any = None

    @staticmethod
    def inputs(obs: Any, action: chex.Array) -> dict[str, tuple]:
        """What actor and balance see, by name; without a choice the actor sees observations alone
        too.
        """
        return {"actor": (obs, jnp.zeros(action.shape[:-1])), "balance": (obs,)}


def make_networks(env: Environment, config: FamilyConfig) -> Networks:
    """Actor, critic, value network and balance, as the config says."""
    layers, choice = (torso(VECTOR, config.actor_hidden_sizes, config) for _ in range(2))
    policy = GaussianActor(layers, env.action_space.shape[0], config.initialiser)
    made = implicit.make_networks(env, config)
    return Networks(
        FamilyActor(policy, config.low, config.high, config.code_size, config.code_base),
        made.critic,
        made.value,
        SquashedGaussianActor(choice, 1, (-5.0, 2.0), config.initialiser),
    )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: FamilyConfig
) -> Learner:
    """As IQL's, with a balance and its temperature, 1."""
    key, balance_key = jax.random.split(key)
    more = {
        "balance": networks.balance.init(balance_key, sample_obs(env)),
        "log_temperature": jnp.float32(0.0),
    }
    return implicit.init_learner(key, env=env, networks=networks, config=config, **more)


def balance_update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: FamilyConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of the balance up the target critics, through the actor, and one of its
    temperature.
    """
    choice_key, action_key, step_key = jax.random.split(key, 3)
    params, targets = learner.params, learner.targets
    step = partial(gradient_step, networks=networks, config=config)
    alpha = jnp.exp(params["log_temperature"])

    def loss(balance):
        raw, log_prob = soft.sample_action(balance(batch.obs), choice_key)
        distribution = networks.actor.apply(params["actor"], batch.obs, raw[:, 0])
        action = jnp.clip(sample_gaussian(action_key, distribution), -1.0, 1.0)
        q = smallest(apply_ensemble(networks.critic, targets["critic"], batch.obs, action))
        balance_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        metrics = {
            "losses/balance_loss": balance_loss,
            "losses/balance_entropy": -jnp.mean(log_prob),
            "losses/choice": jnp.mean(raw),
        }
        return balance_loss, metrics

    learner, metrics = step(learner, "balance", loss, step_key)
    log_prob = -metrics["losses/balance_entropy"]

    def temperature_loss(log_alpha):
        target = config.target_entropy
        loss = losses.sac_temperature_loss(log_alpha, log_prob, target_entropy=target)
        return loss, {"losses/temperature_loss": loss}

    learner, temperature_metrics = step(learner, "log_temperature", temperature_loss)
    return learner, metrics | temperature_metrics


def actor_update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: FamilyConfig,
    online: bool = False,
) -> tuple[Learner, Metrics]:
    """The balance's steps, and one of the actor at coefficients that are drawn uniformly, or online
    are the balance's; then the critics' targets follow.
    """
    balance_key, choice_key, step_key = jax.random.split(key, 3)
    learner, metrics = balance_update(learner, batch, balance_key, networks=networks, config=config)
    q = implicit.target_q(learner, batch, networks)
    value = networks.value.apply(learner.params["value"], batch.obs)
    if online:
        chosen = networks.balance.apply(learner.params["balance"], batch.obs)
        raw = soft.sample_action(chosen, choice_key)[0][:, 0]
    else:
        raw = jax.random.uniform(choice_key, q.shape, jnp.float32, -1.0, 1.0)
    coefficient = losses.famo2o_coefficient(raw, low=config.low, high=config.high)

    def loss(actor):
        each = losses.iql_actor_loss(
            implicit.log_prob(actor(batch.obs, raw), batch.action),
            q,
            value,
            coefficient=coefficient,
            max_weight=config.max_weight,
        )
        actor_loss = jnp.mean(each)
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, actor_metrics = gradient_step(
        learner, "actor", loss, step_key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics | actor_metrics


def make_policy(env: Environment, networks: Networks) -> Policy:
    """IQL's, at the choice that the balance takes for the best."""
    del env

    def distribution(params, obs):
        raw = jnp.tanh(networks.balance.apply(params["balance"], obs).mean[..., 0])
        return networks.actor.apply(params["actor"], obs, raw)

    return implicit.gaussian_policy(distribution)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
update_online = partial(
    actor_critic.update,
    critic_update=critic_update,
    actor_update=partial(actor_update, online=True),
)
make = offline.maker(Config, make_networks, init_learner, update, make_policy)
make_online = loop.maker(OnlineConfig, make_networks, init_learner, update_online, make_policy)
