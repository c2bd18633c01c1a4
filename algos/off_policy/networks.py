"""Networks of the off-policy algorithms: actors that see observations, ensembles of critics that
see actions too.
"""

import inspect
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ...envs import Environment, Space
from ..core import fitting, optimisers, recurrent
from ..core.masks import Masked
from ..core.networks import MLP, Gaussian, actor_obs, critic_obs, dense, make_torso
from .config import DTYPES

_DROPOUT = 0xD209  # what is folded into an update's key for networks that sample


class DeterministicActor(nn.Module):
    """A torso, and a layer with tanh: observations to actions in [−1, 1]^d, `[..., d]`."""

    torso: nn.Module
    size: int
    initialiser: str = "uniform"
    scale: float = 1.0

    @nn.compact
    def __call__(self, obs: Any) -> chex.Array:
        x = self.torso(actor_obs(obs)).astype(jnp.float32)
        return jnp.tanh(dense(self.size, self.initialiser, self.scale)(x))


class SquashedGaussianActor(nn.Module):
    """A torso, and a layer that puts out a `Gaussian` over what goes into a tanh, both parts `[...,
    d]`.

    log_std runs smoothly between its bounds, min + ½·(max − min)·(1 + tanh(output)), or is cut off
    there if not smooth.
    """

    torso: nn.Module
    size: int
    log_std_bounds: tuple[float, float]
    initialiser: str = "uniform"
    scale: float = 1.0
    smooth: bool = True

    @nn.compact
    def __call__(self, obs: Any) -> Gaussian:
        x = self.torso(actor_obs(obs)).astype(jnp.float32)
        mean, raw = jnp.split(dense(2 * self.size, self.initialiser, self.scale)(x), 2, axis=-1)
        low, high = self.log_std_bounds
        if not self.smooth:
            return Gaussian(mean, jnp.clip(raw, low, high))
        return Gaussian(mean, low + 0.5 * (high - low) * (1.0 + jnp.tanh(raw)))


class CategoricalActor(nn.Module):
    """A torso, and a layer of logits `[..., n]`."""

    torso: nn.Module
    size: int
    initialiser: str = "uniform"

    @nn.compact
    def __call__(self, obs: Any) -> chex.Array:
        return dense(self.size, self.initialiser, 0.01)(
            self.torso(actor_obs(obs)).astype(jnp.float32)
        )


class ActionCritic(nn.Module):
    """Q(s, a) for actions in [−1, 1]^d: `[...]`, or the logits of a categorical Q, `[..., size]`,
    if size is above 1.

    Sees the privileged part of a dict observation; flattens observations.
    """

    torso: nn.Module
    size: int = 1
    initialiser: str = "uniform"

    @nn.compact
    def __call__(self, obs: Any, action: chex.Array) -> chex.Array:
        obs = critic_obs(obs)
        inputs = jnp.concatenate([obs.reshape(*action.shape[:-1], -1), action], axis=-1)
        q = dense(self.size, self.initialiser)(self.torso(inputs).astype(jnp.float32))
        return q if self.size > 1 else jnp.squeeze(q, axis=-1)


class DiscreteCritic(nn.Module):
    """Q(s, ·) of all n actions, `[..., n]`. Sees the privileged part of a dict observation, unless
    told otherwise.
    """

    torso: nn.Module
    size: int
    initialiser: str = "uniform"
    privileged: bool = True

    @nn.compact
    def __call__(self, obs: Any) -> chex.Array:
        obs = critic_obs(obs) if self.privileged else actor_obs(obs)
        return dense(self.size, self.initialiser)(self.torso(obs).astype(jnp.float32))


class Networks(NamedTuple):
    """What an off-policy algorithm needs of its networks.

    Attributes:
      actor: a module, observations to actions or to the parameters of a distribution.
      critic: a module, (observations, actions) or observations to Q-values; algorithms use an
        ensemble of it.
      optimiser: how they are trained, see `core.optimisers`; None for as the config says.
    """

    actor: nn.Module
    critic: nn.Module
    optimiser: Any = None


def torso(space: Space, hidden_sizes: tuple[int, ...], config: Any) -> nn.Module:
    """The layers before a head, as an off-policy config says."""
    options = {"layer_norm": config.layer_norm, "dtype": DTYPES[config.dtype]}
    return make_torso(space, hidden_sizes, config.activation, config.initialiser, **options)


def action_critic(config: Any, size: int = 1) -> ActionCritic:
    """A critic of observations and actions, as an off-policy config says."""
    options = {"layer_norm": config.layer_norm, "dtype": DTYPES[config.dtype]}
    return ActionCritic(
        MLP(config.critic_hidden_sizes, config.activation, config.initialiser, **options),
        size,
        config.initialiser,
    )


