"""How much memory a config would take, and whether the device has it: asked before anything compiles."""

import math
import os
from collections.abc import Sequence

import jax

from ..envs import Environment
from .config import ConfigError

_GIB = 2**30


def device_bytes() -> int | None:
    """Memory of the default device in bytes: the accelerator's, or the machine's for a CPU; None if not known."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def space_bytes(space) -> int:
    """Bytes of one element of a space, or of a dict of spaces."""
    spaces = space.values() if isinstance(space, dict) else [space]
    return sum(math.prod(each.shape) * each.dtype.itemsize for each in spaces)


def mlp_parameters(num_inputs: int, hidden_sizes: Sequence[int]) -> int:
    """Weights and biases of the hidden layers of a fully connected network."""
    return sum(
        (fan_in + 1) * fan_out for fan_in, fan_out in zip((num_inputs, *hidden_sizes), hidden_sizes, strict=False)
    )


def require(field: str, value: object, needed: float, what: str) -> None:
    """Refuses a size with which something cannot fit into the device.

    Raises:
      ConfigError: `needed` bytes are more than the device has.
    """
    available = device_bytes()
    if available is not None and needed > available:
        have = f"the device has {available / _GIB:.1f} GiB"
        raise ConfigError(field, value, f"must be smaller: {what} would take {needed / _GIB:,.1f} GiB, {have}")


def require_rollout_and_networks(env: Environment, num_envs: int, num_steps: int, hidden_sizes: Sequence[int]) -> None:
    """Refuses an on-policy config whose rollout, or whose two networks with their optimiser, cannot fit.

    A lower bound of what a run takes: the environments' own states and temporary arrays come on top.

    Raises:
      ConfigError: names the field, with the bytes needed and there.
    """
    obs_bytes, action_bytes = space_bytes(env.observation_space), space_bytes(env.action_space)
    # obs and next_obs; log_prob, reward, value, next value, advantage, target; two flags
    row = 2 * obs_bytes + action_bytes + 6 * 4 + 2
    require("num_envs", num_envs, float(num_envs) * num_steps * row, f"a rollout of {num_envs} × {num_steps} steps")
    parameters = 2 * mlp_parameters(obs_bytes // 4, hidden_sizes)
    # the parameters, their gradient and Adam's two moments, float32
    require("hidden_sizes", hidden_sizes, 4.0 * 4 * parameters, "the two networks with their optimiser")
