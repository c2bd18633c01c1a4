"""What the on-policy algorithms update, and how: passes of minibatch steps over a rollout."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ... import losses
from ...envs import Environment
from ..core import fitting, guard, masks, normalize, optimisers, parallel
from ..core.algorithm import Metrics, single
from ..core.collect import Transition
from ..core.networks import Networks, features, sample_obs
from .config import OnPolicyConfig
from .estimation import Minibatch, estimate
from .gradient_steps import Companion, Series, Trained, gradient_steps


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: {"policy": ..., "value": ...}, the networks' parameters, with "torso" if they have
        one.
      opt_state: a state of the optimiser for each of config.passes, for the parameters as one flat
        vector, or as they are if networks.optimiser is given.
      obs_statistics: running moments of the observations, or () without normalize_obs, or if none
        may be normalised.
      return_statistics: running moments of the discounted return, or () without normalize_reward.
      discounted_return: of the running episodes, `[N]`, or () without normalize_reward.
      learning_rate: where it is adapted to the divergence, or () without adaptive_lr.
      companion: what a paper carries beside the parameters, see `Companion`; () without one.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    opt_state: tuple[Any, ...]
    obs_statistics: Any
    return_statistics: Any
    discounted_return: Any
    learning_rate: Any
    companion: Any
    iteration: chex.Array
    fault: chex.Array


_TORSO = 0x70250  # what is folded into the key of the networks for their torso

# (params, minibatch, key, *, networks, config) -> (scalar loss, metrics of each sample, `[B]`); the
# first gets `companion=` too where there is one.
Loss = Callable[..., tuple[chex.Array, Metrics]]


def init_learner(
    key: chex.PRNGKey,
    *,
    env: Environment,
    networks: Networks,
    config: OnPolicyConfig,
    companion: Companion | None = None,
) -> Learner:
    """Fresh parameters, optimiser, statistics and companion for an environment."""
    obs = sample_obs(env)
    policy_key, value_key = jax.random.split(key)
    params = {}
    if networks.torso is not None:
        params["torso"] = networks.torso.init(jax.random.fold_in(key, _TORSO), obs)
        obs = features(networks, params, obs)
    params["policy"] = networks.policy.init(policy_key, obs)
    params["value"] = networks.value.init(value_key, obs)
    params = single(params)
    flat, _ = _as_trained(params, networks)
    return Learner(
        params=params,
        opt_state=tuple(
            single(_optimiser(networks, config, parts, config.learning_rate).init(flat))
            for parts in trained_parts(networks, config)
        ),
        obs_statistics=normalize.of_space(env.observation_space) if config.normalize_obs else (),
        return_statistics=normalize.init(jnp.float32(0.0)) if config.normalize_reward else (),
        discounted_return=(
            jnp.zeros(parallel.share(config.num_envs), jnp.float32)
            if config.normalize_reward
            else ()
        ),
        learning_rate=jnp.array(config.learning_rate, jnp.float32) if config.adaptive_lr else (),
        companion=() if companion is None else single(companion.init(flat, config)),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def trained_parts(networks: Networks, config: OnPolicyConfig) -> list[dict[str, bool]]:
    """For each series of config.passes: which parts of the parameters it trains, by name.

    One series trains all. Of two the first trains the policy, and a torso, which must not move
    under the policy when its own steps are over; the second the value network.
    """
    names = ["policy", "value"] if networks.torso is None else ["policy", "value", "torso"]
    still = [()] if len(config.passes) == 1 else [("value",), ("policy", "torso")]
    return [{name: name not in others for name in names} for others in still]


def _optimiser(networks, config, parts, learning_rate):
    if networks.optimiser is not None:
        return optimisers.of_all(networks.optimiser, parts, learning_rate)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(learning_rate, eps=config.adam_eps),
    )


def _as_trained(params, networks):
    """The parameters as they are trained, and the way back.

    As one flat vector instead of a dozen arrays: fewer kernels to compile and to start; own
    optimisers may look at the names.
    """
    if networks.optimiser is not None:
        return params, lambda params: params
    return ravel_pytree(params)


def progress(learner: Learner, batch: Transition, config: OnPolicyConfig) -> chex.Array:
    """The part of total_steps that was done before this rollout, in [0, 1]."""
    num_steps = batch.reward.size * parallel.size()
    return jnp.minimum(learner.iteration * (num_steps / jnp.float32(config.total_steps)), 1.0)


def update(
    learner: Learner,
    batch: Transition,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: OnPolicyConfig,
    objectives: dict[str, Loss],
    companion: Companion | None = None,
    first: Callable[..., tuple[Trained, Metrics, chex.Array]] = gradient_steps,
    estimate: Callable[..., tuple[Minibatch, Any]] = estimate,
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
      companion: what travels beside the parameters through the first series, if anything does.
      first: how the first series is taken, as `gradient_steps`.
      estimate: what makes minibatches of the rollout, as `estimation.estimate`.

    Returns:
      (learner, metrics). Metrics are averaged over the gradient steps; those in `DRIFT`, which
      start from zero in each iteration, over the last pass alone.

    Raises:
      ConfigError: the shapes of the batch do not fit each other, the networks or the config.
    """
    networks = networks._replace(policy=masks.masked(networks.policy, batch.obs))
    fitting.require_rollout(learner, batch, networks, config)
    data, statistics = estimate(learner, batch, networks, config)
    schedules = config.schedules(progress(learner, batch, config))
    learning_rate = schedules.get("learning_rate", config.learning_rate)
    if config.adaptive_lr:
        learning_rate = learner.learning_rate
    old_params, unravel = _as_trained(learner.params, networks)
    params = old_params
    opt_states = []
    metrics = {}
    pass_keys = [key] if len(objectives) == 1 else jax.random.split(key, len(objectives))
    companions = [companion, *[None] * (len(objectives) - 1)]
    ways = [first, *[gradient_steps] * (len(objectives) - 1)]
    carried = learner.companion
    for (norm_name, objective), counts, parts, opt_state, pass_key, beside, way in zip(
        objectives.items(),
        config.passes,
        trained_parts(networks, config),
        learner.opt_state,
        pass_keys,
        companions,
        ways,
        strict=True,
    ):

        def seen(params, minibatch, parts=parts):
            params = {
                name: x if parts[name] else jax.lax.stop_gradient(x)
                for name, x in unravel(params).items()
            }
            return params, minibatch._replace(obs=features(networks, params, minibatch.obs))

        loss = partial(objective, networks=networks, config=config)
        optimiser = partial(_optimiser, networks, config, parts)
        series = Series(loss, seen, optimiser, networks, config, beside)
        trained = Trained(
            params, opt_state, learning_rate, jnp.bool_(True), () if beside is None else carried
        )
        trained, new, norms = way(series, trained, data, pass_key, *counts)
        params, opt_state, learning_rate, _, new_carried = trained
        carried = carried if beside is None else new_carried
        opt_states.append(opt_state)
        metrics |= new | {norm_name: norms}
    adapted = learning_rate if config.adaptive_lr else ()
    new = (params, tuple(opt_states), *statistics, adapted, carried)
    obs_statistics, *return_statistics = statistics
    written = {
        "statistics of the observations": obs_statistics,
        "statistics of the returns": return_statistics,
        "loss": [x for name, x in metrics.items() if name.endswith("_loss")],
        "gradient": [metrics[name] for name in objectives],
        "parameter": params,
        "optimiser state": (opt_states, carried),
    }
    fault = guard.agreed(
        guard.first(
            learner.fault,
            guard.in_rollout((batch.obs, batch.next_obs), batch.reward, learner.iteration),
            guard.in_masks(batch.obs, learner.iteration),
            guard.in_update(written, learner.iteration),
        )
    )
    # After a fault nothing is written any more, until the run stops at the border of the chunk.
    params, *kept = guard.keep(guard.ok(fault), new, (old_params, *learner[1 : len(new)]))
    learner = Learner(unravel(params), *kept, iteration=learner.iteration + 1, fault=fault)
    metrics = jax.tree.map(jnp.mean, metrics)
    if optimisers.follows_learning_rate(networks.optimiser):
        metrics["charts/learning_rate"] = learning_rate
    if companion is not None:
        metrics |= companion.metrics(learner.companion)
    return learner, metrics


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
        mean, var = parallel.moments(advantage)
        advantage = (advantage - mean) / (jnp.sqrt(var) + 1e-8)
    return distribution, log_prob, advantage


def value_loss(
    params: Any, minibatch: Minibatch, *, networks: Networks, config: OnPolicyConfig
) -> chex.Array:
    """The loss of the value network, `[B]`."""
    value = networks.value.apply(params["value"], minibatch.obs)
    return losses.clipped_value_loss(
        value, minibatch.value, minibatch.target, clip_eps=config.vf_clip_eps
    )


def value_objective(
    params: Any,
    minibatch: Minibatch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: OnPolicyConfig,
) -> tuple[chex.Array, Metrics]:
    """vf_coef · value loss, averaged to a scalar, and metrics of each sample: the value network's
    objective where the policy has one of its own.
    """
    del key  # nothing is sampled
    each = value_loss(params, minibatch, networks=networks, config=config)
    return config.vf_coef * jnp.mean(each), {"losses/value_loss": each}


def drift_metrics(log_prob: chex.Array, old_log_prob: chex.Array) -> Metrics:
    """How far the policy has moved from the one that collected, `[B]` each."""
    return {
        "losses/approx_kl": losses.approx_kl(log_prob, old_log_prob),
        "losses/ratio_deviation": losses.ratio_deviation(log_prob, old_log_prob),
    }