def init_ensemble(critic: nn.Module, key: chex.PRNGKey, size: int, *inputs: Any) -> Any:
    """Parameters of `size` critics that start apart, leaves `[size, ...]`."""
    return jax.vmap(lambda key: critic.init(key, *inputs))(jax.random.split(key, size))


def apply_ensemble(critic: nn.Module, params: Any, *inputs: Any) -> chex.Array:
    """The critics' outputs, `[size, ...]`."""
    return jax.vmap(critic.apply, in_axes=(0, *recurrent.member_axes(inputs)))(params, *inputs)


def smallest(q: chex.Array) -> chex.Array:
    """The smallest of the critics' values `q[size, ...]`, `[...]`.

    Two by two, and not by `jnp.min`, whose gradient asks which entries equal the minimum: where XLA
    computes `q` once more, rounded otherwise, none does, and the gradient is 0 / 0.
    """
    return reduce(jnp.minimum, q)


def apply_first(critic: nn.Module, params: Any, *inputs: Any) -> chex.Array:
    """The first critic's outputs."""
    first = jax.tree.map(lambda x: x[0], params)
    return critic.apply(first, *map(recurrent.first_member, inputs))


def trained(variables: Any) -> Any:
    """What of a network's variables gradients are taken by: flax's "params", or all that is no dict
    of collections.
    """
    return variables["params"] if _has_collections(variables) else variables


def with_trained(variables: Any, params: Any, others: Any = None) -> Any:
    """A network's variables with what is trained, and other collections, replaced."""
    if not _has_collections(variables):
        return params
    return {**variables, **(others or {}), "params": params}


def with_optimiser(
    networks: Networks,
    optimiser: optimisers.Optimiser,
    init_learner: Callable[..., Any],
    *,
    env: Environment,
    config: Any,
) -> tuple[Networks, Any]:
    """Networks with the optimiser that they are trained by, and the learner that is made of them,
    by shape.

    Args:
      networks: the networks.
      optimiser: an own one; None for that of the networks, or else the config's.
      init_learner: (key, *, env, networks, config) -> the learner.
      env: the environment.
      config: the hyperparameters.

    Raises:
      ConfigError: the networks cannot be initialised, or the optimiser does not fit.
    """
    optimiser = networks.optimiser if optimiser is None else optimiser
    shape = partial(fitting.learner_shape, init_learner, env=env, config=config)
    networks = networks._replace(optimiser=None)
    fresh = shape(networks=networks)
    if optimiser is None:
        return networks, fresh
    optimisers.require(optimiser, list(fresh.params))
    for name, params in fresh.params.items():
        optimisers.require_step(partial(optimisers.of_part, optimiser, name), trained(params))
    networks = networks._replace(optimiser=optimiser)
    return networks, shape(networks=networks)


def _has_collections(variables):
    return isinstance(variables, dict) and "params" in variables


def training_options(module: Any, variables: Any) -> dict[str, Any]:
    """What a network's `apply` is told in training: keyword arguments, {} if it is as otherwise."""
    options = {}
    module = module.inner if isinstance(module, Masked) else module
    if callable(module) and "train" in inspect.signature(module).parameters:
        options["train"] = True
    mutable = (
        [name for name in variables if name != "params"] if _has_collections(variables) else []
    )
    return options | {"mutable": mutable} if options or mutable else {}


def apply_in_training(
    module: Any, variables: Any, key: chex.PRNGKey, *inputs: Any
) -> tuple[Any, Any]:
    """What a network puts out while it is trained, and its collections but "params" after it.

    A module whose call has an argument `train` is called with True, and its rng "dropout" is folded
    from the key; every collection but "params" is mutable.
    """
    options = training_options(module, variables)
    if not options:
        return module.apply(variables, *inputs), {}
    rngs = {"dropout": jax.random.fold_in(key, _DROPOUT)}
    return module.apply(variables, *inputs, rngs=rngs, **options)


def apply_ensemble_in_training(
    critic: Any, variables: Any, key: chex.PRNGKey, *inputs: Any
) -> tuple[chex.Array, Any]:
    """`apply_in_training` of each of an ensemble, with keys of their own."""
    if not training_options(critic, variables):
        return apply_ensemble(critic, variables, *inputs), {}
    size = jax.tree.leaves(variables)[0].shape[0]
    each_key = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(size))
    axes = (0, 0, *recurrent.member_axes(inputs))
    return jax.vmap(partial(apply_in_training, critic), in_axes=axes)(variables, each_key, *inputs)
