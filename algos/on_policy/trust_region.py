"""One natural gradient step of the policy within a bound of its divergence: what TRPO and HNPG
share.

The Fisher matrix is that of the mean divergence over a rollout, and is never formed: its products
with vectors are (`jax.jvp` of a gradient), conjugate gradients solve with them, and a line search
takes what is left of the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ... import losses
from ...envs import Environment
from ..core import guard, parallel
from ..core.algorithm import Metrics
from ..core.config import ConfigError, configclass, static, traced
from ..core.networks import Networks
from . import policy_gradient
from .config import OnPolicyConfig
from .estimation import Minibatch
from .gradient_steps import Series, Trained

# Of the squared norm of what is solved for: conjugate gradients take no further step below it.
_RESIDUAL = 1e-10


@configclass
class TrustRegionConfig(OnPolicyConfig):
    """What the algorithms with a natural gradient step have in common."""

    max_kl: float = traced(
        0.01, "Largest mean KL(π_old‖π) of a step of the policy, in nats.", above=0
    )
    damping: float = traced(0.1, "What is added to the diagonal of the Fisher matrix.", low=0)
    accept_ratio: float = traced(
        0.1, "Least part of the improvement that is expected that a step must have.", low=0, high=1
    )
    cg_iterations: int = static(10, "Iterations of conjugate gradients.", low=1)
    max_backtracks: int = static(
        10, "Lengths that are tried, each half of the last; then the policy stays.", low=1
    )
    learning_rate: float = traced(1e-3, "Step size of Adam, for the value network.", above=0)
    anneal_lr: bool = False
    vf_coef: float = traced(
        0.5, "Weight of the value loss; matters only where its gradient is clipped.", low=0
    )

    PASSES = ("update_epochs", "update_epochs")

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.adaptive_lr:
            allowed = "must be False: the policy has no learning rate"
            raise ConfigError("adaptive_lr", self.adaptive_lr, allowed)
        bound = self.target_kl
        if not isinstance(bound, jax.core.Tracer) and not np.all(np.isinf(bound)):
            raise ConfigError("target_kl", bound, "must be inf: max_kl bounds the divergence")

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(epochs, minibatches) of the policy, one step on all, and of the value network."""
        return ((1, 1), (self.update_epochs, self.num_minibatches))


def conjugate_gradient(
    product: Callable[[chex.Array], chex.Array], target: chex.Array, *, num_iterations: int
) -> chex.Array:
    """Solves A x = target for a positive definite matrix, of which it sees products alone.

    Args:
      product: x -> A x, `[n]` both.
      target: `[n]`.
      num_iterations: at most n are needed, but for rounding.

    Returns:
      x, `[n]`; 0 for a target of 0.

    Source: Hestenes and Stiefel 1952; Schulman et al. 2015, appendix C.
    """
    enough = _RESIDUAL * jnp.vdot(target, target)

    def iteration(_, carry):
        x, residual, direction, size = carry
        moved = product(direction)
        curvature = jnp.vdot(direction, moved)
        going = (size > enough) & (curvature > 0.0)
        length = jnp.where(going, size / jnp.where(going, curvature, 1.0), 0.0)
        x, residual = x + length * direction, residual - length * moved
        new_size = jnp.where(going, jnp.vdot(residual, residual), size)
        turn = jnp.where(going, new_size / jnp.where(going, size, 1.0), 0.0)
        return x, residual, jnp.where(going, residual + turn * direction, direction), new_size

    start = (jnp.zeros_like(target), target, target, jnp.vdot(target, target))
    return jax.lax.fori_loop(0, num_iterations, iteration, start)[0]


def natural_step(
    fisher: Callable[[chex.Array], chex.Array],
    grad: chex.Array,
    *,
    damping: float | chex.Array,
    max_kl: float | chex.Array,
    num_iterations: int,
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """The step uphill whose divergence is max_kl, to second order: x·√(2·max_kl/xᵀ(F + δI)x) with
    x = (F + δI)⁻¹g.

    Args:
      fisher: v -> F v, `[n]` both.
      grad: g, of what is to grow, `[n]`.
      damping: δ.
      max_kl: in nats.
      num_iterations: of conjugate gradients.

    Returns:
      (x, the step, what the objective gains by it to first order): `[n]`, `[n]` and a scalar; all 0
      for a gradient of 0.

    Source: Schulman et al. 2015, appendix C.
    """

    def damped(vector):
        return fisher(vector) + damping * vector

    direction = conjugate_gradient(damped, grad, num_iterations=num_iterations)
    curvature = jnp.vdot(direction, damped(direction))
    moves = curvature > 0.0
    length = jnp.where(moves, jnp.sqrt(2.0 * max_kl / jnp.where(moves, curvature, 1.0)), 0.0)
    step = length * direction
    return direction, step, jnp.vdot(grad, step)


def trust_region_step(
    series: Series,
    trained: Trained,
    data: Minibatch,
    key: chex.PRNGKey,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Trained, Metrics, chex.Array]:
    """In the place of `gradient_steps`: one natural step on the whole rollout, halved until its
    divergence is within config.max_kl and its gain at least config.accept_ratio of what is expected
    of its length; if no length is, the policy stays. Metrics are those after the step.

    The loss must have the metric "losses/kl", KL(π_old‖π) of each sample.
    """
    del num_epochs, num_minibatches
    config = series.config
    start, unravel = ravel_pytree(trained.params)

    def loss(flat):
        return series.loss(*series.seen(unravel(flat), data), jax.random.clone(key))

    def divergence(flat):
        return jnp.mean(loss(flat)[1]["losses/kl"])

    _, product = jax.linearize(jax.grad(divergence), start)

    def fisher(vector):
        return parallel.mean(product(vector))

    (before, _), grads = jax.value_and_grad(loss, has_aux=True)(start)
    before, grads = parallel.mean((before, grads))
    _, step, expected = natural_step(
        fisher,
        -grads,
        damping=config.damping,
        max_kl=config.max_kl,
        num_iterations=config.cg_iterations,
    )

    def searching(carry):
        count, accepted, _ = carry
        return (count < config.max_backtracks) & ~accepted

    def shorter(carry):
        count, _, _ = carry
        part = 0.5**count
        after, metrics = loss(start + part * step)
        after, kl = parallel.mean((after, jnp.mean(metrics["losses/kl"])))
        within = kl <= config.max_kl
        gains = before - after >= config.accept_ratio * part * expected
        return count + 1.0, within & gains, part

    count, accepted, part = jax.lax.while_loop(
        searching, shorter, (jnp.float32(0.0), jnp.bool_(False), jnp.float32(0.0))
    )
    flat = guard.keep(accepted, start + part * step, start)
    metrics = parallel.mean({name: jnp.mean(x) for name, x in loss(flat)[1].items()})
    metrics |= {
        "losses/backtracks": count - 1.0,
        "losses/steps_taken": accepted.astype(jnp.float32),
    }
    return trained._replace(params=unravel(flat)), metrics, jnp.linalg.norm(grads)


def policy_loss(
    params: Any,
    minibatch: Minibatch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: TrustRegionConfig,
) -> tuple[chex.Array, Metrics]:
    """Policy loss − ent_coef · entropy, averaged to a scalar, and metrics of each sample."""
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    policy_loss = losses.trpo_loss(log_prob, minibatch.log_prob, advantage)
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/entropy": entropy,
        "losses/kl": networks.head.kl(minibatch.distribution, distribution),
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss - config.ent_coef * entropy), metrics


update = partial(policy_gradient.update, first=trust_region_step)
