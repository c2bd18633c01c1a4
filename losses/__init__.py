"""Loss functions and the estimators they are fed with: arrays in, arrays out.

Every function here is pure and works under `jax.jit`, `jax.vmap` and `jax.grad`. Data arrays are positional;
hyperparameters are keyword-only and may be traced. Losses are per element, always something to minimise, and the
caller reduces and masks: `jnp.mean(losses.ppo_clip_loss(log_prob, old_log_prob, advantage, clip_eps=0.2))`.
"""

from .distributions import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    tanh_gaussian_log_prob,
    tsallis_log,
)
from .ppo import approx_kl, clip_fraction, clipped_value_loss, ppo_clip_loss
from .returns import gae, lambda_returns, n_step_return, vtrace

__all__ = [
    "approx_kl",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "clip_fraction",
    "clipped_value_loss",
    "gae",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "lambda_returns",
    "n_step_return",
    "ppo_clip_loss",
    "tanh_gaussian_log_prob",
    "tsallis_log",
    "vtrace",
]
