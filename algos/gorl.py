"""GoRL (Zhang et al., 2025, arXiv 2512.02581): PPO on the noise that a flow turns into actions.

PPO's Gaussian policy, here the encoder, draws ε; the decoder, a flow, takes it to an action before
a tanh; log-probabilities are ε's, of which the decoder changes nothing while it stands still.
Training is in stages of stage_iterations. In the first the decoder is the identity. Before each
other one a fresh decoder is fitted by flow matching, from standard normal noise, to the actions of
the stage's last rollouts, and encoder and value network begin anew: what was learned is in the
decoder then. The last stage goes on to the end. With num_stages = 1, latent_coef = 0 and ent_coef =
0 it is PPO with policy="tanh_gaussian".

One `step` is as in PPO; the first of a stage takes fit_steps gradient steps of the decoder before.
Differs from the published code in that the encoder is PPO's (there deeper, with a standard
deviation for each state), that clipping, latent_coef and the norm of the gradient are the same in
all stages (there they grow after the first), that a gradient step draws one time and noise for an
action (there 8), and that a fit is compared with held out actions fit_checks times and not after
each pass over the data.

Its claim is more modes than a Gaussian has. As published it does not show on
scripts/evidence/gorl_two_bumps.py: a decoder is fitted to actions of a Gaussian, which has chosen
one of two bumps already, or is so wide that the flow to it is nearly linear. Both are found where
the fit takes actions by their advantage (fit_beta; the published code has a filter by reward, which
is off) and the encoder is held near the noise that a decoder is fitted from: with latent_coef =
½·d·ent_coef the two add up to ent_coef·KL(encoder‖N(0, I)), but for a constant.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Box, Environment
from .core import device_memory, guard, normalize, parallel
from .core.algorithm import Metrics, single
from .core.collect import Carry, Collector, Policy, Transition
from .core.config import ConfigError, configclass, static, traced
from .core.device_memory import Part
from .core.flow_fitting import HELD_OUT, fit_flow
from .core.generative import Field, euler
from .core.heads import ActionHead, gaussian_head
from .core.networks import VECTOR, Networks, actor_obs, make_actor_critic, make_torso, sample_obs
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.estimation import estimate
from .on_policy.policy_gradient import Learner, Minibatch, init_learner

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "init_learner",
    "loss",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(OnPolicyConfig):
    """Hyperparameters of GoRL."""

    clip_eps: float = traced(
        0.2, "Half-width of the interval of ratios that are not clipped.", above=0
    )
    latent_coef: float = traced(
        5e-4, "Weight of the encoder's squared mean and standard deviation.", low=0
    )
    num_stages: int = static(4, "Stages, each with a decoder of its own.", low=1)
    stage_iterations: int = static(60, "Iterations of a stage; the last has those left.", low=1)
    kept_rollouts: int = static(8, "Rollouts at a stage's end that a decoder is fitted to.", low=1)
    flow_steps: int = static(10, "Euler steps from noise to an action.", low=1)
    decoder_hidden_sizes: tuple[int, ...] = static(
        (64, 64, 64, 64), "Widths of the decoder's hidden layers.", low=1
    )
    decoder_learning_rate: float = traced(3e-4, "Step size of Adam, for the decoder.", above=0)
    fit_beta: float = traced(
        0.0, "β: a fit's actions are drawn by exp(β·standardised advantage); 0: each once.", low=0
    )
    fit_steps: int = static(2_000, "Gradient steps of a fit.", low=1)
    fit_batch: int = static(512, "Actions in a minibatch of a fit.", low=1)
    fit_checks: int = static(10, "How often in a fit the best decoder is looked for.", low=1)

    ACTION_SPACES = (Box,)
    MAY_REMEMBER = False

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        shape = actor_obs(env.observation_space).shape
        if len(shape) != 1:
            allowed = "must be a vector: the action under way stands beside it"
            raise ConfigError("env.observation_space", shape, allowed)
        for name, nothing in (("staleness", 0), ("policy", "gaussian")):
            if getattr(self, name) != nothing:
                allowed = f"must be {nothing!r}: encoder and decoder go together"
                raise ConfigError(name, getattr(self, name), allowed)
        if self.kept_rollouts > self.stage_iterations:
            allowed = f"must be at most stage_iterations = {self.stage_iterations}"
            raise ConfigError("kept_rollouts", self.kept_rollouts, allowed)
        if self.fit_steps % self.fit_checks:
            allowed = f"must divide fit_steps = {self.fit_steps}"
            raise ConfigError("fit_checks", self.fit_checks, allowed)
        rows = self.kept_rollouts * self.num_envs * self.num_steps
        if self.num_stages > 1 and rows < HELD_OUT:
            raise ConfigError("kept_rollouts", self.kept_rollouts, f"must hold {HELD_OUT} steps")

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        if self.num_stages == 1:
            return super().memory_parts(env)
        obs, action = map(device_memory.space_bytes, (env.observation_space, env.action_space))
        rows = float(self.kept_rollouts * self.num_envs * self.num_steps)
        part = Part(("kept_rollouts",), rows * (obs + action + 4), "the rollouts of a fit")
        return [*super().memory_parts(env), part]


class Decoded(NamedTuple):
    """What a run carries beside the learner.

    Attributes:
      decoder: the velocity's parameters; all 0 in the first stage.
      obs: of the last rollouts, as the environment shows them, `[kept_rollouts, T, N, ...]`; ()
        where there is one stage.
      action: what they were answered by, before the tanh, `[kept_rollouts, T, N, d]`, or ().
      advantage: of these actions, `[kept_rollouts, T, N]`, or ().
    """

    decoder: Any
    obs: Any
    action: Any
    advantage: Any


def latent_head(space: Box) -> ActionHead:
    """The head of a policy over noise: what is stored is noise and action before the tanh, behind
    each other, `[..., 2·d]`. Its own samples are those of a decoder that is the identity.
    """
    head = gaussian_head(space)
    size = head.size

    def twice(noise):
        return jnp.concatenate([noise, noise], axis=-1)

    return head._replace(
        sample=lambda key, d: twice(head.sample(key, d)),
        log_prob=lambda action, d: head.log_prob(action[..., :size], d),
        mode=lambda d: twice(d.mean),
        to_env=lambda action: space.from_unit(jnp.tanh(action[..., size:])),
    )


def make_networks(env: Environment, config: Config) -> Networks:
    """PPO's, with a policy over noise."""
    return make_actor_critic(env, config)._replace(head=latent_head(env.action_space))


