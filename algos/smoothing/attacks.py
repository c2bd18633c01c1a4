"""Adversaries of smoothed policies: at each step, what to add to the observation, by gradients of
the policy.

The targeted one is that of Kumar et al. 2022 (arXiv 2106.11420). It differs from the code released
with the paper in the length of a gradient step, which is the remaining budget times 2/num_steps
instead of a constant, so that num_steps steps always reach twice the budget, as many as there; and
in that noise is drawn anew at each time step.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ...envs import Adversary
from ...envs.observations import stack_frames

Policy = Callable[[chex.Array], chex.Array]


def targeted_adversary(
    logits: Policy,
    sigma: chex.Array,
    gap: chex.Array,
    *,
    num_frames: int = 1,
    num_draws: int = 16,
    num_steps: int = 40,
) -> Adversary:
    """The paper's attack on discrete actions: make the agent take the action that it finds worst,
    as cheaply as it can.

    For each action whose logit lies more than `gap` below the best one, normalised gradient steps
    on the cross entropy to that action, within the remaining budget, until the agent would take it.
    Of the actions that were reached, the one with the lowest logit counts. Where none was, nothing
    is spent. Logits are means over draws of the noise; what an action is worth is judged by the
    clean frames, what the agent will do by those that it has seen.

    Args:
      logits: observations `[..., *obs_shape]`, stacked if num_frames is above 1, to logits or
        Q-values `[..., n]`.
      sigma: of the agent's noise; 0 for an agent without it.
      gap: how much worse an action must be to be worth attacking for, in units of the logits.
      num_frames: observations that the policy sees at once.
      num_draws: of the noise.
      num_steps: of the gradient.
    """

    def perturb(key, frames, obs, remaining):
        noise = sigma * jax.random.normal(key, (num_draws, *obs.shape))

        def mean_logits(history, delta):
            return jnp.mean(logits(_shown(history, obs + delta, noise)), axis=0)

        worth = mean_logits(frames.clean, jnp.zeros_like(obs))
        candidate = worth < jnp.max(worth) - gap

        def towards(target, wanted):
            def loss(delta):
                out = mean_logits(frames.seen, delta)
                return -jax.nn.log_softmax(out)[target], jnp.argmax(out) == target

            def unfinished(carry):
                i, _, reached, _ = carry
                return wanted & ~reached & (i <= num_steps)

            def step(carry):
                i, delta, _, _ = carry
                grad, reached = jax.grad(loss, has_aux=True)(delta)
                moved = _within(delta - 2.0 / num_steps * remaining * _unit(grad), remaining)
                return i + 1, jnp.where(reached, delta, moved), reached, delta

            start = (jnp.int32(0), jnp.zeros_like(obs), jnp.bool_(False), jnp.zeros_like(obs))
            _, _, reached, delta = jax.lax.while_loop(unfinished, step, start)
            return reached, delta

        reached, deltas = jax.vmap(towards)(jnp.arange(len(worth)), candidate & (remaining > 0.0))
        best = jnp.argmin(jnp.where(reached, worth, jnp.inf))
        return jnp.where(jnp.any(reached), deltas[best], 0.0)

    return Adversary(perturb, num_frames - 1)


def deviation_adversary(
    action: Policy,
    sigma: chex.Array,
    norm: chex.Array,
    *,
    num_frames: int = 1,
    num_draws: int = 16,
    num_steps: int = 40,
) -> Adversary:
    """An attack on continuous actions: at each step, move the mean action as far as a perturbation
    of `norm` can.

    Normalised gradient ascent on the squared distance between the mean action with and without the
    perturbation (the maximal action difference of Zhang et al. 2020, arXiv 2003.08938), over draws
    of the noise. It spends `norm` at each step until the budget is gone.

    Args:
      action: observations `[..., *obs_shape]`, stacked if num_frames is above 1, to actions `[...,
        d]`.
      sigma: of the agent's noise; 0 for an agent without it.
      norm: L2 norm of the perturbation of a step.
      num_frames: observations that the policy sees at once.
      num_draws: of the noise.
      num_steps: of the gradient.
    """

    def perturb(key, frames, obs, remaining):
        noise_key, start_key = jax.random.split(key)
        noise = sigma * jax.random.normal(noise_key, (num_draws, *obs.shape))
        radius = jnp.minimum(norm, remaining)

        def mean_action(delta):
            return jnp.mean(action(_shown(frames.seen, obs + delta, noise)), axis=0)

        unperturbed = mean_action(jnp.zeros_like(obs))
        distance = jax.grad(lambda delta: jnp.sum((mean_action(delta) - unperturbed) ** 2))

        def step(_, delta):
            return _within(delta + 2.0 / num_steps * radius * _unit(distance(delta)), radius)

        # Not from 0, where the gradient vanishes.
        start = 0.1 * radius * _unit(jax.random.normal(start_key, obs.shape))
        delta = jax.lax.fori_loop(0, num_steps, step, start)
        return radius * _unit(delta)

    return Adversary(perturb, num_frames - 1)


def _shown(history, obs, noise):
    """What the policy sees after frames `[k, *shape]`, for each draw of noise `[draws, *shape]`."""
    return jax.vmap(lambda draw: stack_frames(jnp.concatenate([history, (obs + draw)[None]])))(
        noise
    )


def _unit(x: Any) -> chex.Array:
    return x / jnp.maximum(jnp.sqrt(jnp.sum(x**2)), 1e-12)


def _within(x: chex.Array, radius: chex.Array) -> chex.Array:
    """The nearest point of a ball around 0."""
    return x * jnp.minimum(1.0, radius / jnp.maximum(jnp.sqrt(jnp.sum(x**2)), 1e-12))
