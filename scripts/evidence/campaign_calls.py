"""What the part `hostile` of the fault campaign calls: arguments, configs and networks that make no
sense.
"""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from campaign_hostile import Own, box

from onejit import algos, envs
from onejit.algos import ppo, sac, smoothing, spo, staq, td3
from onejit.algos.core import networks
from onejit.algos.core.heads import make_head
from onejit.algos.host import checkpoint
from onejit.algos.off_policy.networks import (
    CategoricalActor,
    DeterministicActor,
    SquashedGaussianActor,
)


def _probe(**options):
    return envs.make("probe/action", **options)


_CONFIG = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, hidden_sizes=(8,), total_steps=320)
_SAC = sac.Config(
    num_envs=4,
    batch_size=8,
    buffer_size=512,
    learning_starts=64,
    actor_hidden_sizes=(8,),
    critic_hidden_sizes=(8,),
    total_steps=320,
)


def _train(
    module=ppo, config=_CONFIG, env=None, key=None, parts=None, **options
) -> Callable[[], Any]:
    def train():
        algorithm = module.make(env() if env else _probe(), config, parts and parts())
        return algos.train(
            algorithm, key() if key else jax.random.key(0), **{"num_iterations": 1, **options}
        )

    return train


def _later(**changes) -> Callable[[], Any]:
    """Trains PPO with other values than those that it was made with."""
    return lambda: algos.train(
        ppo.make(_probe(), _CONFIG),
        jax.random.key(0),
        config=_CONFIG.replace(**changes),
        num_iterations=1,
    )


def _initialised(config: Any) -> Callable[[], Any]:
    return lambda: ppo.make(_probe(), _CONFIG).init(jax.random.key(0), config)


def _sweep(**values) -> Callable[[], Any]:
    """A sweep of PPO over values."""

    def sweep():
        algorithm = ppo.make(_probe(), _CONFIG)
        size = len(next(iter(values.values())))
        configs = _CONFIG.replace(**{name: np.asarray(x) for name, x in values.items()})
        axes = jax.tree.map(lambda x: 0 if np.ndim(x) else None, configs)
        return jax.vmap(algorithm.init, in_axes=(0, axes))(
            jax.random.split(jax.random.key(0), size), configs
        )

    return sweep


def _made(**changes) -> Callable[[], Any]:
    return lambda: ppo.make(_probe(), _CONFIG.replace(**changes))


def _actor_critic(policy: nn.Module, value: nn.Module | None = None, space: Any = None):
    value = value or networks.Value(networks.MLP((8,)))
    return lambda: networks.Networks(
        policy, value, make_head(space or envs.Discrete(3), "gaussian")
    )


def _policy(size: int, gaussian: bool = False) -> nn.Module:
    return networks.Policy(networks.MLP((8,)), size, gaussian)


def _squashed(size: int) -> nn.Module:
    return SquashedGaussianActor(networks.MLP((8,)), size, (-5.0, 2.0))


def _critic(actor: nn.Module, critic: nn.Module | None = None, config: Any = _SAC):
    def parts():
        own = sac.make_networks(_probe(continuous=True), config)
        return own._replace(actor=actor, critic=critic or own.critic)

    return parts


def _continuous():
    return _probe(continuous=True)


def _saved(path: str) -> None:
    checkpoint.save(path, 1, {"x": jnp.ones(2)}, {})


def _gymnasium():
    import gymnasium

    return gymnasium.make("CartPole-v1")


def _brax():
    import brax.envs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Brax's environments are in maintenance
        return brax.envs.get_environment("inverted_pendulum")


@dataclasses.dataclass(frozen=True)
class _Config:
    """Of another project."""

    learning_rate: float = 1e-3


_STAQ = staq.Config(num_envs=4, num_steps=8, batch_size=8, buffer_size=512, learning_starts=64,
    memory=3,
                    hidden_sizes=(8,), total_steps=320)  # fmt: skip

