"""Optimisers of one's own: what `make` takes for `optimiser`, and what becomes of it.

* An optax transformation is used as it is, on the parameters as a pytree, so that masks and labels
  by parameter name work. Its own learning rate holds; the config's learning rate and whatever else
  the config says of the optimiser is not used.
* A function of the learning rate, such as `optax.adamw`, is called with that of the moment: traced,
  annealed or adapted as the config says.
* A dict has one of these for each part: "policy" and "value" (and "torso", if there is one), or
  "actor" and "critic" (and "log_alpha", where a temperature is learned).
"""

from collections.abc import Callable
from typing import Any

import chex
import optax

from .config import ConfigError

Optimiser = Any  # see above
LearningRate = chex.Array | float


def transformation(optimiser: Optimiser, learning_rate: LearningRate) -> Any:
    """An own optimiser as an optax transformation, at a learning rate; a dict for a dict."""
    if isinstance(optimiser, dict):
        return {name: transformation(each, learning_rate) for name, each in optimiser.items()}
    return optimiser if _is_transformation(optimiser) else optimiser(learning_rate)


def of_all(optimiser: Optimiser, learning_rate: LearningRate) -> optax.GradientTransformation:
    """Likewise, one for a dict of parameters: each part by the transformation of its name."""
    made = transformation(optimiser, learning_rate)
    return optax.partition(made, {name: name for name in made}) if isinstance(made, dict) else made


def of_part(
    optimiser: Optimiser, name: str, learning_rate: LearningRate
) -> optax.GradientTransformation:
    """Likewise, the one of a part."""
    return transformation(
        optimiser[name] if isinstance(optimiser, dict) else optimiser, learning_rate
    )


def require(optimiser: Optimiser, names: list[str]) -> None:
    """Checks what `make` was given.

    Args:
      optimiser: as it was given.
      names: of the parts that are trained.

    Raises:
      ConfigError: it is nothing of what the module's head says, or a dict lacks a part or has
        another one.
    """
    if isinstance(optimiser, dict) and set(optimiser) != set(names):
        allowed = f"must have one for each of {', '.join(map(repr, names))}"
        raise ConfigError("optimiser", f"a dict with {sorted(optimiser)}", allowed)
    for each in optimiser.values() if isinstance(optimiser, dict) else [optimiser]:
        if not _is_transformation(each) and not _makes_one(each):
            allowed = (
                "must be an optax.GradientTransformation, a function that makes one of a learning"
                " rate, such as optax.adamw, or a dict of these"
            )
            raise ConfigError("optimiser", repr(each), allowed)


def _is_transformation(x):
    return isinstance(x, optax.GradientTransformation)


def _makes_one(function: Callable[..., Any]) -> bool:
    if not callable(function):
        return False
    try:
        return _is_transformation(function(1e-3))
    except (TypeError, ValueError):
        return False
