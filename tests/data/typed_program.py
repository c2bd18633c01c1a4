"""A program that a type checker reads as a user's: what is right has no error, and what is wrong
has the one that its comment names. It is never run; `tests/test_types.py` has it checked.
"""

from typing import Any, assert_type

import jax

from onejit import algos, envs, losses
from onejit.algos import ppo, td3
from onejit.algos.host import checkpoint, cli

# The losses: data by position, hyperparameters by name.
ones = jax.numpy.ones((4, 2))
advantages, targets = losses.gae(ones, ones, ones, ones, ones, gamma=0.99, gae_lambda=0.95)
loss = losses.ppo_clip_loss(ones, ones, advantages, clip_eps=0.2)
losses.preferences.ipo_loss(ones, beta=0.1)
losses.ppo_clip_loss(ones, ones, advantages, 0.2)  # type: ignore[call-arg]
losses.ppo_clip_loss(ones, ones, advantages, clip=0.2)  # type: ignore[call-arg]
losses.ppo_clip_loss(ones, ones, clip_eps=0.2)  # type: ignore[call-arg]
losses.ppo_clip_los(ones, ones, advantages, clip_eps=0.2)  # type: ignore[attr-defined]


# Environments: of a suite, wrapped, and one of the user's own.
class Corridor:
    """Two functions and two spaces."""

    def __init__(self, length: float = 3.0):
        self.observation_space = envs.Box(-length, length, (1,))
        self.action_space = envs.Discrete(2)

    def reset(self, key: Any) -> tuple[Any, Any]:
        return ones, ones

    def step(self, key: Any, state: Any, action: Any) -> tuple[Any, envs.Step]:
        return state, envs.Step(ones, ones, ones, ones, {})


class NoStep:
    """Not an environment."""

    observation_space = action_space = envs.Discrete(2)

    def reset(self, key: Any) -> tuple[Any, Any]:
        return ones, ones


assert_type(envs.make("gymnax/CartPole-v1", max_steps_in_episode=100), envs.Environment)
assert_type(envs.Box(0.0, [1.0, 2.0], dtype="float32").shape, tuple[int, ...])
envs.check(Corridor())
envs.check(NoStep())  # type: ignore[arg-type]
envs.Discrete("two")  # type: ignore[arg-type]
many = envs.VectorEnv(envs.FrameStack(Corridor(), 4), 16, reset="bank")
state, obs = many.reset(jax.random.key(0))
assert_type(many.step(jax.random.key(1), state, ones)[1], envs.VectorStep)

# Algorithms: a Config, a whole run, a sweep.
config = ppo.Config(learning_rate=1e-3, num_envs=8, hidden_sizes=(64, 64))
assert_type(config.replace(gamma=0.9), ppo.Config)
ppo.Config(learning_rat=1e-3)  # type: ignore[call-arg]
ppo.Config(learning_rate="fast")  # type: ignore[arg-type]
ppo.Config(1e-3)  # type: ignore[call-arg]
config.gamma = 0.9  # type: ignore[misc]
algorithm = ppo.make(Corridor(), config)
assert_type(algorithm, algos.Algorithm)
assert_type(td3.make(Corridor()), algos.Algorithm)
ppo.make("gymnax/CartPole-v1", config)  # type: ignore[arg-type]
ppo.make(Corridor(), td3.Config())  # type: ignore[arg-type]
train_state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
assert_type(metrics, dict[str, Any])
evaluate = algos.evaluator(algorithm, num_episodes=8)
algos.train(algorithm, jax.random.key(0), num_iterations=10, log_every=10, evaluate=evaluate)
algos.train(algorithm, jax.random.key(0))  # type: ignore[call-arg]
algos.averaged(algorithm, 0.99)
algos.sweep(algorithm, algos.grid(learning_rate=[1e-3, 1e-4]), jax.random.key(0), num_iterations=1)

# On the host: a script of one's own, and a State on the disk.
cli.main(ppo, default_env="mine/Corridor")
cli.main(Corridor())  # type: ignore[arg-type]
checkpoint.save("saved", 10, train_state, {})
