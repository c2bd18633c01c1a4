"""What the on-policy algorithms update, and how: passes of minibatch steps over a rollout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ... import losses
from ...envs import Environment
from ..core import fitting, guard, keys, normalize
from ..core.algorithm import Metrics, single
from ..core.collect import Transition
from ..core.networks import Networks, features, sample_obs
from .config import OnPolicyConfig
from .estimation import Minibatch, estimate, take


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: {"policy": ..., "value": ...}, the networks' parameters, with "torso" if they have
        one.
      opt_state: a state of the optimiser for each of config.passes, for the parameters as one flat
        vector.
      obs_statistics: running moments of the observations, or () without normalize_obs, or if none
        may be normalised.
      return_statistics: running moments of the discounted return, or () without normalize_reward.
      discounted_return: of the running episodes, `[N]`, or () without normalize_reward.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    opt_state: tuple[Any, ...]
    obs_statistics: Any
    return_statistics: Any
    discounted_return: Any
    iteration: chex.Array
    fault: chex.Array


_TORSO = 0x70250  # what is folded into the key of the networks for their torso

# Metrics of how far the policy has moved from the one that collected.
DRIFT = ("losses/approx_kl", "losses/clip_fraction", "losses/kl", "losses/ratio_deviation")

# (params, minibatch, key, *, networks, config) -> (scalar loss, metrics of each sample, `[B]`)
Loss = Callable[..., tuple[chex.Array, Metrics]]


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: OnPolicyConfig
) -> Learner:
    """Fresh parameters, optimiser and statistics for an environment."""
    obs = sample_obs(env)
    policy_key, value_key = jax.random.split(key)
    params = {}
    if networks.torso is not None:
        params["torso"] = networks.torso.init(jax.random.fold_in(key, _TORSO), obs)
        obs = features(networks, params, obs)
    params["policy"] = networks.policy.init(policy_key, obs)
    params["value"] = networks.value.init(value_key, obs)
    params = single(params)
    return Learner(
        params=params,
        opt_state=tuple(
            _optimiser(config, 0.0).init(ravel_pytree(params)[0]) for _ in config.passes
        ),
        obs_statistics=normalize.of_space(env.observation_space) if config.normalize_obs else (),
        return_statistics=normalize.init(jnp.float32(0.0)) if config.normalize_reward else (),
        discounted_return=(
            jnp.zeros(config.num_envs, jnp.float32) if config.normalize_reward else ()
        ),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def _optimiser(
    config: OnPolicyConfig, learning_rate: chex.Array | float
) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(learning_rate, eps=config.adam_eps),
    )


def progress(learner: Learner, batch: Transition, config: OnPolicyConfig) -> chex.Array:
    """The part of total_steps that was done before this rollout, in [0, 1]."""
    return jnp.minimum(
        learner.iteration * (batch.reward.size / jnp.float32(config.total_steps)), 1.0
    )


def update(
    learner: Learner,
    batch: Transition,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: OnPolicyConfig,
    objectives: dict[str, Loss],
) -> tuple[Learner, Metrics]:
    """Estimates advantages on a rollout and takes the gradient steps of config.passes.

    The statistics of the observations change after the gradient steps, so that the ratio in the
    first minibatch is 1. If a number in the batch, the losses, the gradients or what would be
    written is not finite, or a parameter has diverged, nothing changes but `learner.fault` and the
    count of iterations, and so it stays.

    Args:
      learner: what is to be updated.
      batch: a rollout, every leaf `[T, N, ...]`; T·N must be divisible by config.num_minibatches,
        and with normalize_reward N must be config.num_envs.
      key: a typed key, for shuffling and for losses that sample.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      objectives: the loss of each of config.passes, by the name of the metric of its gradient's
        norm.

    Returns:
      (learner, metrics). Metrics are averaged over the gradient steps; those in `DRIFT`, which
      start from zero in each iteration, over the last pass alone.

    Raises:
      ConfigError: the shapes of the batch do not fit each other, the networks or the config.
    """
    fitting.require_rollout(learner, batch, networks, config)
    data, statistics = estimate(learner, batch, networks, config)
    schedules = config.schedules(progress(learner, batch, config))
    learning_rate = schedules.get("learning_rate", config.learning_rate)
    # The parameters as one flat vector instead of a dozen arrays: fewer kernels to compile and to
    # start.
    old_params, unravel = ravel_pytree(learner.params)
    params = old_params
    opt_states = []
    metrics = {}
    pass_keys = [key] if len(objectives) == 1 else jax.random.split(key, len(objectives))
    for (norm_name, objective), counts, opt_state, pass_key in zip(
        objectives.items(), config.passes, learner.opt_state, pass_keys, strict=True
    ):

        def loss(params, minibatch, key, objective=objective):
            params = unravel(params)
            minibatch = minibatch._replace(obs=features(networks, params, minibatch.obs))
            return objective(params, minibatch, key, networks=networks, config=config)

        optimiser = _optimiser(config, learning_rate)
        params, opt_state, new, norms = _gradient_steps(
            params, opt_state, optimiser, loss, data, pass_key, *counts
        )
        opt_states.append(opt_state)
        metrics |= new | {norm_name: norms}
    new = (params, tuple(opt_states), *statistics)
    obs_statistics, *return_statistics = statistics
    written = {
        "statistics of the observations": obs_statistics,
        "statistics of the returns": return_statistics,
        "loss": [x for name, x in metrics.items() if name.endswith("_loss")],
        "gradient": [metrics[name] for name in objectives],
        "parameter": params,
        "optimiser state": opt_states,
    }
    fault = guard.first(
        learner.fault,
        guard.in_rollout((batch.obs, batch.next_obs), batch.reward, learner.iteration),
        guard.in_update(written, learner.iteration),
    )
    # After a fault nothing is written any more, until the run stops at the border of the chunk.
    params, *kept = guard.keep(guard.ok(fault), new, (old_params, *learner[1 : len(new)]))
    learner = Learner(unravel(params), *kept, iteration=learner.iteration + 1, fault=fault)
    metrics = jax.tree.map(jnp.mean, metrics)
    metrics["charts/learning_rate"] = learning_rate
    return learner, metrics


def _gradient_steps(params, opt_state, optimiser, loss, data, key, num_epochs, num_minibatches):
    """num_epochs·num_minibatches gradient steps; the metrics and the norms of the gradients are
    `[steps]`.
    """
    names = []  # of the metrics, which travel as one vector for the same reason as the parameters

    def gradient_step(carry, inputs):
        params, opt_state = carry
        indices, key_data = inputs
        (step_key,) = keys.unpack_keys(key_data, key)
        minibatch = data if num_minibatches == 1 else take(data, indices)
        grads, metrics = jax.grad(loss, has_aux=True)(params, minibatch, step_key)
        updates, opt_state = optimiser.update(grads, opt_state, params)
        names[:] = metrics
        means = jnp.stack([jnp.mean(x) for x in metrics.values()])
        return (params + updates, opt_state), jnp.append(means, jnp.linalg.norm(grads))

    num_steps = num_epochs * num_minibatches
    shuffle_key, loss_key = jax.random.split(key)
    size = data.advantage.shape[-1]  # transitions, or environments where networks remember
    indices = keys.shuffled_indices(shuffle_key, num_epochs, size).reshape(num_steps, -1)
    key_data = keys.split_for_scan(loss_key, num_steps, 1)
    (params, opt_state), metrics = jax.lax.scan(
        gradient_step, (params, opt_state), (indices, key_data)
    )
    *columns, norms = metrics.T
    metrics = dict(zip(names, columns, strict=True))
    metrics = {name: x[-num_minibatches:] if name in DRIFT else x for name, x in metrics.items()}
    return params, opt_state, metrics, norms


def evaluate(
    params: Any, minibatch: Minibatch, *, networks: Networks, config: OnPolicyConfig
) -> tuple[Any, chex.Array, chex.Array]:
    """The policy on a minibatch: its distribution, log π(a|s) `[B]`, and the advantages as losses
    see them, `[B]`.
    """
    distribution = networks.policy.apply(params["policy"], minibatch.obs)
    log_prob = networks.head.log_prob(minibatch.action, distribution)
    advantage = minibatch.advantage
    if config.normalize_advantage:
        advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
    return distribution, log_prob, advantage


def value_loss(
    params: Any, minibatch: Minibatch, *, networks: Networks, config: OnPolicyConfig
) -> chex.Array:
    """The loss of the value network, `[B]`."""
    value = networks.value.apply(params["value"], minibatch.obs)
    return losses.clipped_value_loss(
        value, minibatch.value, minibatch.target, clip_eps=config.vf_clip_eps
    )


def drift_metrics(log_prob: chex.Array, old_log_prob: chex.Array) -> Metrics:
    """How far the policy has moved from the one that collected, `[B]` each."""
    return {
        "losses/approx_kl": losses.approx_kl(log_prob, old_log_prob),
        "losses/ratio_deviation": losses.ratio_deviation(log_prob, old_log_prob),
    }
