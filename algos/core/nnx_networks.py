"""Networks that are written in flax.nnx, as the algorithms take networks: `init` and `apply`."""

from collections.abc import Callable
from typing import Any

import chex


class NnxNetwork:
    """A network of flax.nnx as a pair of pure functions, `init` and `apply`.

    Its variables are its parameters, as nested dicts under "params"; so they go through `vmap`,
    checkpoints and optimisers as those of flax.linen do.

    Args:
      make: nnx.Rngs -> the module, which is called with what the algorithm's network sees:
        observations `[..., *shape]`, and for critics of continuous actions these too.

    Raises:
      TypeError: the module has variables that are no parameters, such as running statistics or
        random numbers of its own, which nobody would carry.
    """

    def __init__(self, make: Callable[[Any], Any]):
        from flax import nnx

        self._make = make
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        self._graph, _, others = nnx.split(module, nnx.Param, ...)
        kinds = sorted({type(x).__name__ for _, x in nnx.to_flat_state(others)})
        if kinds:
            raise TypeError(
                f"{type(module).__name__} has variables that are no nnx.Param: {', '.join(kinds)};"
                " only parameters are carried from update to update"
            )

    def init(self, key: chex.PRNGKey, *inputs: Any) -> Any:
        """Fresh parameters; inputs are not looked at, nnx modules know their sizes."""
        from flax import nnx

        del inputs
        return {"params": nnx.to_pure_dict(nnx.state(self._make(nnx.Rngs(key)), nnx.Param))}

    def apply(self, variables: Any, *inputs: Any) -> Any:
        """What the module puts out with these parameters."""
        from flax import nnx

        state = nnx.eval_shape(lambda: nnx.state(self._make(nnx.Rngs(0)), nnx.Param))
        nnx.replace_by_pure_dict(state, variables["params"])
        return nnx.merge(self._graph, state)(*inputs)
