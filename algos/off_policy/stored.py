"""Stored data beside what an off-policy algorithm collects: in its replay from the beginning, or as
a part of each minibatch (RLPD; Ball et al., 2023, arXiv 2302.02948).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Environment
from ..core import normalize, parallel
from ..core.collect import Transition
from ..core.config import ConfigError
from ..core.dataset import Dataset, DatasetError, closed
from . import replay
from .actor_critic import Batch
from .collection import Store
from .config import OffPolicyConfig


class Stored(NamedTuple):
    """Data as a loop takes them.

    Attributes:
      rows: as of N environments side by side, leaves `[T, N, ...]`, numpy.
      samples: how many of each minibatch are from them; 0 where the replay begins with them.
    """

    rows: Transition
    samples: int

    @property
    def ring(self) -> replay.Replay:
        """The rows as a full replay."""
        size = len(self.rows.reward)
        rows = jax.tree.map(jnp.asarray, self.rows)
        return replay.Replay(rows, cursor=jnp.int32(0), size=jnp.int32(size))


def prefilled(config: OffPolicyConfig, data: Any, share: float) -> OffPolicyConfig:
    """The config with learning_starts as it is with these data: 0 where the replay begins with
    them, so that schedules and counts of steps begin at 0 too.

    Raises:
      ConfigError: there would be nothing in the replay.
    """
    if data is not None and not share:
        return config.replace(learning_starts=0)
    if not config.learning_starts:
        allowed = "must be at least 1, unless the replay begins with data"
        raise ConfigError("learning_starts", 0, allowed)
    return config


def of(
    data: Dataset | None, share: float, env: Environment, config: OffPolicyConfig
) -> Stored | None:
    """Data as a loop takes them, checked; None for none.

    Args:
      data: a data set, or None.
      share: part of each minibatch that is from them; with 0 the replay begins with them.
      env: the single environment.
      config: the hyperparameters.

    Raises:
      ConfigError: the share or the config do not go with them; it names the field.
      DatasetError: something is wrong with the data, or they are of another environment.
    """
    if data is None:
        if share:
            raise ConfigError("data_share", share, "must be 0 without data")
        return None
    if not 0.0 <= share < 1.0:
        raise ConfigError("data_share", share, "must be at least 0 and below 1")
    if config.memory != "none":
        allowed = 'must be "none": data do not say what networks remembered'
        raise ConfigError("memory", config.memory, allowed)
    if not isinstance(data, Dataset):
        raise DatasetError(f"data={data!r}: must be a Dataset, see core.dataset")
    data.check(env)
    samples = round(share * config.samples)
    if share and not 0 < samples < config.samples:
        allowed = f"must leave both parts of batch_size = {config.samples} something"
        raise ConfigError("data_share", share, allowed)
    num_envs = 1 if share else config.num_envs
    if len(data) < config.window * num_envs:
        raise DatasetError(f"there are {len(data)} transitions, and a window needs {config.window}")
    if not share and config.buffer_size // num_envs < len(data) // num_envs:
        allowed = f"must be at least the data's {len(data)} transitions"
        raise ConfigError("buffer_size", config.buffer_size, allowed)
    return Stored(side_by_side(data.transitions, num_envs), samples)


def side_by_side(transitions: Transition, num_envs: int) -> Transition:
    """Cuts transitions `[M, ...]` into records of N environments, leaves `[M // N, N, ...]`; what
    is left over is dropped. Where one is cut it is truncated.
    """
    length = len(transitions.reward) // num_envs

    def cut(x):
        return np.moveaxis(x[: length * num_envs].reshape(num_envs, length, *x.shape[1:]), 0, 1)

    return closed(jax.tree.map(cut, transitions._replace(log_prob=(), memory=())))


def fill(stored: Stored, store: Store) -> Store:
    """A store whose empty replay begins with the data, and its statistics too: each device's with
    the records of its own environments.
    """
    rows = parallel.own(stored.rows, axis=1)
    return store._replace(
        replay=replay.filled(store.replay, rows),
        obs_statistics=normalize.obs_statistics(store, rows.obs),
    )


def join(batches: Batch, more: Batch) -> Batch:
    """Minibatches `[K, B, ...]` with so many more samples each, `[K, B', ...]`, which weigh 1."""
    if not isinstance(batches.weight, tuple):
        more = more._replace(weight=jnp.ones_like(more.reward))

    def both(x, y):
        return jnp.concatenate([x, y.astype(x.dtype)], axis=1)

    return jax.tree.map(both, batches, more)
