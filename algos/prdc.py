"""PRDC, policy regularisation with dataset constraint (Ran et al., 2023, arXiv 2306.06569): TD3+BC
with another goal, the action of the transition nearest to (s, π(s)) in the data.

Nearest is by the Euclidean distance of (β·s, a), with s as the networks see it. With a large β that
is the transition of the same state, and this TD3+BC where states are unique; with β = 0 the nearest
action of the data, whatever the state. One `step` is as in TD3+BC. Differs from the published code
in what `algos.td3_bc` says, in that the search is exact and in the program, and in that there is
one neighbour (its k above 1 does not run).
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from .. import losses
from .core import parallel
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static, traced
from .off_policy import actor_critic, deterministic, offline
from .off_policy.actor_critic import Batch, Learner
from .off_policy.deterministic import critic_update, init_learner, make_networks
from .off_policy.neighbours import Pieces, nearest, pieces_of
from .off_policy.networks import Networks, apply_first
from .off_policy.offline import OfflineConfig

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "pieces",
    "update",
]


@configclass
class Config(OfflineConfig):
    """Hyperparameters of PRDC."""

    policy_delay: int = 2
    alpha: float = traced(2.5, "Weight of Q beside the distance from the neighbour.", low=0)
    beta: float = traced(2.0, "Weight of the state in the distance to a neighbour.", low=0)
    policy_noise: float = traced(0.2, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)
    chunk_size: int = static(4096, "Transitions that are searched at once.", low=1)


def actor_update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: Config,
    data: Pieces,
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic and towards its neighbours' actions; then
    all targets follow.
    """

    def loss(actor):
        action = actor(batch.obs)
        q = apply_first(networks.critic, learner.params["critic"], batch.obs, action)
        weight = losses.behaviour_weight(parallel.gathered(q), alpha=config.alpha)
        held = jax.lax.stop_gradient(action)
        found = nearest(data, batch.obs, held, beta=config.beta)
        each = losses.td3_bc_actor_loss(q, action, found.action, weight=weight)
        actor_loss = jnp.mean(each)
        distance = jnp.mean(jnp.sqrt(found.distance2))
        return actor_loss, {"losses/actor_loss": actor_loss, "losses/distance": distance}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    learner = actor_critic.update_target(learner, "critic", config)
    return actor_critic.update_target(learner, "actor", config), metrics


def pieces(data: Transition, config: Config) -> Pieces:
    """Transitions, leaves `[M, ...]`, with observations as the networks see them, as `update` takes
    them.
    """
    return pieces_of(data.obs, data.action, chunk_size=config.chunk_size)


def update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, data: Pieces, **options: Any
) -> tuple[Learner, Metrics]:
    """`actor_critic.update` with all transitions of the data as `data`, among which neighbours are
    looked for, see `pieces`.
    """
    parts = {"critic_update": critic_update, "actor_update": partial(actor_update, data=data)}
    return actor_critic.update(learner, batch, key, **parts, **options)


make = offline.maker(
    Config, make_networks, init_learner, update, deterministic.quiet_policy, all_data=pieces
)
