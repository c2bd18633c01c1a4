"""Categorical critics: what FastTD3 and FastSAC share."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ... import losses
from ...envs import Environment
from ..core.algorithm import Metrics
from ..core.config import ConfigError, configclass, static, traced
from .actor_critic import Batch, Learner, update_critics
from .config import OffPolicyConfig
from .deterministic import require_continuous
from .networks import Networks


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
        require_continuous(env)
        known = not any(isinstance(each, jax.core.Tracer) for each in (self.v_min, self.v_max))
        if known and np.any(np.asarray(self.v_min) >= np.asarray(self.v_max)):
            raise ConfigError("v_max", self.v_max, f"must be above v_min = {self.v_min}")

    @property
    def support(self) -> chex.Array:
        """The atoms, `[num_atoms]`."""
        atoms = jnp.linspace(0.0, 1.0, self.num_atoms, dtype=jnp.float32)
        return self.v_min + (self.v_max - self.v_min) * atoms


def projected(
    logits: chex.Array, reward: chex.Array, discount: chex.Array, support: chex.Array
) -> chex.Array:
    """Each critic's own target: logits `[C, B, K]`, reward and discount `[B]` to probabilities
    `[C, B, K]`.
    """
    project = partial(
        losses.categorical_projection, reward=reward, discount=discount, support=support
    )
    return jax.vmap(project)(jax.nn.softmax(logits))


def lowest(target: chex.Array, support: chex.Array) -> chex.Array:
    """Clipped double Q of C critics: of their targets `[C, B, K]` the one with the lowest mean,
    `[B, K]`.
    """
    total, *others = target
    for other in others:
        total = losses.clipped_double_categorical(total, other, support=support)
    return total


def mean_q(logits: chex.Array, config: CategoricalConfig) -> chex.Array:
    """Expected returns: logits `[..., K]` to `[...]`."""
    return losses.categorical_mean(jax.nn.softmax(logits), support=config.support)


def update_categorical_critics(
    learner: Learner,
    batch: Batch,
    target: chex.Array,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: CategoricalConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics on the cross-entropy to a target `[C, B, K]` or `[B, K]`,
    summed over the critics.
    """

    def cross_entropy(logits, target):
        q = mean_q(logits, config)
        td_error = q - losses.categorical_mean(target, support=config.support)
        return losses.categorical_cross_entropy(logits, target), q, td_error

    parts = {"networks": networks, "config": config, "regression": cross_entropy}
    learner, metrics = update_critics(learner, batch, target, key, **parts)
    # Where this is not small, v_min and v_max cut returns off.
    metrics["losses/end_atom_mass"] = jnp.mean(target[..., 0] + target[..., -1])
    return learner, metrics
