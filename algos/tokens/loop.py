"""The loop of the tokens: draw prompts, have the policy write groups of answers, judge them, and
update.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import TokenEnvironment
from ...losses.sequences import rewards
from ..core import collect, device_memory, fitting, guard, optimisers, parallel
from ..core.algorithm import Algorithm, Metrics
from ..core.config import ConfigError
from ..core.device_memory import Part
from ..core.optimisers import Optimiser
from . import policy
from .batch import Answered, batch_of
from .config import Config
from .objectives import OBJECTIVES
from .samplers import SAMPLERS, Sampler, prompts_of
from .update import Objective, init_learner, moved, update


class State(NamedTuple):
    """Everything that a run carries; `sampler` is what the `Sampler` knows, () if nothing, and
    `average` that of `core.averaging`, () without one.
    """

    config: Any
    learner: Any
    key: chex.PRNGKey
    sampler: Any
    average: Any = ()


def make_network(env: TokenEnvironment, config: Config) -> nn.Module:
    """The policy, as the config says."""
    return policy.Recurrent(env.num_tokens, config.hidden_size)


def answer(
    params: Any,
    key: chex.PRNGKey,
    *,
    env: TokenEnvironment,
    network: nn.Module,
    num_prompts: int,
    group_size: int,
) -> Answered:
    """Draws prompts, has the policy write answers, and judges them."""
    prompt_key, token_key = jax.random.split(key)
    prompts = prompts_of(env, prompt_key, num_prompts)
    return respond(params, prompts, token_key, env=env, network=network, group_size=group_size)


def respond(
    params: Any,
    prompts: chex.Array,
    key: chex.PRNGKey,
    *,
    env: TokenEnvironment,
    network: nn.Module,
    group_size: int,
) -> Answered:
    """Has the policy write group_size answers to each prompt, int32 `[N, P]`, and judges them."""
    written = policy.sample(network, params, prompts, key, env=env, group_size=group_size)

    def of_each(judge):
        return jax.vmap(jax.vmap(judge, (None, 0)))(prompts, written.tokens)

    judged = {"rewards": of_each(env.reward), "stages": of_each(env.stages)}
    return Answered(prompts=prompts, **written._asdict(), **judged)


def make(
    env: TokenEnvironment,
    config: Config | None = None,
    objective: Objective | None = None,
    network: nn.Module | None = None,
    sampler: Sampler | None = None,
    optimiser: Optimiser = None,
) -> Algorithm:
    """The algorithm on a task.

    Args:
      env: a `TokenEnvironment`.
      config: the hyperparameters; `Config()` by default. Its static fields hold for every State.
      objective: what is minimised, `Batch` -> a scalar, or (a scalar, a dict of scalars for the
        log); by default the one that config.objective names.
      network: own policy, see `policy.Recurrent`; by default that of `make_network`.
      sampler: which prompts an iteration takes up; by default the one that config.sampler names.
      optimiser: an own optimiser, see `core.optimisers`; by default Adam.

    Raises:
      ConfigError: the config is not valid for the environment, what it describes cannot fit into
        the device, or the network, the objective, the sampler or the optimiser does not fit.
    """
    config = Config.of(config)
    config.validate(env)
    network = make_network(env, config) if network is None else network
    objective = OBJECTIVES[config.objective] if objective is None else objective
    sampler = SAMPLERS[config.sampler](env, config) if sampler is None else sampler
    _require_fitting(env, config, objective, network, optimiser)
    _require_fitting_sampler(env, config, sampler)
    default_config = config
    group_size = config.group_size

    def init(key: chex.PRNGKey, config: Config | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, key = jax.random.split(key)
        known = sampler.init(jax.random.fold_in(learner_key, 1))
        learner = init_learner(learner_key, network=network, config=config, optimiser=optimiser)
        return State(config, learner, key, known)

    def step(state: State) -> tuple[State, Metrics]:
        key, answer_key, update_key = jax.random.split(state.key, 3)
        config = state.config
        learner = moved(state.learner, config)
        prompt_key, token_key = jax.random.split(answer_key)
        # All devices draw the same prompts, and know of all rewards, so that their samplers agree.
        drawn = sampler.draw(state.sampler, parallel.same(prompt_key))
        prompts, places = parallel.own(drawn)
        answered = respond(
            learner.writer, prompts, token_key, env=env, network=network, group_size=group_size
        )
        learner, metrics = update(
            learner,
            answered,
            update_key,
            env=env,
            network=network,
            objective=objective,
            config=config,
            optimiser=optimiser,
        )
        metrics = _group_metrics(answered) | metrics | guard.metrics(learner.fault)
        known = sampler.update(state.sampler, *parallel.gathered((places, answered.rewards)))
        known = guard.keep(guard.ok(learner.fault), known, state.sampler)
        return State(config, learner, key, known), metrics

    def evaluation(state: State, key: chex.PRNGKey, num_prompts: int) -> Metrics:
        sizes = {"num_prompts": num_prompts, "group_size": default_config.eval_samples}
        answered = answer(state.learner.params, key, env=env, network=network, **sizes)
        return pass_metrics(answered, default_config.eval_k)

    acting = collect.make_acting(
        env,
        _acting_policy(env, network),
        lambda token: token,
        lambda state, obs: (state.learner.params, obs),
    )
    return Algorithm(
        init,
        step,
        acting.act,
        acting.memory,
        env,
        config,
        steps_per_iteration=config.steps(env),
        logits=acting.logits,
        evaluation=evaluation,
    )


def _acting_policy(env, network):
    """How the policy writes a token where an observation shows what stands there."""

    def logits(params, memory, obs):
        del memory
        _, after = policy.read(network, params, jnp.where(obs < 0, env.pad, obs))
        last = jnp.sum(obs >= 0, axis=-1) - 1
        return jnp.take_along_axis(after, last[:, None, None], axis=1)[:, 0]

    def explore(params, memory, obs, key):
        after = logits(params, memory, obs)
        token = jax.random.categorical(key, after).astype(jnp.int32)
        return token, losses.categorical_log_prob(token, after), memory

    def act(params, memory, obs):
        return jnp.argmax(logits(params, memory, obs), axis=-1).astype(jnp.int32), memory

    return collect.Policy(explore, act, logits=logits)


def _group_metrics(answered: Answered) -> Metrics:
    """Of the answers that were written to learn from: each is an episode."""
    lengths = jnp.sum(answered.mask, axis=-1)
    equal = jnp.max(answered.rewards, axis=-1) == jnp.min(answered.rewards, axis=-1)
    return collect.episode_metrics(jnp.ones_like(lengths, bool), answered.rewards, lengths) | {
        "charts/dead_groups": jnp.mean(equal.astype(jnp.float32))
    }


def pass_metrics(answered: Answered, k: int) -> Metrics:
    """What S answers to each of N prompts say of the policy that wrote them.

    Returns:
      "eval/pass_at_1", the mean reward; "eval/pass_at_k", with the number for k, the expectation of
      the best of k, over all subsets of the answers; and "eval/right_answers", how many different
      answers of a reward above 0 there are among the S, a prompt.
    """
    best = jnp.sum(rewards.max_at_k(answered.rewards, k=k), axis=-1) / k
    tokens = answered.tokens
    same = jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1)
    earlier = jnp.tril(same, k=-1)
    new = (answered.rewards > 0.0) & ~jnp.any(earlier, axis=-1)
    return {
        "eval/pass_at_1": jnp.mean(answered.rewards),
        f"eval/pass_at_{k}": jnp.mean(best),
        "eval/right_answers": jnp.mean(jnp.sum(new, axis=-1, dtype=jnp.float32)),
    }


def _require_fitting(env, config, objective, network, optimiser):
    """Refuses a network, an optimiser or an objective that does not fit, by shape, before anything
    compiles.
    """
    init = partial(init_learner, network=network, config=config)

    def think(params, token):
        return network.apply(params, network.start(*token.shape), token)[1]

    def see(params, key):
        sizes = {"num_prompts": config.num_prompts, "group_size": config.group_size}
        answered = answer(params, key, env=env, network=network, **sizes)
        return batch_of(answered, answered.log_prob, answered.entropy, key=key)

    key = jax.random.key(0)
    learner = fitting.outputs("network", init, key, value=_name(network))
    if optimiser is not None:
        optimisers.require(optimiser, [])
        optimisers.require_step(partial(optimisers.transformation, optimiser), learner.params)
        learner = jax.eval_shape(partial(init, optimiser=optimiser), key)
    token = jax.ShapeDtypeStruct((3, 2), jnp.int32)
    logits = fitting.outputs("network", think, learner.params, token, value=_name(network))
    if logits.shape != (3, 2, env.num_tokens):
        allowed = f"must put out logits [3, 2, {env.num_tokens}] for tokens [3, 2]"
        raise ConfigError("network", f"logits {list(logits.shape)}", allowed)
    own = Part(("hidden_size",), device_memory.tree_bytes(learner), "the policy and its optimiser")
    device_memory.require(config, own)
    batch = fitting.outputs("env", see, learner.params, key, value=_name(env))
    result = fitting.outputs("objective", objective, batch, value=_name(objective))
    loss, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    numbers = [loss, *metrics.values()] if isinstance(metrics, dict) else [None]
    if not all(getattr(x, "shape", None) == () for x in numbers):
        found = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", result)
        allowed = f"must return a scalar, or (a scalar, a dict of scalars), and returns {found}"
        raise ConfigError("objective", _name(objective), allowed)


def _require_fitting_sampler(env, config, sampler):
    """Refuses a sampler that draws no such prompts, or changes its State's shape."""

    def turn(key):
        init_key, key = jax.random.split(key)
        state = sampler.init(init_key)
        prompts, places = sampler.draw(state, key)
        rewards = jnp.zeros((config.num_prompts, config.group_size), jnp.float32)
        return prompts, state, sampler.update(state, places, rewards)

    prompts, *states = fitting.outputs("sampler", turn, jax.random.key(0), value=_name(sampler))
    before, after = (jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", x) for x in states)
    if before != after:
        allowed = f"must leave its State in shape, and updates {before} to {after}"
        raise ConfigError("sampler", _name(sampler), allowed)
    sizes = (config.num_prompts, env.prompt_length)
    if prompts.shape != sizes:
        allowed = f"must draw prompts {list(sizes)}, and draws {list(prompts.shape)}"
        raise ConfigError("sampler", _name(sampler), allowed)


def _name(value):
    return getattr(value, "__name__", type(value).__name__)