def make_decoder(size: int, config: Config) -> Field:
    """The velocity of the decoder, as the config says."""
    layers = make_torso(VECTOR, config.decoder_hidden_sizes, "silu", "lecun")
    return Field(layers, size, "lecun")


def decode(params: dict[str, Any], obs: Any, noise: chex.Array) -> chex.Array:
    """The action before the tanh that noise `[..., d]` flows to, by params["decoder"]."""
    config = params["config"]
    field = make_decoder(noise.shape[-1], config)
    return euler(lambda x, t: field.apply(params["decoder"], obs, x, t), noise, config.flow_steps)


def acting(state: loop.State) -> dict[str, Any]:
    """What acts: encoder, decoder and hyperparameters."""
    decoder = state.behaviour.decoder
    return state.learner.params | {"decoder": decoder, "config": state.config}


def make_policy(env: Environment, networks: Networks) -> Policy:
    """PPO's, over noise, and what the decoder makes of it."""
    encoder, size = loop.make_policy(env, networks), networks.head.size

    def decoded(params, obs, action):
        noise = action[..., :size]
        return jnp.concatenate([noise, decode(params, obs, noise)], axis=-1)

    def explore(params, memory, obs, key):
        action, log_prob, memory = encoder.explore(params, memory, obs, key)
        return decoded(params, obs, action), log_prob, memory

    def act(params, memory, obs):
        action, memory = encoder.act(params, memory, obs)
        return decoded(params, obs, action), memory

    return Policy(explore, act)


def init_decoded(learner: Learner, env: Environment, config: Config) -> Decoded:
    """A decoder that is the identity, and no rollouts yet."""
    del learner
    size = env.action_space.shape[0]
    obs = sample_obs(env)
    decoder = make_decoder(size, config).init(jax.random.key(0), obs)
    decoder = single(jax.tree.map(jnp.zeros_like, decoder))
    if config.num_stages == 1:
        return Decoded(decoder, (), (), ())
    lead = (config.kept_rollouts, config.num_steps, parallel.share(config.num_envs))
    kept = jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), obs)
    return Decoded(decoder, kept, jnp.zeros((*lead, size)), jnp.zeros(lead))


