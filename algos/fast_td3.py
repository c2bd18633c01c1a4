"""FastTD3 (Seo et al., 2025, arXiv 2505.22642): TD3 with categorical critics, many environments and
large minibatches.

One `step` is as in TD3: policy_delay/num_updates vector steps (at least one), num_updates critic
updates for each, one actor update per policy_delay of these. The critics' targets follow after
every critic update; target actions come from the actor itself. Each environment explores with a
noise of its own, redrawn when an episode ends. A critic may see privileged observations: the entry
"privileged_state" of a dict.

Differs from the released code, where that has a fault or a quirk (`fast_td3_utils.py`, `train.py`
as of 2026-05):

* n-step windows never cross the head of the replay; there they may, at a rate of about (n −
  1)/capacity.
* Stored actions are the clipped ones that were executed; there the critics see actions outside of
  [−1, 1].
* Minibatches are uniform over all transitions; there they are stratified by environment, so that a
  batch_size below num_envs silently becomes num_envs.
* The projection conserves probability also where a target falls onto an atom; there it had to be
  mended once.
* Observations are normalised by statistics of what was collected, frozen during an iteration, and
  clipped to ±10; there every sampled minibatch is counted again, so that the count overflows an
  int32 in long runs.
* Time limits bootstrap from the true final observation in every environment.
* The warm-up of learning_starts steps acts uniformly at random; there the untrained actor acts.
  Biases start at zero.
* Checkpoints hold everything, the replay and the optimisers too.
"""

import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import losses
from ..envs import Environment
from . import td3
from .core.algorithm import Algorithm, Metrics
from .core.config import ConfigError, configclass, require_at_most, static, traced
from .core.networks import actor_space, sample_obs
from .off_policy import actor_critic, loop
from .off_policy.actor_critic import Batch, Learner, OffPolicyConfig
from .off_policy.networks import (
    DeterministicActor,
    Networks,
    action_critic,
    apply_ensemble,
    init_ensemble,
    torso,
)

__all__ = ["Batch", "Config", "Learner", "init_learner", "make", "make_networks", "update"]


@configclass
class CategoricalConfig(OffPolicyConfig):
    """What algorithms with categorical critics have in common."""

    v_min: float = traced(-10.0, "The smallest return that the critics can express.")
    v_max: float = traced(
        10.0, "The largest; a discounted sum of the largest rewards is a good choice."
    )
    num_atoms: int = static(101, "Atoms of the critics' distributions.", low=2)
    weight_decay: float = traced(0.1, "Decay of AdamW, for all parameters.", low=0)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        td3.require_continuous(env)
        known = not any(isinstance(each, jax.core.Tracer) for each in (self.v_min, self.v_max))
        if known and np.any(np.asarray(self.v_min) >= np.asarray(self.v_max)):
            raise ConfigError("v_max", self.v_max, f"must be above v_min = {self.v_min}")

    @property
    def support(self) -> chex.Array:
        """The atoms, `[num_atoms]`."""
        return self.v_min + (self.v_max - self.v_min) * jnp.linspace(
            0.0, 1.0, self.num_atoms, dtype=jnp.float32
        )


