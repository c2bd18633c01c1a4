"""Data to learn from: transitions that were stored, and what is known of where they come from.

The transitions are `collect.Transition`s of numpy arrays, leaves `[M, ...]`, in order of time,
episode after episode; where the record of an environment breaks off without an end, its last row is
flagged as truncated. Continuous actions are in [−1, 1]^d, as everywhere in `algos`.
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Box, Discrete, Environment
from . import dataset_checks, masks
from .algorithm import Algorithm, State
from .collect import Transition, make_collector, no_memory
from .dataset_checks import DatasetError
from .evaluation import evaluate, player

__all__ = [
    "Dataset",
    "DatasetError",
    "from_arrays",
    "mix",
    "next_actions",
    "of_steps",
    "random_score",
    "record",
    "record_random",
]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Transitions and what is known of them. Two data sets are equal where they are the same
    object; their `checksum` compares transitions.

    Attributes:
      transitions: in order of time, leaves `[M, ...]`, numpy.
      observation_space: of the environment that they are of.
      action_space: likewise.
      env_id: its name, such as "gymnax/Pendulum-v1"; "" where it has none.
      env_options: what it was made with.
      source: how they came about, in words.
      random_score: the mean return of uniformly random actions there; None if not measured.
      expert_score: that of the best policy that is known; None if not measured.
      true_terminations: whether terminated is known to be no time limit, as it is of what was
        recorded here; else episodes that all terminate at the same step are refused.
    """

    transitions: Transition
    observation_space: Any
    action_space: Any
    env_id: str = ""
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    random_score: float | None = None
    expert_score: float | None = None
    true_terminations: bool = False

    def __len__(self) -> int:
        return len(self.transitions.reward)

    def replace(self, **changes: Any) -> "Dataset":
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    @property
    def scores(self) -> tuple[float, float] | None:
        """The returns that stand for 0 and 100, or None if they were not measured."""
        both = self.random_score, self.expert_score
        return None if None in both else both

    def scores_in(self, env: Environment) -> tuple[float, float] | None:
        """`scores`, or None where an option of the environment is known to be another than when
        they were measured.
        """
        found = "", getattr(env, "options", {})
        known = "", self.env_options
        return None if dataset_checks.other_environment(found, known) else self.scores

    @cached_property
    def checksum(self) -> int:
        """A number of 32 bits that changes with any bit of the transitions."""
        code = 0
        for leaf in jax.tree.leaves(self.transitions):
            code = zlib.crc32(np.ascontiguousarray(leaf), code)
        return code

    def check(self, env: Environment | None = None) -> None:
        """Raises with everything that is wrong with the data; returns nothing if all is well.

        Args:
          env: a single environment that they are to be of; None for what they say themselves.

        Raises:
          DatasetError: a ValueError; the message lists each problem in a line of its own.
        """
        spaces = self.observation_space, self.action_space
        wanted = spaces if env is None else (env.observation_space, env.action_space)
        true = self.true_terminations
        dataset_checks.require(self.transitions, spaces, wanted, self.scores, true)


def from_arrays(
    env: Environment,
    obs: Any,
    action: Any,
    reward: Any,
    terminated: Any,
    truncated: Any,
    next_obs: Any,
    **known: Any,
) -> Dataset:
    """A data set of copies of one's own arrays, checked.

    Args:
      env: a single environment, whose spaces they are of.
      obs: the observations that were acted on, leaves `[M, ...]`.
      action: elements of the environment's action space, `[M, ...]`.
      reward: `[M]`.
      terminated: bool `[M]`, the task was over.
      truncated: bool `[M]`, a time limit cut the episode, or the record breaks off here.
      next_obs: the true successors, also where an episode ended.
      **known: attributes of the `Dataset`: env_id, source, random_score, ...

    Raises:
      DatasetError: something is wrong with them; the message lists each problem.
    """
    space = env.action_space
    with jax.numpy_rank_promotion("allow"):  # an axis too many is for the check to say
        stored = np.asarray(space.to_unit(action)) if isinstance(space, Box) else action
    spaces = {"observation_space": env.observation_space, "action_space": space}
    transitions = Transition(obs, stored, reward, terminated, truncated, next_obs)
    transitions = jax.tree.map(np.array, transitions)
    made = Dataset(transitions=transitions, **spaces, **known)
    made.check()
    return made.replace(transitions=closed(transitions))


def closed(transitions: Transition) -> Transition:
    """Transitions, leaves `[M, ...]` or `[T, N, ...]`, whose last row ends its episodes: where none
    terminates there the record breaks off.
    """
    truncated = transitions.truncated.copy()
    truncated[-1] |= ~transitions.terminated[-1]
    return transitions._replace(truncated=truncated)