# label: (may it work, call)
CALLS: dict[str, tuple[bool, Callable[[], Any]]] = {
    "train": (True, _train()),
    **{
        f"train(config=...replace({name}={value!r}))": (False, _later(**{name: value}))
        for name, value in (
            ("learning_rate", -1.0), ("learning_rate", np.float32("nan")), ("gamma", 3.0),
                ("clip_eps", float("nan")),
            ("total_steps", 0), ("learning_rate", "fast"), ("learning_rate", None), ("num_envs", 8),
        )
    },
    "train(config=a dict)": (False, lambda: algos.train(
        ppo.make(_probe(), _CONFIG), jax.random.key(0), config={"gamma": 0.9}, num_iterations=1)),
    "init(config=gamma 3)": (False, _initialised(_CONFIG.replace(gamma=3.0))),
    "init(config=of SAC)": (False, _initialised(_SAC)),
    "init(config=a class)": (False, _initialised(ppo.Config)),
    "a sweep": (True, _sweep(learning_rate=[1e-3, 1e-4])),
    "a sweep with a bad member": (False, lambda: _made(learning_rate=np.array([1e-3, -1.0]))()),
    "a sweep over a static field": (False, _sweep(num_envs=[4, 8])),
    **{
        f"make(config.replace({name}={value!r}))": (name == "hidden_sizes" and value == (np.int64(
            8),), _made(
            **{name: value}))
        for name, value in (
            ("hidden_sizes", (np.int64(8),)), ("hidden_sizes", [8]), ("hidden_sizes", "8"),
                ("hidden_sizes", (8.0,)),
            ("hidden_sizes", (True,)), ("num_envs", True), ("num_envs", "4"), ("num_envs", 4.0),
                ("gamma", "high"),
            ("gamma", None), ("gamma", True), ("gamma", [0.9]), ("normalize_obs", 1),
                ("activation", None),
            ("activation", ["tanh"]), ("num_envs", np.array([4, 8])), ("total_steps", 320.5),
                ("gamma", 0.9j),
        )
    },
    "make(a name)": (False, lambda: ppo.make("gymnax/CartPole-v1")),
    "make(a class)": (False, lambda: ppo.make(Own)),
    "make(nothing)": (False, lambda: ppo.make(None)),
    "make(a number)": (False, lambda: sac.make(5)),
    "make(a Gymnasium environment)": (False, lambda: ppo.make(_gymnasium())),
    "make(a raw Brax environment)": (False, lambda: ppo.make(_brax())),
    "make(a VectorEnv)": (False, lambda: ppo.make(envs.VectorEnv(_probe(), 4))),
    "make(config=a dict)": (False, lambda: ppo.make(_probe(), {"gamma": 0.9})),
    "make(config=a class)": (False, lambda: ppo.make(_probe(), ppo.Config)),
    "make(config=of SAC)": (False, lambda: ppo.make(_probe(), _SAC)),
    "make(config=of another project)": (False, lambda: td3.make(_continuous(), _Config())),
    "make(config=a string)": (False, lambda: staq.make(_probe(), "default")),
    "make(networks=a string)": (False, lambda: ppo.make(_probe(), _CONFIG, "mlp")),
    "make(networks=one module)": (False, lambda: ppo.make(_probe(), _CONFIG, nn.Dense(2))),
    **{
        f"PPO, {size} logits for Discrete(3)": (size == 3, _train(env=Own,
            parts=_actor_critic(_policy(size))))
        for size in (1, 2, 3, 5)
    },
    "PPO, a Gaussian for Discrete(3)": (False, _train(env=Own, parts=_actor_critic(_policy(3,
        True)))),
    **{
        f"PPO, a Gaussian of {size} for a Box of 1": (size == 1, _train(env=_continuous,
            parts=_actor_critic(
            _policy(size, True), space=box(1))))
        for size in (1, 2)
    },
    "PPO, logits for a Box": (False, _train(env=_continuous, parts=_actor_critic(_policy(1),
        space=box(1)))),
    "PPO, another head": (False, _train(env=Own, parts=_actor_critic(_policy(2),
        space=envs.Discrete(2)))),
    "PPO, values [..., 1]": (False, _train(env=Own, parts=_actor_critic(_policy(3), nn.Dense(1)))),
    "PPO, values [..., 2]": (False, _train(env=Own, parts=_actor_critic(_policy(3), nn.Dense(2)))),
    **{
        f"SAC, a Gaussian of {size} for a Box of 1": (size == 1, _train(sac, _SAC, _continuous,
            parts=_critic(
            _squashed(size))))
        for size in (1, 2)
    },
    "SAC, an actor of numbers": (False, _train(sac, _SAC, _continuous, parts=_critic(nn.Dense(1)))),
    "SAC, logits for a Box": (False, _train(sac, _SAC, _continuous, parts=_critic(
        CategoricalActor(networks.MLP((8,)), 2)))),
    "SAC, a critic of observations": (False, _train(sac, _SAC, _continuous,
        parts=_critic(_squashed(1), nn.Dense(1)))),
    "TD3, an actor of 2 for a Box of 1": (False, _train(td3, td3.Config(**{
        field.name: getattr(_SAC,
            field.name) for field in dataclasses.fields(td3.Config) if hasattr(_SAC, field.name)
    }), _continuous, parts=_critic(DeterministicActor(networks.MLP((8,)), 2)))),
    **{
        f"StaQ, {size} values for Discrete(3)": (size == 3, _train(staq, _STAQ, Own,
            parts=lambda size=size: nn.Dense(
            size)))
        for size in (2, 3, 5)
    },
    "train(key=a number)": (False, _train(key=lambda: 0)),
    "train(key=an old key)": (False, _train(key=lambda: jax.random.PRNGKey(0))),
    "train(key=many keys)": (False, _train(key=lambda: jax.random.split(jax.random.key(0), 3))),
    "train(key=nothing)": (False, lambda: algos.train(ppo.make(_probe(), _CONFIG), None,
        num_iterations=1)),
    **{
        f"train(num_iterations={value!r})": (False, _train(num_iterations=value)) for value in (0,
            -1, 1.5, "1", None)
    },
    **{f"train(log_every={value!r})": (False, _train(log_every=value)) for value in (0, 2, 1.5)},
    "train(evaluate=5)": (False, _train(evaluate=5)),
    **{
        f"evaluator(num_episodes={value!r})": (False, lambda value=value: algos.evaluator(
            ppo.make(_probe(), _CONFIG), num_episodes=value))
        for value in (0, -1, 1.5, "2")
    },
    **{f"VectorEnv(num_envs={value!r})": (False, lambda value=value: envs.VectorEnv(_probe(),
        value))
       for value in (0, -1, 1.5, "2")},
    "VectorEnv(reset='never')": (False, lambda: envs.VectorEnv(_probe(), 2, reset="never")),
    "VectorEnv(bank_size=0)": (False, lambda: envs.VectorEnv(_probe(), 2, reset="bank",
        bank_size=0)),
    **{f"envs.make({name!r})": (False, lambda name=name: envs.make(name))
       for name in ("", "/", "x", "gymnax/", "gymnax/cartpole", "playground/nonsense", 5, None)},
    **{f"envs.register({name!r})": (False, lambda name=name: envs.register(name, Own))
       for name in ("", "mine", "mine/", "brax/mine", 5, None)},
    "envs.register('mine/x', an instance)": (False, lambda: envs.register("mine/x", Own())),
    "a factory that gives nothing": (False, lambda: (envs.register("mine/x", lambda: None),
        ppo.make(
        envs.make("mine/x")))),
    "Discrete(0)": (False, lambda: envs.Discrete(0)),
    "Discrete(2.5)": (False, lambda: envs.Discrete(2.5)),
    "Box(1, -1)": (False, lambda: envs.Box(1.0, -1.0, (2,))),
    "Box(nan, 1)": (False, lambda: envs.Box(np.nan, 1.0, (2,))),
    "Box of another shape": (False, lambda: envs.Box(np.zeros(3), np.ones(3), (2,))),
    "checkpoint.save(a string)": (True, lambda: _saved("saves")),
    "checkpoint.save(below a file)": (False, lambda: (Path("file").touch(), _saved("file/below"))),
    "checkpoint.restore(nowhere)": (False, lambda: checkpoint.restore("nowhere",
        {"x": jnp.ones(2)})),
    "smoothed(sigma=-1)": (False, lambda: smoothing.smoothed(_probe(), -1.0)),
    "smoothed(sigma=nan)": (False, lambda: smoothing.smoothed(_probe(), float("nan"))),
    "smoothed(num_frames=0)": (False, lambda: smoothing.smoothed(_probe(), 0.1, num_frames=0)),
    "SPO on PPO's config": (False, lambda: spo.make(_probe(), _CONFIG)),
}  # fmt: skip
