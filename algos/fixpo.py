"""FixPO (Zentner et al., 2023, "Guaranteed Trust Region Optimization via Two-Phase KL
Penalization", arXiv 2312.05405): a divergence that is bounded at every state of a rollout.

The policy maximises its advantage minus β·KL(π_old‖π), with β learned. After each pass a second
phase takes gradient steps on the divergence alone, until no state of the rollout is beyond
kl_bound. One `step` is one rollout of num_envs·num_steps environment steps,
update_epochs·num_minibatches gradient steps of the policy and as many of the value network, and
those of the second phase.

The bound holds for the rollout's observations as they were normalised when they were collected:
their statistics change after it, and the policy sees the next ones a little differently.

Differs from the released code in that the second phase is bounded, by max_fixup_passes: where they
do not do, the policy of before the iteration stands again, so that the bound holds in any case; in
that it looks at the whole rollout between its passes; in that policy and value network have an
optimiser each, so that what mends the policy moves it alone; and as PPO does here. The published
sizes are 8192 steps, 10 passes of minibatches of 512, with normalised observations and rewards.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core import guard, parallel
from .core.algorithm import Metrics, single
from .core.collect import Transition
from .core.config import ConfigError, configclass, static, traced
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.estimation import take
from .on_policy.gradient_steps import Companion, Series, Trained
from .on_policy.policy_gradient import Learner, Minibatch
from .on_policy.policy_gradient import value_objective as value_loss

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "policy_loss",
    "update",
    "value_loss",
]


@configclass
class Config(OnPolicyConfig):
    """Hyperparameters of FixPO."""

    kl_bound: float = traced(
        0.2,
        "ε, the largest KL(π_old‖π) that any state of a rollout may have after an iteration, in"
        " nats; inf does not bound it.",
        above=0,
        high=float("inf"),
    )
    kl_factor: float = traced(
        2.0, "C: β holds the largest divergence of a minibatch at kl_bound/C.", above=0
    )
    initial_beta: float = traced(1.0, "β, the weight of the divergence, at the start.", low=0)
    beta_learning_rate: float = traced(0.01, "Step size of Adam for β.", low=0)
    fixup_minibatches: int = static(
        2, "Minibatches that a rollout is cut into for the second phase.", low=1
    )
    max_fixup_passes: int = static(
        50,
        "Passes of the second phase, after which the old policy stands again; 0 takes none and"
        " bounds nothing.",
        low=0,
    )
    vf_coef: float = traced(
        0.5, "Weight of the value loss; matters only where its gradient is clipped.", low=0
    )
    normalize_advantage: bool = False

    MINIBATCHES = ("num_minibatches", "fixup_minibatches")
    PASSES = ("update_epochs", "update_epochs")

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        size = self.num_envs * (self.num_steps if self.memory == "none" else 1)
        if size % self.fixup_minibatches:
            what = "num_envs·num_steps" if self.memory == "none" else "num_envs"
            allowed = f"must divide {what} = {size}"
            raise ConfigError("fixup_minibatches", self.fixup_minibatches, allowed)

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(epochs, minibatches) of the policy and of the value network."""
        return ((self.update_epochs, self.num_minibatches),) * 2


class Penalty(NamedTuple):
    """The weight of the divergence, β, and its optimiser's state."""

    beta: chex.Array
    opt_state: Any


def start_penalty(params: Any, config: Config) -> Penalty:
    """β at the start of a run."""
    del params
    beta = jnp.array(config.initial_beta, jnp.float32)  # a buffer of its own
    return Penalty(beta, single(optax.adam(config.beta_learning_rate).init(beta)))


def penalty_slope(beta: chex.Array, kl: chex.Array, config: Config) -> chex.Array:
    """The gradient of β's loss by the divergences of a minibatch, `[B]`; 0 where nothing is
    bounded.
    """
    bounds = {"kl_bound": config.kl_bound, "kl_factor": config.kl_factor}
    grad = jax.grad(losses.fixpo_beta_loss)(beta, parallel.largest(jnp.max(kl)), **bounds)
    return jnp.where(jnp.isinf(config.kl_bound), 0.0, grad)


def step_penalty(penalty: Penalty, grad: chex.Array, config: Config) -> Penalty:
    """One step of Adam with a gradient of β's loss; β does not fall below 0."""
    updates, opt_state = optax.adam(config.beta_learning_rate).update(grad, penalty.opt_state)
    return Penalty(jnp.maximum(penalty.beta + updates, 0.0), opt_state)


