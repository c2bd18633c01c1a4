"""Whether what a user hands over fits: networks, heads and data, by shape alone, before anything
compiles.

Everything here looks at shapes (`jax.eval_shape`) and raises a ConfigError that names the part,
what it is, and what it must be. Networks and heads are looked at where they are not the default
ones, data wherever an update is traced.
"""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from ...envs import Environment
from ...envs.spaces import same_space
from .config import ConfigError
from .masks import without_mask
from .networks import Networks, features, rows
from .recurrent import Sequence, first_member, initial_memory, present, remembers

_LEAD = (7, 5)  # leading axes to try parts with
# The fields of batches that are one number for each transition.
_NUMBERS = ("log_prob", "reward", "discount", "terminated", "truncated")


class _Shape:
    """What stands for an array in messages."""

    def __init__(self, x):
        self._words = (
            f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else repr(x)
        )

    def __repr__(self):
        return self._words


def _describe(tree):
    return str(jax.tree.map(_Shape, tree))


def outputs(part: str, function: Callable, *args: Any, value: Any = None) -> Any:
    """What a function puts out, by shape; whatever it raises becomes a ConfigError that names the
    part, and `value`, by default what it was called with.
    """
    try:
        return jax.eval_shape(function, *args)
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's code raises is the finding
        said = str(error).strip().splitlines() or [""]
        allowed = f"cannot be traced by jax: {type(error).__name__}: {said[0]}"
        if value is None:
            value = f"a function of {', '.join(map(_describe, args))}"
        raise ConfigError(part, value, allowed) from error


def _require(part: str, found: Any, wanted: Any, why: str) -> None:
    """Checks that two pytrees have the same structure, and arrays of the same shapes and kinds
    (floats or integers).
    """

    def kinds(tree):
        return [
            (x.shape, bool(jnp.issubdtype(x.dtype, jnp.floating))) for x in jax.tree.leaves(tree)
        ]

    if jax.tree.structure(found) != jax.tree.structure(wanted) or kinds(found) != kinds(wanted):
        raise ConfigError(part, _describe(found), f"must be {_describe(wanted)}, {why}")


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def learner_shape(
    init_learner: Callable[..., Any], *, env: Environment, networks: Any, config: Any
) -> Any:
    """The learner that would be made, by shape.

    Raises:
      ConfigError: the networks cannot be initialised, or one has a parameter with an axis of 0.
    """

    def init(key, obs):
        del obs  # for the message
        return init_learner(key, env=env, networks=networks, config=config)

    shape = outputs("networks", init, jax.random.key(0), rows(env.observation_space))
    for path, leaf in jax.tree.leaves_with_path(shape.params):
        if 0 in leaf.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            found = f"a parameter {name} {_describe(leaf)}"
            raise ConfigError("networks", found, "must not have an axis of 0: it would see nothing")
    return shape


def require_parts(networks: Any, *names: str) -> None:
    """Checks that own networks have what an algorithm uses of them.

    Raises:
      ConfigError: they do not.
    """
    if not all(hasattr(networks, name) for name in names):
        raise ConfigError(
            "networks", f"a {type(networks).__name__}", f"must have {', '.join(names)}"
        )


def own_or_default(
    env: Environment, config: Any, networks: Any, make_networks: Callable[..., Any], discrete: bool
) -> Any:
    """Own networks of an off-policy algorithm, which must put out what its default ones do; those
    for None.

    Args:
      env: the environment.
      config: the hyperparameters.
      networks: `off_policy.networks.Networks`, or one module that sees observations alone.
      make_networks: (env, config) -> the default ones, modules by name. Inputs other than those of
        actor, critic and value are what their `inputs(obs, action)` says, by name.
      discrete: whether critics see observations alone.

    Raises:
      ConfigError: they do not; it names the part.
    """
    if networks is None:
        return make_networks(env, config)
    spaces = env.observation_space
    if isinstance(spaces, dict):  # the default ones refuse entries that own networks may well read
        spaces = {name: spaces[name] for name in ("state", "privileged_state") if name in spaces}
    default = make_networks(
        SimpleNamespace(observation_space=spaces, action_space=env.action_space), config
    )
    obs, action = rows(env.observation_space, _LEAD[0]), _floats(_LEAD[0], *env.action_space.shape)
    if isinstance(default, tuple):
        see = {"actor": (without_mask(obs),), "value": (obs,)}
        see["critic"] = (obs,) if discrete else (obs, action)
        see |= default.inputs(obs, action) if hasattr(default, "inputs") else {}
        names = [name for name in default._fields if getattr(default, name) is not None]
        require_parts(networks, *names)
        parts = {name: getattr(networks, name) for name in names}
        pairs = {f"networks.{n}": (parts[n], getattr(default, n), see[n]) for n in names}
        networks = default._replace(**parts, optimiser=getattr(networks, "optimiser", None))
    else:
        require_parts(networks, "init", "apply")
        pairs = {"networks": (networks, default, (obs,))}
    for part, (mine, theirs, args) in pairs.items():
        found, wanted = (outputs(part, partial(_batched, each), *args) for each in (mine, theirs))
        _require(part, found, wanted, f"as the default one's, for {_LEAD[0]} observations")
    return networks


