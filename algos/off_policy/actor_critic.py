"""What the off-policy actor-critic algorithms update, and how: a critic and an actor update, put
into blocks.

Arguments that recur here and beside it (`deterministic`, `soft`, `categorical`, the papers): the
`learner` that is to be updated, a `batch` of B n-step transitions, a typed `key`, the `networks`
that belong to `learner.params`, and the `config`, the hyperparameters. C is config.num_critics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ... import losses
from ...envs import Discrete, Environment
from ..core import fitting, guard, keys, masks, normalize, optimisers, parallel
from ..core.algorithm import Metrics, single
from ..core.networks import sample_obs
from ..core.recurrent import map_obs, present
from .config import OffPolicyConfig
from .networks import (
    Networks,
    apply_ensemble_in_training,
    apply_in_training,
    init_ensemble,
    trained,
    with_trained,
)


class Batch(NamedTuple):
    """What an update learns from: n-step transitions; every leaf `[..., B, ...]`, and `[..., T, B,
    ...]` where networks remember.

    Attributes:
      obs: as the environment shows it; an update normalises it, if the config says so. A `Sequence`
        where networks remember, and next_obs too.
      action: in [−1, 1]^d, or a class.
      reward: the discounted sum of up to n rewards.
      discount: the factor of the bootstrap, γ^k·(1 − terminated).
      next_obs: the observation to bootstrap from.
      weight: of each in the critics' loss; () counts all the same.
      next_action: what was done at next_obs, of stored data; () where nobody asks for it.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    discount: chex.Array
    next_obs: Any
    weight: Any = ()
    next_action: Any = ()


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: the networks' variables by name: "actor", "critic" (an ensemble, leaves `[C, ...]`),
        and what else is learned.
      targets: the slowly following copies, of those that have one.
      opt_state: the optimisers' states, under the names of params.
      obs_statistics: running moments of the observations, or () without normalize_obs, or if none
        may be normalised.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: dict[str, Any]
    targets: dict[str, Any]
    opt_state: dict[str, Any]
    obs_statistics: Any
    iteration: chex.Array
    fault: chex.Array


# (learner, batch `[B, ...]`, key, *, networks, config) -> (learner, metrics)
PartUpdate = Callable[..., tuple[Learner, Metrics]]

TD_ERROR = "td_error"  # the metric that is not a mean