def collect(
    collector: Collector,
    policy: Policy,
    networks: Networks,
    learner: Learner,
    carried: Decoded,
    config: Config,
    carry: Carry,
    key: chex.PRNGKey,
) -> tuple[Carry, Transition, Any, Decoded, Metrics]:
    """A rollout through the decoder, which is kept in the place of the oldest."""
    params = learner.params | {"decoder": carried.decoder, "config": config}

    def explore(memory, obs, key):
        return policy.explore(params, memory, normalize.obs(learner, obs), key)

    carry, _, batch, episodes = collector.collect(explore, config, carry, key, config.num_steps)
    if config.num_stages > 1:
        advantage = estimate(learner, batch, networks, config)[0].advantage
        new = (
            batch.obs,
            batch.action[..., networks.head.size :],
            advantage.reshape(batch.reward.shape),
        )
        kept = jax.tree.map(lambda x, y: jnp.concatenate([x[1:], y[None]]), carried[1:], new)
        carried = Decoded(carried.decoder, *kept)
    return carry, batch, episodes, carried, {}


def resample(advantage: chex.Array, beta: chex.Array) -> chex.Array:
    """Rows of as many samples, each as often as exp(β·advantage) says, rounded: advantages `[M]`,
    which are standardised first, to `[M]` of int32, in their order. With β = 0 each row once.
    """
    mean, var = parallel.moments(advantage)
    standard = (advantage - mean) / (jnp.sqrt(var) + 1e-8)
    share = jnp.cumsum(jax.nn.softmax(beta * standard))
    number = len(advantage)
    rows = jnp.searchsorted(share, (jnp.arange(number) + 0.5) / number)
    return jnp.minimum(rows, number - 1)  # of shares whose sum was rounded down


def begin(
    state: loop.State, key: chex.PRNGKey, init_learner: Any, networks: Networks
) -> loop.State:
    """The State as a new stage begins with it: a decoder of the last rollouts, and a fresh encoder
    and value network; in other iterations the State as it is.
    """
    del networks
    config, learner, carried = state.config, state.learner, state.behaviour
    if config.num_stages == 1:
        return state
    stage, number = jnp.divmod(learner.iteration, config.stage_iterations)
    starts = (number == 0) & (stage > 0) & (stage < config.num_stages)
    fit_key, learner_key = jax.random.split(key)
    obs, action, advantage = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), carried[1:])
    rows = resample(advantage, config.fit_beta)
    obs, action = jax.tree.map(lambda x: x[rows], (obs, action))
    decoder = fit_flow(
        make_decoder(action.shape[-1], config),
        normalize.obs(learner, obs),
        action,
        fit_key,
        num_rounds=jnp.where(starts, config.fit_checks, 0),
        steps_per_round=config.fit_steps // config.fit_checks,
        batch_size=config.fit_batch,
        learning_rate=config.decoder_learning_rate,
    )
    fault = guard.in_update({"parameter": decoder}, learner.iteration)
    fault = guard.agreed(guard.first(learner.fault, fault))
    fresh = init_learner(parallel.same(learner_key), config=config)
    new = carried._replace(decoder=decoder), fresh.params, fresh.opt_state, fresh.learning_rate
    old = carried, learner.params, learner.opt_state, learner.learning_rate
    kept = guard.keep(starts & guard.ok(fault), new, old)
    carried, params, opt_state, learning_rate = kept
    learner = learner._replace(
        params=params, opt_state=opt_state, learning_rate=learning_rate, fault=fault
    )
    return state._replace(learner=learner, behaviour=carried)


def loss(
    params: Any, minibatch: Minibatch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[chex.Array, Metrics]:
    """Policy loss + vf_coef · value loss − ent_coef · entropy + latent_coef · the encoder's size,
    averaged to a scalar, and metrics of each sample.
    """
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    policy_loss = losses.ppo_clip_loss(
        log_prob, minibatch.log_prob, advantage, clip_eps=config.clip_eps
    )
    value_loss = policy_gradient.value_loss(params, minibatch, networks=networks, config=config)
    entropy = networks.head.entropy(key, distribution)
    squares = jnp.square(distribution.mean) + jnp.exp(2.0 * distribution.log_std)
    size = jnp.mean(squares, axis=-1)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/value_loss": value_loss,
        "losses/entropy": entropy,
        "losses/latent_size": size,
        "losses/clip_fraction": losses.clip_fraction(
            log_prob, minibatch.log_prob, clip_eps=config.clip_eps
        ),
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return jnp.mean(total + config.latent_coef * size), metrics


update = partial(policy_gradient.update, objectives={"losses/grad_norm": loss})
make = loop.maker(
    Config,
    update,
    make_policy=make_policy,
    behaviour=loop.Behaviour(init_decoded, collect, begin, acting),
    make_networks=make_networks,
)
