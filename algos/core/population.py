"""Populations: which hyperparameters the members have, and selection among members that run.

A population's State is `jax.vmap(algorithm.init)(keys, configs)`: an ordinary State whose leaves
have a leading axis `[P]`. What is here works on it for every algorithm, because each member's
traced hyperparameters are leaves of its State. `exploit`, `explore` and `keep_best` are pure: they
go under `jit`, between steps or inside a scan.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .algorithm import State
from .fields import ConfigError, bounds

# (rng, num) -> num values
Distribution = Callable[[np.random.Generator, int], np.ndarray]


def grid(**values: Sequence[Any]) -> dict[str, np.ndarray]:
    """Every combination of some values, the last name's varying fastest.

    Args:
      **values: for each hyperparameter its values, one or more.

    Returns:
      A column `[num_settings]` for each name; of tuples, such as layers' widths, as objects.

    Raises:
      ConfigError: there is no value, or it is no sequence of them.
    """
    columns = {name: _column(name, each) for name, each in values.items()}
    index = np.meshgrid(*(np.arange(len(each)) for each in columns.values()), indexing="ij")
    return {name: columns[name][i.ravel()] for name, i in zip(columns, index, strict=True)}


def draw(seed: int, num_settings: int, **distributions: Distribution) -> dict[str, np.ndarray]:
    """Random settings (Bergstra and Bengio 2012), the same ones for the same seed.

    Args:
      seed: of `numpy.random.default_rng`.
      num_settings: how many.
      **distributions: for each hyperparameter `log_uniform`, `uniform` or `choice`.

    Returns:
      A column `[num_settings]` for each name.
    """
    rng = np.random.default_rng(seed)
    return {name: each(rng, num_settings) for name, each in distributions.items()}


def uniform(low: float, high: float) -> Distribution:
    """Uniform in [low, high).

    Raises:
      ConfigError: low is not below high, or one of them is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError("uniform", (low, high), "must be two finite numbers, the smaller first")
    return lambda rng, num: rng.uniform(low, high, num)


def log_uniform(low: float, high: float) -> Distribution:
    """exp of a uniform number in [log low, log high).

    Raises:
      ConfigError: it is not so that 0 < low < high < ∞.
    """
    if not 0.0 < low < high < math.inf:
        raise ConfigError("log_uniform", (low, high), "must be two numbers above 0, ascending")
    return lambda rng, num: np.exp(rng.uniform(math.log(low), math.log(high), num))


def choice(values: Sequence[Any]) -> Distribution:
    """One of some values, each as likely.

    Raises:
      ConfigError: there is no value, or it is no sequence of them.
    """
    column = _column("choice", values)
    return lambda rng, num: column[rng.integers(len(column), size=num)]


def _column(name: str, values: Any) -> np.ndarray:
    is_sequence = isinstance(values, Sequence) or getattr(values, "ndim", 0) == 1
    if isinstance(values, str) or not is_sequence or not len(values):
        raise ConfigError(name, values, "must be a sequence of at least one value")
    if any(isinstance(each, tuple) for each in values):
        column = np.empty(len(values), object)
        column[:] = list(values)
        return column
    return np.asarray(values)