def _batched(module, *args):
    """What a fresh network puts out for a batch."""
    one = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), args)
    return module.apply(module.init(jax.random.key(0), *one), *args)


def require_actor_critic(env: Environment, networks: Networks, params: Any) -> None:
    """Checks that own networks and their action head fit each other and the environment.

    Args:
      env: the environment.
      networks: policy and head, and value and torso if there is a critic.
      params: {"policy": ..., "value": ...}, and "torso", by shape.

    Raises:
      ConfigError: they do not; it names the part.
    """
    head = networks.head
    space = env.action_space
    key = jax.random.key(0)
    if head.space is not None and not same_space(head.space, space):
        raise ConfigError(
            "networks.head", f"a head for {head.space}", f"must be for env.action_space = {space}"
        )
    obs = rows(env.observation_space, *_LEAD)
    each = f"for observations with leading axes {list(_LEAD)}"
    if "value" in params:
        if networks.torso is not None and remembers(networks.torso):
            for name in ("policy", "value"):
                if remembers(getattr(networks, name)):
                    allowed = "must not remember, as networks.torso does"
                    raise ConfigError(f"networks.{name}", "a network that remembers", allowed)
        obs = outputs("networks.torso", partial(features, networks), params, obs)
        value = outputs("networks.value", networks.value.apply, params["value"], obs)
        _require("networks.value", value, _floats(*_LEAD), each)
    distribution = outputs("networks.policy", networks.policy.apply, params["policy"], obs)
    leaves = jax.tree.leaves(distribution)
    numbers = math.prod(leaves[0].shape[len(_LEAD) :]) if leaves else 0
    if any(leaf.shape[: len(_LEAD)] != _LEAD for leaf in leaves) or numbers != head.size:
        allowed = f"must put out {head.size} numbers, networks.head.size, for each action, {each}"
        raise ConfigError("networks.policy", _describe(distribution), allowed)
    action = outputs("networks.head.sample", head.sample, key, distribution)
    mode = outputs("networks.head.mode", head.mode, distribution)
    _require("networks.head.mode", mode, action, "as networks.head.sample's")
    taken = outputs("networks.head.to_env", head.to_env, action)
    _require(
        "networks.head.to_env",
        taken,
        rows(space, *_LEAD),
        f"elements of env.action_space = {space}",
    )
    for name, args in {
        "log_prob": (action, distribution),
        "entropy": (key, distribution),
        "kl": (distribution, distribution),
    }.items():
        part = f"networks.head.{name}"
        _require(
            part,
            outputs(part, getattr(head, name), *args),
            _floats(*_LEAD),
            "one number for each action",
        )


def require_rollout(learner: Any, batch: Any, networks: Networks, config: Any) -> None:
    """Checks that a rollout, leaves `[T, N, ...]`, fits the networks and the config.

    Raises:
      ConfigError: it does not; it names the field of the batch.
    """
    num_steps, num_envs = _lead_of(batch, "T", "N")
    remembered = jax.eval_shape(lambda: initial_memory(networks, num_envs))
    size, what = (num_envs, "N") if remembered else (num_steps * num_envs, "T·N")
    if any(size % num_minibatches for _, num_minibatches in config.passes):
        allowed = f"{what} must be divisible by the number of minibatches, {config.passes[-1][1]}"
        raise ConfigError("batch.reward", _describe(batch.reward), allowed)
    if config.normalize_reward and learner.discounted_return.shape != (num_envs,):
        allowed = (
            f"N must be config.num_envs = {learner.discounted_return.shape[0]}, for"
            " normalize_reward"
        )
        raise ConfigError("batch.reward", _describe(batch.reward), allowed)
    _require_statistics(learner, batch)
    if remembered:
        _require("batch.memory", batch.memory, remembered, "as before the networks' first step")

    def policy(params, obs):
        return networks.policy.apply(params["policy"], features(networks, params, obs))

    distribution = outputs("batch.obs", policy, learner.params, batch.obs)
    log_prob = outputs("batch.action", networks.head.log_prob, batch.action, distribution)
    if log_prob.shape != (num_steps, num_envs):
        allowed = f"the head's log_prob of it must be [T, N], and is {_describe(log_prob)}"
        raise ConfigError("batch.action", _describe(batch.action), allowed)


