"""A series of gradient steps on a rollout, and what may travel beside the parameters through it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ..core import guard, keys, parallel
from ..core.algorithm import Metrics
from ..core.networks import Networks
from .config import OnPolicyConfig
from .estimation import Minibatch, take

# Metrics of how far the policy has moved from the one that collected.
DRIFT = (
    "losses/approx_kl",
    "losses/clip_fraction",
    "losses/kl",
    "losses/max_kl",
    "losses/ratio_deviation",
    "losses/ratio_variance",
)


def itself(carried: Any, minibatch: Minibatch, series: "Series") -> Any:
    """What a loss sees of a companion that is a number, or a few."""
    del minibatch, series
    return carried


class Companion(NamedTuple):
    """What a paper carries beside the parameters: an average of them, or a multiplier.

    `params` are the parameters as they are trained, one flat vector by default; `Series.seen` opens
    them.

    Attributes:
      init: (params, config) -> what is carried, at the start of a run.
      step: (carried, params, metrics, config) -> carried, after a gradient step: params are new,
        metrics `[B]` those of its loss, before it.
      see: (carried, minibatch, series) -> what the loss gets as `companion`, as data.
      after_epoch: (series, trained, start, data) -> (trained, metrics, scalars), after each pass
        over the rollout `data`; start are the params before the first step. None does nothing.
      metrics: carried -> what of it the log gets at the end of an update.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    see: Callable[..., Any] = itself
    after_epoch: Callable[..., Any] | None = None
    metrics: Callable[[Any], Metrics] = lambda carried: {}


class Series(NamedTuple):
    """What a series of gradient steps is made of.

    Attributes:
      loss: (params by name, minibatch, key) -> (scalar, metrics `[B]`), and `companion=` if there
        is one.
      seen: (params, minibatch) -> params by name, of which those that the series does not train
        have no gradient, and the minibatch with what the networks see.
      optimiser: makes one of a learning rate.
      networks: the networks.
      config: the hyperparameters.
      companion: what travels beside, or None.
    """

    loss: Callable[..., tuple[chex.Array, Metrics]]
    seen: Callable[..., tuple[Any, Minibatch]]
    optimiser: Callable[..., optax.GradientTransformation]
    networks: Networks
    config: OnPolicyConfig
    companion: Companion | None


class Trained(NamedTuple):
    """What a series of gradient steps carries.

    Attributes:
      params: the parameters.
      opt_state: the optimiser's state.
      learning_rate: of the last step.
      going: bool, whether no minibatch was further from the old policy than config.target_kl.
      companion: what is carried beside, () without a companion.
    """

    params: Any
    opt_state: Any
    learning_rate: Any
    going: chex.Array
    companion: Any = ()


def gradient_steps(
    series: Series,
    trained: Trained,
    data: Minibatch,
    key: chex.PRNGKey,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Trained, Metrics, chex.Array]:
    """num_epochs·num_minibatches gradient steps; the metrics and the norms of the gradients are
    `[steps]`.

    A series whose metrics have the divergence from the old policy stops where it exceeds
    config.target_kl, as SB3 does, before the step that would have followed; and adapts the learning
    rate to it until then, see `adapted`.
    """
    config, companion = series.config, series.companion
    names = []  # of the metrics, which travel as one vector for the same reason as the parameters

    def gradient_step(carry, inputs):
        number, indices, key_data = inputs
        (step_key,) = keys.unpack_keys(key_data, key)
        minibatch = data if num_minibatches == 1 else take(data, indices)
        beside = {}
        if companion is not None:
            beside = {"companion": companion.see(carry.companion, minibatch, series)}

        def loss(params):
            return series.loss(*series.seen(params, minibatch), step_key, **beside)

        grads, metrics = jax.grad(loss, has_aux=True)(carry.params)
        means = {name: jnp.mean(x) for name, x in metrics.items()}
        grads, means = parallel.mean((grads, means))
        learning_rate, going = carry.learning_rate, carry.going
        if "losses/approx_kl" in means:
            kl = means["losses/approx_kl"]
            if config.adaptive_lr:
                # Before the first step the policy is the old one, and after the last, which is the
                # one that target_kl stops, it moves no more: neither says anything.
                new = adapted(learning_rate, kl, desired_kl=config.desired_kl)
                learning_rate = jnp.where(going & (number > 0), new, learning_rate)
            going = going & (kl <= config.target_kl)
            means["losses/steps_taken"] = going.astype(jnp.float32)
        step = series.optimiser(learning_rate)
        updates, opt_state = step.update(grads, carry.opt_state, carry.params)
        params = optax.apply_updates(carry.params, updates)
        params, opt_state = guard.keep(going, (params, opt_state), carry[:2])
        carried = carry.companion
        if companion is not None:
            carried = guard.keep(going, companion.step(carried, params, metrics, config), carried)
        names[:] = means
        numbers = jnp.stack([*means.values(), optax.tree.norm(grads)])
        return Trained(params, opt_state, learning_rate, going, carried), numbers

    num_steps = num_epochs * num_minibatches
    shuffle_key, loss_key = jax.random.split(key)
    size = data.advantage.shape[-1]  # transitions, or environments where networks remember
    indices = keys.shuffled_indices(shuffle_key, num_epochs, size).reshape(num_steps, -1)
    key_data = keys.split_for_scan(loss_key, num_steps, 1)
    steps = (jnp.arange(num_steps), indices, key_data)
    after_epoch = None if companion is None else companion.after_epoch
    of_epochs = {}
    if after_epoch is None:
        trained, numbers = jax.lax.scan(gradient_step, trained, steps)
    else:
        start = trained.params

        def epoch(carry, steps):
            carry, numbers = jax.lax.scan(gradient_step, carry, steps)
            carry, of_epoch = after_epoch(series, carry, start, data)
            return carry, (numbers, of_epoch)

        by_epoch = jax.tree.map(
            lambda x: x.reshape(num_epochs, num_minibatches, *x.shape[1:]), steps
        )
        trained, (numbers, of_epochs) = jax.lax.scan(epoch, trained, by_epoch)
        numbers = numbers.reshape(num_steps, -1)
    *columns, norms = numbers.T
    metrics = dict(zip(names, columns, strict=True))
    metrics = _of_last_pass(metrics, num_minibatches) | _of_last_pass(of_epochs, 1)
    return trained, metrics, norms


def _of_last_pass(metrics, num_per_pass):
    return {name: x[-num_per_pass:] if name in DRIFT else x for name, x in metrics.items()}


def adapted(learning_rate: chex.Array, kl: chex.Array, *, desired_kl: chex.Array) -> chex.Array:
    """The learning rate after a minibatch whose policy is at a divergence from the old one: divided
    by 1.5 above 2·desired_kl, and times 1.5 below ½·desired_kl, within 1e-5 and 1e-2.

    Source: rsl_rl (Rudin et al. 2022, arXiv 2109.11978), its PPO with schedule "adaptive". That
    takes the exact divergence of Gaussians, here it is the estimate of Schulman 2020 that is a
    metric too.
    """
    slower = jnp.maximum(learning_rate / 1.5, 1e-5)
    faster = jnp.minimum(learning_rate * 1.5, 1e-2)
    unchanged = jnp.where((kl < 0.5 * desired_kl) & (kl > 0.0), faster, learning_rate)
    return jnp.where(kl > 2.0 * desired_kl, slower, unchanged)
