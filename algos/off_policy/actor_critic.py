"""What the off-policy actor-critic algorithms update, and how: a critic and an actor update, put
into blocks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ...envs import Environment
from ..core import collect, fitting, guard, memory, normalize
from ..core.algorithm import Metrics, single
from ..core.config import ConfigError, configclass, static, traced
from ..core.memory import Part
from ..core.networks import ACTIVATIONS, INITIALISERS
from .collection import DTYPES, ReplayConfig


@configclass
class OffPolicyConfig(ReplayConfig):
    """What the off-policy actor-critic algorithms have in common."""

    learning_rate: float = traced(3e-4, "Step size of Adam, for actor and critics.", above=0)
    num_updates: int = static(1, "Critic updates per vector step.", low=1)
    policy_delay: int = static(1, "Critic updates per actor update.", low=1)
    n_step: int = static(1, "Rewards that are summed before bootstrapping.", low=1)
    normalize_obs: bool = static(
        False, "Whether observations are normalised by running statistics."
    )
    actor_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the actor's hidden layers.", low=1
    )
    critic_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the critics' hidden layers.", low=1
    )
    activation: str = static("relu", "Activation of all networks.", choices=tuple(ACTIVATIONS))
    layer_norm: bool = static(False, "Whether the hidden layers are normalised.")
    initialiser: str = static(
        "uniform", "Initialisation of all networks.", choices=tuple(INITIALISERS)
    )
    dtype: str = static("float32", "What the networks compute in.", choices=tuple(DTYPES))

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.num_updates % self.policy_delay and self.policy_delay % self.num_updates:
            allowed = f"must divide num_updates = {self.num_updates}, or be a multiple of it"
            raise ConfigError("policy_delay", self.policy_delay, allowed)

    @property
    def window(self) -> int:
        """Consecutive steps that a sample is made of."""
        return self.n_step

    @property
    def rows_per_step(self) -> int:
        """Vector steps in one `step`."""
        return max(1, self.policy_delay // self.num_updates)

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        obs, action = (
            memory.space_bytes(env.observation_space),
            memory.space_bytes(env.action_space),
        )
        rows = float(self.rows_per_step * self.num_updates * self.batch_size)
        # obs and next_obs, action, reward, discount; place, reward and flags of each step of a
        # window
        needed = rows * (2 * obs + action + 8 + self.n_step * (8 + 4 + 2))
        sizes = ("batch_size", "num_updates", "policy_delay", "n_step")
        return [*super().memory_parts(env), Part(sizes, needed, "the minibatches of a step")]

    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adam(self.learning_rate)


class Batch(NamedTuple):
    """What an update learns from: n-step transitions; every leaf `[..., B, ...]`.

    Attributes:
      obs: normalised, if the config says so.
      action: in [−1, 1]^d, or a class.
      reward: the discounted sum of up to n rewards.
      discount: the factor of the bootstrap, γ^k·(1 − terminated).
      next_obs: the observation to bootstrap from, normalised likewise.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    discount: chex.Array
    next_obs: Any


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: parameters by name: "actor", "critic" (an ensemble, leaves `[2, ...]`), and what else
        is learned.
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


def learner_of(
    params: dict[str, Any], targets: tuple[str, ...], *, env: Environment, config: OffPolicyConfig
) -> Learner:
    """A learner before its first update; `targets` names the parameters that get a target copy."""
    params = single(params)
    return Learner(
        params=params,
        targets={name: jax.tree.map(jnp.copy, params[name]) for name in targets},
        opt_state={name: config.optimiser().init(each) for name, each in params.items()},
        obs_statistics=normalize.of_space(env.observation_space) if config.normalize_obs else (),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def normalize_obs(learner: Learner, obs: Any) -> Any:
    """Observations as the networks see them."""
    return normalize.apply(learner.obs_statistics, obs) if learner.obs_statistics else obs


def descend(
    learner: Learner, name: str, loss: Callable, config: OffPolicyConfig
) -> tuple[Learner, Metrics]:
    """One gradient step on params[name]; loss: params[name] -> (scalar, metrics)."""
    params = learner.params[name]
    grads, metrics = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = config.optimiser().update(grads, learner.opt_state[name], params)
    params = optax.apply_updates(params, updates)
    metrics[f"losses/{name}_grad_norm"] = optax.tree.norm(grads)
    learner = learner._replace(
        params=learner.params | {name: params}, opt_state=learner.opt_state | {name: opt_state}
    )
    return learner, metrics


def follow(learner: Learner, name: str, config: OffPolicyConfig) -> Learner:
    """Moves targets[name] towards params[name]: (1 − tau)·target + tau·params."""
    target = optax.incremental_update(learner.params[name], learner.targets[name], config.tau)
    return learner._replace(targets=learner.targets | {name: target})


def update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Any,
    config: OffPolicyConfig,
    critic_update: PartUpdate,
    actor_update: PartUpdate,
) -> tuple[Learner, Metrics]:
    """Takes a critic update on each of K minibatches, and an actor update after every policy_delay
    of them.

    If a number in the losses, the gradients or what would be written is not finite, or a parameter
    or target has diverged, nothing changes but `learner.fault` and the count of iterations, and so
    it stays.

    Args:
      learner: what is to be updated.
      batch: K minibatches, every leaf `[K, B, ...]`; K must be a multiple of config.policy_delay.
      key: a typed key, for what is sampled in the updates.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      critic_update: the algorithm's update of its critics.
      actor_update: the algorithm's update of its actor, on the last minibatch of a block.

    Returns:
      (learner, metrics averaged over the updates).

    Raises:
      ConfigError: the shapes of the batch do not fit each other, the networks or the config.
    """
    fitting.require_minibatches(learner, batch, networks, config)
    delay = config.policy_delay
    num_blocks = batch.reward.shape[0] // delay
    blocks = jax.tree.map(lambda x: x.reshape(num_blocks, delay, *x.shape[1:]), batch)

    def part(update_part):
        def one(learner, inputs):
            minibatch, key_data = inputs
            (part_key,) = collect.unpack_keys(key_data[None], key)
            return update_part(learner, minibatch, part_key, networks=networks, config=config)

        return one

    def block(learner, inputs):
        minibatches, key_data = inputs
        learner, critic_metrics = jax.lax.scan(
            part(critic_update), learner, (minibatches, key_data[:delay])
        )
        last = jax.tree.map(lambda x: x[-1], minibatches)
        learner, actor_metrics = part(actor_update)(learner, (last, key_data[delay]))
        return learner, jax.tree.map(jnp.mean, critic_metrics) | actor_metrics

    key_data = collect.split_for_scan(key, num_blocks, delay + 1)
    new, metrics = jax.lax.scan(block, learner, (blocks, key_data))
    metrics = jax.tree.map(jnp.mean, metrics)
    written = {
        "loss": [x for name, x in metrics.items() if name.endswith("_loss")],
        "gradient": [x for name, x in metrics.items() if name.endswith("_grad_norm")],
        "parameter": (new.params, new.targets),
        "optimiser state": new.opt_state,
    }
    fault = guard.first(learner.fault, guard.in_update(written, learner.iteration))
    learner = guard.keep(guard.ok(fault), new, learner)
    return learner._replace(iteration=learner.iteration + 1, fault=fault), metrics
