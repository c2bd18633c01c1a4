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

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import ConfigError, configclass, require_at_most, static, traced
from .core.heads import Gaussian, sample_gaussian
from .off_policy import actor_critic, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.config import OffPolicyConfig
from .off_policy.deterministic import require_continuous
from .off_policy.networks import Networks, apply_ensemble, apply_first, smallest
from .off_policy.sequences import remembering
from .off_policy.soft import make_policy

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "update",
]


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
        "per_dimension", "Which densities it is applied to.", choices=("per_dimension", "joint")
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
        value = self.old_actor_interval
        steps = self.rows_per_step * self.num_envs
        if not isinstance(value, jax.core.Tracer) and np.min(value) <= steps:
            raise ConfigError("old_actor_interval", value, f"must be above the {steps} of a step")


make_networks = remembering(soft.make_networks)
init_learner = partial(actor_critic.init_learner, targets=("actor", "critic"))


def log_densities(pre_tanh: chex.Array, distribution: Gaussian, config: Config) -> chex.Array:
    """What the Tsallis logarithm is taken of, in nats: each dimension's density, `[B, d]`, or the
    joint one, `[B, 1]`.
    """
    log_probs = losses.tanh_gaussian_log_prob(pre_tanh, *distribution)
    return log_probs if config.tsallis == "per_dimension" else jnp.sum(log_probs, -1, keepdims=True)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the soft target; then their targets follow."""
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    pre_tanh = sample_gaussian(key, distribution)
    next_q = apply_ensemble(
        networks.critic, learner.targets["critic"], batch.next_obs, jnp.tanh(pre_tanh)
    )
    next_log_probs = log_densities(pre_tanh, distribution, config)
    log_q = jnp.sum(losses.tsallis_log_prob(next_log_probs, q=config.tsallis_q), axis=-1)
    next_q = smallest(next_q)
    target = losses.sac_target(batch.reward, batch.discount, next_q, log_q, alpha=config.lam)
    learner, metrics = soft.update_soft_critics(
        learner, batch, target, key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic, towards high entropy, and near the old
    actor.
    """
    old_distribution = networks.actor.apply(learner.targets["actor"], batch.obs)

    def loss(actor):
        distribution = actor(batch.obs)
        pre_tanh = sample_gaussian(key, distribution)
        log_probs = log_densities(pre_tanh, distribution, config)
        old_log_probs = log_densities(pre_tanh, old_distribution, config)
        action = jnp.tanh(pre_tanh)
        q = apply_first(networks.critic, learner.params["critic"], batch.obs, action)
        actor_loss = losses.mdpo_off_policy_tsallis_per_dimension_actor_loss(
            log_probs, old_log_probs, q, kappa=config.kappa, lam=config.lam, q=config.tsallis_q
        )
        actor_loss = jnp.mean(actor_loss)
        log_prob, kl = log_probs.sum(axis=-1), (log_probs - old_log_probs).sum(axis=-1)
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics | {"losses/kl": jnp.mean(kl)}

    return actor_critic.gradient_step(learner, "actor", loss, key, networks=networks, config=config)


def copy_old_actor(learner: Learner, config: Config) -> Learner:
    """The old actor becomes the present one where an old_actor_interval has begun since the last
    iteration.
    """
    steps = config.rows_per_step * config.num_envs
    done = learner.iteration * steps
    begun = done // config.old_actor_interval != (done - steps) // config.old_actor_interval
    new, old = learner.params["actor"], learner.targets["actor"]
    old = jax.tree.map(partial(jnp.where, begun), new, old)
    return learner._replace(targets=learner.targets | {"actor": old})


update = partial(
    actor_critic.update,
    critic_update=critic_update,
    actor_update=actor_update,
    prepare=copy_old_actor,
)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)
