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
import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Var

from .config import ConfigError

Optimiser = Any  # see above
LearningRate = chex.Array | float


def transformation(optimiser: Optimiser, learning_rate: LearningRate) -> Any:
    """An own optimiser as an optax transformation, at a learning rate; a dict for a dict."""
    if isinstance(optimiser, dict):
        return {name: transformation(each, learning_rate) for name, each in optimiser.items()}
    return optimiser if _is_transformation(optimiser) else optimiser(learning_rate)


def of_all(
    optimiser: Optimiser, trained: dict[str, bool], learning_rate: LearningRate
) -> optax.GradientTransformation:
    """Likewise, one for a dict of parameters: each part by the transformation of its name.

    Parts that are not trained stay as they are, also under weight decay.
    """
    made = transformation(optimiser, learning_rate)
    still = optax.set_to_zero()
    if isinstance(made, dict):
        each = {name: made[name] if trained[name] else still for name in made}
        return optax.partition(each, {name: name for name in made})
    if all(trained.values()):
        return made
    labels = {name: "trained" if yes else "still" for name, yes in trained.items()}
    return optax.partition({"trained": made, "still": still}, labels)


def of_part(
    optimiser: Optimiser, name: str, learning_rate: LearningRate
) -> optax.GradientTransformation:
    """Likewise, the one of a part."""
    return transformation(
        optimiser[name] if isinstance(optimiser, dict) else optimiser, learning_rate
    )


def follows_learning_rate(optimiser: Optimiser) -> bool:
    """Whether a part of it is a function of the config's learning rate, as the default is."""
    each = optimiser.values() if isinstance(optimiser, dict) else [optimiser]
    return not all(_is_transformation(x) for x in each)


def require(optimiser: Optimiser, names: list[str]) -> None:
    """Checks what `make` was given.

    Args:
      optimiser: as it was given.
      names: of the parts that are trained; [] if there is one alone.

    Raises:
      ConfigError: it is nothing of what the module's head says, or a dict lacks a part or has
        another one.
    """
    if isinstance(optimiser, dict) and (not names or set(optimiser) != set(names)):
        parts = f"have one for each of {', '.join(map(repr, names))}" if names else "be no dict"
        raise ConfigError("optimiser", f"a dict with {sorted(optimiser)}", f"must {parts}")
    for each in optimiser.values() if isinstance(optimiser, dict) else [optimiser]:
        if not _is_transformation(each) and not _makes_one(each):
            allowed = (
                "must be an optax.GradientTransformation, a function that makes one of a learning"
                " rate, such as optax.adamw, or a dict of these"
            )
            raise ConfigError("optimiser", repr(each), allowed)


def require_step(
    made: Callable[[LearningRate], optax.GradientTransformation], params: chex.ArrayTree
) -> None:
    """Checks that a transformation, made of a traced learning rate, can take a step.

    Args:
      made: learning rate -> the transformation.
      params: what it is to change, by shape.

    Raises:
      ConfigError: it cannot, say because a function of the learning rate wants a Python float, or
        because the transformation wants to evaluate the loss; or its state keeps the learning rate
        of the start, as that of optax.inject_hyperparams does, where no other reaches it.
    """

    def step(learning_rate, params):
        optimiser = made(learning_rate)
        return optimiser.update(params, optimiser.init(params), params)[0]

    learning_rate = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        jax.eval_shape(step, learning_rate, params)
    except Exception as error:  # whatever an own function raises
        reason = f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
        raise ConfigError(
            "optimiser", "as given", f"must take a step on the parameters by gradients: {reason}"
        ) from error
    program = jax.make_jaxpr(lambda learning_rate, params: made(learning_rate).init(params))
    program = program(learning_rate, params).jaxpr
    follows = set(program.invars[:1])
    for equation in program.eqns:
        if any(isinstance(x, Var) and x in follows for x in equation.invars):
            follows.update(equation.outvars)
    if any(isinstance(x, Var) and x in follows for x in program.outvars):
        allowed = "must not keep a learning rate in its state, as optax.inject_hyperparams does"
        raise ConfigError("optimiser", "as given", allowed)


def _is_transformation(x):
    return isinstance(x, optax.GradientTransformation)


def _makes_one(function: Callable[..., Any]) -> bool:
    if not callable(function):
        return False
    try:
        return _is_transformation(function(1e-3))
    except (TypeError, ValueError):
        return False
