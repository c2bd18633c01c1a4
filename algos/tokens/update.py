"""What the loop of the tokens updates, and how: gradient steps of an objective on groups of
answers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ... import losses
from ...envs import TokenEnvironment
from ...losses.sequences import reductions
from .. import parameter_steps
from ..core import guard, keys, optimisers, parallel
from ..core.algorithm import Metrics, single
from ..core.optimisers import Optimiser
from . import policy
from .batch import Answered, Batch, Result, batch_of
from .config import Config

Objective = Callable[[Batch], Result]

# How far the policy has moved from the one that wrote.
DRIFT = ("losses/approx_kl", "losses/ratio_deviation")


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: the policy's.
      opt_state: of the optimiser.
      writer: parameters of the policy that writes, see Config.sample_every.
      reference: parameters of the reference policy, see Config.ref_every.
      entropy_history: mean entropy per token over the iterations so far, nats.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    opt_state: Any
    writer: Any
    reference: Any
    entropy_history: chex.Array
    iteration: chex.Array
    fault: chex.Array


def init_learner(
    key: chex.PRNGKey, *, network: nn.Module, config: Config, optimiser: Optimiser = None
) -> Learner:
    """A fresh policy, which writes and is the reference too, and its optimiser; see
    `core.optimisers` for own ones.
    """
    params = single(network.init(key, network.start(1), jnp.zeros(1, jnp.int32)))
    return Learner(
        params=params,
        opt_state=transformation(optimiser, config.learning_rate, config).init(params),
        writer=jax.tree.map(jnp.copy, params),
        reference=jax.tree.map(jnp.copy, params),
        entropy_history=jnp.float32(0.0),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def transformation(
    optimiser: Optimiser, learning_rate: chex.Array, config: Config
) -> optax.GradientTransformation:
    """An own optimiser at a learning rate; by default Adam, of all parameters as one vector."""
    if optimiser is not None:
        return optimisers.transformation(optimiser, learning_rate)
    adam = optax.adam(learning_rate, eps=config.adam_eps)
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adam))


def moved(learner: Learner, config: Config) -> Learner:
    """The learner at the start of an iteration: its writer and its reference follow the policy when
    it is their turn.
    """

    follow = partial(parameter_steps.moving_reference, learner.params, step=learner.iteration)
    return learner._replace(
        writer=follow(learner.writer, alpha=1.0, every=config.sample_every),
        reference=follow(learner.reference, alpha=config.ref_alpha, every=config.ref_every),
    )


def update(
    learner: Learner,
    answered: Answered,
    key: chex.PRNGKey,
    *,
    env: TokenEnvironment,
    network: nn.Module,
    objective: Objective,
    config: Config,
    optimiser: Optimiser = None,
) -> tuple[Learner, Metrics]:
    """Takes config.passes gradient steps on answers, all of them in each.

    If a reward, the loss, its gradient or what would be written is not finite, or a parameter has
    diverged, nothing changes but `learner.fault` and the count of iterations, and so it stays.

    Args:
      learner: what is to be updated.
      answered: the answers and their rewards.
      key: a typed key, for objectives that draw.
      env: the task.
      network: the network that belongs to learner.params.
      objective: what is minimised, beside the entropy bonus.
      config: the hyperparameters.
      optimiser: the one that `init_learner` was given, see `core.optimisers`.

    Returns:
      (learner, metrics). Metrics are averaged over the gradient steps; those in `DRIFT`, which
      start from zero in each iteration, are of the last step.
    """
    prompts, tokens, mask = answered.prompts, answered.tokens, answered.mask
    ref_log_prob, _ = policy.score(network, learner.reference, prompts, tokens)
    entropy_now = parallel.mean(reductions.masked_mean(answered.entropy, mask))
    known = {
        "ref_log_prob": ref_log_prob,
        "progress": config.progress(learner.iteration, env),
        "entropy_history": jnp.where(learner.iteration == 0, entropy_now, learner.entropy_history),
    }
    learning_rate = config.learning_rate
    if config.anneal_lr:
        learning_rate = learning_rate * (1.0 - known["progress"])
    of_moment = transformation(optimiser, learning_rate, config)

    def loss(params, key):
        log_prob, entropy = policy.score(network, params, prompts, tokens)
        result = objective(batch_of(answered, log_prob, entropy, key=key, **known))
        policy_loss, own = result if isinstance(result, tuple) else (result, {})
        bonus = reductions.masked_mean(entropy, mask)
        drift = losses.approx_kl(log_prob, answered.log_prob)
        ratio = losses.ratio_deviation(log_prob, answered.log_prob)
        metrics = {
            "losses/policy_loss": policy_loss,
            "losses/entropy": bonus,
            "losses/approx_kl": reductions.masked_mean(drift, mask),
            "losses/ratio_deviation": reductions.masked_mean(ratio, mask),
            **own,
        }
        return policy_loss - config.ent_coef * bonus, metrics

    def gradient_step(carry, key_data):
        params, opt_state = carry
        (pass_key,) = keys.unpack_keys(key_data, key)
        grads, metrics = jax.grad(loss, has_aux=True)(params, pass_key)
        grads = parallel.mean(grads)
        changes, opt_state = of_moment.update(grads, opt_state, params)
        norm = {"losses/grad_norm": optax.tree.norm(grads)}
        return (optax.apply_updates(params, changes), opt_state), metrics | norm

    (params, opt_state), metrics = jax.lax.scan(
        gradient_step,
        (learner.params, learner.opt_state),
        keys.split_for_scan(key, config.passes, 1),
    )
    share = 1.0 / (learner.iteration + 1.0)
    history = learner.entropy_history + share * (entropy_now - learner.entropy_history)
    written = {
        "reward": answered.rewards,
        "loss": metrics["losses/policy_loss"],
        "gradient": metrics["losses/grad_norm"],
        "parameter": params,
        "optimiser state": opt_state,
    }
    found = guard.in_update(written, learner.iteration)
    fault = guard.agreed(guard.first(learner.fault, found))
    new = (params, opt_state, history)
    old = (learner.params, learner.opt_state, learner.entropy_history)
    params, opt_state, history = guard.keep(guard.ok(fault), new, old)
    learner = learner._replace(
        params=params,
        opt_state=opt_state,
        entropy_history=history,
        iteration=learner.iteration + 1,
        fault=fault,
    )
    metrics = {name: x[-1:] if name in DRIFT else x for name, x in metrics.items()}
    return learner, jax.tree.map(jnp.mean, metrics)