def require_minibatches(learner: Any, batch: Any, networks: Any, config: Any) -> None:
    """Checks that minibatches, leaves `[K, B, ...]`, or `[K, T, B, ...]` of sequences, fit the
    networks and the config of an off-policy algorithm.

    Raises:
      ConfigError: they do not; it names the field of the batch.
    """
    sequences = isinstance(batch.obs, Sequence)
    lead = _lead_of(batch, "K", *(["T"] if sequences else []), "B")
    if lead[0] % config.policy_delay:
        allowed = f"K must be a multiple of config.policy_delay = {config.policy_delay}"
        raise ConfigError("batch.reward", _describe(batch.reward), allowed)
    _require_statistics(learner, batch)
    actor = partial(networks.actor.apply, learner.params["actor"])
    policy = jax.tree.leaves(outputs("batch.obs", jax.vmap(actor), batch.obs))[0]
    continuous = jnp.issubdtype(batch.action.dtype, jnp.floating)
    taken = _floats(*policy.shape) if continuous else jax.ShapeDtypeStruct(lead, jnp.int32)
    _require(
        "batch.action",
        batch.action,
        taken,
        f"to go with what the actor puts out, {_describe(policy)}",
    )

    def critic(obs, *action):
        first = jax.tree.map(lambda x: x[0], learner.params["critic"])
        return networks.critic.apply(first, first_member(obs), *action)

    action = [batch.action] if continuous else []
    if networks.critic is not None:
        outputs("batch.obs", jax.vmap(critic), batch.obs, *action)


def require_minibatch(learner: Any, batch: Any, networks: Any) -> None:
    """Checks that one minibatch, leaves `[B, ...]`, fits a Q-function of all actions.

    Raises:
      ConfigError: it does not; it names the field of the batch.
    """
    (size,) = _lead_of(batch, "B")
    _require(
        "batch.action",
        batch.action,
        jax.ShapeDtypeStruct((size,), jnp.int32),
        "the number of an action each",
    )
    critic = jax.tree.map(lambda x: x[0], learner.params)
    q = outputs("batch.obs", networks.apply, critic, batch.obs)
    _require(
        "batch.next_logits",
        batch.next_logits,
        q,
        "a logit for each action that the Q-function knows",
    )


def _lead_of(batch: Any, *names: str) -> tuple[int, ...]:
    """The leading axes of a batch, those of its reward, which all other fields must have too."""
    axes = f"[{', '.join(names)}]"
    reward = batch.reward
    if len(getattr(reward, "shape", ())) != len(names) or 0 in reward.shape:
        raise ConfigError(
            "batch.reward", _describe(reward), f"must be an array {axes}, none of them 0"
        )
    for name, value in batch._asdict().items():
        if name == "memory":  # has no axis of time
            continue
        value = present(value)
        for leaf in jax.tree.leaves(value):
            shape = getattr(leaf, "shape", ())
            if shape[: len(names)] != reward.shape or (
                name in _NUMBERS and len(shape) != len(names)
            ):
                form = axes if name in _NUMBERS else f"{axes[:-1]}, ...]"
                allowed = f"must be {form} with {axes} = {list(reward.shape)}, as batch.reward is"
                raise ConfigError(f"batch.{name}", _describe(value), allowed)
    _require("batch.next_obs", present(batch.next_obs), present(batch.obs), "as batch.obs is")
    return reward.shape


def _require_statistics(learner, batch):
    """Checks that observations are like those that the running statistics are of."""
    if learner.obs_statistics:
        lead = batch.reward.shape
        wanted = jax.tree.map(lambda mean: _floats(*lead, *mean.shape), learner.obs_statistics.mean)
        obs = present(batch.obs)
        if isinstance(wanted, dict) and isinstance(obs, dict):  # not all entries are normalised
            obs = {name: x for name, x in obs.items() if name in wanted}
        shapes = jax.tree.map(lambda x: _floats(*x.shape), obs)
        _require("batch.obs", shapes, wanted, "as the learner's running statistics are")