@configclass
class Config(CategoricalConfig):
    """Hyperparameters of FastTD3; sizes that suit a laptop. The published ones are presets."""

    tau: float = traced(
        0.1, "Weight of the new parameters in the target networks.", above=0, high=1
    )
    num_envs: int = static(64, "Environments that are stepped together.", low=1)
    batch_size: int = static(1024, "Transitions in a minibatch.", low=1)
    num_updates: int = static(2, "Critic updates per vector step.", low=1)
    policy_delay: int = static(2, "Critic updates per actor update.", low=1)
    normalize_obs: bool = static(True, "Whether observations are normalised by running statistics.")
    actor_hidden_sizes: tuple[int, ...] = static(
        (128, 64, 32), "Widths of the actor's hidden layers.", low=1
    )
    critic_hidden_sizes: tuple[int, ...] = static(
        (256, 128, 64), "Widths of the critics' hidden layers.", low=1
    )
    min_noise: float = traced(
        0.001, "Smallest standard deviation of exploration of an environment.", low=0
    )
    max_noise: float = traced(
        0.4, "Largest; each environment draws its own, anew at each episode.", low=0
    )
    policy_noise: float = traced(0.001, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)
    clipped_double_q: bool = static(
        True, "Whether the critic with the lower mean is the target of both; else its own."
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_at_most(self, "min_noise", "max_noise")

    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    # The released code starts the last layer with a standard deviation of 0.01.
    scale = 0.01 * math.sqrt(config.actor_hidden_sizes[-1])
    actor = DeterministicActor(layers, env.action_space.shape[0], "lecun", scale)
    return Networks(actor, action_critic(config, config.num_atoms))


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters, two critics and their targets, optimisers and statistics."""
    obs, action = sample_obs(env), jnp.zeros(env.action_space.shape)
    actor_key, critic_key = jax.random.split(key)
    params = {
        "actor": networks.actor.init(actor_key, obs),
        "critic": init_ensemble(networks.critic, critic_key, 2, obs, action),
    }
    return actor_critic.learner_of(params, ("critic",), env=env, config=config)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of both critics towards the projected target distribution; then their
    targets follow.
    """
    noise = config.policy_noise * jax.random.normal(key, batch.action.shape, jnp.float32)
    smoothing = losses.target_policy_noise(noise, noise_clip=config.noise_clip)
    next_action = networks.actor.apply(learner.params["actor"], batch.next_obs) + smoothing
    next_logits = apply_ensemble(
        networks.critic, learner.targets["critic"], batch.next_obs, jnp.clip(next_action, -1.0, 1.0)
    )
    target = projected(next_logits, batch.reward, batch.discount, config.support)
    if config.clipped_double_q:
        lower = losses.clipped_double_categorical(target[0], target[1], support=config.support)
        target = jnp.stack([lower, lower])
    learner, metrics = descend_critics(learner, batch, target, networks, config)
    return actor_critic.follow(learner, "critic", config), metrics


def projected(
    logits: chex.Array, reward: chex.Array, discount: chex.Array, support: chex.Array
) -> chex.Array:
    """Each critic's own target: logits `[C, B, K]`, reward and discount `[B]` to probabilities `[C,
    B, K]`.
    """
    project = partial(
        losses.categorical_projection, reward=reward, discount=discount, support=support
    )
    return jax.vmap(project)(jax.nn.softmax(logits))


def descend_critics(
    learner: Learner,
    batch: Batch,
    target: chex.Array,
    networks: Networks,
    config: CategoricalConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics on the cross-entropy to target `[C, B, K]`, summed over the
    critics.
    """

    def loss(params):
        logits = apply_ensemble(networks.critic, params, batch.obs, batch.action)
        critic_loss = jnp.sum(jnp.mean(losses.categorical_cross_entropy(logits, target), axis=1))
        return critic_loss, {
            "losses/critic_loss": critic_loss,
            "losses/q": jnp.mean(losses.categorical_mean(target, support=config.support)),
            # Where this is not small, v_min and v_max cut returns off.
            "losses/end_atom_mass": jnp.mean(target[..., 0] + target[..., -1]),
        }

    return actor_critic.descend(learner, "critic", loss, config)


def mean_q(
    networks: Networks, critic_params: Any, obs: Any, action: chex.Array, config: Any
) -> chex.Array:
    """The critics' expected returns, `[C, B]`."""
    logits = apply_ensemble(networks.critic, critic_params, obs, action)
    return losses.categorical_mean(jax.nn.softmax(logits), support=config.support)


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the lower of the critics' means (or up their mean)."""
    del key  # the actor is deterministic
    reduce = jnp.min if config.clipped_double_q else jnp.mean

    def loss(params):
        action = networks.actor.apply(params, batch.obs)
        q = reduce(mean_q(networks, learner.params["critic"], batch.obs, action, config), axis=0)
        actor_loss = jnp.mean(losses.td3_actor_loss(q))
        return actor_loss, {"losses/actor_loss": actor_loss}

    return actor_critic.descend(learner, "actor", loss, config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)


def noise_scales(key: chex.PRNGKey, num_envs: int, config: Config) -> chex.Array:
    """The standard deviation of exploration in each environment, `[N]`, uniform between the
    bounds.
    """
    return config.min_noise + (config.max_noise - config.min_noise) * jax.random.uniform(
        key, (num_envs,)
    )


make_policy = partial(td3.deterministic_policy, noise=noise_scales)


def make(
    env: Environment, config: Config | None = None, networks: Networks | None = None
) -> Algorithm:
    """FastTD3 on an environment.

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
