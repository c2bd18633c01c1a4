"""What of a State a policy acts by: (learner, config) -> its `params`, by name."""

from typing import Any

from .actor_critic import Learner


def parameters(learner: Learner, config: Any) -> dict[str, Any]:
    """The parameters alone."""
    del config
    return learner.params


def with_config(learner: Learner, config: Any) -> dict[str, Any]:
    """The parameters, and the hyperparameters under "config"."""
    return learner.params | {"config": config}


def average(acting: Any) -> Any:
    """The field `average` of a State without one: None where another one than `core.averaging`'s
    acts, which refuses the algorithm then.
    """
    return () if acting in (parameters, with_config) else None