def of_steps(steps: Transition, env: Environment, **known: Any) -> Dataset:
    """A data set of what N environments went through side by side, one after the other.

    Args:
      steps: leaves `[T, N, ...]`, in order of time.
      env: the single environment.
      **known: attributes of the `Dataset`.
    """
    steps = jax.tree.map(np.asarray, steps._replace(log_prob=(), memory=()))

    def flat(x):
        x = x if x.dtype.kind in "biuf" else x.astype(np.float32)  # bfloat16
        return np.ascontiguousarray(np.moveaxis(x, 1, 0)).reshape(-1, *x.shape[2:])

    return Dataset(
        transitions=jax.tree.map(flat, closed(steps)),
        observation_space=env.observation_space,
        action_space=env.action_space,
        true_terminations=True,
        **known,
    )


def record(
    algorithm: Algorithm,
    state: State,
    key: chex.PRNGKey,
    *,
    num_steps: int,
    num_envs: int = 16,
    deterministic: bool = False,
    **known: Any,
) -> Dataset:
    """What a policy does in its environment.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      state: of one seed.
      key: a typed key.
      num_steps: environment steps, of all environments together; rounded up to a multiple of
        num_envs.
      num_envs: environments that are stepped together.
      deterministic: False acts as in training.
      **known: attributes of the `Dataset`.
    """
    env = algorithm.env
    act, memory = player(algorithm, state, deterministic)

    def explore(memory, obs, key):
        action, memory = act(obs, key, memory)
        return action, (), memory

    def begin(key, num_envs, config):
        del config
        return memory(key, num_envs)

    return of_steps(_rollout(env, explore, begin, key, num_steps, num_envs), env, **known)


def record_random(
    env: Environment, key: chex.PRNGKey, *, num_steps: int, num_envs: int = 16, **known: Any
) -> Dataset:
    """What uniformly random actions do in an environment; arguments as of `record`."""

    def explore(memory, obs, key):
        return _random_action(env, key, obs, num_envs), (), memory

    return of_steps(_rollout(env, explore, no_memory, key, num_steps, num_envs), env, **known)


def _random_action(env, key, obs, num_envs):
    """Uniformly among those that are allowed."""
    if isinstance(env.action_space, Discrete):
        return masks.random_action(key, obs, (num_envs,), env.action_space.n)
    return jax.vmap(env.action_space.sample)(jax.random.split(key, num_envs))


def _rollout(env, explore: Callable, memory: Callable, key, num_steps: int, num_envs: int):
    """Transitions `[T, N, ...]` with actions as they are stored."""
    collector = make_collector(env, memory, lambda action: action)
    config = SimpleNamespace(num_envs=num_envs, reset="full")

    def run(key):
        reset_key, key = jax.random.split(key)
        carry = collector.reset(reset_key, config)
        rows = -(-num_steps // num_envs)
        steps = collector.collect(explore, config, carry, key, rows)[2]
        if isinstance(env.action_space, Box):
            steps = steps._replace(action=env.action_space.to_unit(steps.action))
        return steps

    return jax.jit(run)(key)


def random_score(env: Environment, key: chex.PRNGKey, num_episodes: int = 100) -> float:
    """The mean return of uniformly random actions."""

    def act(obs, key):
        return _random_action(env, key, obs, num_episodes)

    episodes = jax.jit(lambda key: evaluate(env, act, key, num_episodes=num_episodes))(key)
    return float(jnp.mean(episodes.returns))


def mix(*parts: Dataset, source: str = "") -> Dataset:
    """Data sets behind each other. Each score is the first part's that has one, and what else is
    known of them the first part's.

    Args:
      *parts: of the same environment.
      source: how it came about; by default the words of the parts.

    Raises:
      DatasetError: they are of different spaces, or known to be of different environments.
    """
    first = parts[0]
    for part in parts[1:]:
        ids = (first.env_id, first.env_options), (part.env_id, part.env_options)
        if other := dataset_checks.other_environment(*ids):
            raise DatasetError(f"the parts are of different environments: {other}")
        dataset_checks.require_same_spaces(
            (part.observation_space, part.action_space),
            (first.observation_space, first.action_space),
        )
    ended = [closed(part.transitions) for part in parts]

    def first_known(name):
        known = (getattr(part, name) for part in parts)
        return next((score for score in known if score is not None), None)

    return first.replace(
        transitions=jax.tree.map(lambda *x: np.concatenate(x), *ended),
        source=source or " and ".join(part.source for part in parts),
        random_score=first_known("random_score"),
        expert_score=first_known("expert_score"),
        true_terminations=all(part.true_terminations for part in parts),
    )


def next_actions(transitions: Transition) -> tuple[Transition, chex.Array]:
    """The transitions after which the data says what was done next, and that action, `[M', ...]`.

    Left out is the last row of each episode that was truncated. Where one terminated there is no
    next action, and none is asked for: that row's own stands there.
    """
    transitions = closed(transitions)
    keep = ~(transitions.truncated & ~transitions.terminated)
    following = np.roll(transitions.action, -1, axis=0)
    ended = transitions.terminated.reshape(-1, *(1,) * (following.ndim - 1))
    following = np.where(ended, transitions.action, following)
    return jax.tree.map(lambda x: x[keep], transitions), following[keep]
