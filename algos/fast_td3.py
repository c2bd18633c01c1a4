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

import chex
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, require_at_most, static, traced
from .core.networks import actor_space
from .off_policy import actor_critic, categorical, deterministic, loop
from .off_policy.actor_critic import Batch, Learner
from .off_policy.categorical import CategoricalConfig
from .off_policy.networks import (
    DeterministicActor,
    Networks,
    action_critic,
    apply_ensemble,
    smallest,
    torso,
)
from .off_policy.sequences import remembering

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
class Config(CategoricalConfig):
    """Hyperparameters of FastTD3; sizes that suit a laptop. The published ones are presets."""

    tau: float = 0.1
    num_envs: int = 64
    batch_size: int = 1024
    num_updates: int = 2
    policy_delay: int = 2
    normalize_obs: bool = True
    actor_hidden_sizes: tuple[int, ...] = (128, 64, 32)
    critic_hidden_sizes: tuple[int, ...] = (256, 128, 64)
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

    def optimiser(self, name: str = "") -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)


@remembering
def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    # The released code starts the last layer with a standard deviation of 0.01.
    scale = 0.01 * math.sqrt(config.actor_hidden_sizes[-1])
    actor = DeterministicActor(layers, env.action_space.shape[0], "lecun", scale)
    return Networks(actor, action_critic(config, config.num_atoms))


init_learner = partial(actor_critic.init_learner, targets=("critic",))


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the projected target distribution; then their
    targets follow.
    """
    actor, critic = learner.params["actor"], learner.targets["critic"]
    next_action = deterministic.smoothed_action(networks.actor, actor, batch.next_obs, key, config)
    next_logits = apply_ensemble(networks.critic, critic, batch.next_obs, next_action)
    target = categorical.projected(next_logits, batch.reward, batch.discount, config.support)
    if config.clipped_double_q:
        target = categorical.lowest(target, config.support)
    learner, metrics = categorical.update_categorical_critics(
        learner, batch, target, key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the lowest of the critics' means (or up their mean)."""
    reduce = smallest if config.clipped_double_q else partial(jnp.mean, axis=0)

    def loss(actor):
        action = actor(batch.obs)
        logits = apply_ensemble(networks.critic, learner.params["critic"], batch.obs, action)
        q = reduce(categorical.mean_q(logits, config))
        actor_loss = jnp.mean(losses.td3_actor_loss(q))
        return actor_loss, {"losses/actor_loss": actor_loss}

    return actor_critic.gradient_step(learner, "actor", loss, key, networks=networks, config=config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)


def exploration_noise(key: chex.PRNGKey, num_envs: int, config: Config) -> chex.Array:
    """The standard deviation of exploration in each environment, `[N]`, uniform between the
    bounds.
    """
    width = config.max_noise - config.min_noise
    return config.min_noise + width * jax.random.uniform(key, (num_envs,))


make_policy = deterministic.policy_maker(exploration_noise)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)
