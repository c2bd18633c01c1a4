"""Models that make samples of noise: a network that sees noise and time, and how its outputs are
followed from noise to a sample, by Euler's steps of a flow or by those of DDPM.

Their losses are `losses.generative`. Samplers take the network as a function (x `[..., d]`, t
`[...]`) -> `[..., d]`, so that what else it sees, such as observations, is the caller's affair.
"""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ... import losses
from .initialisers import dense
from .keys import split_for_scan, unpack_keys
from .networks import actor_obs

# (x `[..., d]`, t `[...]`) -> `[..., d]`
Model = Callable[[chex.Array, chex.Array], chex.Array]


def time_embedding(t: chex.Array, size: int) -> chex.Array:
    """A time as a network sees it: cos and sin of 2^k·t, k < size/2.

    Args:
      t: the time, `[...]`.
      size: of the code, even.

    Returns:
      The code, `[..., size]`, all cosines before all sines.

    Source: the code released with GoRL (arXiv 2512.02581).
    """
    angle = jnp.stack([t * 2.0**k for k in range(size // 2)], axis=-1)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class Field(nn.Module):
    """A velocity, noise or score, `[..., d]`, for observations, x `[..., d]` and times t `[...]`;
    without x and t those of 0.

    Attributes:
      torso: the layers before the last.
      size: d.
      initialiser: of the last layer.
      code_size: of the time's code.
    """

    torso: nn.Module
    size: int
    initialiser: str = "uniform"
    code_size: int = 8

    @nn.compact
    def __call__(self, obs: Any, x: Any = None, t: Any = None) -> chex.Array:
        obs = actor_obs(obs)
        x = jnp.zeros((*obs.shape[:-1], self.size)) if x is None else x
        t = jnp.zeros(obs.shape[:-1]) if t is None else t
        inputs = jnp.concatenate([obs, x, time_embedding(t, self.code_size)], axis=-1)
        return dense(self.size, self.initialiser)(self.torso(inputs).astype(jnp.float32))


def flow_error(velocity: Model, x: chex.Array, key: chex.PRNGKey) -> chex.Array:
    """The loss of flow matching at one time and noise for each sample `x[..., d]`, `[...]`."""
    time_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(time_key, x.shape[:-1])
    noise = jax.random.normal(noise_key, x.shape)
    point, target = losses.generative.flow_path(x, noise, t)
    return losses.generative.flow_matching_loss(velocity(point, t), target)


def euler(velocity: Model, noise: chex.Array, num_steps: int) -> chex.Array:
    """Follows a velocity from noise at time 1 to a sample at time 0, in equal steps.

    Args:
      velocity: the model.
      noise: where it begins, `[..., d]`.
      num_steps: static.

    Returns:
      The sample, `[..., d]`, differentiable by the noise.
    """

    def step(x, number):
        t = jnp.full(x.shape[:-1], 1.0) - number / num_steps
        return x - velocity(x, t) / num_steps, None

    return jax.lax.scan(step, noise, jnp.arange(num_steps, dtype=jnp.float32))[0]


def alpha_bars(num_steps: int, schedule: str = "vp") -> np.ndarray:
    """ᾱ after each step of noising, `[num_steps]`, falling: the sample's share of the variance.

    Args:
      num_steps: T.
      schedule: "vp", e^(−0.1·t/T − 4.95·(t/T)²), the variance-preserving equation's (Xiao et al.
        2022, arXiv 2112.07804); "cosine" (Nichol and Dhariwal 2021, arXiv 2102.09672), with its
        bound of 0.999 on a step; or "linear" (Ho et al. 2020, arXiv 2006.11239), 1 − β from 1e-4
        to 0.02 whatever T is.

    Raises:
      ValueError: there is no such schedule.
    """
    time = np.arange(num_steps + 1) / num_steps
    if schedule == "vp":
        kept = np.exp(-0.1 * time - 4.95 * time**2)
        betas = 1.0 - kept[1:] / kept[:-1]
    elif schedule == "cosine":
        kept = np.cos((time + 0.008) / 1.008 * np.pi / 2.0) ** 2
        betas = np.minimum(1.0 - kept[1:] / kept[:-1], 0.999)
    elif schedule == "linear":
        betas = np.linspace(1e-4, 2e-2, num_steps)
    else:
        raise ValueError(f'schedule={schedule!r}: must be "vp", "cosine" or "linear"')
    return np.cumprod(1.0 - betas).astype(np.float32)


def ddpm_sample(
    predict: Model, noise: chex.Array, key: chex.PRNGKey, alpha_bar: chex.Array
) -> chex.Array:
    """Takes noise away step by step.

    x ← (x − (1 − α)/√(1 − ᾱ)·ε̂)/√α + √(1 − α)·z, α being the ratio of successive ᾱ; without z in
    the last step.

    Args:
      predict: the model of the noise; after n of T steps of noising its time is n/T.
      noise: standard normal, `[..., d]`.
      key: a typed key.
      alpha_bar: ᾱ, `[T]`, see `alpha_bars`.

    Returns:
      The sample, `[..., d]`.

    Source: Ho et al. 2020 (arXiv 2006.11239), algorithm 2, with σ² = β.
    """
    alpha_bar = jnp.asarray(alpha_bar)
    alpha = alpha_bar / jnp.concatenate([jnp.ones(1), alpha_bar[:-1]])
    num_steps = alpha.shape[0]

    def step(x, inputs):
        number, key_data = inputs
        (step_key,) = unpack_keys(key_data, key)
        t = jnp.full(x.shape[:-1], (number + 1) / num_steps)
        share = (1.0 - alpha[number]) / jnp.sqrt(1.0 - alpha_bar[number])
        mean = (x - share * predict(x, t)) / jnp.sqrt(alpha[number])
        std = jnp.where(number > 0, jnp.sqrt(1.0 - alpha[number]), 0.0)
        return mean + std * jax.random.normal(step_key, x.shape), None

    numbers = jnp.arange(num_steps)[::-1]
    return jax.lax.scan(step, noise, (numbers, split_for_scan(key, num_steps, 1)))[0]


def ascend(
    score: Callable[[chex.Array], chex.Array],
    x: chex.Array,
    *,
    step_size: float | chex.Array,
    num_steps: int,
) -> chex.Array:
    """Climbs a log-density within [−1, 1]: x ← clip(x + η·∇log p(x), −1, 1), num_steps times.

    Args:
      score: ∇log p, `[..., d]` -> `[..., d]`.
      x: where it begins, `[..., d]`.
      step_size: η, at least 0.
      num_steps: static.
    """

    def step(x, _):
        return jnp.clip(x + step_size * score(x), -1.0, 1.0), None

    return jax.lax.scan(step, x, length=num_steps)[0]
