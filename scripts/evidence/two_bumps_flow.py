"""The flow that `two_bumps.py` fine-tunes: its network, its chain of Gaussian steps from noise (at
time 1) to samples (at time 0), and how flow matching trains it towards two bumps in the plane.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from onejit.algos.core.keys import split_for_scan, unpack_keys

STEPS = 8  # T, of the chain
DT = 1.0 / STEPS
TIMES = 1.0 - DT * np.arange(STEPS, dtype=np.float32)  # of the samples that steps start from
ETA = 0.5  # of the chain's noise
STEP_STD = ETA * DT**0.5
SPREAD = 0.3  # of a bump
BUMPS = {"two": ((-2.0, 0.0), (2.0, 0.0)), "other": ((2.0, -1.0), (2.0, 1.0))}


class Velocity(nn.Module):
    """v(x, t) for x `[..., 2]` and t `[...]`."""

    size: int = 64

    @nn.compact
    def __call__(self, x: chex.Array, t: chex.Array) -> chex.Array:
        angle = t[..., None] * jnp.array([1.0, 2.0, 4.0], jnp.float32).reshape((1,) * t.ndim + (3,))
        hidden = jnp.concatenate([x, jnp.sin(angle), jnp.cos(angle)], axis=-1)
        for _ in range(2):
            hidden = nn.silu(nn.Dense(self.size)(hidden))
        return nn.Dense(2)(hidden)


NETWORK = Velocity()


class Policy(NamedTuple):
    """A flow, and the Gaussian of the noise that it starts from, `[2]` each."""

    flow: Any
    mean: chex.Array
    std: chex.Array


def velocity(flow: Any, x: chex.Array, t: chex.Array) -> chex.Array:
    return NETWORK.apply(flow, x, t)


def step_mean(x: chex.Array, v: chex.Array, t: chex.Array) -> chex.Array:
    """Where a step of constant noise leads on average: x, v `[..., 2]`, t `[...]`."""
    t = t[..., None]
    return x - DT * (v + ETA**2 / (2.0 * t) * (x + (1.0 - t) * v))


def chain(field: Callable, start: chex.Array, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
    """Denoises noise `[..., 2]` with the velocity field(x, t): points and means of the steps."""

    def step(x, given):
        noise, t = given
        t = jnp.broadcast_to(t, x.shape[:-1])
        mean = step_mean(x, field(x, t), t)
        x = mean + STEP_STD * noise
        return x, (x, mean)

    noise = jax.random.normal(key, (STEPS, *start.shape))
    _, (points, means) = jax.lax.scan(step, start, (noise, jnp.asarray(TIMES)))
    points = jnp.concatenate([start[None], points])
    return jnp.moveaxis(points, 0, -2), jnp.moveaxis(means, 0, -2)


def sample(policy: Policy, key: chex.PRNGKey, *lead: int) -> tuple[chex.Array, chex.Array]:
    start_key, key = jax.random.split(key)
    noise = jax.random.normal(start_key, (*lead, 2))
    spread = jnp.broadcast_to(jnp.maximum(policy.std, 1e-4), noise.shape)
    start = jnp.broadcast_to(policy.mean, noise.shape) + spread * noise
    return chain(partial(velocity, policy.flow), start, key)


def path_error(flow: Any, reference: Any, x: chex.Array, key: chex.PRNGKey):
    """Flow matching at a random time towards x `[..., 2]`: ‖v − u‖², ‖v − v_ref‖², `[...]`."""
    time_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(time_key, x.shape[:-1])
    noise = jax.random.normal(noise_key, x.shape)
    point = x + t[..., None] * (noise - x)
    v = velocity(flow, point, t)
    far = jnp.square(v - jax.lax.stop_gradient(velocity(reference, point, t)))
    return jnp.sum(jnp.square(v - (noise - x)), axis=-1), jnp.sum(far, axis=-1)


def pretrain(key: chex.PRNGKey, bumps: str, updates: int) -> Any:
    """The flow to a density of two bumps, by flow matching."""
    init_key, key = jax.random.split(key)
    flow = NETWORK.init(init_key, jnp.zeros((1, 2)), jnp.zeros(1))
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, updates))
    centres = jnp.array(BUMPS[bumps])

    def update(carry, key_data):
        flow, opt_state = carry
        which_key, data_key, loss_key = unpack_keys(key_data, key)
        which = jax.random.randint(which_key, (256,), 0, 2)
        x = centres[which] + SPREAD * jax.random.normal(data_key, (256, 2))

        def loss(flow):
            return jnp.mean(path_error(flow, flow, x, loss_key)[0])

        changes, opt_state = optimiser.update(jax.grad(loss)(flow), opt_state)
        return (optax.apply_updates(flow, changes), opt_state), None

    key_data = split_for_scan(key, updates, 3)
    return jax.lax.scan(update, (flow, optimiser.init(flow)), key_data)[0][0]
