"""A combination lock, `probe/lock`: one right action in ten at each step, and a small reward that
leads away from them.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .base import Step
from .options import require_count
from .spaces import Box

NUM_ACTIONS = 10
_TEMPERATURE = 0.1
_NOISE = 0.1
_LOST = 2  # the latent state that none leads out of


class LockState(NamedTuple):
    """The latent state, 0 or 1 or lost, and the steps taken in this episode, int32 both."""

    latent: chex.Array
    time: chex.Array


class Rows(NamedTuple):
    """Transitions of an older policy, every leaf `[M, ...]`; actions are in [−1, 1]."""

    obs: chex.Array
    action: chex.Array
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_obs: chex.Array


class Lock:
    """Whoever takes the right action at each of `steps` steps is paid 1 at the end.

    There are two good latent states and one that is lost. In a good one the right action leads to
    one of the two at random, and any other to the lost one, which pays 0.1 with probability ½ there
    and then, and nothing later. An action is ten numbers in [−1, 1]; one of ten is drawn from their
    softmax at temperature 0.1. Observations are the latent state and the time, one-hot and behind
    each other, turned by a Hadamard matrix, with Gaussian noise of 0.1. The best return is 1, but
    for the softmax; a random policy finds it once in 10^steps episodes.

    Args:
      steps: of an episode, at least 1.
      seed: which actions are right.

    Raises:
      ValueError: steps is no integer above 0.

    Source: Zhou et al. 2023 (arXiv 2311.08384), the continuous combination lock; after Misra et al.
    2020 (arXiv 1911.05815).
    """

    def __init__(self, steps: int = 10, seed: int = 0):
        require_count("steps", steps)
        self.steps = steps
        rng = np.random.default_rng(seed)
        self._right = jnp.asarray(rng.integers(0, NUM_ACTIONS, (steps + 1, 3)), jnp.int32)
        self._turn = jnp.asarray(_hadamard(3 + steps + 1), jnp.float32)
        self.observation_space = Box(-jnp.inf, jnp.inf, (len(self._turn),))
        self.action_space = Box(-1.0, 1.0, (NUM_ACTIONS,))

    def reset(self, key: chex.PRNGKey):
        """Starts in one of the two good states."""
        latent_key, noise_key = jax.random.split(key)
        latent = jax.random.bernoulli(latent_key).astype(jnp.int32)
        state = LockState(latent, jnp.int32(0))
        return state, self._observation(noise_key, state)

    def step(self, key: chex.PRNGKey, state: LockState, action: chex.Array):
        """Draws one of ten actions and looks at it."""
        action_key, latent_key, reward_key, noise_key = jax.random.split(key, 4)
        choice = jax.random.categorical(action_key, action / _TEMPERATURE)
        was_good = state.latent != _LOST
        good = was_good & (choice == self._right[state.time, state.latent])
        latent = jax.random.bernoulli(latent_key).astype(jnp.int32)
        time = state.time + 1
        following = LockState(jnp.where(good, latent, _LOST), time)
        last = time == self.steps
        lure = was_good & ~good & jax.random.bernoulli(reward_key)
        step = Step(
            obs=self._observation(noise_key, following),
            reward=jnp.where(lure, 0.1, jnp.where(good & last, 1.0, 0.0)),
            terminated=last,
            truncated=jnp.bool_(False),
            info={},
        )
        return following, step

    def demonstrations(self, key: chex.PRNGKey, num_episodes: int) -> Rows:
        """Episodes of a policy that takes the right action, and a random one of the ten once in
        `steps` steps: `[num_episodes·steps, ...]`.
        """

        def step(carry, key_data):
            state, obs = carry
            step_key = jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key))
            wrong_key, any_key, step_key = jax.random.split(step_key, 3)
            random = jax.random.randint(any_key, (), 0, NUM_ACTIONS)
            wrong = jax.random.bernoulli(wrong_key, 1.0 / self.steps)
            choice = jnp.where(wrong, random, self._right[state.time, state.latent])
            action = 2.0 * jax.nn.one_hot(choice, NUM_ACTIONS, dtype=jnp.float32) - 1.0
            following, result = self.step(step_key, state, action)
            seen = Rows(obs, action, result.reward, result.terminated, result.truncated, result.obs)
            return (following, result.obs), seen

        def episode(key):
            reset_key, key = jax.random.split(key)
            # As raw numbers: jax's key-reuse checker refuses a vmapped scan over an array of keys.
            key_data = jax.random.key_data(jax.random.split(key, self.steps))
            return jax.lax.scan(step, self.reset(reset_key), key_data)[1]

        rows = jax.vmap(episode)(jax.random.split(key, num_episodes))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)

    def _observation(self, key, state):
        latent = jax.nn.one_hot(state.latent, 3, dtype=jnp.float32)
        time = jax.nn.one_hot(state.time, self.steps + 1, dtype=jnp.float32)
        plain = jnp.concatenate([latent, time])
        turned = self._turn[:, : len(plain)] @ plain
        return turned + _NOISE * jax.random.normal(key, turned.shape)


def _hadamard(size):
    """The Hadamard matrix of the next power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron([[1, 1], [1, -1]], matrix)
    return matrix
