"""The methods that `two_bumps.py` compares: `onejit.losses.denoising` put together."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from two_bumps_flow import (
    DT,
    ETA,
    STEP_STD,
    STEPS,
    TIMES,
    Policy,
    chain,
    path_error,
    sample,
    step_mean,
    velocity,
)

from onejit.algos.core.keys import split_for_scan, unpack_keys
from onejit.losses import denoising, importance_ratio
from onejit.losses.sequences import advantages, surrogates

GROUPS, SIZE = 16, 16  # samples of an update
PASSES = 2
WEIGHTS = np.linspace(0.0, 1.0, 5)  # of the first of two composed flows


class Samples(NamedTuple):
    """Chains of N groups of G: the points `[N, G, T + 1, 2]`, noise first; the means of their steps
    `[N, G, T, 2]`; rewards `[N, G]`; the policy that drew them, and the flow before training.
    """

    points: chex.Array
    means: chex.Array
    rewards: chex.Array
    drawn_by: Policy
    reference: Any


def means_now(policy: Policy, samples: Samples) -> chex.Array:
    """The means of the steps that were taken, under this policy, `[N, G, T, 2]`."""
    x = samples.points[..., :-1, :]
    t = jnp.broadcast_to(jnp.asarray(TIMES), x.shape[:-1])
    return step_mean(x, velocity(policy.flow, x, t), t)


def step_log_ratio(means: chex.Array, samples: Samples) -> chex.Array:
    """Log-ratio of each step, summed over the dimensions, `[N, G, T]`."""
    reached = samples.points[..., 1:, :]
    now, before = (
        denoising.step_log_prob(reached, each, std=STEP_STD) for each in (means, samples.means)
    )
    return now - before


def loop(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After LOOP (arXiv 2503.00897)."""
    del key
    log_ratio = step_log_ratio(means_now(policy, samples), samples)
    advantage = advantages.leave_one_out(samples.rewards)[..., None]
    return jnp.mean(surrogates.clip_surrogate(log_ratio, advantage, low=0.8, high=1.2))


def grpo_guard(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After GRPO-Guard (arXiv 2510.22319), with the noise of DanceGRPO."""
    del key
    means = means_now(policy, samples)
    log_ratio = denoising.regulated_log_ratio(
        step_log_ratio(means, samples) / 2,
        jnp.mean(jnp.square(means - samples.means), axis=-1),
        step_std=STEP_STD,
    )
    advantage = advantages.group_normalize(samples.rewards)[..., None]
    loss = surrogates.clip_surrogate(log_ratio, advantage, low=0.98, high=1.02)
    weight = denoising.step_weight(jnp.full(STEPS, DT), jnp.asarray(TIMES), eta=ETA)
    return jnp.mean(jnp.mean(loss, axis=(0, 1)) * weight)


def find(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After FIND (arXiv 2407.19453)."""
    del key
    noise = samples.points[..., 0, :]

    def log_prob(policy):
        spread = (jnp.broadcast_to(x, noise.shape) for x in (policy.mean, policy.std))
        return denoising.initial_noise_log_prob(noise, *spread)

    ratio = importance_ratio(log_prob(policy), log_prob(samples.drawn_by))
    advantage = advantages.group_normalize(samples.rewards)
    penalty = denoising.noise_prior_penalty(policy.mean, policy.std)
    return -10.0 * jnp.mean(advantage * jnp.clip(ratio, 0.8, 1.2)) + 0.01 * penalty


def ac_flow(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After AC-Flow (arXiv 2510.18072), without its critic."""
    errors = path_error(policy.flow, samples.reference, samples.points[..., -1, :], key)
    advantage = advantages.group_normalize(samples.rewards)
    loss = denoising.advantage_weighted_flow_loss(
        *errors, advantage, temperature=1.0, clip=2.0, reference_coef=0.1
    )
    return jnp.mean(loss)


# The loss, and its learning rate.
METHODS = {
    "loop": (loop, 3e-4),
    "grpo_guard": (grpo_guard, 3e-4),
    "find": (find, 1e-2),
    "ac_flow": (ac_flow, 3e-4),
    "gpc": None,
}


def finetune(key: chex.PRNGKey, flow: Any, method: str, reward: Callable, updates: int):
    """The policy after so many updates, and the mean reward of the samples of each, `[updates]`."""
    loss, rate = METHODS[method]
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    policy = Policy(flow, jnp.zeros(2), jnp.ones(2))

    def update(carry, key_data):
        sample_key, *pass_keys = unpack_keys(key_data, key)
        drawn_by = carry[0]
        points, means = sample(drawn_by, sample_key, GROUPS, SIZE)
        samples = Samples(points, means, reward(points[..., -1, :]), drawn_by, flow)
        for pass_key in pass_keys:
            policy, opt_state = carry
            gradient = jax.grad(loss)(policy, samples, pass_key)
            changes, opt_state = optimiser.update(gradient, opt_state)
            carry = optax.apply_updates(policy, changes), opt_state
        return carry, jnp.mean(samples.rewards)

    key_data = split_for_scan(key, updates, 1 + PASSES)
    (policy, _), curve = jax.lax.scan(update, (policy, optimiser.init(policy)), key_data)
    return policy, curve


def compose(key: chex.PRNGKey, flows: tuple, reward: Callable):
    """Two flows composed by the weights that were best in rollouts: the field, and the mean reward
    of each weight's rollouts, `[W]`.
    """

    def composed(weight, x, t):
        each = jnp.stack([velocity(flow, x, t) for flow in flows])
        return denoising.compose_scores(each, jnp.stack([weight, 1.0 - weight]))

    def rollout(weight, start, key):
        return jnp.mean(reward(chain(partial(composed, weight), start, key)[0][..., -1, :]))

    start_key, chain_key = jax.random.split(key)
    start = jax.random.normal(start_key, (GROUPS * SIZE, 2))
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    curve = jnp.stack([rollout(w, start, jax.random.clone(chain_key)) for w in weights])
    return partial(composed, weights[jnp.argmax(curve)]), curve
