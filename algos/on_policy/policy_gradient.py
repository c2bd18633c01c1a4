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
from ..core import fitting, guard, keys, masks, normalize, optimisers
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
        vector, or as they are if networks.optimiser is given.
      obs_statistics: running moments of the observations, or () without normalize_obs, or if none
        may be normalised.
      return_statistics: running moments of the discounted return, or () without normalize_reward.
      discounted_return: of the running episodes, `[N]`, or () without normalize_reward.
      learning_rate: where it is adapted to the divergence, or () without adaptive_lr.
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
            jnp.zeros(config.num_envs, jnp.float32) if config.normalize_reward else ()
        ),
        learning_rate=jnp.array(config.learning_rate, jnp.float32) if config.adaptive_lr else (),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def trained_parts(networks: Networks, config: OnPolicyConfig) -> list[dict[str, bool]]:
    """For each series of config.passes: which parts of the parameters it trains, by name.

    One series trains all, of two the first trains the policy and the second the value network; a
    torso is trained by each.
    """
    names = ["policy", "value"] if networks.torso is None else ["policy", "value", "torso"]
    still = [None] if len(config.passes) == 1 else ["value", "policy"]
    return [{name: name != other for name in names} for other in still]


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
    parts_of_each = trained_parts(networks, config)
    for (norm_name, objective), counts, parts, opt_state, pass_key in zip(
        objectives.items(), config.passes, parts_of_each, learner.opt_state, pass_keys, strict=True
    ):

        def loss(params, minibatch, key, objective=objective):
            params = unravel(params)
            minibatch = minibatch._replace(obs=features(networks, params, minibatch.obs))
            return objective(params, minibatch, key, networks=networks, config=config)

        optimiser = partial(_optimiser, networks, config, parts)
        trained = Trained(params, opt_state, learning_rate, jnp.bool_(True))
        trained, new, norms = _gradient_steps(
            trained, loss, data, pass_key, *counts, optimiser=optimiser, config=config
        )
        params, opt_state, learning_rate, _ = trained
        opt_states.append(opt_state)
        metrics |= new | {norm_name: norms}
    adapted = learning_rate if config.adaptive_lr else ()
    new = (params, tuple(opt_states), *statistics, adapted)
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
        guard.in_masks(batch.obs, learner.iteration),
        guard.in_update(written, learner.iteration),
    )
    # After a fault nothing is written any more, until the run stops at the border of the chunk.
    params, *kept = guard.keep(guard.ok(fault), new, (old_params, *learner[1 : len(new)]))
    learner = Learner(unravel(params), *kept, iteration=learner.iteration + 1, fault=fault)
    metrics = jax.tree.map(jnp.mean, metrics)
    if optimisers.follows_learning_rate(networks.optimiser):
        metrics["charts/learning_rate"] = learning_rate
    return learner, metrics


class Trained(NamedTuple):
    """What a series of gradient steps carries.

    Attributes:
      params: the parameters.
      opt_state: the optimiser's state.
      learning_rate: of the last step.
      going: bool, whether no minibatch was further from the old policy than config.target_kl.
    """

    params: Any
    opt_state: Any
    learning_rate: Any
    going: chex.Array


def _gradient_steps(trained, loss, data, key, num_epochs, num_minibatches, *, optimiser, config):
    """num_epochs·num_minibatches gradient steps; the metrics and the norms of the gradients are
    `[steps]`.

    A series whose metrics have the divergence from the old policy stops where it exceeds
    config.target_kl, as SB3 does, before the step that would have followed; and adapts the learning
    rate to it until then, see `adapted`. `optimiser` makes one of a learning rate.
    """
    names = []  # of the metrics, which travel as one vector for the same reason as the parameters

    def gradient_step(carry, inputs):
        indices, key_data = inputs
        (step_key,) = keys.unpack_keys(key_data, key)
        minibatch = data if num_minibatches == 1 else take(data, indices)
        grads, metrics = jax.grad(loss, has_aux=True)(carry.params, minibatch, step_key)
        means = {name: jnp.mean(x) for name, x in metrics.items()}
        learning_rate, going = carry.learning_rate, carry.going
        if "losses/approx_kl" in means:
            kl = means["losses/approx_kl"]
            if config.adaptive_lr:
                # The one that stops the steps is the last to be looked at: a policy that no longer
                # moves says nothing new.
                new = adapted(learning_rate, kl, desired_kl=config.desired_kl)
                learning_rate = jnp.where(going, new, learning_rate)
            going = going & (kl <= config.target_kl)
            means["losses/steps_taken"] = going.astype(jnp.float32)
        step = optimiser(learning_rate)
        updates, opt_state = step.update(grads, carry.opt_state, carry.params)
        params = optax.apply_updates(carry.params, updates)
        params, opt_state = guard.keep(going, (params, opt_state), carry[:2])
        names[:] = means
        numbers = jnp.stack([*means.values(), optax.tree.norm(grads)])
        return Trained(params, opt_state, learning_rate, going), numbers

    num_steps = num_epochs * num_minibatches
    shuffle_key, loss_key = jax.random.split(key)
    size = data.advantage.shape[-1]  # transitions, or environments where networks remember
    indices = keys.shuffled_indices(shuffle_key, num_epochs, size).reshape(num_steps, -1)
    key_data = keys.split_for_scan(loss_key, num_steps, 1)
    trained, metrics = jax.lax.scan(gradient_step, trained, (indices, key_data))
    *columns, norms = metrics.T
    metrics = dict(zip(names, columns, strict=True))
    metrics = {name: x[-num_minibatches:] if name in DRIFT else x for name, x in metrics.items()}
    return trained, metrics, norms


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