def exploit(
    key: chex.PRNGKey,
    states: State,
    scores: chex.Array,
    *,
    fraction: float = 0.2,
    parts: Sequence[str] | None = None,
) -> tuple[State, chex.Array]:
    """Truncation selection of population-based training (Jaderberg et al. 2017, section 4.1,
    arXiv 1711.09846): each of the worst members becomes a copy of one of the best, drawn uniformly.

    A copy takes over the learner, an average of its parameters too, and the hyperparameters.
    Environments, replay and key stay its own, so that it does not repeat what its source does: it
    goes on exactly as its source would with these environments, replay and key. A learner's
    `discounted_return` is of the running episodes and stays too. StaQ's cache, computed by the
    learner from the replay, goes with both.

    Args:
      key: a typed key.
      states: of the population, leaves `[P, ...]`.
      scores: `[P]`, higher is better; NaN is the worst.
      fraction: of the population that is replaced, and of that which is copied, at most 0.5; a
        Python float, since it decides how many.
      parts: the parts of the State that are copied, others than these. With all of them, "key" and
        "collection" included, copy and source stay the same for ever.

    Returns:
      (states, parents int32 `[P]`: whose copy each member is now, itself where it was kept).

    Raises:
      ConfigError: fraction is not between 0 and 0.5, or the State has no such part.
    """
    size = scores.shape[0]
    if not 0.0 <= fraction <= 0.5:
        raise ConfigError("fraction", fraction, "must be between 0 and 0.5")
    if parts is None:
        parts = ("learner", "config", *(("replay", "cache") if hasattr(states, "cache") else ()))
        beside = ("average", "lagging", "behaviour")
        parts += tuple(name for name in beside if hasattr(states, name))
    for name in parts:
        if name not in states._fields:
            raise ConfigError("parts", name, f"must be of {', '.join(states._fields)}")
    num = int(fraction * size)
    order = _ascending(scores)
    source = order[size - num :][jax.random.randint(key, (num,), 0, max(1, num))]
    parents = jnp.arange(size, dtype=jnp.int32).at[order[:num]].set(source)
    copied = {name: members(getattr(states, name), parents) for name in parts}
    if "collection" not in parts and hasattr(copied.get("learner"), "discounted_return"):
        own = states.learner.discounted_return
        copied["learner"] = copied["learner"]._replace(discounted_return=own)
    return states._replace(**copied), parents


def explore(
    key: chex.PRNGKey,
    states: State,
    parents: chex.Array,
    fields: Mapping[str, tuple[float, float] | None],
    *,
    factors: Sequence[float] = (0.8, 1.2),
) -> State:
    """Perturbs the hyperparameters of copies (Jaderberg et al. 2017, section 4.1): each field is
    multiplied by one of the factors, drawn uniformly, and clipped to its bounds.

    Args:
      key: a typed key.
      states: of the population, as `exploit` returns it.
      parents: int32 `[P]`, as `exploit` returns it; who is its own parent is left alone.
      fields: traced fields of the Config with their bounds (low, high); None for the field's own.
      factors: positive numbers.

    Raises:
      ConfigError: a field is not traced, no float, or its bounds are wider than its own.
    """
    config = states.config
    copies = parents != jnp.arange(parents.shape[0])
    known = {field.name: field for field in dataclasses.fields(config)}
    for name, within in fields.items():
        if name not in known:
            raise ConfigError("fields", name, "is no hyperparameter")
        low, high = bounds(known[name], within)
        # The same draw, whichever other fields are perturbed.
        draw_key = jax.random.fold_in(key, list(known).index(name))
        chosen = jax.random.choice(draw_key, jnp.asarray(factors, jnp.float32), parents.shape)
        value = getattr(config, name)
        perturbed = jnp.clip(value * chosen, low, high)
        config = config.replace(**{name: jnp.where(copies, perturbed, value)})
    return states._replace(config=config)


def keep_best(states: State, scores: chex.Array, num: int) -> tuple[State, chex.Array]:
    """A rung of successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): the
    population's axis shrinks to its best members, which keep everything, and their order.

    Between rungs that are programs of their own, since the axis is a shape.

    Args:
      states: of the population, leaves `[P, ...]`.
      scores: `[P]`, higher is better; NaN is the worst.
      num: how many are kept.

    Returns:
      (states, leaves `[num, ...]`; survivors int32 `[num]`, ascending places in the population).

    Raises:
      ConfigError: num is not between 1 and P.
    """
    size = scores.shape[0]
    if not 1 <= num <= size:
        raise ConfigError("num", num, f"must be between 1 and the population's {size}")
    survivors = jnp.sort(_ascending(scores)[size - num :])
    return members(states, survivors), survivors


def members(states: State, index: Any) -> State:
    """Some members of a population, or one for an integer: each leaf at its leading axis."""
    return jax.tree.map(lambda x: x[index], states)


def _ascending(scores: chex.Array) -> chex.Array:
    """Places of the scores from the lowest to the highest, NaN first, int32."""
    return jnp.argsort(jnp.where(jnp.isnan(scores), -jnp.inf, scores)).astype(jnp.int32)
