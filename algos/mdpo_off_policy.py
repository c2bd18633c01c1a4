"""Mirror Descent Policy Optimization, off-policy (Tomar et al., ICLR 2022, arXiv 2005.09814), for
continuous actions.

SAC at a fixed temperature lam, whose actor is also held near an old copy of itself: by kappa − lam,
the inverse step size of mirror descent. The old actor is copied every old_actor_interval
environment steps. Entropies and divergence are Shannon's (tsallis_q = 1) or those of Tsallis. One
`step` is as in SAC, without its temperature.

Differs from the released code in that actions are sampled while collecting (it collects with the
mean, and so does not explore after the warm-up), in that the soft value of the successor comes from
the target critics at a sampled action, as in the current SAC, and not from a value network of its
own, in that densities are not bounded below at 1e-6, in that mean and log_std are not regularised,
and in that log_std runs smoothly in [−5, 2] instead of being clipped to [−20, 2]. As there, the
actor climbs the first critic, not the smaller of the two.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses
from ..envs import Environment
from . import sac
from .core import guard
from .core.algorithm import Algorithm, Metrics
from .core.config import ConfigError, configclass, require_at_most, static, traced
from .core.networks import Gaussian, sample_gaussian, sample_obs
from .off_policy import actor_critic, loop
from .off_policy.actor_critic import Batch, Learner, OffPolicyConfig
from .off_policy.networks import Networks, apply_ensemble, init_ensemble
from .sac import make_networks, make_policy
from .td3 import require_continuous

__all__ = ["Batch", "Config", "Learner", "init_learner", "make", "make_networks", "update"]


_ACTOR_LOSSES = {
    "per_dimension": losses.mdpo_off_policy_tsallis_per_dimension_actor_loss,
    "joint": losses.mdpo_off_policy_tsallis_joint_actor_loss,
}


@configclass
class Config(OffPolicyConfig):
    """Hyperparameters of off-policy MDPO."""

    kappa: float = traced(
        1.0, "Weight of log π in the actor loss; kappa − lam holds it near the old actor.", low=0
    )
    lam: float = traced(0.2, "The temperature: weight of the entropy.", low=0)
    tsallis_q: float = traced(
        1.0, "Entropic index, 1 is Shannon's; 2 minus that of the released code.", low=0, high=1
    )
    tsallis: str = static(
        "per_dimension", "What densities the index is applied to.", choices=tuple(_ACTOR_LOSSES)
    )
    old_actor_interval: int = traced(
        1_000, "Environment steps after which the old actor is copied anew.", low=1
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_continuous(env)
        require_at_most(self, "lam", "kappa")
        interval, steps = self.old_actor_interval, self.rows_per_step * self.num_envs
        if not isinstance(interval, jax.core.Tracer) and np.min(interval) <= steps:
            raise ConfigError(
                "old_actor_interval",
                interval,
                f"must be above the {steps} environment steps of a step",
            )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters, two critics and their targets, the old actor, optimisers and statistics."""
    obs = sample_obs(env)
    actor_key, critic_key = jax.random.split(key)
    params = {
        "actor": networks.actor.init(actor_key, obs),
        "critic": init_ensemble(
            networks.critic, critic_key, 2, obs, jnp.zeros(env.action_space.shape)
        ),
    }
    return actor_critic.learner_of(params, ("actor", "critic"), env=env, config=config)


def log_densities(pre_tanh: chex.Array, distribution: Gaussian, config: Config) -> chex.Array:
    """What the Tsallis logarithm is taken of, in nats: each dimension, `[B, d]`, or the joint
    density, `[B]`.
    """
    log_probs = losses.tanh_gaussian_log_prob(pre_tanh, *distribution)
    return log_probs if config.tsallis == "per_dimension" else jnp.sum(log_probs, axis=-1)


def total(log_densities: chex.Array, config: Config) -> chex.Array:
    """The sum over dimensions where there are any, `[B]`."""
    return jnp.sum(log_densities, axis=-1) if config.tsallis == "per_dimension" else log_densities


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of both critics towards the soft target; then their targets follow."""
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    pre_tanh = sample_gaussian(key, distribution)
    next_q = apply_ensemble(
        networks.critic, learner.targets["critic"], batch.next_obs, jnp.tanh(pre_tanh)
    )
    log_q = losses.tsallis_log_prob(
        log_densities(pre_tanh, distribution, config), q=config.tsallis_q
    )
    next_q = jnp.min(next_q, axis=0)
    target = losses.sac_target(
        batch.reward, batch.discount, next_q, total(log_q, config), alpha=config.lam
    )
    return sac.descend_critics(learner, batch, target, networks, config)


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic, towards high entropy, and near the old
    actor.
    """
    old_distribution = networks.actor.apply(learner.targets["actor"], batch.obs)
    first_critic = jax.tree.map(lambda x: x[0], learner.params["critic"])

    def loss(params):
        distribution = networks.actor.apply(params, batch.obs)
        pre_tanh = sample_gaussian(key, distribution)
        log_probs = log_densities(pre_tanh, distribution, config)
        old_log_probs = log_densities(pre_tanh, old_distribution, config)
        actor_loss = _ACTOR_LOSSES[config.tsallis](
            log_probs,
            old_log_probs,
            networks.critic.apply(first_critic, batch.obs, jnp.tanh(pre_tanh)),
            kappa=config.kappa,
            lam=config.lam,
            q=config.tsallis_q,
        )
        log_prob, old_log_prob = total(log_probs, config), total(old_log_probs, config)
        metrics = {
            "losses/actor_loss": jnp.mean(actor_loss),
            "losses/entropy": -jnp.mean(log_prob),
            "losses/kl": jnp.mean(log_prob - old_log_prob),
        }
        return jnp.mean(actor_loss), metrics

    return actor_critic.descend(learner, "actor", loss, config)


def copy_old_actor(learner: Learner, config: Config) -> Learner:
    """The old actor becomes the present one where an old_actor_interval has begun since the last
    iteration.
    """
    steps = config.rows_per_step * config.num_envs
    done = learner.iteration * steps
    begun = done // config.old_actor_interval != (done - steps) // config.old_actor_interval
    old = jax.tree.map(
        lambda new, old: jnp.where(begun, new, old),
        learner.params["actor"],
        learner.targets["actor"],
    )
    return learner._replace(targets=learner.targets | {"actor": old})


def update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """Copies the old actor if it is time, then updates as `actor_critic.update` says."""
    new, metrics = actor_critic.update(
        copy_old_actor(learner, config),
        batch,
        key,
        networks=networks,
        config=config,
        critic_update=critic_update,
        actor_update=actor_update,
    )
    return new._replace(
        targets=guard.keep(guard.ok(new.fault), new.targets, learner.targets)
    ), metrics


def make(
    env: Environment, config: Config | None = None, networks: Networks | None = None
) -> Algorithm:
    """Off-policy MDPO on an environment.

    Args:
      env: a single environment with a Box of actions, as `envs.make` gives it.
      config: the hyperparameters; `Config()` by default.
      networks: own networks; by default those of `make_networks`.

    Raises:
      ConfigError: the config is not valid for the environment.
    """
    return loop.make(
        env,
        Config.of(config),
        networks,
        make_networks=make_networks,
        make_policy=make_policy,
        init_learner=init_learner,
        update=update,
    )