def move_penalty(penalty: Penalty, params: Any, metrics: Metrics, config: Config) -> Penalty:
    """One gradient step of β by the divergences of a minibatch, `[B]`."""
    del params
    grad = penalty_slope(penalty.beta, metrics["losses/kl"], config)
    return step_penalty(penalty, grad, config)


def is_beyond(kl: chex.Array, config: Config) -> chex.Array:
    """Whether one of some divergences, in nats, is beyond the bound: bool scalar."""
    return jnp.max(kl) > config.kl_bound


def weight_of(penalty: Penalty, minibatch: Minibatch, series: Series) -> chex.Array:
    """β, as the loss gets it."""
    del minibatch, series
    return penalty.beta


def fix_up(
    series: Series, trained: Trained, start: Any, data: Minibatch
) -> tuple[Trained, Metrics]:
    """The second phase: passes over the rollout with a gradient step on β·KL and one of β for each
    minibatch that has a state beyond the bound, until the rollout has none.

    If config.max_fixup_passes do not do, the policy is that of `start`; β and the optimisers stay
    where they are, or the next iteration would fail likewise.
    """
    networks, config = series.networks, series.config

    def divergence(params, minibatch):
        params, minibatch = series.seen(params, minibatch)
        distribution = networks.policy.apply(params["policy"], minibatch.obs)
        return networks.head.kl(minibatch.distribution, distribution)

    def loss(params, minibatch, beta):
        kl = divergence(params, minibatch)
        return beta * jnp.mean(kl), kl

    def gradient_step(carry, indices):
        minibatch = data if config.fixup_minibatches == 1 else take(data, indices)
        grads, kl = jax.grad(loss, has_aux=True)(carry.params, minibatch, carry.companion.beta)
        grads = parallel.mean(grads)
        optimiser = series.optimiser(carry.learning_rate)
        updates, opt_state = optimiser.update(grads, carry.opt_state, carry.params)
        params = optax.apply_updates(carry.params, updates)
        penalty = move_penalty(carry.companion, params, {"losses/kl": kl}, config)
        new = carry._replace(params=params, opt_state=opt_state, companion=penalty)
        beyond = is_beyond(parallel.largest(jnp.max(kl)), config)
        return guard.keep(beyond, new, carry), beyond

    indices = jnp.arange(data.advantage.shape[-1]).reshape(config.fixup_minibatches, -1)

    def largest(params):
        return parallel.largest(jnp.max(divergence(params, data)))

    def one_pass(carry):
        trained, _, num_passes, num_steps = carry
        trained, taken = jax.lax.scan(gradient_step, trained, indices)
        return trained, largest(trained.params), num_passes + 1, num_steps + jnp.sum(taken)

    def goes_on(carry):
        _, max_kl, num_passes, _ = carry
        return is_beyond(max_kl, config) & (num_passes < config.max_fixup_passes)

    carry = (trained, largest(trained.params), jnp.int32(0), jnp.int32(0))
    trained, max_kl, _, num_steps = jax.lax.while_loop(goes_on, one_pass, carry)
    failed = is_beyond(max_kl, config) & (config.max_fixup_passes > 0)
    params = guard.keep(failed, start, trained.params)
    metrics = {
        "losses/max_kl": jnp.where(failed, 0.0, max_kl),
        "losses/fixup_steps": num_steps.astype(jnp.float32),
        "losses/fixup_failed": failed.astype(jnp.float32),
    }
    return trained._replace(params=params), metrics


def policy_loss(
    params: Any,
    minibatch: Minibatch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: Config,
    companion: chex.Array,
) -> tuple[chex.Array, Metrics]:
    """Policy loss − ent_coef · entropy, averaged to a scalar, and metrics of each sample. The
    companion is β.
    """
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    kl = networks.head.kl(minibatch.distribution, distribution)
    policy_loss = losses.fixpo_policy_loss(
        log_prob, minibatch.log_prob, advantage, kl, beta=companion
    )
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/entropy": entropy,
        "losses/kl": kl,
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss - config.ent_coef * entropy), metrics


def penalty_metrics(penalty: Penalty) -> Metrics:
    """β after an update."""
    return {"charts/beta": penalty.beta}


COMPANION = Companion(start_penalty, move_penalty, weight_of, fix_up, penalty_metrics)
init_learner = partial(policy_gradient.init_learner, companion=COMPANION)
# First the policy, held within the bound, then the value network.
update = partial(
    policy_gradient.update,
    objectives={"losses/policy_grad_norm": policy_loss, "losses/value_grad_norm": value_loss},
    companion=COMPANION,
)
make = loop.maker(Config, update, init_learner)
