"""CrossQ (Bhatt et al., 2024, ICLR, arXiv 1902.05605): SAC without target networks, for continuous
actions.

Actor and critics are normalised over the minibatch, by batch renormalisation of what goes into each
layer. The critics see what was done and what comes next, the policy's own action, in one pass, so
that both share their statistics; what comes next is the target. Outside of that pass, where the
policy acts and where it climbs the critics, running averages take the place of the minibatch's.
Adam forgets sooner, and the actor moves after every third update of the critics. One `step` is as
in SAC.

Read in the code released with the paper too (`adityab/CrossQ`, as of 2024). Differs from it in what
SAC lists, in that its ε stands in all roots (see `BatchRenorm`), and in that the environment steps
of a block are taken before its updates. Discrete actions and networks that remember are not in the
paper, and not here.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static, traced
from .core.networks import actor_space
from .off_policy import actor_critic, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.batch_renorm import RenormMLP
from .off_policy.config import DTYPES, OffPolicyConfig
from .off_policy.deterministic import require_continuous
from .off_policy.networks import Networks, smallest
from .off_policy.soft import TemperatureConfig, make_policy

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
class Config(OffPolicyConfig, TemperatureConfig):
    """Hyperparameters of CrossQ, the published ones but for critics that suit a laptop; theirs are
    2048 wide, as in the presets.
    """

    learning_rate: float = 1e-3
    tau: float = traced(1.0, "Must be 1: there are no target networks.", low=1, high=1)
    learning_starts: int = 5_000
    policy_delay: int = 3
    initialiser: str = "lecun"
    memory: str = static("none", "Must be none: networks do not remember.", choices=("none",))
    adam_b1: float = traced(
        0.5, "β₁ of Adam, for actor and critics; the temperature's is 0.9.", low=0, high=0.999
    )
    renorm_warmup: int = static(
        100_000,
        "Updates of a network in which it is normalised by the minibatch alone, before running"
        " averages count too.",
        low=0,
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_continuous(env)

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of a set of parameters."""
        return optax.adam(self.learning_rate, b1=0.9 if name == "log_alpha" else self.adam_b1)


def make_networks(env: Environment, config: Config) -> Networks:
    """SAC's actor and critic, with layers that are normalised."""
    actor, critic, _ = soft.make_networks(env, config)
    layers = partial(
        RenormMLP,
        activation=config.activation,
        initialiser=config.initialiser,
        layer_norm=config.layer_norm,
        dtype=DTYPES[config.dtype],
        warmup=config.renorm_warmup,
    )
    seen = len(actor_space(env).shape)
    return Networks(
        actor.clone(torso=layers(config.actor_hidden_sizes, event_ndim=seen)),
        critic.clone(torso=layers(config.critic_hidden_sizes)),
    )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters, critics without targets, temperature, optimisers and statistics."""
    learner = soft.init_learner(key, env=env, networks=networks, config=config)
    return learner._replace(targets={})


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the soft target, which is of the same pass."""
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    next_action, next_log_prob = soft.sample_action(distribution, key)
    alpha = jnp.exp(learner.params["log_alpha"])
    joint = jax.tree.map(
        lambda now, then: jnp.concatenate([now, then]),
        (batch.obs, batch.action),
        (batch.next_obs, next_action),
    )

    def loss(critics):
        q, next_q = jnp.split(critics(*joint), 2, axis=1)
        target = losses.sac_target(
            batch.reward, batch.discount, smallest(next_q), next_log_prob, alpha=alpha
        )
        parts = actor_critic.squared(q, jnp.broadcast_to(target, q.shape))
        return actor_critic.summed(parts, batch, scale=0.5)

    return actor_critic.gradient_step(
        learner, "critic", loss, key, networks=networks, config=config
    )


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the soft value, and one of the temperature."""
    alpha = jnp.exp(learner.params["log_alpha"])

    def loss(actor):
        critic = learner.params["critic"]
        log_prob, q = soft.evaluate_policy(networks, actor(batch.obs), critic, batch.obs, key)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    log_prob = -metrics["losses/entropy"]
    learner, alpha_metrics = soft.update_temperature(
        learner, batch, log_prob, networks=networks, config=config
    )
    return learner, metrics | alpha_metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)