def init_learner(
    key: chex.PRNGKey,
    *,
    env: Environment,
    networks: Networks,
    config: OffPolicyConfig,
    targets: tuple[str, ...],
    **more: Any,
) -> Learner:
    """Fresh parameters, config.num_critics critics that start apart, optimisers and statistics; no
    critics where networks.critic is None.

    Args:
      key: a typed key.
      env: the environment.
      networks: the networks.
      config: the hyperparameters.
      targets: the names of the parameters that get a target copy.
      **more: what is learned beside actor and critics, by name.
    """
    obs = sample_obs(env)
    space = env.action_space
    inputs = (obs,) if isinstance(space, Discrete) else (obs, jnp.zeros(space.shape))
    actor_key, critic_key = jax.random.split(key)
    actor = networks.actor.init(actor_key, obs)
    params = {"actor": actor}
    if networks.critic is not None:
        params["critic"] = init_ensemble(networks.critic, critic_key, config.num_critics, *inputs)
    params = single(params | more)
    return Learner(
        params=params,
        targets={name: jax.tree.map(jnp.copy, params[name]) for name in targets},
        opt_state={
            name: single(_optimiser(networks, name, config).init(trained(x)))
            for name, x in params.items()
        },
        obs_statistics=normalize.of_space(env.observation_space) if config.normalize_obs else (),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def _optimiser(networks, name, config):
    if networks.optimiser is None:
        return config.optimiser(name)
    return optimisers.of_part(networks.optimiser, name, config.learning_rate)


def gradient_step(
    learner: Learner,
    name: str,
    loss: Callable[[Any], tuple[chex.Array, Metrics]],
    key: chex.PRNGKey | None = None,
    *,
    networks: Networks,
    config: OffPolicyConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step on params[name]: "actor", "critic", or what else is learned.

    `loss` takes what is trained, and gives (scalar, metrics). It takes the actor or all critics as
    a function of their inputs, in training mode (the critics' outputs are `[C, B, ...]`), and the
    parameters themselves of all else. Networks that sample, and they alone, need a key; what they
    draw by is folded from it.
    """
    variables = learner.params[name]
    module = getattr(networks, name, None)
    apply = apply_ensemble_in_training if name == "critic" else apply_in_training

    def of_params(params):
        if module is None:
            value, metrics = loss(params)
            return value, (metrics, {})
        others = {}

        def network(*inputs):
            output, changed = apply(module, with_trained(variables, params), key, *inputs)
            others.update(changed)
            return output

        value, metrics = loss(network)
        return value, (metrics, others)

    params = trained(variables)
    grads, (metrics, others) = jax.grad(of_params, has_aux=True)(params)
    grads, others = parallel.mean((grads, others))
    optimiser = _optimiser(networks, name, config)
    updates, opt_state = optimiser.update(grads, learner.opt_state[name], params)
    variables = with_trained(variables, optax.apply_updates(params, updates), others)
    learner = learner._replace(
        params=learner.params | {name: variables}, opt_state=learner.opt_state | {name: opt_state}
    )
    return learner, metrics | {f"losses/{name}_grad_norm": optax.tree.norm(grads)}


def update_target(
    learner: Learner, name: str, config: OffPolicyConfig, rate: chex.Array | None = None
) -> Learner:
    """Moves targets[name] towards params[name]: (1 − rate)·target + rate·params, by default at the
    rate config.tau; counters of other collections are copied.
    """
    rate = config.tau if rate is None else rate

    def mixed(new, old):
        floating = jnp.issubdtype(new.dtype, jnp.floating)
        return optax.incremental_update(new, old, rate) if floating else new

    target = jax.tree.map(mixed, learner.params[name], learner.targets[name])
    return learner._replace(targets=learner.targets | {name: target})


def squared(q: chex.Array, target: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """How critics that put out a number regress to a target: loss, Q and TD error, `[C, B]`."""
    return losses.squared_td_loss(q, target), q, q - target


def update_critics(
    learner: Learner,
    batch: Batch,
    target: chex.Array,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: OffPolicyConfig,
    regression: Callable[..., tuple[chex.Array, chex.Array, chex.Array]] = squared,
    scale: float = 1.0,
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics, on `scale` times a loss that is summed over them.

    The target is of each critic, `[C, B, ...]`, or one of all, `[B, ...]`; `regression` gives loss,
    Q and TD error, `[C, B]`, of outputs and targets, `[C, B, ...]`. The metric `td_error`, `[B]`,
    is the mean of its size over the critics.
    """

    def critic_loss(critics):
        outputs = q_of_action(critics, batch)
        parts = regression(outputs, jnp.broadcast_to(target, outputs.shape))
        return summed(parts, batch, scale)

    return gradient_step(learner, "critic", critic_loss, key, networks=networks, config=config)


def summed(
    parts: tuple[chex.Array, chex.Array, chex.Array], batch: Batch, scale: float
) -> tuple[chex.Array, Metrics]:
    """`scale` times the critics' loss, a mean over what the batch weighs, summed over them; and its
    metrics. `parts` are loss, Q and TD error, `[C, B]`; of `td_error` see `update_critics`.
    """
    each, q, td_error = parts
    each = each if isinstance(batch.weight, tuple) else each * batch.weight[None]
    total = scale * jnp.sum(jnp.mean(each, axis=tuple(range(1, each.ndim))))
    return total, {
        "losses/critic_loss": total,
        "losses/q": jnp.mean(q),
        TD_ERROR: jnp.mean(jnp.abs(td_error), axis=0),
    }


def q_of_action(critics: Callable[..., chex.Array], batch: Batch) -> chex.Array:
    """The critics' outputs for the actions that were taken, `[C, B, ...]`."""
    if jnp.issubdtype(batch.action.dtype, jnp.floating):
        return critics(batch.obs, batch.action)
    return jnp.take_along_axis(critics(batch.obs), batch.action[None, ..., None], axis=-1)[..., 0]


def no_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Any
) -> tuple[Learner, Metrics]:
    """The `critic_update` of an algorithm without critics."""
    del key, networks, config
    return learner, {TD_ERROR: jnp.zeros_like(batch.reward)}


def update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: OffPolicyConfig,
    critic_update: PartUpdate,
    actor_update: PartUpdate,
    prepare: Callable[[Learner, OffPolicyConfig], Learner] = lambda learner, config: learner,
    obs_statistics: Any = None,
) -> tuple[Learner, Metrics]:
    """Takes a critic update on each of K minibatches, and an actor update after every policy_delay
    of them.

    Observations are normalised by the statistics from before, which change after the updates. If a
    number in the losses, the gradients or what would be written is not finite, or a parameter or
    target has diverged, nothing changes but `learner.fault` and the count of iterations, and so it
    stays.

    Args:
      learner: what is to be updated.
      batch: K minibatches, every leaf `[K, B, ...]`; K must be a multiple of config.policy_delay.
      key: a typed key, for what is sampled in the updates.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      critic_update: the algorithm's update of its critics.
      actor_update: the algorithm's update of its actor, on the last minibatch of a block.
      prepare: (learner, config) -> the learner that the first of the updates begins with.
      obs_statistics: the statistics after the update, of a stream of observations that is known
        better than by minibatches of it; by default those of `batch.obs` join the learner's.

    Returns:
      (learner, metrics averaged over the updates). `metrics["td_error"]` alone is `[K, B]`: the
      mean over the critics of |Q − target|.

    Raises:
      ConfigError: the shapes of the batch do not fit each other, the networks or the config.
    """
    networks = networks._replace(actor=masks.masked(networks.actor, present(batch.obs)))
    fitting.require_minibatches(learner, batch, networks, config)
    config = config.annealed(learner.iteration)
    if obs_statistics is None:
        obs_statistics = normalize.obs_statistics(learner, present(batch.obs))
    normalized = partial(map_obs, partial(normalize.obs, learner))
    batch = batch._replace(obs=normalized(batch.obs), next_obs=normalized(batch.next_obs))
    delay = config.policy_delay
    num_blocks = batch.reward.shape[0] // delay
    blocks = jax.tree.map(lambda x: x.reshape(num_blocks, delay, *x.shape[1:]), batch)

    def part(update_part):
        def one(learner, inputs):
            minibatch, key_data = inputs
            (part_key,) = keys.unpack_keys(key_data[None], key)
            return update_part(learner, minibatch, part_key, networks=networks, config=config)

        return one

    def block(learner, inputs):
        minibatches, key_data = inputs
        learner, metrics = jax.lax.scan(
            part(critic_update), learner, (minibatches, key_data[:delay])
        )
        last = jax.tree.map(lambda x: x[-1], minibatches)
        learner, actor_metrics = part(actor_update)(learner, (last, key_data[delay]))
        td_error = metrics.pop(TD_ERROR)
        return learner, (jax.tree.map(jnp.mean, metrics) | actor_metrics, td_error)

    key_data = keys.split_for_scan(key, num_blocks, delay + 1)
    start = prepare(learner, config)
    new, (metrics, td_error) = jax.lax.scan(block, start, (blocks, key_data))
    metrics = jax.tree.map(jnp.mean, metrics)
    new = new._replace(obs_statistics=obs_statistics)
    written = {
        "statistics of the observations": obs_statistics,
        "loss": [x for name, x in metrics.items() if name.endswith("_loss")],
        "gradient": [x for name, x in metrics.items() if name.endswith("_grad_norm")],
        "parameter": (new.params, new.targets),
        "optimiser state": new.opt_state,
    }
    found = guard.in_update(written, learner.iteration)
    fault = guard.agreed(guard.first(learner.fault, found))
    learner = guard.keep(guard.ok(fault), new, learner)
    if optimisers.follows_learning_rate(networks.optimiser):
        metrics["charts/learning_rate"] = jnp.asarray(config.learning_rate)
    metrics[TD_ERROR] = td_error.reshape(batch.reward.shape)
    return learner._replace(iteration=learner.iteration + 1, fault=fault), metrics
